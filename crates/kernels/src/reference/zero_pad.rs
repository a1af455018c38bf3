//! The shortcut without parameters (He et al. 2015, option A): every `stride`-th row and column,
//! the channels between zero channels:
//!
//! ```text
//! output[n, oh, ow, pad_before + c] = input[n, oh·stride, ow·stride, c],  0 in the other channels
//! ```
//!
//! On vectors it is the product with the fixed matrix `[0; I; 0]`.

use super::Real;
use crate::ZeroPadProblem;

/// Calls `visit` with the first element of every kept input pixel and of its channels in the
/// output.
fn for_each_pixel(p: &ZeroPadProblem, mut visit: impl FnMut(usize, usize)) {
    for n_i in 0..p.n {
        for oh_i in 0..p.oh() {
            for ow_i in 0..p.ow() {
                let input_pixel = (n_i * p.ih + oh_i * p.stride) * p.iw + ow_i * p.stride;
                let output_pixel = (n_i * p.oh() + oh_i) * p.ow() + ow_i;
                visit(input_pixel * p.ic, output_pixel * p.oc() + p.pad_before);
            }
        }
    }
}

/// Overwrites `output`.
pub fn forward<T: Real>(p: &ZeroPadProblem, input: &[T], output: &mut [T]) {
    check(p, input.len(), output.len());
    output.fill(T::ZERO);
    for_each_pixel(p, |input_start, output_start| {
        output[output_start..][..p.ic].copy_from_slice(&input[input_start..][..p.ic]);
    });
}

/// Overwrites `grad_input`: 0 at the pixels that are not kept.
pub fn backward<T: Real>(p: &ZeroPadProblem, grad_output: &[T], grad_input: &mut [T]) {
    check(p, grad_input.len(), grad_output.len());
    grad_input.fill(T::ZERO);
    for_each_pixel(p, |input_start, output_start| {
        grad_input[input_start..][..p.ic].copy_from_slice(&grad_output[output_start..][..p.ic]);
    });
}

fn check(p: &ZeroPadProblem, input_len: usize, output_len: usize) {
    assert_eq!(input_len, p.input_len(), "{p:?}: input length");
    assert_eq!(output_len, p.output_len(), "{p:?}: output length");
}
