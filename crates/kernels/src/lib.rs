//! The hot loops of residual networks, forward and backward.
//!
//! | module | fast, for every [`Isa`] | plain reference |
//! |---|---|---|
//! | [`conv2d`] | all passes of a convolution, and of a linear operation | `conv2d`, `linear` |
//! | [`batch_norm`] | moments, normalise (+ residual, ReLU), backward | `batch_norm` |
//! | [`relu`], [`add`] | ReLU, sum, sum with ReLU | `relu`, `add_relu` |
//! | [`max_pool`], [`global_avg_pool`] | pooling | same names |
//! | [`zero_pad`] | the parameter-free shortcut | `zero_pad` |
//! | [`cross_entropy`] | loss and its gradient | `cross_entropy` |
//! | [`sgd`] | the update | `sgd` |
//! | [`peak`] | what a core can do at most | |
//!
//! Activations are NHWC, weights are in PyTorch's layouts until a kernel packs them. A convolution reads a
//! [`Source`]: what is stored, or what a batch norm makes on the way; and adds [`conv2d::Sums`] up over what
//! it writes. Sizes that describe no convolution, a slice of the wrong length or an instruction set that the
//! machine lacks are programming errors: kernels check for them once a call, and panic. Kernels don't start
//! threads: whoever calls them cuts the work.
//!
//! This is the only crate with `unsafe`: intrinsics behind the tokens of `simd`, the register tiles of
//! [`conv2d`], the instructions of AMX and AVX512-BF16, and the cache lines behind [`Aligned`].
#![allow(unsafe_code, reason = "intrinsics and register tiles on raw pointers")]

pub mod add;
mod aligned;
#[cfg(target_arch = "x86_64")]
mod amx;
pub mod batch_norm;
mod channels;
pub mod conv2d;
pub mod cross_entropy;
mod element;
mod fetch;
pub mod global_avg_pool;
mod isa;
pub mod max_pool;
mod padding;
pub mod peak;
mod problem;
pub mod reference;
pub mod relu;
pub mod scratch;
pub mod sgd;
mod simd;
mod source;
pub mod zero_pad;

pub use aligned::Aligned;
pub use element::{Element, convert, round};
pub use half::bf16;
pub use isa::{Isa, IsaError};
pub use problem::{Conv2dProblem, MaxPoolProblem, ProblemError, ZeroPadProblem};
pub use source::{NormGrad, Normalised, Residual, Source};
