use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::{Distribution, StandardNormal};
use residua_engine::{Plan, PlanOptions, Sgd, sgd_step};
use residua_graph::Weights;
use residua_resnet::{ArchitectureError, Family};

use super::{LayerKind, TaskPoint, stack};
use crate::StudyError;

/// Batches on which the error is taken.
const NUM_TEST_BATCHES: usize = 4;
/// How often it is taken in the course of a run.
const NUM_POINTS: u64 = 20;
/// Streams of random numbers beside those of the layers, which are counted from 0.
const TRAIN_STREAM: u64 = u64::MAX;
const TEST_STREAM: u64 = u64::MAX - 1;

/// One run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Training {
    pub(super) kind: LayerKind,
    pub(super) family: Family,
    pub(super) depth: usize,
    pub(super) width: usize,
    pub(super) steps: u64,
    pub(super) lr: f64,
    pub(super) seed: u64,
}

impl LayerKind {
    /// Samples in each step. Each of the 64 windows of an image is a sample for a convolution.
    pub(super) fn batch_size(self) -> usize {
        match self {
            Self::Dense => 32,
            Self::Conv => 4,
        }
    }
}

impl Training {
    /// The errors over the steps; it ends early at one that is not finite.
    pub(super) fn run(&self) -> Result<Vec<TaskPoint>, StudyError> {
        let mut runner = Runner::new(self)?;
        let mut points = vec![TaskPoint { step: 0, error: runner.error() }];
        let every = self.steps.div_ceil(NUM_POINTS);
        for step in 1..=self.steps {
            runner.step(self.lr as f32);
            if step % every == 0 || step == self.steps {
                let error = runner.error();
                points.push(TaskPoint { step, error });
                if error.is_none() {
                    break;
                }
            }
        }
        Ok(points)
    }
}

/// A network in training.
struct Runner {
    plan: Plan,
    weights: Weights,
    velocity: Vec<f32>,
    grads: Vec<f32>,
    inputs: ChaCha8Rng,
    input: Vec<f32>,
    output: Vec<f32>,
    test_input: Vec<f32>,
}

impl Runner {
    fn new(training: &Training) -> Result<Self, StudyError> {
        let &Training { kind, family, depth, width, seed, .. } = training;
        let graph = stack::graph(kind, family, depth, width).map_err(|source| {
            ArchitectureError::Graph { architecture: format!("{kind} stack"), source }
        })?;
        let plan = Plan::new(&graph, &PlanOptions::train(kind.batch_size())?)?;
        let weights = stack::init(&graph, family, seed);
        let num_params = weights.params.len();
        let batch_len = plan.batch_size() * plan.input_len();
        let mut test_input = vec![0.0; NUM_TEST_BATCHES * batch_len];
        fill(&mut stream(seed, TEST_STREAM), &mut test_input);
        Ok(Self {
            plan,
            weights,
            velocity: vec![0.0; num_params],
            grads: vec![0.0; num_params],
            inputs: stream(seed, TRAIN_STREAM),
            input: vec![0.0; batch_len],
            output: vec![0.0; batch_len],
            test_input,
        })
    }

    /// One update on new inputs, by the gradient of the mean of `(output − input)²`.
    fn step(&mut self, lr: f32) {
        let Self { plan, weights, velocity, grads, inputs, input, output, .. } = self;
        fill(inputs, input);
        plan.forward_train(weights, input, output);
        let scale = 2.0 / input.len() as f32;
        for (output, input) in output.iter_mut().zip(&*input) {
            *output = scale * (*output - input);
        }
        plan.backward(weights, output, grads);
        let sgd = Sgd { lr, momentum: 0.9, nesterov: false, weight_decay: 0.0 };
        sgd_step(plan.options().isa, &sgd, &mut weights.params, grads, velocity);
    }

    /// `‖output − input‖² / ‖input‖²` on inputs that are not trained on; none if it is not finite.
    fn error(&mut self) -> Option<f64> {
        let (mut difference, mut whole) = (0.0, 0.0);
        for input in self.test_input.chunks_exact(self.input.len()) {
            self.plan.forward_train(&mut self.weights, input, &mut self.output);
            for (&input, &output) in input.iter().zip(&self.output) {
                difference += (f64::from(output) - f64::from(input)).powi(2);
                whole += f64::from(input).powi(2);
            }
        }
        Some(difference / whole).filter(|error| error.is_finite())
    }
}

fn stream(seed: u64, number: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(number);
    rng
}

/// Absolute values of normal numbers.
fn fill(rng: &mut ChaCha8Rng, values: &mut [f32]) {
    for value in values {
        let sample: f32 = StandardNormal.sample(rng);
        *value = sample.abs();
    }
}
