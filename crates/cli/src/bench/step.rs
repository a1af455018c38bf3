//! A step on random data, as one of PyTorch's would be: no input pipeline.

use std::time::Instant;

use anyhow::Result;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use residua_engine::{Isa, Mode, Plan, PlanOptions, Sgd, cross_entropy, sgd_step};
use residua_graph::{Graph, Weights};
use residua_resnet::{Architecture, InitOptions, init_weights};

const NUM_WARM_UP: usize = 3;
const SGD: Sgd = Sgd { lr: 0.1, momentum: 0.9, nesterov: false, weight_decay: 1e-4 };

pub(super) struct Step {
    plan: Plan,
    mode: Mode,
    isa: Isa,
    weights: Weights,
    input: Vec<f32>,
    labels: Vec<u32>,
    logits: Vec<f32>,
    losses: Vec<f32>,
    grad_logits: Vec<f32>,
    grads: Vec<f32>,
    velocity: Vec<f32>,
}

impl Step {
    pub(super) fn new(
        architecture: &Architecture,
        graph: &Graph,
        options: &PlanOptions,
    ) -> Result<Self> {
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let (batch, num_classes) = (options.batch_size, graph.shape(graph.output()).len());
        let weights = init_weights(architecture, graph, &InitOptions::default());
        let mut plan = Plan::new(graph, options)?;
        if options.mode == Mode::Eval {
            plan.load(&weights);
        }
        let input_len = batch * graph.shape(graph.input()).len();
        let trained = if options.mode == Mode::Train { weights.params.len() } else { 0 };
        Ok(Self {
            plan,
            mode: options.mode,
            isa: options.isa,
            weights,
            input: (0..input_len).map(|_| rng.random_range(-1.0..1.0)).collect(),
            labels: (0..batch).map(|_| rng.random_range(0..num_classes as u32)).collect(),
            logits: vec![0.0; batch * num_classes],
            losses: vec![0.0; batch],
            grad_logits: vec![0.0; batch * num_classes],
            grads: vec![0.0; trained],
            velocity: vec![0.0; trained],
        })
    }

    /// Milliseconds of each of so many steps.
    pub(super) fn times(&mut self, num_steps: usize) -> Vec<f64> {
        (0..NUM_WARM_UP).for_each(|_| self.run());
        let mut time = |_| {
            let start = Instant::now();
            self.run();
            start.elapsed().as_secs_f64() * 1e3
        };
        (0..num_steps).map(&mut time).collect()
    }

    fn run(&mut self) {
        match self.mode {
            Mode::Train => self.train(),
            Mode::Eval => self.plan.forward(&self.input, &mut self.logits),
        }
    }

    fn train(&mut self) {
        self.plan.forward_train(&mut self.weights, &self.input, &mut self.logits);
        let num_classes = self.logits.len() / self.labels.len();
        let (losses, grad_logits) = (&mut self.losses, &mut self.grad_logits);
        cross_entropy(&self.logits, &self.labels, num_classes, 0.0, losses, grad_logits);
        self.plan.backward(&self.weights, &self.grad_logits, &mut self.grads);
        sgd_step(self.isa, &SGD, &mut self.weights.params, &self.grads, &mut self.velocity);
    }
}
