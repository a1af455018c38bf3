//! How an interpreter computes convolutions.

use std::fmt::Debug;

use residua_kernels::conv2d::choose;
use residua_kernels::reference::{Real, conv2d};
use residua_kernels::{Conv2dProblem, Isa};

/// The passes of a convolution. Weights are `[oc, ic, kh, kw]`, the rest is NHWC; gradients are zeros
/// before.
pub(crate) trait Convolve<T>: Debug + Send + Sync {
    fn forward(
        &self,
        p: &Conv2dProblem,
        input: &[T],
        weight: &[T],
        bias: Option<&[T]>,
        output: &mut [T],
    );
    fn backward_data(
        &self,
        p: &Conv2dProblem,
        grad_output: &[T],
        weight: &[T],
        grad_input: &mut [T],
    );
    fn backward_weight(
        &self,
        p: &Conv2dProblem,
        input: &[T],
        grad_output: &[T],
        grad_weight: &mut [T],
    );
}

/// By their definition.
#[derive(Debug)]
pub(crate) struct ByDefinition;

impl<T: Real> Convolve<T> for ByDefinition {
    fn forward(
        &self,
        p: &Conv2dProblem,
        input: &[T],
        weight: &[T],
        bias: Option<&[T]>,
        output: &mut [T],
    ) {
        conv2d::forward(p, input, weight, bias, output);
    }

    fn backward_data(
        &self,
        p: &Conv2dProblem,
        grad_output: &[T],
        weight: &[T],
        grad_input: &mut [T],
    ) {
        conv2d::backward_data(p, grad_output, weight, grad_input);
    }

    fn backward_weight(
        &self,
        p: &Conv2dProblem,
        input: &[T],
        grad_output: &[T],
        grad_weight: &mut [T],
    ) {
        conv2d::backward_weight(p, input, grad_output, grad_weight);
    }
}

/// By the kernels that plans choose.
#[derive(Debug)]
pub(crate) struct ByKernels(pub(crate) Isa);

impl Convolve<f32> for ByKernels {
    fn forward(
        &self,
        p: &Conv2dProblem,
        input: &[f32],
        weight: &[f32],
        bias: Option<&[f32]>,
        output: &mut [f32],
    ) {
        let kernel = choose::<f32>(p, self.0);
        let mut packed = vec![0.0; kernel.packed_weight_len(p)];
        kernel.pack_weight(p, weight, &mut packed);
        kernel.forward(p, input, &packed, bias, output);
    }

    fn backward_data(
        &self,
        p: &Conv2dProblem,
        grad_output: &[f32],
        weight: &[f32],
        grad_input: &mut [f32],
    ) {
        let kernel = choose::<f32>(p, self.0);
        let mut packed = vec![0.0; kernel.packed_weight_backward_len(p)];
        kernel.pack_weight_backward(p, weight, &mut packed);
        kernel.backward_data(p, grad_output, &packed, false, grad_input);
    }

    fn backward_weight(
        &self,
        p: &Conv2dProblem,
        input: &[f32],
        grad_output: &[f32],
        grad_weight: &mut [f32],
    ) {
        let kernel = choose::<f32>(p, self.0);
        let mut packed = vec![0.0; kernel.packed_grad_len(p)];
        kernel.backward_weight(p, input, grad_output, &mut packed);
        kernel.unpack_grad(p, &packed, grad_weight);
    }
}
