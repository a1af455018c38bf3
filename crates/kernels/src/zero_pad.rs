//! The parameter-free shortcut (He et al. 2015, option A), NHWC: every `stride`-th row and column,
//! with zero channels before and after. The reference is [`crate::reference::zero_pad`]. One pass of
//! copies.

use crate::{Element, Isa, ZeroPadProblem, add};

/// The kept input pixel of every output pixel, in order: its first element.
fn kept_pixels(p: &ZeroPadProblem) -> impl Iterator<Item = usize> + use<> {
    let p = *p;
    (0..p.n * p.oh() * p.ow()).map(move |pixel| {
        let n_i = pixel / (p.oh() * p.ow());
        let (ih_i, iw_i) = (pixel / p.ow() % p.oh() * p.stride, pixel % p.ow() * p.stride);
        ((n_i * p.ih + ih_i) * p.iw + iw_i) * p.ic
    })
}

/// Overwrites `output` with the kept pixels and zero channels.
pub fn forward<E: Element>(_isa: Isa, p: &ZeroPadProblem, input: &[E], output: &mut [E]) {
    assert_eq!((input.len(), output.len()), (p.input_len(), p.output_len()));
    for (first, output) in kept_pixels(p).zip(output.chunks_exact_mut(p.oc())) {
        let (before, rest) = output.split_at_mut(p.pad_before);
        let (kept, after) = rest.split_at_mut(p.ic);
        before.fill(E::from_f32(0.0));
        kept.copy_from_slice(&input[first..first + p.ic]);
        after.fill(E::from_f32(0.0));
    }
}

/// The adjoint of [`forward`], added to `grad_input` if `accumulate`, else it overwrites it.
pub fn backward<E: Element>(
    isa: Isa,
    p: &ZeroPadProblem,
    grad_output: &[E],
    accumulate: bool,
    grad_input: &mut [E],
) {
    assert_eq!((grad_input.len(), grad_output.len()), (p.input_len(), p.output_len()));
    if !accumulate {
        grad_input.fill(E::from_f32(0.0));
    }
    for (first, grad_output) in kept_pixels(p).zip(grad_output.chunks_exact(p.oc())) {
        let kept = &grad_output[p.pad_before..][..p.ic];
        add::add_assign(isa, &mut grad_input[first..first + p.ic], kept);
    }
}
