//! Batch normalisation over rows of `c` channels (NHWC), in the parts that a plan puts together:
//! moments of a slice of the batch and their merging, the normalising pass with the end of a
//! residual block (`+ residual`, ReLU), and the two passes of the backward.
//!
//! The reference is [`crate::reference::batch_norm`]. Each pass is bound by memory: a few operations
//! an element against 4 to 16 bytes (half of that in bf16).

use crate::channels::{self, BLOCK_CHANNELS, BlockSums, ChannelBlock, Map, Terms, Walk, Wide};
use crate::fetch::fetch_ahead;
use crate::padding::Padding;
use crate::simd::{Simd, simd_fn};
use crate::{Element, Isa, NormGrad, Normalised, Residual};

/// `Σ (x − shift)` and `Σ (x − shift)²`.
struct Deviations<'a, E> {
    input: &'a [E],
    shift: &'a [f32],
}

impl<E: Element> Terms for Deviations<'_, E> {
    #[inline(always)]
    unsafe fn vector<S: Simd>(&mut self, simd: S, i: usize, col: usize) -> [S::F32; 2] {
        // SAFETY: the caller's promise.
        unsafe {
            let deviation = simd.sub(simd.load_at(self.input, i), simd.load_at(self.shift, col));
            [deviation, simd.mul(deviation, deviation)]
        }
    }

    #[inline(always)]
    fn scalar<S: Simd>(&mut self, _simd: S, i: usize, col: usize) -> [f32; 2] {
        let deviation = self.input[i].to_f32() - self.shift[col];
        [deviation, deviation * deviation]
    }
}

simd_fn! {
    /// Merges the rows of `input` (`rows × c`) into the moments of the `count` rows already seen:
    /// their `mean` and `m2 = Σ (x − mean)²`, for each channel.
    ///
    /// Deviations are taken from a value that is already close to the mean (the first row, then the
    /// mean so far), summed in f32 over short stretches and merged in f64 (Chan, Golub & LeVeque
    /// 1983), so that a mean far from zero costs no digits.
    pub fn moments<S, E>(simd, input: &[E], count: usize, mean: &mut [f64], m2: &mut [f64]) {
        let c = mean.len();
        assert_eq!((m2.len(), input.len() % c), (c, 0), "input is not rows of {c} channels");
        let num_rows = input.len() / c;
        for block in ChannelBlock::all::<S>(c) {
            let channels = block.first..block.first + block.len;
            let (mean, m2) = (&mut mean[channels.clone()], &mut m2[channels]);
            let mut shift = [0.0; BLOCK_CHANNELS];
            let mut count = count;
            for first in (0..num_rows).step_by(block.rows_at_once()) {
                let rows = first..num_rows.min(first + block.rows_at_once());
                for (i, shift) in shift[..block.len].iter_mut().enumerate() {
                    *shift = if count == 0 { input[block.first + i].to_f32() } else { mean[i] as f32 };
                }
                let mut storage = Wide::new();
                let wide = block.widen(&shift[..block.len], &mut storage);
                let added = rows.len();
                let mut terms = Deviations { input, shift: wide };
                // SAFETY: `rows` are of the input, and `shift` is widened.
                let sums = unsafe { block.sums(simd, c, rows, &mut terms) };
                for i in 0..block.len {
                    let n = added as f64;
                    let off = sums[0][i] / n;
                    let other_mean = f64::from(shift[i]) + off;
                    let other_m2 = sums[1][i] - off * sums[0][i];
                    merge(count, &mut mean[i], &mut m2[i], added, other_mean, other_m2);
                }
                count += added;
            }
        }
    }
}

/// Merges the moments of `other_count` rows into those of `count` rows, channel by channel.
#[inline]
pub fn merge_moments(
    count: usize,
    mean: &mut [f64],
    m2: &mut [f64],
    other_count: usize,
    other_mean: &[f64],
    other_m2: &[f64],
) {
    assert_eq!([mean.len(), other_mean.len(), other_m2.len()], [m2.len(); 3]);
    for (i, (mean, m2)) in mean.iter_mut().zip(m2).enumerate() {
        merge(count, mean, m2, other_count, other_mean[i], other_m2[i]);
    }
}

#[inline(always)]
pub(crate) fn merge(
    count: usize,
    mean: &mut f64,
    m2: &mut f64,
    other_count: usize,
    other_mean: f64,
    other_m2: f64,
) {
    if count == 0 {
        (*mean, *m2) = (other_mean, other_m2);
        return;
    }
    let (n, added) = (count as f64, other_count as f64);
    let delta = other_mean - *mean;
    let share = added / (n + added);
    *mean += delta * share;
    *m2 += other_m2 + delta * delta * n * share;
}

/// What is added in [`Normalise`]: nothing, what is stored, or what lies in `padded` already.
const NO_RESIDUAL: u8 = 0;
const STORED: u8 = 1;
const PLACED: u8 = 2;

/// One stretch of [`Normalised`]: to `padded`, and to `output` if `KEEP`.
struct Normalise<'a, E, B, const RESIDUAL: u8, const KEEP: bool> {
    input: &'a [E],
    scale: &'a [f32],
    shift: &'a [f32],
    residual: &'a [E],
    /// What the result is at least: 0 with a ReLU.
    floor: f32,
    padded: &'a mut [B],
    output: &'a mut [E],
}

impl<E: Element, B: Element, const RESIDUAL: u8, const KEEP: bool> Map
    for Normalise<'_, E, B, RESIDUAL, KEEP>
{
    type Operands<S: Simd> = [[S::F32; 2]; 2];

    #[inline(always)]
    unsafe fn operands<S: Simd>(&self, simd: S, col: usize) -> Self::Operands<S> {
        // SAFETY: the caller's promise.
        unsafe { [simd.load_pair(self.scale, col), simd.load_pair(self.shift, col)] }
    }

    #[inline(always)]
    unsafe fn pair<S: Simd>(&mut self, simd: S, i: usize, [scale, shift]: [[S::F32; 2]; 2]) {
        fetch_ahead(self.input.as_ptr().wrapping_add(i));
        fetch_ahead(self.padded.as_ptr().wrapping_add(i));
        if RESIDUAL == STORED {
            fetch_ahead(self.residual.as_ptr().wrapping_add(i));
        }
        if KEEP {
            fetch_ahead(self.output.as_ptr().wrapping_add(i));
        }
        // SAFETY: the caller's promise.
        unsafe {
            let input = simd.load_pair(self.input, i);
            let mut y =
                [simd.fma(input[0], scale[0], shift[0]), simd.fma(input[1], scale[1], shift[1])];
            if RESIDUAL != NO_RESIDUAL {
                let residual = match RESIDUAL {
                    STORED => simd.load_pair(self.residual, i),
                    _ => simd.load_pair(self.padded, i),
                };
                y = [simd.add(y[0], residual[0]), simd.add(y[1], residual[1])];
            }
            let floor = simd.splat(self.floor);
            y = [simd.at_least(floor, y[0]), simd.at_least(floor, y[1])];
            if KEEP {
                simd.store_pair(self.output, i, y);
            }
            store_rounded::<S, E, B>(simd, self.padded, i, y);
        }
    }

    #[inline(always)]
    fn scalar<S: Simd>(&mut self, simd: S, i: usize, col: usize) {
        let mut y = simd.fma_scalar(self.input[i].to_f32(), self.scale[col], self.shift[col]);
        match RESIDUAL {
            NO_RESIDUAL => {}
            STORED => y += self.residual[i].to_f32(),
            _ => y += self.padded[i].to_f32(),
        }
        let y = E::from_f32(if y < self.floor { self.floor } else { y });
        if KEEP {
            self.output[i] = y;
        }
        self.padded[i] = B::from_f32(y.to_f32());
    }
}

/// Stores numbers rounded to `E` in a format that has all of these.
///
/// # Safety
/// `2 · LANES` elements from `i` on exist.
#[inline(always)]
unsafe fn store_rounded<S: Simd, E: Element, B: Element>(
    simd: S,
    out: &mut [B],
    i: usize,
    pair: [S::F32; 2],
) {
    // Storing rounds too, if the format is the same.
    let wider = B::ROUNDING < E::ROUNDING;
    let pair = if wider { [E::round(simd, pair[0]), E::round(simd, pair[1])] } else { pair };
    // SAFETY: the caller's promise.
    unsafe { simd.store_pair(out, i, pair) }
}

simd_fn! {
    /// Writes the rows of [`Normalised`] to their places in `padded`.
    pub(crate) fn normalise_rows<S, E, B>(
        simd,
        padding: &Padding,
        from: Normalised<'_, E>,
        padded: &mut [B],
    ) {
        let walk = Walk::new::<S>(padding.c);
        let (mut wide_scale, mut wide_shift) = (Wide::new(), Wide::new());
        let from = Normalised {
            scale: walk.widen(from.scale, &mut wide_scale),
            shift: walk.widen(from.shift, &mut wide_shift),
            ..from
        };
        match from.residual {
            None => normalise_all::<S, E, B, NO_RESIDUAL>(simd, padding, walk, from, padded),
            Some(Residual::Stored(_)) => {
                normalise_all::<S, E, B, STORED>(simd, padding, walk, from, padded);
            }
            Some(Residual::ZeroPadded(_)) => {
                normalise_all::<S, E, B, PLACED>(simd, padding, walk, from, padded);
            }
        }
    }
}

#[inline(always)]
fn normalise_all<S: Simd, E: Element, B: Element, const RESIDUAL: u8>(
    simd: S,
    padding: &Padding,
    walk: Walk,
    from: Normalised<'_, E>,
    padded: &mut [B],
) {
    match from.output {
        Some(_) => normalise_each::<S, E, B, RESIDUAL, true>(simd, padding, walk, from, padded),
        None => normalise_each::<S, E, B, RESIDUAL, false>(simd, padding, walk, from, padded),
    }
}

#[inline(always)]
fn normalise_each<S: Simd, E: Element, B: Element, const RESIDUAL: u8, const KEEP: bool>(
    simd: S,
    padding: &Padding,
    walk: Walk,
    from: Normalised<'_, E>,
    padded: &mut [B],
) {
    let Normalised { input, scale, shift, residual, relu, output } = from;
    let output = output.unwrap_or_default();
    let len = padding.stretch_len();
    let floor = if relu { 0.0 } else { f32::NEG_INFINITY };
    for (first, to) in padding.stretches(input.len() / padding.sample_len()) {
        let padded = &mut padded[to..][..len];
        let residual: &[E] = match residual.map(|residual| residual.part(first..first + len)) {
            None => &[],
            Some(Residual::Stored(residual)) => residual,
            // `B` has all numbers of `E`.
            Some(Residual::ZeroPadded(residual)) => {
                residual.write(padded);
                &[]
            }
        };
        let mut m = Normalise::<E, B, RESIDUAL, KEEP> {
            input: &input[first..][..len],
            scale,
            shift,
            residual,
            floor,
            padded,
            output: if KEEP { &mut output[first..][..len] } else { &mut [] },
        };
        // SAFETY: all operands have `len` elements, and `scale` and `shift` are widened.
        unsafe { channels::map(simd, walk, len, &mut m) };
    }
}

/// Writes [`Normalised`] to `output`.
///
/// With `scale = shift = 0` the output is the residual bit for bit, if the input is finite.
pub fn normalise<E: Element>(isa: Isa, from: Normalised<'_, E>, output: &mut [E]) {
    let (len, c) = (from.input.len(), from.scale.len());
    assert_eq!((output.len(), len % c), (len, 0));
    assert!(from.residual.is_none_or(|residual| residual.len() == len));
    if len > 0 {
        normalise_rows(isa, &Padding::none(len / c, c), from, output);
    }
}

/// Which gradients go through the ReLU behind a batch norm.
#[derive(Debug, Clone, Copy)]
pub enum Mask<'a, E> {
    /// All: there is none.
    None,
    /// Where this, its output, is not at most 0.
    Output(&'a [E]),
    /// Where `input · scale + shift` is not at most 0.
    Normalised {
        /// `weight / √(var + eps)`
        scale: &'a [f32],
        /// `bias − mean · scale`
        shift: &'a [f32],
    },
}

/// Masks the gradient, then `Σ grad` and `Σ grad · (x − mean)`. `MASK` is the kind of mask: 0 to 2.
struct GradSums<'a, E, const MASK: u8>(GradOperands<'a, E>);

/// Empty where the kind of mask has no use for them.
struct GradOperands<'a, E> {
    output: &'a [E],
    scale: &'a [f32],
    shift: &'a [f32],
    grad_output: &'a mut [E],
    input: &'a [E],
    mean: &'a [f32],
}

/// The kinds of [`Mask`], for code that is made for one.
pub(crate) const NO_MASK: u8 = 0;
pub(crate) const MASK_OUTPUT: u8 = 1;
pub(crate) const MASK_NORMALISED: u8 = 2;

impl<E: Element, const MASK: u8> Terms for GradSums<'_, E, MASK> {
    #[inline(always)]
    unsafe fn vector<S: Simd>(&mut self, simd: S, i: usize, col: usize) -> [S::F32; 2] {
        let from = &mut self.0;
        // SAFETY: the caller's promise.
        unsafe {
            let mut grad = simd.load_at(from.grad_output, i);
            let input = simd.load_at(from.input, i);
            if MASK != NO_MASK {
                let output = if MASK == MASK_OUTPUT {
                    simd.load_at(from.output, i)
                } else {
                    let scale = simd.load_at(from.scale, col);
                    simd.fma(input, scale, simd.load_at(from.shift, col))
                };
                grad = simd.relu_mask(output, grad);
                simd.store_exact_at(from.grad_output, i, grad);
            }
            let deviation = simd.sub(input, simd.load_at(from.mean, col));
            [grad, simd.mul(grad, deviation)]
        }
    }

    #[inline(always)]
    fn scalar<S: Simd>(&mut self, simd: S, i: usize, col: usize) -> [f32; 2] {
        let from = &mut self.0;
        let input = from.input[i].to_f32();
        let closed = match MASK {
            NO_MASK => false,
            MASK_OUTPUT => from.output[i].to_f32() <= 0.0,
            _ => simd.fma_scalar(input, from.scale[col], from.shift[col]) <= 0.0,
        };
        if closed {
            from.grad_output[i] = E::from_f32(0.0);
        }
        let grad = from.grad_output[i].to_f32();
        [grad, grad * (input - from.mean[col])]
    }
}

simd_fn! {
    /// First pass of the backward: sets `grad_output` to 0 in place where the mask says so (the
    /// ReLU's backward); then adds, for each channel, `Σ grad_output` to `sum_grad` and
    /// `Σ grad_output · (input − mean)` to `sum_grad_centred`.
    pub fn backward_sums<S, E>(
        simd,
        mask: Mask<'_, E>,
        grad_output: &mut [E],
        input: &[E],
        mean: &[f32],
        sum_grad: &mut [f64],
        sum_grad_centred: &mut [f64],
    ) {
        let c = mean.len();
        assert_eq!((grad_output.len(), input.len() % c), (input.len(), 0));
        if let Mask::Output(output) = mask {
            assert_eq!(output.len(), input.len());
        }
        for block in ChannelBlock::all::<S>(c) {
            let channels = block.first..block.first + block.len;
            let mut storage = [Wide::new(), Wide::new(), Wide::new()];
            let [wide_mean, wide_scale, wide_shift] = &mut storage;
            let mean = block.widen(&mean[channels.clone()], wide_mean);
            let (output, scale, shift): (&[E], &[f32], &[f32]) = (&[], &[], &[]);
            let from = GradOperands { output, scale, shift, grad_output, input, mean };
            // SAFETY: lengths are as asserted, and what is for each channel is widened.
            let sums = unsafe {
                match mask {
                    Mask::None => sums_of_block::<S, E, NO_MASK>(simd, block, c, from),
                    Mask::Output(output) => {
                        let from = GradOperands { output, ..from };
                        sums_of_block::<S, E, MASK_OUTPUT>(simd, block, c, from)
                    }
                    Mask::Normalised { scale, shift } => {
                        let scale = block.widen(&scale[channels.clone()], wide_scale);
                        let shift = block.widen(&shift[channels], wide_shift);
                        let from = GradOperands { scale, shift, ..from };
                        sums_of_block::<S, E, MASK_NORMALISED>(simd, block, c, from)
                    }
                }
            };
            for i in 0..block.len {
                sum_grad[block.first + i] += sums[0][i];
                sum_grad_centred[block.first + i] += sums[1][i];
            }
        }
    }
}

/// The sums of all rows of `c` channels.
///
/// # Safety
/// Inputs and gradients, and outputs if they mask, are of one length, a multiple of `c`; what is for each channel
/// and used is widened.
#[inline(always)]
unsafe fn sums_of_block<S: Simd, E: Element, const MASK: u8>(
    simd: S,
    block: ChannelBlock,
    c: usize,
    from: GradOperands<'_, E>,
) -> BlockSums {
    let rows = 0..from.input.len() / c;
    // SAFETY: the caller's promise.
    unsafe { block.sums(simd, c, rows, &mut GradSums::<E, MASK>(from)) }
}

/// One stretch of [`NormGrad`].
struct GradInput<'a, E, B> {
    from: NormGrad<'a, E>,
    padded: &'a mut [B],
}

impl<E: Element, B: Element> Map for GradInput<'_, E, B> {
    /// `mean`, `a`, `b`, `c`.
    type Operands<S: Simd> = [[S::F32; 2]; 4];

    #[inline(always)]
    unsafe fn operands<S: Simd>(&self, simd: S, col: usize) -> Self::Operands<S> {
        let NormGrad { mean, a, b, c, .. } = self.from;
        // SAFETY: the caller's promise.
        unsafe {
            [
                simd.load_pair(mean, col),
                simd.load_pair(a, col),
                simd.load_pair(b, col),
                simd.load_pair(c, col),
            ]
        }
    }

    #[inline(always)]
    unsafe fn pair<S: Simd>(&mut self, simd: S, i: usize, [mean, a, b, c]: [[S::F32; 2]; 4]) {
        fetch_ahead(self.from.input.as_ptr().wrapping_add(i));
        fetch_ahead(self.from.grad_output.as_ptr().wrapping_add(i));
        fetch_ahead(self.padded.as_ptr().wrapping_add(i));
        // SAFETY: the caller's promise.
        unsafe {
            let input = simd.load_pair(self.from.input, i);
            let grad = simd.load_pair(self.from.grad_output, i);
            let y = [
                simd.fma(simd.sub(input[0], mean[0]), b[0], c[0]),
                simd.fma(simd.sub(input[1], mean[1]), b[1], c[1]),
            ];
            let grad = [simd.fma(grad[0], a[0], y[0]), simd.fma(grad[1], a[1], y[1])];
            store_rounded::<S, E, B>(simd, self.padded, i, grad);
        }
    }

    #[inline(always)]
    fn scalar<S: Simd>(&mut self, simd: S, i: usize, col: usize) {
        let NormGrad { grad_output, input, mean, a, b, c } = self.from;
        let y = simd.fma_scalar(input[i].to_f32() - mean[col], b[col], c[col]);
        let grad = E::from_f32(simd.fma_scalar(grad_output[i].to_f32(), a[col], y));
        self.padded[i] = B::from_f32(grad.to_f32());
    }
}

simd_fn! {
    /// Writes the rows of [`NormGrad`] to their places in `padded`.
    pub(crate) fn norm_grad_rows<S, E, B>(
        simd,
        padding: &Padding,
        from: NormGrad<'_, E>,
        padded: &mut [B],
    ) {
        let NormGrad { grad_output, input, .. } = from;
        let walk = Walk::new::<S>(padding.c);
        let mut wide = [Wide::new(), Wide::new(), Wide::new(), Wide::new()];
        let [wide_mean, wide_a, wide_b, wide_c] = &mut wide;
        let from = NormGrad {
            mean: walk.widen(from.mean, wide_mean),
            a: walk.widen(from.a, wide_a),
            b: walk.widen(from.b, wide_b),
            c: walk.widen(from.c, wide_c),
            ..from
        };
        let len = padding.stretch_len();
        for (first, to) in padding.stretches(input.len() / padding.sample_len()) {
            let (grad_output, input) = (&grad_output[first..][..len], &input[first..][..len]);
            let from = NormGrad { grad_output, input, ..from };
            let mut m = GradInput { from, padded: &mut padded[to..][..len] };
            // SAFETY: all operands have `len` elements, and those for each channel are widened.
            unsafe { channels::map(simd, walk, len, &mut m) };
        }
    }
}

/// Second pass of the backward: writes [`NormGrad`] to `grad_input`.
pub fn backward_apply<E: Element>(isa: Isa, from: NormGrad<'_, E>, grad_input: &mut [E]) {
    let (len, c) = (from.input.len(), from.mean.len());
    assert_eq!((from.grad_output.len(), grad_input.len(), len % c), (len, len, 0));
    if len > 0 {
        norm_grad_rows(isa, &Padding::none(len / c, c), from, grad_input);
    }
}
