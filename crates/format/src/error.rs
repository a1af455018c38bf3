use std::io;
use std::path::PathBuf;

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
