//! The model file, and writing files so that they are whole or not there.
//!
//! A [`Model`] is one safetensors file that holds all that using it needs: architecture, weights,
//! class names, preprocessing and provenance. [`Model::load`] trusts nothing: what it returns is
//! consistent, and a damaged or hostile file is refused with an error that names what is wrong.
//! Only the values themselves may be anything; [`Model::num_non_finite`] counts the bad ones.

mod error;
mod f32_tensor;
mod model;
mod write_whole;

pub use error::FormatError;
pub use f32_tensor::F32Tensor;
pub use model::{Model, Provenance};
pub use write_whole::write_whole;
