use std::fmt;
use std::path::{Path, PathBuf};

use residua_data::Split;

use crate::{CheckpointError, MetricsRecord, Recipe, Summary};

/// Is told what a run does, as it does it. The library itself prints nothing.
pub trait Observer: Send {
    /// Something happened. Training waits until this returns.
    fn on_event(&mut self, event: &Event<'_>);
}

/// Watches nothing.
impl Observer for () {
    fn on_event(&mut self, _event: &Event<'_>) {}
}

/// What happens in a run.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The run is about to make its first step, or the first one after it was resumed.
    Started(Started<'a>),
    /// Something is not as it should be, but the run goes on.
    Warning(&'a Warning),
    /// A step was made.
    Step(StepReport),
    /// A line was added to `metrics.jsonl`.
    Recorded(&'a MetricsRecord),
    /// A split was evaluated.
    Evaluated {
        /// Steps made so far.
        step: u64,
        /// The split.
        split: Split,
        /// Its top-1 error in percent.
        top1_error: f64,
        /// Its mean loss, without label smoothing.
        mean_loss: f64,
    },
    /// A checkpoint was written.
    Checkpointed {
        /// Steps made so far.
        step: u64,
        /// The file.
        path: &'a Path,
    },
    /// The run is over, and its model and summary are written.
    Finished(&'a Summary),
}

/// How a run starts.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Started<'a> {
    /// Its folder.
    pub folder: &'a Path,
    /// Its recipe.
    pub recipe: &'a Recipe,
    /// Steps made before, by the sessions that it resumes.
    pub first_step: u64,
    /// Steps in all.
    pub total_steps: u64,
    /// Steps in one epoch.
    pub steps_per_epoch: u64,
    /// Number of trainable parameters.
    pub num_parameters: usize,
    /// Threads that compute.
    pub num_threads: usize,
}

/// How a run stands after a step.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct StepReport {
    /// Steps made so far.
    pub step: u64,
    /// Steps in all.
    pub total_steps: u64,
    /// Epochs made so far.
    pub epoch: f64,
    /// Learning rate of this step.
    pub lr: f64,
    /// Mean loss since the last record.
    pub loss: f64,
    /// Error on the training batches since the last record, in percent.
    pub train_error: f64,
    /// Error of the last evaluation on the dev set, in percent.
    pub dev_error: Option<f64>,
    /// Training images a second since the last record.
    pub images_per_s: f64,
    /// Share of that time spent waiting for batches.
    pub data_wait_share: f64,
    /// Seconds the run has taken so far.
    pub seconds: f64,
    /// Seconds it will still take at the rate of this session.
    pub seconds_left: f64,
}

/// What a run goes on in spite of.
#[derive(Debug)]
#[non_exhaustive]
pub enum Warning {
    /// A checkpoint was cut short or changed. It is set aside as `*.ckpt.damaged`; the one before
    /// it, or the start, is taken.
    DamagedCheckpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: CheckpointError,
    },
    /// The run was started on another instruction set: its results will differ in the last bits
    /// from those of an uninterrupted run.
    OtherIsa {
        /// The one it was started on.
        got: String,
        /// The one it goes on with.
        expected: String,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DamagedCheckpoint { path, error } => {
                write!(f, "{} is left out: {error}", path.display())
            }
            Self::OtherIsa { got, expected } => write!(
                f,
                "the run was started on {got} and goes on with {expected}: its results will not be \
                 the same to the last bit"
            ),
        }
    }
}
