//! Max pooling, NHWC. The reference is [`crate::reference::max_pool`].

use crate::simd::simd_fn;
use crate::{Element, Isa, MaxPoolProblem};

/// The largest window: its places fit a byte.
const MAX_WINDOW: usize = 15;

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
    assert!(p.k <= MAX_WINDOW, "window is {0}x{0}, expected at most 15x15", p.k);
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

/// Overwrites `grad_input`: each output's gradient goes to the input that won. Gradients that meet are
/// added in `f32`, in the order of the outputs, and rounded once.
pub fn backward<E: Element>(
    isa: Isa,
    p: &MaxPoolProblem,
    grad_output: &[E],
    index: &[u8],
    grad_input: &mut [E],
) {
    assert_eq!(grad_input.len(), p.input_len());
    assert_eq!((grad_output.len(), index.len()), (p.output_len(), p.output_len()));
    // The windows that a pixel lies in, and where in them.
    let mut windows = [(0, 0); MAX_WINDOW * MAX_WINDOW];
    for (pixel, grad_input) in grad_input.chunks_exact_mut(p.c).enumerate() {
        let (n_i, ih_i, iw_i) = (pixel / (p.ih * p.iw), pixel / p.iw % p.ih, pixel % p.iw);
        let mut len = 0;
        for (oh_i, row) in windows_over(ih_i + p.p, p.k, p.s, p.oh()) {
            for (ow_i, col) in windows_over(iw_i + p.p, p.k, p.s, p.ow()) {
                let first = ((n_i * p.oh() + oh_i) * p.ow() + ow_i) * p.c;
                windows[len] = (first, (row * p.k + col) as u8);
                len += 1;
            }
        }
        add_won(isa, &windows[..len], grad_output, index, grad_input);
    }
}

/// The windows along an axis that a padded position lies in, and where in each.
fn windows_over(
    position: usize,
    k: usize,
    s: usize,
    num_windows: usize,
) -> impl Iterator<Item = (usize, usize)> {
    let first = (position + 1).saturating_sub(k).div_ceil(s);
    let end = (position / s + 1).min(num_windows);
    (first..end).map(move |window| (window, position - window * s))
}

simd_fn! {
    /// Sums of the gradients from windows that a pixel has won.
    fn add_won<S, E>(
        _simd,
        windows: &[(usize, u8)],
        grad_output: &[E],
        index: &[u8],
        grad_input: &mut [E],
    ) {
        const CHANNELS: usize = 64;
        for (i, grad_input) in grad_input.chunks_mut(CHANNELS).enumerate() {
            let mut sums = [0.0; CHANNELS];
            for &(first, place) in windows {
                let first = first + i * CHANNELS;
                let grads = &grad_output[first..][..grad_input.len()];
                let places = &index[first..][..grad_input.len()];
                for ((sum, grad), won) in sums.iter_mut().zip(grads).zip(places) {
                    *sum += if *won == place { grad.to_f32() } else { 0.0 };
                }
            }
            for (grad, sum) in grad_input.iter_mut().zip(&sums) {
                *grad = E::from_f32(*sum);
            }
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
