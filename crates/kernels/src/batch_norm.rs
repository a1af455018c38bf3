//! Batch normalisation over rows of `c` channels (NHWC), in the parts that a plan puts together:
//! moments of a slice of the batch and their merging, the normalising pass with the end of a
//! residual block (`+ residual`, ReLU), and the two passes of the backward.
//!
//! The reference is [`crate::reference::batch_norm`]. Each pass is bound by memory: a few operations
//! an element against 4 to 16 bytes (half of that in bf16).

use crate::Element;
use crate::channels::{self, BLOCK_CHANNELS, ChannelBlock, Map, Terms, Walk, Wide};
use crate::simd::{Simd, simd_fn};

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
    fn scalar(&mut self, i: usize, col: usize) -> [f32; 2] {
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
fn merge(
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

/// `output = input · scale + shift (+ residual)`, through a ReLU or not.
struct Normalise<'a, E, const RELU: bool> {
    input: &'a [E],
    scale: &'a [f32],
    shift: &'a [f32],
    residual: Option<&'a [E]>,
    output: &'a mut [E],
}

impl<E: Element, const RELU: bool> Map for Normalise<'_, E, RELU> {
    #[inline(always)]
    unsafe fn vector<S: Simd>(&mut self, simd: S, i: usize, col: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let (scale, shift) = (simd.load_at(self.scale, col), simd.load_at(self.shift, col));
            let mut y = simd.fma(simd.load_at(self.input, i), scale, shift);
            if let Some(residual) = self.residual {
                y = simd.add(y, simd.load_at(residual, i));
            }
            simd.store_at(self.output, i, if RELU { simd.relu(y) } else { y });
        }
    }

    #[inline(always)]
    fn scalar<S: Simd>(&mut self, simd: S, i: usize, col: usize) {
        let mut y = simd.fma_scalar(self.input[i].to_f32(), self.scale[col], self.shift[col]);
        if let Some(residual) = self.residual {
            y += residual[i].to_f32();
        }
        self.output[i] = E::from_f32(if RELU && y < 0.0 { 0.0 } else { y });
    }
}

simd_fn! {
    /// `output = input · scale + shift (+ residual)`, then `max(·, 0)` if `relu`; `scale` and
    /// `shift` have one element for each channel.
    ///
    /// With `scale = shift = 0` the output is the residual bit for bit, if the input is finite.
    pub fn normalise<S, E>(
        simd,
        input: &[E],
        scale: &[f32],
        shift: &[f32],
        residual: Option<&[E]>,
        relu: bool,
        output: &mut [E],
    ) {
        let len = input.len();
        assert_eq!((output.len(), len % scale.len()), (len, 0));
        assert!(residual.is_none_or(|residual| residual.len() == len));
        let walk = Walk::new::<S>(scale.len());
        let (mut wide_scale, mut wide_shift) = (Wide::new(), Wide::new());
        let scale = walk.widen(scale, &mut wide_scale);
        let shift = walk.widen(shift, &mut wide_shift);
        match (relu, residual) {
            (true, Some(_)) => {
                let mut m = Normalise::<E, true> { input, scale, shift, residual, output };
                // SAFETY: as asserted above.
                unsafe { channels::map(simd, walk, len, &mut m) };
            }
            (true, None) => {
                let mut m = Normalise::<E, true> { input, scale, shift, residual: None, output };
                // SAFETY: as asserted above.
                unsafe { channels::map(simd, walk, len, &mut m) };
            }
            (false, Some(_)) => {
                let mut m = Normalise::<E, false> { input, scale, shift, residual, output };
                // SAFETY: as asserted above.
                unsafe { channels::map(simd, walk, len, &mut m) };
            }
            (false, None) => {
                let mut m = Normalise::<E, false> { input, scale, shift, residual: None, output };
                // SAFETY: as asserted above.
                unsafe { channels::map(simd, walk, len, &mut m) };
            }
        }
    }
}

/// Masks the gradient, then `Σ grad` and `Σ grad · (x − mean)`.
struct GradSums<'a, E> {
    output: Option<&'a [E]>,
    grad_output: &'a mut [E],
    input: &'a [E],
    mean: &'a [f32],
}

impl<E: Element> Terms for GradSums<'_, E> {
    #[inline(always)]
    unsafe fn vector<S: Simd>(&mut self, simd: S, i: usize, col: usize) -> [S::F32; 2] {
        // SAFETY: the caller's promise.
        unsafe {
            let mut grad = simd.load_at(self.grad_output, i);
            if let Some(output) = self.output {
                grad = simd.relu_mask(simd.load_at(output, i), grad);
                simd.store_exact_at(self.grad_output, i, grad);
            }
            let deviation = simd.sub(simd.load_at(self.input, i), simd.load_at(self.mean, col));
            [grad, simd.mul(grad, deviation)]
        }
    }

    #[inline(always)]
    fn scalar(&mut self, i: usize, col: usize) -> [f32; 2] {
        if self.output.is_some_and(|output| output[i].to_f32() <= 0.0) {
            self.grad_output[i] = E::from_f32(0.0);
        }
        let grad = self.grad_output[i].to_f32();
        [grad, grad * (self.input[i].to_f32() - self.mean[col])]
    }
}

simd_fn! {
    /// First pass of the backward: where `output` is given, sets `grad_output` to 0 in place where
    /// `output ≤ 0` (the ReLU's backward); then adds, for each channel, `Σ grad_output` to
    /// `sum_grad` and `Σ grad_output · (input − mean)` to `sum_grad_centred`.
    pub fn backward_sums<S, E>(
        simd,
        output: Option<&[E]>,
        grad_output: &mut [E],
        input: &[E],
        mean: &[f32],
        sum_grad: &mut [f64],
        sum_grad_centred: &mut [f64],
    ) {
        let c = mean.len();
        assert_eq!((grad_output.len(), input.len() % c), (input.len(), 0));
        assert!(output.is_none_or(|output| output.len() == input.len()));
        let num_rows = input.len() / c;
        for block in ChannelBlock::all::<S>(c) {
            let mut storage = Wide::new();
            let mean = block.widen(&mean[block.first..][..block.len], &mut storage);
            let sums = match output {
                Some(output) => {
                    let output = Some(output);
                    let mut terms = GradSums { output, grad_output, input, mean };
                    // SAFETY: as asserted above, and `mean` is widened.
                    unsafe { block.sums(simd, c, 0..num_rows, &mut terms) }
                }
                None => {
                    let mut terms = GradSums { output: None, grad_output, input, mean };
                    // SAFETY: as asserted above, and `mean` is widened.
                    unsafe { block.sums(simd, c, 0..num_rows, &mut terms) }
                }
            };
            for i in 0..block.len {
                sum_grad[block.first + i] += sums[0][i];
                sum_grad_centred[block.first + i] += sums[1][i];
            }
        }
    }
}

struct GradInput<'a, E> {
    grad_output: &'a [E],
    input: &'a [E],
    mean: &'a [f32],
    a: &'a [f32],
    b: &'a [f32],
    c: &'a [f32],
    grad_input: &'a mut [E],
}

impl<E: Element> Map for GradInput<'_, E> {
    #[inline(always)]
    unsafe fn vector<S: Simd>(&mut self, simd: S, i: usize, col: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let deviation = simd.sub(simd.load_at(self.input, i), simd.load_at(self.mean, col));
            let y = simd.fma(deviation, simd.load_at(self.b, col), simd.load_at(self.c, col));
            let grad = simd.load_at(self.grad_output, i);
            simd.store_at(self.grad_input, i, simd.fma(grad, simd.load_at(self.a, col), y));
        }
    }

    #[inline(always)]
    fn scalar<S: Simd>(&mut self, simd: S, i: usize, col: usize) {
        let deviation = self.input[i].to_f32() - self.mean[col];
        let y = simd.fma_scalar(deviation, self.b[col], self.c[col]);
        let grad = self.grad_output[i].to_f32();
        self.grad_input[i] = E::from_f32(simd.fma_scalar(grad, self.a[col], y));
    }
}

simd_fn! {
    /// Second pass of the backward: `grad_input = a · grad_output + b · (input − mean) + c`, with
    /// one `mean`, `a`, `b` and `c` for each channel.
    pub fn backward_apply<S, E>(
        simd,
        grad_output: &[E],
        input: &[E],
        mean: &[f32],
        a: &[f32],
        b: &[f32],
        c: &[f32],
        grad_input: &mut [E],
    ) {
        let len = input.len();
        assert_eq!((grad_output.len(), grad_input.len(), len % mean.len()), (len, len, 0));
        let walk = Walk::new::<S>(mean.len());
        let mut wide = [Wide::new(), Wide::new(), Wide::new(), Wide::new()];
        let [wide_mean, wide_a, wide_b, wide_c] = &mut wide;
        let mut m = GradInput {
            grad_output,
            input,
            mean: walk.widen(mean, wide_mean),
            a: walk.widen(a, wide_a),
            b: walk.widen(b, wide_b),
            c: walk.widen(c, wide_c),
            grad_input,
        };
        // SAFETY: as asserted above.
        unsafe { channels::map(simd, walk, len, &mut m) };
    }
}
