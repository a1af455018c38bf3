//! Training that can be killed and resumed, evaluation, and the record of a run.
//!
//! A [`Recipe`] says everything that decides the result. A [`Trainer`] carries it out in a folder
//! of its own and tells an [`Observer`] what it does; [`TrainStep`] is the inner step on its own.
//! The data order and the augmentation are functions of the seed and the step, so that a resumed
//! run ends with the same bits as an uninterrupted one. [`evaluate`] measures a model on a split,
//! [`Predictor`] gives the probabilities of its classes, [`plot`] draws.

mod branch_norms;
mod checkpoint;
mod error;
mod evaluation;
mod metrics;
mod observer;
mod parameter_groups;
pub mod plot;
mod progress;
mod recipe;
mod run_folder;
mod schedule;
mod session;
mod start;
mod step_files;
mod summary;
mod train_step;
mod trainer;
mod whitening;

pub use branch_norms::{BranchNorms, branch_norms};
pub use error::{CheckpointError, TrainError};
pub use evaluation::{
    ClassScores, EvalOptions, Evaluation, Outputs, Predictor, evaluate, evaluate_with_progress,
    match_classes, outputs, predict,
};
pub use metrics::{MetricsRecord, read_metrics};
pub use observer::{Event, Observer, Started, StepReport, Warning};
pub use parameter_groups::{
    MuonMatrix, ParameterGroup, frozen_parameters, muon_matrices, parameter_groups,
};
pub use recipe::{EarlyImages, Length, MuonOptions, Recipe};
pub use run_folder::kept_models;
pub use schedule::{Schedule, warmup_factor};
pub use start::Start;
pub use summary::{SplitSummary, Summary};
pub use train_step::{TrainStep, clip_grad_norm};
pub use trainer::{Outcome, RunOptions, Trainer};
