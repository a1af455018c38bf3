//! Plain loops, generic over `f32` and `f64`: the oracle and the documentation of every operation.
//!
//! Each file states one operation's formula and computes it as written, forward above backward.
//! Sums are taken in the element type, in memory order. Activations are NHWC, weights are laid out
//! as PyTorch's. Lengths that do not fit together are programming errors and panic.

pub mod add_relu;
pub mod batch_norm;
pub mod conv2d;
pub mod cross_entropy;
pub mod global_avg_pool;
pub mod linear;
pub mod max_pool;
pub mod muon;
mod real;
pub mod relu;
pub mod sgd;
pub mod zero_pad;

pub use real::Real;
