//! Why residual networks work, measured on trained networks and on data.
//!
//! [`difference`] tells whether two models put out the same, bit for bit.

mod difference;

pub use difference::{Difference, difference};
