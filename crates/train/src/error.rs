use std::io;
use std::path::PathBuf;

use residua_format::FormatError;

/// Why a run can't start, go on or be evaluated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// A file can't be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A line of `metrics.jsonl` is not a record.
    #[error("{}: line {line} is not a metrics record", path.display())]
    Metrics {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A file can't be written, or a model file can't be read.
    #[error(transparent)]
    Format(#[from] FormatError),
}
