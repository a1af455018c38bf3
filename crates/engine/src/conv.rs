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
    /// Sum of the groups' gradients; empty in evaluation.
    pub(crate) packed_grad: Aligned<f32>,
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

    /// Adds up the groups' gradients, in order, and writes them in the weight's and bias's layout
    /// to `grads`, which starts at the parameter `first`.
    pub(crate) fn write_grads<'a>(
        &mut self,
        partials: impl Iterator<Item = &'a ConvGrad>,
        first: usize,
        grads: &mut [f32],
    ) {
        self.packed_grad.fill(0.0);
        let bias = self.bias.as_ref().map(|bias| bias.start - first..bias.end - first);
        if let Some(bias) = &bias {
            grads[bias.clone()].fill(0.0);
        }
        for partial in partials {
            add(&mut self.packed_grad, &partial.packed);
            if let Some(bias) = &bias {
                add(&mut grads[bias.clone()], &partial.bias);
            }
        }
        let weight = self.weight.start - first..self.weight.end - first;
        self.kernel.unpack_grad(&self.problem, &self.packed_grad, &mut grads[weight]);
    }
}

fn add(sum: &mut [f32], other: &[f32]) {
    for (sum, other) in sum.iter_mut().zip(other) {
        *sum += other;
    }
}

/// A group's gradient of a convolution's weight and bias.
#[derive(Debug, Default)]
pub(crate) struct ConvGrad {
    pub(crate) packed: Aligned<f32>,
    pub(crate) bias: Vec<f32>,
}
