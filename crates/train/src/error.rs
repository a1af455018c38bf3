use std::io;
use std::path::{Path, PathBuf};

use residua_data::DataError;
use residua_engine::PlanError;
use residua_format::FormatError;
use residua_resnet::ArchitectureError;
use safetensors::{Dtype, SafeTensorError};

/// Why a run can't start, go on or be evaluated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// A value of a recipe that makes no sense.
    #[error("{field} is {got}, expected {expected}")]
    Recipe {
        /// The field.
        field: &'static str,
        /// Its value.
        got: String,
        /// What it could be.
        expected: &'static str,
    },
    /// A text that is not the TOML form of a recipe.
    #[error("not a recipe: {0}")]
    Toml(#[from] toml::de::Error),
    /// What is wrong with a file.
    #[error("{}", path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<TrainError>,
    },
    /// A dataset that the network can't be trained on or evaluated with.
    #[error("dataset {dataset}: {what} {got}, expected {expected} for this network")]
    Dataset {
        /// Its name.
        dataset: String,
        /// What does not fit.
        what: &'static str,
        /// The dataset's.
        got: String,
        /// The network's.
        expected: String,
    },
    /// Weights of another network than the one that is to go on from them.
    #[error("the weights to start from: {got} parameters, expected the {expected} of the network")]
    OtherStart {
        /// How many there are.
        got: usize,
        /// How many the network has.
        expected: usize,
    },
    /// A run that goes on from weights which are not there.
    #[error("start_sha256 is {sha256}, but the weights to start from are not given")]
    NoStart {
        /// SHA-256 of these weights.
        sha256: String,
    },
    /// A folder that holds a run already.
    #[error(
        "{} holds a run already ({found}): resume it, overwrite it or choose another folder",
        path.display()
    )]
    RunExists {
        /// The folder.
        path: PathBuf,
        /// The file that says so.
        found: &'static str,
    },
    /// A folder without a run.
    #[error("{} holds no run: there is no config.toml to resume from", path.display())]
    NoRun {
        /// The folder.
        path: PathBuf,
    },
    /// A folder that another process is training in.
    #[error("{} is in use by another training process", path.display())]
    RunLocked {
        /// The folder.
        path: PathBuf,
    },
    /// A checkpoint of something else than the run that is to be resumed.
    #[error("{}: {what} {got}, expected {expected}", path.display())]
    OtherRun {
        /// The checkpoint.
        path: PathBuf,
        /// What is different.
        what: &'static str,
        /// The checkpoint's.
        got: String,
        /// The run's.
        expected: String,
    },
    /// A checkpoint that can't be made.
    #[error("{}", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// Why.
        source: CheckpointError,
    },
    /// The loss or the weights became NaN or infinite.
    #[error(
        "the {what} is not finite at step {step} (lr {lr}, last finite loss {}): try a lower lr, \
         warm-up or clip_grad_norm; {}",
        last_loss.map_or("none".to_owned(), |loss| loss.to_string()),
        last_good(checkpoint.as_deref())
    )]
    NotFinite {
        /// Loss or state.
        what: &'static str,
        /// The step, counted from 1.
        step: u64,
        /// Its learning rate.
        lr: f64,
        /// The loss of the last step that had one.
        last_loss: Option<f32>,
        /// The last good checkpoint.
        checkpoint: Option<PathBuf>,
    },
    /// Classes of a dataset that are not the model's.
    #[error(
        "dataset {dataset}: its classes are not the model's (only in the dataset: {}; only in the \
         model: {})",
        list(only_dataset),
        list(only_model)
    )]
    Classes {
        /// The dataset's name.
        dataset: String,
        /// Classes that the model does not know.
        only_dataset: Vec<String>,
        /// Classes that the dataset does not have.
        only_model: Vec<String>,
    },
    /// Outputs that are NaN or infinite.
    #[error("the model's outputs are not finite; {num_weights} of its weights are not")]
    NotFiniteOutput {
        /// Weights and running statistics that are NaN or infinite.
        num_weights: usize,
    },
    /// Input of the wrong length.
    #[error("input has {got} values, expected a multiple of {expected}, the size of one sample")]
    InputLen {
        /// Its length.
        got: usize,
        /// The length of one sample.
        expected: usize,
    },
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
    /// A plot that can't be drawn as a picture of pixels.
    #[error("cannot draw the plot: {0}")]
    Picture(String),
    /// A file can't be written, or a model file can't be read.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// Data that can't be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A network that the engine can't run.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// An architecture that can't be built.
    #[error(transparent)]
    Architecture(#[from] ArchitectureError),
}

/// What is wrong with a checkpoint.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// It can't be read.
    #[error("it can't be read")]
    Read(#[from] io::Error),
    /// It was cut short or changed.
    #[error("it was cut short or changed: its digest does not fit")]
    Digest,
    /// A container that can't be read or written.
    #[error("its tensors are not as expected")]
    Container(#[from] SafeTensorError),
    /// No metadata of a checkpoint.
    #[error("it has no metadata of a checkpoint")]
    NoHeader,
    /// Metadata that can't be read, such as a later version's.
    #[error("its metadata can't be read")]
    Header(#[from] serde_json::Error),
    /// A tensor of another type.
    #[error("{tensor} is {got}, expected F32")]
    Dtype {
        /// Its name.
        tensor: String,
        /// Its type.
        got: Dtype,
    },
    /// A file that was renamed.
    #[error("it is of step {got}, unlike its name")]
    Step {
        /// The step inside.
        got: u64,
    },
}

fn last_good(checkpoint: Option<&Path>) -> String {
    match checkpoint {
        Some(path) => format!("the last good checkpoint is {}", path.display()),
        None => "there was no checkpoint yet".to_owned(),
    }
}

/// At most a handful of names.
fn list(names: &[String]) -> String {
    const NUM_SHOWN: usize = 5;
    match names.len() {
        0 => "none".to_owned(),
        len if len > NUM_SHOWN => {
            format!("{} and {} more", names[..NUM_SHOWN].join(", "), len - NUM_SHOWN)
        }
        _ => names.join(", "),
    }
}

pub(crate) fn write_error(path: &Path, source: io::Error) -> TrainError {
    FormatError::Write { path: path.to_owned(), source }.into()
}
