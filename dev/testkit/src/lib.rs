//! What the tests of the numerical crates share: data, guarded buffers and checkers.
//!
//! A checker returns a [`Check`], so that the same one can be shown to accept what is right and to
//! reject what is nearly right ([`assert_rejected`]); a test that can't fail proves nothing.
//!
//! - [`Generator`]: seeded data, small integers (on which `f32` sums are exact) or signed and
//!   asymmetric.
//! - [`Guarded`]: buffers between canaries, poisoned with NaN where they are to be overwritten.
//! - [`Expected`] and [`Case`]: what the `f64` reference gives, and the comparison of a result with
//!   it, exactly or within a bound that follows from the data.
//! - [`check_adjoint`]: two linear maps are each other's transpose.
//! - [`check_gradient`]: a backward pass against central differences.
//! - [`Golden`]: results of PyTorch kept in safetensors files.

mod adjoint;
mod comparison;
mod expected;
mod failure;
mod generator;
mod golden;
mod gradient;
mod guarded;
mod layout;

pub use adjoint::{check_adjoint, check_products, dot};
pub use comparison::{Case, EPS32, EPS64};
pub use expected::{Expected, absolute, widen};
pub use failure::{Check, Failure, all, assert_rejected};
pub use generator::{Data, Generator};
pub use golden::{Golden, GoldenError};
pub use gradient::check_gradient;
pub use guarded::{Guard, Guarded};
pub use layout::{nchw_to_nhwc, nhwc_to_nchw};
