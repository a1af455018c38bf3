//! From graph to numbers: forward, backward, gradients.

pub mod reference;
