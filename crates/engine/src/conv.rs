//! A convolution or linear operation of a plan: its kernel, and its weight as the kernel wants it.

use residua_kernels::conv2d::Conv2dKernel;
use residua_kernels::{Aligned, Conv2dProblem};
use std::ops::Range;

/// One convolution (or linear operation, as the 1×1 convolution of one pixel) of activations stored
/// as `E`.
#[derive(Debug)]
pub(crate) struct Conv<E: 'static> {
    pub(crate) name: String,
    /// Sizes for one sample.
    pub(crate) problem: Conv2dProblem,
    pub(crate) kernel: &'static dyn Conv2dKernel<E>,
    /// The weight's place among the parameters.
    pub(crate) weight: Range<usize>,
    /// The bias's place among the parameters.
    pub(crate) bias: Option<Range<usize>>,
    pub(crate) packed: Aligned<f32>,
    pub(crate) packed_bias: Option<Vec<f32>>,
    /// Empty in evaluation and where the input needs no gradient.
    pub(crate) packed_backward: Aligned<f32>,
}

impl<E> Conv<E> {
    /// Takes over the weight and bias.
    pub(crate) fn pack(&mut self, params: &[f32]) {
        let weight = &params[self.weight.clone()];
        self.kernel.pack_weight(&self.problem, weight, &mut self.packed);
        if !self.packed_backward.is_empty() {
            self.kernel.pack_weight_backward(&self.problem, weight, &mut self.packed_backward);
        }
        if let (Some(packed), Some(bias)) = (&mut self.packed_bias, &self.bias) {
            packed.copy_from_slice(&params[bias.clone()]);
        }
    }

    /// Elements of a packed gradient of the weight.
    pub(crate) fn packed_grad_len(&self) -> usize {
        self.kernel.packed_grad_len(&self.problem)
    }

    /// Adds the other groups' gradients, in order, to the first's, and writes that in the weight's and
    /// bias's layout to `grads`, which starts at the parameter `first`.
    pub(crate) fn write_grads<'a>(
        &self,
        sum: &mut ConvGrad,
        others: impl Iterator<Item = &'a ConvGrad> + Clone,
        first: usize,
        grads: &mut [f32],
    ) {
        add_up(&mut sum.packed, others.clone().map(|other| &*other.packed));
        add_up(&mut sum.bias, others.map(|other| &*other.bias));
        if let Some(bias) = &self.bias {
            grads[bias.start - first..bias.end - first].copy_from_slice(&sum.bias);
        }
        let weight = self.weight.start - first..self.weight.end - first;
        self.kernel.unpack_grad(&self.problem, &sum.packed, &mut grads[weight]);
    }
}

/// Adds vectors of the same length to another, a part that stays in the first-level cache at a time.
fn add_up<'a>(sum: &mut [f32], vectors: impl Iterator<Item = &'a [f32]> + Clone) {
    const PART: usize = 1 << 12;
    for (i, sum) in sum.chunks_mut(PART).enumerate() {
        for vector in vectors.clone() {
            for (sum, other) in sum.iter_mut().zip(&vector[i * PART..]) {
                *sum += other;
            }
        }
    }
}

/// A group's gradient of a convolution's weight and bias.
#[derive(Debug, Default)]
pub(crate) struct ConvGrad {
    pub(crate) packed: Aligned<f32>,
    pub(crate) bias: Vec<f32>,
}
