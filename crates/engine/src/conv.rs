//! A convolution or linear operation of a plan: its kernel, and its weight as the kernel wants it.

use residua_kernels::conv2d::{Conv2dKernel, PART_CHANNELS};
use residua_kernels::{Aligned, Conv2dProblem, Isa, add::add_assign};
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
    /// Whether each group makes the gradient of some output channels' weights instead of some samples'.
    pub(crate) in_parts: bool,
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

    /// Elements of the packed gradient that a group makes.
    pub(crate) fn group_grad_len(&self, group: usize, num_groups: usize) -> usize {
        if !self.in_parts {
            return self.packed_grad_len();
        }
        let (channels, problem) = self.part(group, num_groups);
        if channels.is_empty() { 0 } else { self.kernel.packed_grad_len(&problem) }
    }

    /// The output channels of a group's part of the gradient, and the problem of them alone.
    pub(crate) fn part(&self, group: usize, num_groups: usize) -> (Range<usize>, Conv2dProblem) {
        let num_blocks = self.problem.oc.div_ceil(PART_CHANNELS);
        let first =
            |group: usize| (group * num_blocks / num_groups * PART_CHANNELS).min(self.problem.oc);
        let channels = first(group)..first(group + 1);
        let problem = Conv2dProblem { oc: channels.len(), ..self.problem };
        (channels, problem)
    }

    /// Elements of the operands of a group's gradient, if they can be kept, where so many samples are taken at
    /// once.
    pub(crate) fn kept_len(&self, group_len: usize, at_once: usize) -> Option<usize> {
        let of_samples = |n| self.kernel.kept_len(&self.problem.with_n(n));
        let whole = of_samples(at_once)?.saturating_mul(group_len / at_once);
        Some(whole.saturating_add(of_samples(group_len % at_once)?))
    }

    /// Adds the other groups' gradients, in order, to the first's, or puts their parts behind each other, and
    /// writes that in the weight's and bias's layout to `grads`, which starts at the parameter `first`.
    pub(crate) fn write_grads<'a>(
        &self,
        sum: &'a mut ConvGrad,
        others: impl Iterator<Item = &'a ConvGrad> + Clone,
        first: usize,
        grads: &mut [f32],
    ) {
        let isa = self.kernel.isa();
        add_up(isa, &mut sum.bias, others.clone().map(|other| &*other.bias));
        if let Some(bias) = &self.bias {
            grads[bias.start - first..bias.end - first].copy_from_slice(&sum.bias);
        }
        let weight = &mut grads[self.weight.start - first..self.weight.end - first];
        if self.in_parts {
            let num_groups = 1 + others.clone().count();
            let channel_len = weight.len() / self.problem.oc;
            for (group, part) in std::iter::once(&*sum).chain(others).enumerate() {
                let (channels, problem) = self.part(group, num_groups);
                let weight = &mut weight[channels.start * channel_len..channels.end * channel_len];
                if !channels.is_empty() {
                    self.kernel.unpack_grad(&problem, &part.packed, weight);
                }
            }
            return;
        }
        add_up(isa, &mut sum.packed, others.map(|other| &*other.packed));
        self.kernel.unpack_grad(&self.problem, &sum.packed, weight);
    }
}

/// Adds vectors of the same length to another, a part that stays in the first-level cache at a time.
fn add_up<'a>(isa: Isa, sum: &mut [f32], vectors: impl Iterator<Item = &'a [f32]> + Clone) {
    const PART: usize = 1 << 12;
    for (i, sum) in sum.chunks_mut(PART).enumerate() {
        for vector in vectors.clone() {
            add_assign(isa, sum, &vector[i * PART..][..sum.len()]);
        }
    }
}

/// A group's gradient of a convolution's weight, or a part of the batch's, and its gradient of the bias.
#[derive(Debug, Default)]
pub(crate) struct ConvGrad {
    pub(crate) packed: Aligned<f32>,
    pub(crate) bias: Vec<f32>,
}
