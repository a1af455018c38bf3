//! Max pooling, NHWC. The reference is [`crate::reference::max_pool`].

use std::ops::Range;

use crate::conv2d::Sums;
use crate::simd::{Simd, simd_fn};
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
    pub fn forward<S, E>(
        simd,
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
            pool(simd, p, 0..p.oh(), (input, 0), output, index);
        }
    }
}

simd_fn! {
    /// The output rows `oh` of one sample, from its rows from `first` on.
    fn forward_rows<S, E>(
        simd,
        p: &MaxPoolProblem,
        oh: Range<usize>,
        input: (&[E], usize),
        output: &mut [E],
        index: &mut [u8],
    ) {
        pool(simd, p, oh, input, output, index);
    }
}

#[inline(always)]
fn pool<S: Simd, E: Element>(
    simd: S,
    p: &MaxPoolProblem,
    oh: Range<usize>,
    (input, first_row): (&[E], usize),
    output: &mut [E],
    index: &mut [u8],
) {
    assert!(p.k <= MAX_WINDOW, "window is {0}x{0}, expected at most 15x15", p.k);
    let row_len = p.ow() * p.c;
    // The pixels of a window, and their places in it.
    let mut pixels = [(0, 0); MAX_WINDOW * MAX_WINDOW];
    for (oh_i, (output, index)) in
        oh.zip(output.chunks_exact_mut(row_len).zip(index.chunks_exact_mut(row_len)))
    {
        let rows = window(oh_i * p.s, p.k, p.p, p.ih);
        for (ow_i, (output, index)) in
            output.chunks_exact_mut(p.c).zip(index.chunks_exact_mut(p.c)).enumerate()
        {
            let columns = window(ow_i * p.s, p.k, p.p, p.iw);
            let mut len = 0;
            for row in rows.clone() {
                for column in columns.clone() {
                    let ih_i = oh_i * p.s + row - p.p - first_row;
                    let pixel = ih_i * p.iw + ow_i * p.s + column - p.p;
                    pixels[len] = (pixel * p.c, (row * p.k + column) as u8);
                    len += 1;
                }
            }
            take_greatest(simd, &pixels[..len], input, output, index);
        }
    }
}

/// Panics unless all `c` channels of the pixels are among so many elements.
#[inline(always)]
fn assert_within(pixels: &[(usize, u8)], c: usize, len: usize) {
    assert!(pixels.iter().all(|(first, _)| *first <= len && c <= len - first));
}

/// The greatest of some pixels and their places, in each channel.
#[inline(always)]
fn take_greatest<S: Simd, E: Element>(
    simd: S,
    pixels: &[(usize, u8)],
    input: &[E],
    output: &mut [E],
    index: &mut [u8],
) {
    let c = output.len();
    let Some((&(first, first_place), others)) = pixels.split_first() else { return };
    assert_eq!(index.len(), c);
    assert_within(pixels, c, input.len());
    let in_vectors = c - c % S::LANES;
    for i in (0..in_vectors).step_by(S::LANES) {
        // SAFETY: all pixels have `c` channels, as asserted above.
        unsafe {
            let mut best = [simd.load_at(input, first + i), simd.splat(f32::from(first_place))];
            for &(pixel, place) in others {
                let x = [simd.load_at(input, pixel + i), simd.splat(f32::from(place))];
                best = simd.greater(best, x);
            }
            simd.store_exact_at(output, i, best[0]);
            simd.store_bytes(index.as_mut_ptr().add(i), best[1]);
        }
    }
    for i in in_vectors..c {
        (output[i], index[i]) = (input[first + i], first_place);
        for &(pixel, place) in others {
            let x = input[pixel + i].to_f32();
            if x > output[i].to_f32() || x.is_nan() {
                (output[i], index[i]) = (input[pixel + i], place);
            }
        }
    }
}

/// Output rows that a joined forward makes at once.
fn rows_at_once(p: &MaxPoolProblem) -> usize {
    (ROWS_LEN / (p.iw * p.c)).saturating_sub(p.k) / p.s + 1
}

/// Elements of the input rows that these see.
fn made_len(p: &MaxPoolProblem) -> usize {
    ((rows_at_once(p) - 1) * p.s + p.k) * p.iw * p.c
}

/// Elements of working memory that a thread needs for [`forward_of`]; see [`scratch::reserve`].
pub fn scratch_len<E: Element>(p: &MaxPoolProblem) -> usize {
    scratch::len_of::<E>(made_len(p))
}

/// As [`forward`], of an input that may be a batch norm's output: then it is made some rows at a time and not
/// stored.
///
/// # Panics
/// The sizes are not the problem's, a window is larger than 15×15, or the input is a gradient or a batch norm's
/// output that is to be stored too or has something added.
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
    let at_once = rows_at_once(p);
    let parts = (0..p.n).flat_map(|n_i| (0..p.oh()).step_by(at_once).map(move |oh_i| (n_i, oh_i)));
    scratch::with_operands::<E, _>(made_len(p), |made| {
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

simd_fn! {
    /// Overwrites `grad_input`: each output's gradient goes to the input that won. Gradients that meet are
    /// added in `f32`, in the order of the outputs, and rounded once.
    pub fn backward<S, E>(
        simd,
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
            gather(simd, p, 0..p.ih, grad_output, index, grad_input);
        }
    }
}

simd_fn! {
    /// The input rows `ih` of one sample.
    fn backward_rows<S, E>(
        simd,
        p: &MaxPoolProblem,
        ih: Range<usize>,
        grad_output: &[E],
        index: &[u8],
        grad_input: &mut [E],
    ) {
        gather(simd, p, ih, grad_output, index, grad_input);
    }
}

#[inline(always)]
fn gather<S: Simd, E: Element>(
    simd: S,
    p: &MaxPoolProblem,
    ih: Range<usize>,
    grad_output: &[E],
    index: &[u8],
    grad_input: &mut [E],
) {
    assert!(p.k <= MAX_WINDOW, "window is {0}x{0}, expected at most 15x15", p.k);
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
            add_won(simd, &windows[..len], (grad_output, index), grad_input);
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

/// Sums of the gradients from windows that a pixel has won.
#[inline(always)]
fn add_won<S: Simd, E: Element>(
    simd: S,
    windows: &[(usize, u8)],
    (grad_output, index): (&[E], &[u8]),
    grad_input: &mut [E],
) {
    let c = grad_input.len();
    assert_eq!(grad_output.len(), index.len());
    assert_within(windows, c, index.len());
    let in_vectors = c - c % S::LANES;
    for i in (0..in_vectors).step_by(S::LANES) {
        let mut sum = simd.splat(0.0);
        // SAFETY: all windows have `c` channels, as asserted above.
        unsafe {
            for &(first, place) in windows {
                let grad = simd.load_at(grad_output, first + i);
                let won = simd.where_byte(index.as_ptr().add(first + i), place, grad);
                sum = simd.add(sum, won);
            }
            simd.store_at(grad_input, i, sum);
        }
    }
    for (i, grad) in grad_input.iter_mut().enumerate().skip(in_vectors) {
        let won = windows.iter().filter(|(first, place)| index[first + i] == *place);
        let sum = won.fold(0.0, |sum, (first, _)| sum + grad_output[first + i].to_f32());
        *grad = E::from_f32(sum);
    }
}
