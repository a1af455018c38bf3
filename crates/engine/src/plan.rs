use crate::executor::Executor;
use crate::{PlanError, PlanOptions, Precision, StepReport};
use residua_graph::{Graph, Weights};
use residua_kernels::bf16;
use std::fmt::Debug;

/// How one graph runs on this machine, with all the memory that takes.
///
/// Calls run on the threads of the [`ThreadPool`](crate::ThreadPool) they are made in. After the
/// first step nothing is allocated.
#[derive(Debug)]
pub struct Plan(Box<dyn Run>);

/// What a plan does in any precision; the documentation is at [`Plan`].
pub(crate) trait Run: Debug + Send + Sync {
    fn options(&self) -> &PlanOptions;
    fn input_len(&self) -> usize;
    fn num_classes(&self) -> usize;
    fn report(&self) -> Vec<StepReport>;
    fn load(&mut self, weights: &Weights);
    fn forward(&mut self, input: &[f32], logits: &mut [f32]);
    fn forward_train(&mut self, weights: &mut Weights, input: &[f32], logits: &mut [f32]);
    fn backward(&mut self, weights: &Weights, grad_logits: &[f32], grads: &mut [f32]);
}

impl Plan {
    /// Makes a plan.
    ///
    /// # Errors
    /// A batch of no samples, an instruction set that is not there, an operation without a kernel,
    /// or a batch norm that would train on a single value.
    pub fn new(graph: &Graph, options: &PlanOptions) -> Result<Self, PlanError> {
        if options.batch_size == 0 {
            return Err(PlanError::EmptyBatch);
        }
        if !options.isa.is_supported() {
            return Err(PlanError::MissingIsa { isa: options.isa });
        }
        Ok(Self(match options.precision {
            Precision::F32 => Box::new(Executor::<f32>::new(graph, options)?),
            Precision::Bf16 => Box::new(Executor::<bf16>::new(graph, options)?),
        }))
    }

    /// Samples of a batch: exactly so many in training, at most so many in evaluation.
    pub fn batch_size(&self) -> usize {
        self.options().batch_size
    }

    /// What the plan was made for.
    pub fn options(&self) -> &PlanOptions {
        self.0.options()
    }

    /// Elements of one sample's input.
    pub fn input_len(&self) -> usize {
        self.0.input_len()
    }

    /// Elements of one sample's output.
    pub fn num_classes(&self) -> usize {
        self.0.num_classes()
    }

    /// Its steps in the order in which they run, with the time spent on each so far.
    pub fn report(&self) -> Vec<StepReport> {
        self.0.report()
    }

    /// Takes over weights and running statistics, for evaluation.
    ///
    /// # Panics
    /// The weights are another graph's.
    pub fn load(&mut self, weights: &Weights) {
        self.0.load(weights);
    }

    /// Evaluates `1..=batch_size` samples with the weights last [loaded](Self::load): `input` is
    /// NHWC, `logits` gets `[n, num_classes]`. Samples don't influence each other.
    ///
    /// # Panics
    /// The plan is for training, or the lengths don't fit.
    pub fn forward(&mut self, input: &[f32], logits: &mut [f32]) {
        self.0.forward(input, logits);
    }

    /// Runs a training batch of exactly `batch_size` samples with its own statistics, updates the
    /// running ones in `weights`, and keeps what [`backward`](Self::backward) needs. `input` is
    /// NHWC, `logits` gets `[batch_size, num_classes]`.
    ///
    /// # Panics
    /// The plan is for evaluation, or the lengths don't fit.
    pub fn forward_train(&mut self, weights: &mut Weights, input: &[f32], logits: &mut [f32]) {
        self.0.forward_train(weights, input, logits);
    }

    /// The gradients of all parameters, for the batch last run by
    /// [`forward_train`](Self::forward_train) with the same weights: overwrites `grads`, which is
    /// laid out as `weights.params`.
    ///
    /// # Panics
    /// The plan is for evaluation, or the lengths don't fit.
    pub fn backward(&mut self, weights: &Weights, grad_logits: &[f32], grads: &mut [f32]) {
        self.0.backward(weights, grad_logits, grads);
    }
}
