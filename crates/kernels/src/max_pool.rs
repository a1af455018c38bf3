//! Max pooling, NHWC. The reference is [`crate::reference::max_pool`].

use std::ops::Range;

use crate::conv2d::Sums;
use crate::simd::simd_fn;
use crate::{Element, Isa, MaxPoolProblem, Normalised, Source, batch_norm, scratch};

/// The largest window: its places fit a byte.
const MAX_WINDOW: usize = 15;

/// Elements of the rows that a joined step goes through at once: a quarter of a megabyte in bf16, which stays
/// in the second-level cache.
const ROWS_LEN: usize = 1 << 17;

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
        assert_eq!(input.len(), p.input_len());
        assert_eq!((output.len(), index.len()), (p.output_len(), p.output_len()));
        let (input_len, output_len) = (p.ih * p.iw * p.c, p.oh() * p.ow() * p.c);
        for (input, (output, index)) in input
            .chunks_exact(input_len)
            .zip(output.chunks_exact_mut(output_len).zip(index.chunks_exact_mut(output_len)))
        {
            pool(p, 0..p.oh(), (input, 0), output, index);
        }
    }
}

simd_fn! {
    /// The output rows `oh` of one sample, from its rows from `first` on.
    fn forward_rows<S, E>(
        _simd,
        p: &MaxPoolProblem,
        oh: Range<usize>,
        input: (&[E], usize),
        output: &mut [E],
        index: &mut [u8],
    ) {
        pool(p, oh, input, output, index);
    }
}

#[inline(always)]
fn pool<E: Element>(
    p: &MaxPoolProblem,
    oh: Range<usize>,
    (input, first_row): (&[E], usize),
    output: &mut [E],
    index: &mut [u8],
) {
    assert!(p.k <= MAX_WINDOW, "window is {0}x{0}, expected at most 15x15", p.k);
    let row_len = p.ow() * p.c;
    for (oh_i, (output, index)) in
        oh.zip(output.chunks_exact_mut(row_len).zip(index.chunks_exact_mut(row_len)))
    {
        let rows = window(oh_i * p.s, p.k, p.p, p.ih);
        for (ow_i, (output, index)) in
            output.chunks_exact_mut(p.c).zip(index.chunks_exact_mut(p.c)).enumerate()
        {
            let columns = window(ow_i * p.s, p.k, p.p, p.iw);
            let first = rows.start * p.k + columns.start;
            for row in rows.clone() {
                for column in columns.clone() {
                    let ih_i = oh_i * p.s + row - p.p - first_row;
                    let pixel = ih_i * p.iw + ow_i * p.s + column - p.p;
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

/// As [`forward`], of an input that may be a batch norm's output: then it is made some rows at a time and not
/// stored.
///
/// # Panics
/// The sizes are not the problem's, or the input is to be stored too, or a gradient.
pub fn forward_of<E: Element>(
    isa: Isa,
    p: &MaxPoolProblem,
    input: Source<'_, E>,
    output: &mut [E],
    index: &mut [u8],
) {
    let from = match input {
        Source::Stored(input) => return forward(isa, p, input, output, index),
        Source::Normalised(from) => from,
        Source::NormGrad(_) => unreachable!("a pool reads no gradient"),
    };
    assert!(from.residual.is_none() && from.output.is_none(), "only a batch norm is joined");
    assert_eq!(from.input.len(), p.input_len());
    assert_eq!((output.len(), index.len()), (p.output_len(), p.output_len()));
    let (row_len, sample_len) = (p.iw * p.c, p.ih * p.iw * p.c);
    let at_once = (ROWS_LEN / row_len).saturating_sub(p.k) / p.s + 1;
    let parts = (0..p.n).flat_map(|n_i| (0..p.oh()).step_by(at_once).map(move |oh_i| (n_i, oh_i)));
    scratch::with_operands::<E, _>(((at_once - 1) * p.s + p.k) * row_len, |made| {
        for (n_i, first) in parts {
            let oh = first..p.oh().min(first + at_once);
            let rows = (oh.start * p.s).saturating_sub(p.p)
                ..((oh.end - 1) * p.s + p.k).saturating_sub(p.p).min(p.ih);
            let made = &mut made[..rows.len() * row_len];
            let input = &from.input[n_i * sample_len..][rows.start * row_len..][..made.len()];
            batch_norm::normalise(isa, Normalised { input, output: None, ..from }, made);
            let written =
                (n_i * p.oh() + oh.start) * p.ow() * p.c..(n_i * p.oh() + oh.end) * p.ow() * p.c;
            let (output, index) = (&mut output[written.clone()], &mut index[written]);
            forward_rows(isa, p, oh, (made, rows.start), output, index);
        }
    });
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
        let (input_len, output_len) = (p.ih * p.iw * p.c, p.oh() * p.ow() * p.c);
        for (grad_input, (grad_output, index)) in grad_input
            .chunks_exact_mut(input_len)
            .zip(grad_output.chunks_exact(output_len).zip(index.chunks_exact(output_len)))
        {
            gather(p, 0..p.ih, grad_output, index, grad_input);
        }
    }
}

simd_fn! {
    /// The input rows `ih` of one sample.
    fn backward_rows<S, E>(
        _simd,
        p: &MaxPoolProblem,
        ih: Range<usize>,
        grad_output: &[E],
        index: &[u8],
        grad_input: &mut [E],
    ) {
        gather(p, ih, grad_output, index, grad_input);
    }
}

#[inline(always)]
fn gather<E: Element>(
    p: &MaxPoolProblem,
    ih: Range<usize>,
    grad_output: &[E],
    index: &[u8],
    grad_input: &mut [E],
) {
    // The windows that a pixel lies in, and where in them.
    let mut windows = [(0, 0); MAX_WINDOW * MAX_WINDOW];
    for (ih_i, grad_input) in ih.zip(grad_input.chunks_exact_mut(p.iw * p.c)) {
        let rows = windows_over(ih_i + p.p, p.k, p.s, p.oh());
        for (iw_i, grad_input) in grad_input.chunks_exact_mut(p.c).enumerate() {
            let mut len = 0;
            let columns = windows_over(iw_i + p.p, p.k, p.s, p.ow());
            for oh_i in rows.clone() {
                for ow_i in columns.clone() {
                    let place = (ih_i + p.p - oh_i * p.s) * p.k + iw_i + p.p - ow_i * p.s;
                    let pixel = oh_i * p.ow() + ow_i;
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

/// As [`backward`], and what `sums` says is done to the gradient, some rows at a time.
///
/// # Panics
/// The sizes are not the problem's.
pub fn backward_with_sums<E: Element>(
    isa: Isa,
    p: &MaxPoolProblem,
    grad_output: &[E],
    index: &[u8],
    grad_input: &mut [E],
    mut sums: Sums<'_, E>,
) {
    if matches!(sums, Sums::None) {
        return backward(isa, p, grad_output, index, grad_input);
    }
    assert_eq!(grad_input.len(), p.input_len());
    assert_eq!((grad_output.len(), index.len()), (p.output_len(), p.output_len()));
    let (row_len, output_len) = (p.iw * p.c, p.oh() * p.ow() * p.c);
    let at_once = (ROWS_LEN / row_len).max(1);
    for n_i in 0..p.n {
        let grad_output = &grad_output[n_i * output_len..][..output_len];
        let index = &index[n_i * output_len..][..output_len];
        for first in (0..p.ih).step_by(at_once) {
            let ih = first..p.ih.min(first + at_once);
            let made = (n_i * p.ih + ih.start) * row_len..(n_i * p.ih + ih.end) * row_len;
            let rows = &mut grad_input[made.clone()];
            backward_rows(isa, p, ih, grad_output, index, rows);
            sums.part(made).add(isa, rows);
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
