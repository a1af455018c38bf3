//! Mean over all pixels of a sample, NHWC. The reference is [`crate::reference::global_avg_pool`].

use crate::Element;
use crate::channels::{ChannelBlock, Terms};
use crate::simd::{Simd, simd_fn};

struct Values<'a, E>(&'a [E]);

impl<E: Element> Terms for Values<'_, E> {
    #[inline(always)]
    unsafe fn vector<S: Simd>(&mut self, simd: S, i: usize, _col: usize) -> [S::F32; 2] {
        // SAFETY: the caller's promise.
        [unsafe { simd.load_at(self.0, i) }, simd.splat(0.0)]
    }

    #[inline(always)]
    fn scalar<S: Simd>(&mut self, _simd: S, i: usize, _col: usize) -> [f32; 2] {
        [self.0[i].to_f32(), 0.0]
    }
}

simd_fn! {
    /// `output[n, c] = mean over pixels of input[n, ·, c]`, summed in f64 across short stretches.
    pub fn forward<S, E>(simd, num_pixels: usize, c: usize, input: &[E], output: &mut [E]) {
        assert_eq!(input.len(), output.len() * num_pixels);
        let samples = input.chunks_exact(num_pixels * c);
        for (input, output) in samples.zip(output.chunks_exact_mut(c)) {
            for block in ChannelBlock::all::<S>(c) {
                // SAFETY: the sample has `num_pixels` rows.
                let sums = unsafe { block.sums(simd, c, 0..num_pixels, &mut Values(input)) };
                for (i, output) in output[block.first..][..block.len].iter_mut().enumerate() {
                    *output = E::from_f32((sums[0][i] / num_pixels as f64) as f32);
                }
            }
        }
    }
}

/// Overwrites `grad_input`: every pixel gets `grad_output / num_pixels`.
pub fn backward<E: Element>(
    _isa: crate::Isa,
    num_pixels: usize,
    c: usize,
    grad_output: &[E],
    grad_input: &mut [E],
) {
    assert_eq!(grad_input.len(), grad_output.len() * num_pixels);
    let samples = grad_input.chunks_exact_mut(num_pixels * c);
    for (grad_input, grad_output) in samples.zip(grad_output.chunks_exact(c)) {
        let (first, others) = grad_input.split_at_mut(c);
        for (grad_input, grad_output) in first.iter_mut().zip(grad_output) {
            *grad_input = E::from_f32(grad_output.to_f32() / num_pixels as f32);
        }
        others.chunks_exact_mut(c).for_each(|pixel| pixel.copy_from_slice(first));
    }
}
