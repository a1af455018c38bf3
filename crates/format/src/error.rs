use std::io;
use std::path::PathBuf;

use residua_data::DataError;
use residua_resnet::ArchitectureError;
use safetensors::SafeTensorError;

/// Why a file can't be written, or is not a model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// A file can't be written. What was there before is still there.
    #[error("cannot write {}{}", path.display(), hint(source))]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file can't be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What is wrong with a file.
    #[error("{}", path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<FormatError>,
    },
    /// A folder or a device in place of a file.
    #[error("not a regular file")]
    NotAFile,
    /// More bytes than any model has.
    #[error("{what} has {got} bytes, expected at most {expected}")]
    TooLarge {
        /// Header or file.
        what: &'static str,
        /// Its size.
        got: u64,
        /// The limit.
        expected: u64,
    },
    /// A file that was cut, or has something after its end.
    #[error("{got} bytes, expected {expected} as its header says")]
    Length {
        /// Its size.
        got: u64,
        /// The size that its header and tensors have.
        expected: u64,
    },
    /// The container is damaged, or is something else.
    #[error("not a safetensors file, or a damaged one")]
    Container(#[from] SafeTensorError),
    /// A safetensors file that somebody else made.
    #[error("a safetensors file without the metadata of a Residua model")]
    NotAModel,
    /// Metadata that does not say what a model needs.
    #[error("the metadata of the model is damaged")]
    Header(#[source] serde_json::Error),
    /// A file of a later version.
    #[error(
        "format version {got}, expected at most {expected}: made by a later version of Residua, \
         which can read it"
    )]
    FutureVersion {
        /// The file's version.
        got: u64,
        /// The newest this version reads.
        expected: u64,
    },
    /// An architecture that can't be built.
    #[error(transparent)]
    Architecture(#[from] ArchitectureError),
    /// Preprocessing that can't be done.
    #[error(transparent)]
    Preprocessing(#[from] DataError),
    /// A part of the wrong size.
    #[error("{got} {what}, expected {expected} for this architecture")]
    Count {
        /// Parameters, running statistics or class names.
        what: &'static str,
        /// How many there are.
        got: usize,
        /// How many the architecture has.
        expected: usize,
    },
    /// A class whose name can't be printed as it is.
    #[error("class name {class:?}, expected one that is not empty and has no control characters")]
    ClassName {
        /// The name.
        class: String,
    },
    /// Two classes with the same name.
    #[error("two classes are called `{class}`, expected different names")]
    DuplicateClass {
        /// The name.
        class: String,
    },
    /// Preprocessing for another input than the architecture's.
    #[error(
        "preprocessing makes inputs of {got:?}, expected {expected:?} (channels, rows, columns) \
         for this architecture"
    )]
    InputShape {
        /// Of the preprocessing.
        got: [usize; 3],
        /// Of the architecture.
        expected: [usize; 3],
    },
    /// A tensor of another type or shape.
    #[error("{tensor}: {got}, expected {expected}")]
    Tensor {
        /// Its name.
        tensor: String,
        /// Its type and shape.
        got: String,
        /// The architecture's.
        expected: String,
    },
    /// A tensor the architecture has and the file has not.
    #[error("{tensor}: missing")]
    MissingTensor {
        /// Its name.
        tensor: String,
    },
    /// A tensor the file has and the architecture has not.
    #[error("{tensor}: not a tensor of this architecture")]
    UnknownTensor {
        /// Its name.
        tensor: String,
    },
}

/// What to do about the failures that a person can do something about.
fn hint(error: &io::Error) -> &'static str {
    use io::ErrorKind::*;
    match error.kind() {
        StorageFull | QuotaExceeded => {
            " (the disk is full: free some space or choose another folder)"
        }
        FileTooLarge => " (the file would be larger than this process may write: see ulimit -f)",
        PermissionDenied => " (not permitted: choose a folder you may write to)",
        ReadOnlyFilesystem => " (the disk is read-only: choose another folder)",
        NotFound => " (the folder does not exist)",
        _ => "",
    }
}
