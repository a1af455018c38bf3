use std::ops::Range;

use residua_engine::{
    Aligned, Isa, Loss, Muon, MuonStep, Plan, PlanOptions, Sgd, cross_entropy, sgd_step,
};
use residua_graph::{Graph, Weights};

use crate::parameter_groups::{
    MuonMatrix, ParameterGroup, frozen_parameters, muon_matrices, parameter_groups,
};
use crate::{Recipe, TrainError};

/// One update of the weights: forward, loss, backward, clipping, SGD or Muon. After the first one it takes
/// no memory from the heap.
#[derive(Debug)]
pub struct TrainStep {
    /// None after a graph that the engine can't run.
    plan: Option<Plan>,
    isa: Isa,
    weights: Weights,
    velocity: Aligned<f32>,
    grads: Aligned<f32>,
    logits: Vec<f32>,
    losses: Vec<f32>,
    grad_logits: Vec<f32>,
    groups: Vec<ParameterGroup>,
    /// What has no gradients and is not updated.
    frozen: Option<Range<usize>>,
    matrices: Vec<MuonMatrix>,
    muon: Muon,
    muon_step: MuonStep,
    momentum: f32,
    nesterov: bool,
    label_smoothing: f32,
    clip_grad_norm: Option<f64>,
}

/// Why there is a plan.
const RUNS: &str = "a step is not used on after `take_graph` failed";

impl TrainStep {
    /// Steps of the recipe's network from these weights, with all velocities 0.
    ///
    /// # Errors
    /// A graph that the engine can't run.
    ///
    /// # Panics
    /// If the weights are not of the graph's size.
    pub fn new(
        graph: &Graph,
        weights: Weights,
        recipe: &Recipe,
        isa: Isa,
    ) -> Result<Self, TrainError> {
        assert_eq!(weights.params.len(), graph.num_parameters());
        assert_eq!(weights.buffers.len(), graph.num_buffer_elements());
        let precision = recipe.precision;
        let options = PlanOptions { precision, isa, ..PlanOptions::train(recipe.batch_size)? };
        let plan = Plan::new(graph, &options)?;
        let num_logits = recipe.batch_size * recipe.architecture.classes();
        let matrices = muon_matrices(graph, recipe);
        let muon = recipe.muon.unwrap_or_default();
        Ok(Self {
            plan: Some(plan),
            isa,
            velocity: Aligned::zeroed(weights.params.len()),
            grads: Aligned::zeroed(weights.params.len()),
            weights,
            logits: vec![0.0; num_logits],
            losses: vec![0.0; recipe.batch_size],
            grad_logits: vec![0.0; num_logits],
            groups: parameter_groups(graph, recipe),
            frozen: frozen_parameters(graph, recipe),
            muon: Muon {
                lr: muon.lr as f32,
                momentum: muon.momentum as f32,
                weight_decay: muon.weight_decay as f32,
            },
            muon_step: MuonStep::new(isa, matrices.iter().map(|matrix| matrix.shape)),
            matrices,
            momentum: recipe.momentum as f32,
            nesterov: recipe.nesterov,
            label_smoothing: recipe.label_smoothing as f32,
            clip_grad_norm: recipe.clip_grad_norm,
        })
    }

    /// What runs in a step.
    pub fn plan(&self) -> &Plan {
        self.plan.as_ref().expect(RUNS)
    }

    /// Goes on with samples of another size; `graph` is the network's for them.
    ///
    /// # Errors
    /// A graph that the engine can't run; no more steps can be made then.
    ///
    /// # Panics
    /// If its parameters are not those of the graph before.
    pub fn take_graph(&mut self, graph: &Graph) -> Result<(), TrainError> {
        assert_eq!(graph.num_parameters(), self.weights.params.len());
        assert_eq!(graph.num_buffer_elements(), self.weights.buffers.len());
        let options = *self.plan().options();
        // Both may not fit into memory.
        self.plan = None;
        self.plan = Some(Plan::new(graph, &options)?);
        Ok(())
    }

    /// Makes one step: `input` is NHWC, one batch; one label per sample. A loss that is not finite
    /// leaves parameters and velocities as they were.
    ///
    /// # Panics
    /// If the input or the labels are not one batch.
    pub fn run(&mut self, input: &[f32], labels: &[u32], lr: f32) -> Loss {
        let plan = self.plan.as_mut().expect(RUNS);
        assert_eq!(labels.len(), plan.batch_size());
        plan.forward_train(&mut self.weights, input, &mut self.logits);
        let loss = cross_entropy(
            &self.logits,
            labels,
            plan.num_classes(),
            self.label_smoothing,
            &mut self.losses,
            &mut self.grad_logits,
        );
        if !loss.mean.is_finite() {
            return loss;
        }
        plan.backward(&self.weights, &self.grad_logits, &mut self.grads);
        if let Some(frozen) = &self.frozen {
            self.grads[frozen.clone()].fill(0.0);
        }
        if let Some(max_norm) = self.clip_grad_norm {
            clip_grad_norm(&mut self.grads, max_norm);
        }
        self.update(lr);
        loss
    }

    fn update(&mut self, lr: f32) {
        let (momentum, nesterov) = (self.momentum, self.nesterov);
        for ParameterGroup { range, lr_factor, weight_decay } in &self.groups {
            let lr = lr * lr_factor;
            let sgd = Sgd { lr, momentum, nesterov, weight_decay: *weight_decay };
            let params = &mut self.weights.params[range.clone()];
            let velocity = &mut self.velocity[range.clone()];
            sgd_step(self.isa, &sgd, params, &self.grads[range.clone()], velocity);
        }
        let muon = Muon { lr: lr * self.muon.lr, ..self.muon };
        for MuonMatrix { range, shape } in &self.matrices {
            let params = &mut self.weights.params[range.clone()];
            let velocity = &mut self.velocity[range.clone()];
            self.muon_step.run(&muon, *shape, params, &self.grads[range.clone()], velocity);
        }
    }

    /// The weights as they are now.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// What momentum has gathered, laid out like the parameters.
    pub fn velocity(&self) -> &[f32] {
        &self.velocity
    }

    /// The gradients of the last step, after clipping, laid out like the parameters.
    pub fn grads(&self) -> &[f32] {
        &self.grads
    }

    /// Goes on from other weights and velocities.
    ///
    /// # Panics
    /// If they are not of the graph's size.
    pub fn restore(&mut self, weights: Weights, velocity: &[f32]) {
        assert_eq!(weights.params.len(), self.weights.params.len());
        assert_eq!(weights.buffers.len(), self.weights.buffers.len());
        self.weights = weights;
        self.velocity.copy_from_slice(velocity);
    }

    /// Whether the state could be trained on.
    pub(crate) fn is_finite(&self) -> bool {
        let Weights { params, buffers } = &self.weights;
        [params, buffers, &self.velocity[..]]
            .iter()
            .all(|values| values.iter().all(|v| v.is_finite()))
    }
}

/// Scales gradients down to a Euclidean norm of `max_norm` if theirs is larger, and gives the norm
/// they had: `torch.nn.utils.clip_grad_norm_`. The sum is in f64 and in a fixed order.
pub fn clip_grad_norm(grads: &mut [f32], max_norm: f64) -> f64 {
    let (chunks, tail) = grads.as_chunks::<8>();
    let mut lanes = [0.0_f64; 8];
    for chunk in chunks {
        for (lane, &grad) in lanes.iter_mut().zip(chunk) {
            *lane += f64::from(grad) * f64::from(grad);
        }
    }
    let rest: f64 = tail.iter().map(|&grad| f64::from(grad) * f64::from(grad)).sum();
    let norm = (lanes.iter().sum::<f64>() + rest).sqrt();
    let scale = max_norm / (norm + 1e-6);
    if scale < 1.0 {
        grads.iter_mut().for_each(|grad| *grad *= scale as f32);
    }
    norm
}
