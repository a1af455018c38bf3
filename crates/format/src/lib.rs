//! The model file, and writing files so that they are whole or not there.

mod error;
mod write_whole;

pub use error::FormatError;
pub use write_whole::write_whole;
