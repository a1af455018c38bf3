use std::io;
use std::path::PathBuf;

use residua_data::DataError;
use residua_engine::PlanError;
use residua_format::FormatError;
use residua_resnet::{ArchitectureError, SurgeryError};
use residua_train::TrainError;

/// Why a study could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StudyError {
    /// A file that can't be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file that can't be written.
    #[error("cannot write {path}: {source}", path = path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file that is no record of a study.
    #[error("{path}: not the record of a study: {source}", path = path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// A network, or a setting, that the study can't be made with.
    #[error("{subject}: {got}, expected {expected}")]
    Unsuitable {
        /// What it is about.
        subject: String,
        /// What was found.
        got: String,
        /// What is needed.
        expected: String,
    },
    /// Training or evaluation.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// A change to a network.
    #[error(transparent)]
    Surgery(#[from] SurgeryError),
    /// An architecture.
    #[error(transparent)]
    Architecture(#[from] ArchitectureError),
    /// Data.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A plan of the engine.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A file that is written.
    #[error(transparent)]
    Format(#[from] FormatError),
}
