//! The hot loops of residual networks, forward and backward.

mod isa;
mod problem;
pub mod reference;

pub use isa::{Isa, IsaError};
pub use problem::{Conv2dProblem, MaxPoolProblem, ProblemError, ZeroPadProblem};
