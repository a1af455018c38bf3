//! Max pooling, NHWC. The reference is [`crate::reference::max_pool`].

use std::ops::Range;

use crate::simd::simd_fn;
use crate::{Element, MaxPoolProblem};

/// The largest window: its places fit a byte.
const MAX_WINDOW: usize = 15;

simd_fn! {
    /// Writes the maximum of every window and, for the backward, its place in the window
    /// (`row · k + col`). The first maximum wins; NaN beats everything, the last NaN other NaN, as in
    /// PyTorch; padding never wins.
    ///
    /// The loops over channels are left to the compiler: the pool is one pass over its input and takes
    /// part in no network's inner blocks.
    pub fn forward<S, E>(
        _simd,
        p: &MaxPoolProblem,
        input: &[E],
        output: &mut [E],
        index: &mut [u8],
    ) {
        assert!(p.k <= MAX_WINDOW, "window is {0}x{0}, expected at most 15x15", p.k);
        assert_eq!(input.len(), p.input_len());
        assert_eq!((output.len(), index.len()), (p.output_len(), p.output_len()));
        let sample = p.ih * p.iw * p.c;
        for (row, (output, index)) in
            output.chunks_exact_mut(p.ow() * p.c).zip(index.chunks_exact_mut(p.ow() * p.c)).enumerate()
        {
            let (n_i, oh_i) = (row / p.oh(), row % p.oh());
            let input = &input[n_i * sample..][..sample];
            let rows = window(oh_i * p.s, p.k, p.p, p.ih);
            for (ow_i, (output, index)) in
                output.chunks_exact_mut(p.c).zip(index.chunks_exact_mut(p.c)).enumerate()
            {
                let columns = window(ow_i * p.s, p.k, p.p, p.iw);
                let first = rows.start * p.k + columns.start;
                for row in rows.clone() {
                    for column in columns.clone() {
                        let pixel = (oh_i * p.s + row - p.p) * p.iw + ow_i * p.s + column - p.p;
                        let input = &input[pixel * p.c..][..p.c];
                        let place = row * p.k + column;
                        if place == first {
                            output.copy_from_slice(input);
                            index.fill(place as u8);
                        } else {
                            take_greater(input, place as u8, output, index);
                        }
                    }
                }
            }
        }
    }
}

/// The places of a window along an axis, `k` from the padded position `start` on, that lie in the
/// picture.
fn window(start: usize, k: usize, padding: usize, len: usize) -> Range<usize> {
    padding.saturating_sub(start)..k.min(len + padding - start)
}

/// Where `input` is greater than `output`, or NaN, it replaces it.
#[inline(always)]
fn take_greater<E: Element>(input: &[E], place: u8, output: &mut [E], index: &mut [u8]) {
    for ((input, output), index) in input.iter().zip(output).zip(index) {
        let wins = input.to_f32() > output.to_f32() || input.to_f32().is_nan();
        *output = if wins { *input } else { *output };
        *index = if wins { place } else { *index };
    }
}

simd_fn! {
    /// Overwrites `grad_input`: each output's gradient goes to the input that won. Gradients that meet are
    /// added in `f32`, in the order of the outputs, and rounded once.
    pub fn backward<S, E>(
        _simd,
        p: &MaxPoolProblem,
        grad_output: &[E],
        index: &[u8],
        grad_input: &mut [E],
    ) {
        assert_eq!(grad_input.len(), p.input_len());
        assert_eq!((grad_output.len(), index.len()), (p.output_len(), p.output_len()));
        // The windows that a pixel lies in, and where in them.
        let mut windows = [(0, 0); MAX_WINDOW * MAX_WINDOW];
        for (row, grad_input) in grad_input.chunks_exact_mut(p.iw * p.c).enumerate() {
            let (n_i, ih_i) = (row / p.ih, row % p.ih);
            let rows = windows_over(ih_i + p.p, p.k, p.s, p.oh());
            for (iw_i, grad_input) in grad_input.chunks_exact_mut(p.c).enumerate() {
                let mut len = 0;
                let columns = windows_over(iw_i + p.p, p.k, p.s, p.ow());
                for oh_i in rows.clone() {
                    for ow_i in columns.clone() {
                        let place = (ih_i + p.p - oh_i * p.s) * p.k + iw_i + p.p - ow_i * p.s;
                        let pixel = (n_i * p.oh() + oh_i) * p.ow() + ow_i;
                        windows[len] = (pixel * p.c, place as u8);
                        len += 1;
                    }
                }
                match windows[..len] {
                    [(first, place)] => {
                        let (grads, places) = (&grad_output[first..], &index[first..]);
                        take_won(place, &grads[..p.c], &places[..p.c], grad_input);
                    }
                    ref windows => add_won(windows, grad_output, index, grad_input),
                }
            }
        }
    }
}

/// The windows along an axis that a padded position lies in.
fn windows_over(position: usize, k: usize, s: usize, num_windows: usize) -> Range<usize> {
    let first = (position + 1).saturating_sub(k).div_ceil(s);
    first..(position / s + 1).min(num_windows)
}

/// Gradients from the one window that a pixel lies in, where it has won.
#[inline(always)]
fn take_won<E: Element>(place: u8, grads: &[E], places: &[u8], grad_input: &mut [E]) {
    let zero = E::from_f32(0.0);
    for ((grad_input, grad), won) in grad_input.iter_mut().zip(grads).zip(places) {
        *grad_input = if *won == place { *grad } else { zero };
    }
}

/// Sums of the gradients from windows that a pixel has won.
#[inline(always)]
fn add_won<E: Element>(
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
