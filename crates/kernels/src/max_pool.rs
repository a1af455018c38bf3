//! Max pooling, NHWC. The reference is [`crate::reference::max_pool`].

use crate::simd::simd_fn;
use crate::{Element, Isa, MaxPoolProblem};

/// Writes the maximum of every window and, for the backward, its place in the window
/// (`row · k + col`). The first maximum wins; NaN beats everything, the last NaN other NaN, as in
/// PyTorch; padding never wins.
///
/// The loop over channels is left to the compiler: the pool is one pass over its input and takes
/// part in no network's inner blocks.
pub fn forward<E: Element>(
    isa: Isa,
    p: &MaxPoolProblem,
    input: &[E],
    output: &mut [E],
    index: &mut [u8],
) {
    assert!(p.k <= 15, "window is {0}x{0}, expected at most 15x15", p.k);
    assert_eq!(input.len(), p.input_len());
    assert_eq!((output.len(), index.len()), (p.output_len(), p.output_len()));
    let sample = p.ih * p.iw * p.c;
    for (pixel, (output, index)) in
        output.chunks_exact_mut(p.c).zip(index.chunks_exact_mut(p.c)).enumerate()
    {
        let (n_i, oh_i, ow_i) = position(p, pixel);
        let input = &input[n_i * sample..][..sample];
        output.fill(E::from_f32(f32::NEG_INFINITY));
        let mut first = true;
        for (place, ih_i, iw_i) in window(p, oh_i, ow_i) {
            if first {
                index.fill(place);
                first = false;
            }
            take_greater(isa, &input[(ih_i * p.iw + iw_i) * p.c..][..p.c], place, output, index);
        }
    }
}

simd_fn! {
    /// Where `input` is greater than `output`, or NaN, it replaces it.
    fn take_greater<S, E>(_simd, input: &[E], place: u8, output: &mut [E], index: &mut [u8]) {
        for ((input, output), index) in input.iter().zip(output).zip(index) {
            let wins = input.to_f32() > output.to_f32() || input.to_f32().is_nan();
            *output = if wins { *input } else { *output };
            *index = if wins { place } else { *index };
        }
    }
}

/// Overwrites `grad_input`: each output's gradient goes to the input that won.
pub fn backward<E: Element>(
    _isa: Isa,
    p: &MaxPoolProblem,
    grad_output: &[E],
    index: &[u8],
    grad_input: &mut [E],
) {
    assert_eq!(grad_input.len(), p.input_len());
    assert_eq!((grad_output.len(), index.len()), (p.output_len(), p.output_len()));
    grad_input.fill(E::from_f32(0.0));
    let sample = p.ih * p.iw * p.c;
    let pixels = grad_output.chunks_exact(p.c).zip(index.chunks_exact(p.c));
    for (pixel, (grad_output, index)) in pixels.enumerate() {
        let (n_i, oh_i, ow_i) = position(p, pixel);
        let grad_input = &mut grad_input[n_i * sample..][..sample];
        for (c_i, (grad, place)) in grad_output.iter().zip(index).enumerate() {
            let (row, col) = (usize::from(*place) / p.k, usize::from(*place) % p.k);
            let (ih_i, iw_i) = (oh_i * p.s + row - p.p, ow_i * p.s + col - p.p);
            let sum = &mut grad_input[(ih_i * p.iw + iw_i) * p.c + c_i];
            *sum = E::from_f32(sum.to_f32() + grad.to_f32());
        }
    }
}

/// Sample, row and column of an output pixel.
fn position(p: &MaxPoolProblem, pixel: usize) -> (usize, usize, usize) {
    (pixel / (p.oh() * p.ow()), pixel / p.ow() % p.oh(), pixel % p.ow())
}

/// The places of a window that lie in the picture, with their rows and columns there.
fn window(
    p: &MaxPoolProblem,
    oh_i: usize,
    ow_i: usize,
) -> impl Iterator<Item = (u8, usize, usize)> + use<> {
    let p = *p;
    (0..p.k * p.k).filter_map(move |place| {
        let ih_i = (oh_i * p.s + place / p.k).checked_sub(p.p).filter(|row| *row < p.ih)?;
        let iw_i = (ow_i * p.s + place % p.k).checked_sub(p.p).filter(|col| *col < p.iw)?;
        Some((place as u8, ih_i, iw_i))
    })
}
