//! Why residual networks work, measured on trained networks and on data.
//!
//! A study is a library function whose result says itself what was found: as data, and as a
//! [`Section`] that a terminal or a [`report`] shows. [`Record`] keeps it in a folder.
//! [`compare`] trains plain networks and residual ones at growing depth; [`lesion`] deletes blocks of
//! networks and [`prune`] looks for those that a network can do without. [`difference`] tells whether two
//! models put out the same, bit for bit; [`identity`] how near each block is to passing its input on;
//! [`gradients`] how gradients change over depth and between neighbouring inputs; [`identity_task`] how
//! well stacks of layers learn to put out their input.

mod changed;
pub mod compare;
mod continued;
mod difference;
mod error;
mod gradients;
mod growth;
mod identity;
mod identity_task;
mod latency;
mod lesion;
mod numbers;
mod prune;
mod record;
mod report;
mod run;
mod score;
mod section;
mod shell;
mod subject;
mod training;

pub use changed::{Change, Changed, Verified, changed_model};
pub use compare::Compare;
pub use continued::{Continuation, Continued, Kept, Trained, start_from};
pub use difference::{Difference, difference};
pub use error::StudyError;
pub use gradients::{
    GradientOptions, GradientRun, GradientStudy, GradientSubject, GradientTraining,
    NetworkGradients, gradients,
};
pub use growth::{Grown, GrownStage, Growth};
pub use identity::{
    BlockIdentity, Identity, IdentityOptions, MeasuredOn, Response, TensorNorm, identity,
    identity_of_weights,
};
pub use identity_task::{
    GridPoint, IdentityTask, IdentityTaskOptions, LayerKind, TaskPoint, TaskResult, identity_task,
};
pub use latency::{Latency, latencies};
pub use lesion::{
    Deleted, Left, LeftOut, Lesion, LesionOptions, LesionedNetwork, RandomDeletion, Swapped, lesion,
};
pub use numbers::{duration, grouped};
pub use prune::{FineTuned, Limit, Prune, PruneOptions, Round, Size, Tried, prune};
pub use record::{RECORD_FILE, Record, Study};
pub use report::report;
pub use run::{Diverged, RunState, StudyRun};
pub use score::Score;
pub use section::{Chart, Section, Table};
pub use shell::shell_line;
pub use subject::Subject;
pub use training::section_of_folder;
