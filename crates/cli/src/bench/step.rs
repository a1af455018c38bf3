//! A step on random data: what a training or an evaluation does, without its input pipeline.

use std::time::Instant;

use anyhow::{Context, Result};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use residua_data::{OpenOptions, open};
use residua_engine::{Mode, Plan, PlanOptions};
use residua_graph::{Graph, Weights};
use residua_resnet::{Architecture, InitOptions, init_weights};
use residua_train::{Recipe, TrainStep};

pub(crate) const NUM_WARM_UP: usize = 3;
const LR: f32 = 0.1;

pub(crate) struct Step {
    task: Task,
    input: Vec<f32>,
}

enum Task {
    Train { step: Box<TrainStep>, labels: Vec<u32> },
    Infer { plan: Plan, logits: Vec<f32> },
}

impl Step {
    pub(crate) fn new(
        architecture: &Architecture,
        graph: &Graph,
        options: &PlanOptions,
    ) -> Result<Self> {
        let (batch, num_classes) = (options.batch_size, architecture.classes());
        let weights = init_weights(architecture, graph, &InitOptions::default());
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let input_len = batch * graph.shape(graph.input()).len();
        let mut input = Vec::new();
        input.try_reserve_exact(input_len).with_context(|| {
            format!(
                "{batch} samples at once: no memory for {input_len} numbers, expected fewer samples"
            )
        })?;
        // Before numbers are drawn: plans refuse batches that no memory holds.
        let task = match options.mode {
            Mode::Train => {
                let recipe = recipe(architecture, options)?;
                let step = Box::new(TrainStep::new(graph, weights, &recipe, options.isa)?);
                let labels = (0..batch).map(|_| rng.random_range(0..num_classes as u32)).collect();
                Task::Train { step, labels }
            }
            Mode::Eval => Task::infer(graph, &weights, options, num_classes)?,
        };
        input.extend((0..input_len).map(|_| rng.random_range(-1.0_f32..1.0)));
        Ok(Self { task, input })
    }

    /// Milliseconds of each of so many steps.
    pub(crate) fn times(&mut self, num_steps: usize) -> Vec<f64> {
        (0..NUM_WARM_UP).for_each(|_| self.run());
        let time = |_| {
            let start = Instant::now();
            self.run();
            start.elapsed().as_secs_f64() * 1e3
        };
        (0..num_steps).map(time).collect()
    }

    /// What runs in a step.
    pub(crate) fn plan(&self) -> &Plan {
        match &self.task {
            Task::Train { step, .. } => step.plan(),
            Task::Infer { plan, .. } => plan,
        }
    }

    fn run(&mut self) {
        match &mut self.task {
            Task::Train { step, labels } => {
                step.run(&self.input, labels, LR);
            }
            Task::Infer { plan, logits } => plan.forward(&self.input, logits),
        }
    }
}

impl Task {
    fn infer(
        graph: &Graph,
        weights: &Weights,
        options: &PlanOptions,
        num_classes: usize,
    ) -> Result<Self> {
        let mut plan = Plan::new(graph, options)?;
        plan.load(weights);
        Ok(Self::Infer { plan, logits: vec![0.0; options.batch_size * num_classes] })
    }
}

/// SGD with momentum and weight decay; nothing is read from the dataset but defaults.
fn recipe(architecture: &Architecture, options: &PlanOptions) -> Result<Recipe> {
    const DATA: &str = "synthetic:spirals?train=4&dev=0&test=0";
    let open_options = OpenOptions::default();
    let dataset = open(DATA, &open_options)?;
    Ok(Recipe {
        batch_size: options.batch_size,
        precision: options.precision,
        weight_decay: 1e-4,
        ..Recipe::new(DATA, open_options, &dataset, architecture.clone())
    })
}
