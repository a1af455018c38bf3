//! Training that can be killed and resumed, evaluation, and the record of a run.

mod error;
mod metrics;
pub mod plot;
mod schedule;

pub use error::TrainError;
pub use metrics::{MetricsRecord, read_metrics};
pub use schedule::{Schedule, warmup_factor};
