//! Convolutions that are nearly right.

use residua_kernels::Conv2dProblem;
use residua_kernels::reference::conv2d as reference;

use crate::check::Convolution;

type P = Conv2dProblem;
type Forward = fn(&P, &[f32], &[f32], Option<&[f32]>, &mut [f32]);
type BackwardData = fn(&P, &[f32], &[f32], bool, &mut [f32]);
type BackwardWeight = fn(&P, &[(&[f32], &[f32])], &mut [f32]);

/// The reference, except in one pass.
#[derive(Clone, Copy)]
pub(crate) struct Mutant {
    name: &'static str,
    forward: Forward,
    backward_data: BackwardData,
    backward_weight: BackwardWeight,
}

/// The reference itself: the positive control.
pub(crate) const RIGHT: Mutant =
    Mutant { name: "reference", forward, backward_data, backward_weight };

const fn wrong_forward(name: &'static str, forward: Forward) -> Mutant {
    Mutant { name, forward, ..RIGHT }
}

const fn wrong_backward_data(name: &'static str, backward_data: BackwardData) -> Mutant {
    Mutant { name, backward_data, ..RIGHT }
}

const fn wrong_backward_weight(name: &'static str, backward_weight: BackwardWeight) -> Mutant {
    Mutant { name, backward_weight, ..RIGHT }
}

/// Wrong on integers.
pub(crate) const FORWARD: [Mutant; 11] = [
    wrong_forward("padding off by one", |p, input, weight, bias, output| {
        forward(p, &shifted(input, p.iw * p.ic), weight, bias, output);
    }),
    wrong_forward("padding of one column on the other side", |p, input, weight, bias, output| {
        forward(p, &shifted(input, p.ic), weight, bias, output);
    }),
    wrong_forward("dropped bias", |p, input, weight, _, output| {
        forward(p, input, weight, None, output);
    }),
    wrong_forward("bias of the neighbouring channel", |p, input, weight, bias, output| {
        forward(p, input, weight, bias.map(|bias| shifted(bias, 1)).as_deref(), output);
    }),
    wrong_forward("output channels swapped", |p, input, weight, bias, output| {
        forward(p, input, weight, bias, output);
        output.chunks_exact_mut(p.oc).for_each(|pixel| pixel.swap(0, 1));
    }),
    wrong_forward("input channels swapped", |p, input, weight, bias, output| {
        let mut input = input.to_vec();
        input.chunks_exact_mut(p.ic).for_each(|pixel| pixel.swap(0, 1));
        forward(p, &input, weight, bias, output);
    }),
    wrong_forward("weight read as IOHW", |p, input, weight, bias, output| {
        forward(p, input, &transposed(weight, p.ic, p.oc, p.kh * p.kw), bias, output);
    }),
    wrong_forward("kernel flipped", |p, input, weight, bias, output| {
        forward(p, input, &flipped(p, weight), bias, output);
    }),
    wrong_forward("last input channel dropped", |p, input, weight, bias, output| {
        forward(p, &last_zeroed(input, p.ic), weight, bias, output);
    }),
    wrong_forward("last output channel not written", |p, input, weight, bias, output| {
        let before = output.to_vec();
        forward(p, input, weight, bias, output);
        let last = p.oc - 1;
        for (pixel, before) in output.chunks_exact_mut(p.oc).zip(before.chunks_exact(p.oc)) {
            pixel[last] = before[last];
        }
    }),
    wrong_forward("added to the output", |p, input, weight, bias, output| {
        let before = output.to_vec();
        forward(p, input, weight, bias, output);
        output.iter_mut().zip(before).for_each(|(output, before)| *output += before);
    }),
];

/// Wrong in the last digits only, where integers have none.
pub(crate) const LOSSY: [Mutant; 3] = [
    wrong_forward("input rounded to bf16", |p, input, weight, bias, output| {
        forward(p, &bf16(input), weight, bias, output);
    }),
    wrong_backward_data(
        "weight rounded to bf16",
        |p, grad_output, weight, accumulate, grad_input| {
            backward_data(p, grad_output, &bf16(weight), accumulate, grad_input);
        },
    ),
    wrong_backward_weight("grad_output rounded to bf16", |p, batches, grad_weight| {
        let rounded: Vec<_> = batches.iter().map(|(input, grad)| (*input, bf16(grad))).collect();
        let rounded: Vec<_> = rounded.iter().map(|(input, grad)| (*input, &grad[..])).collect();
        backward_weight(p, &rounded, grad_weight);
    }),
];

/// Wrong on integers.
pub(crate) const BACKWARD_DATA: [Mutant; 7] = [
    wrong_backward_data("accumulate ignored", |p, grad_output, weight, _, grad_input| {
        backward_data(p, grad_output, weight, false, grad_input);
    }),
    wrong_backward_data("always accumulates", |p, grad_output, weight, _, grad_input| {
        backward_data(p, grad_output, weight, true, grad_input);
    }),
    wrong_backward_data("kernel flipped", |p, grad_output, weight, accumulate, grad_input| {
        backward_data(p, grad_output, &flipped(p, weight), accumulate, grad_input);
    }),
    wrong_backward_data("weight read as IOHW", |p, grad_output, weight, accumulate, grad_input| {
        let weight = transposed(weight, p.ic, p.oc, p.kh * p.kw);
        backward_data(p, grad_output, &weight, accumulate, grad_input);
    }),
    wrong_backward_data("padding off by one", |p, grad_output, weight, accumulate, grad_input| {
        let shifted = shifted(grad_output, p.ow() * p.oc);
        backward_data(p, &shifted, weight, accumulate, grad_input);
    }),
    wrong_backward_data("last row dropped", |p, grad_output, weight, accumulate, grad_input| {
        let rows = p.oh() * p.ow() * p.oc;
        let mut grad_output = grad_output.to_vec();
        grad_output.chunks_exact_mut(rows).for_each(|sample| sample[rows - p.oc..].fill(0.0));
        backward_data(p, &grad_output, weight, accumulate, grad_input);
    }),
    wrong_backward_data("mean over the batch", |p, grad_output, weight, accumulate, grad_input| {
        let mean: Vec<f32> = grad_output.iter().map(|x| x / p.n as f32).collect();
        backward_data(p, &mean, weight, accumulate, grad_input);
    }),
];

/// Wrong on integers.
pub(crate) const BACKWARD_WEIGHT: [Mutant; 6] = [
    wrong_backward_weight("the last batch only", |p, batches, grad_weight| {
        backward_weight(p, &batches[batches.len() - 1..], grad_weight);
    }),
    wrong_backward_weight("mean over the batch", |p, batches, grad_weight| {
        backward_weight(p, batches, grad_weight);
        grad_weight.iter_mut().for_each(|x| *x /= p.n as f32);
    }),
    wrong_backward_weight("kernel flipped", |p, batches, grad_weight| {
        backward_weight(p, batches, grad_weight);
        grad_weight.copy_from_slice(&flipped(p, grad_weight));
    }),
    wrong_backward_weight("weight written as IOHW", |p, batches, grad_weight| {
        backward_weight(p, batches, grad_weight);
        grad_weight.copy_from_slice(&transposed(grad_weight, p.oc, p.ic, p.kh * p.kw));
    }),
    wrong_backward_weight("weight written as OHWI", |p, batches, grad_weight| {
        backward_weight(p, batches, grad_weight);
        for filter in grad_weight.chunks_exact_mut(p.ic * p.kh * p.kw) {
            filter.copy_from_slice(&transposed(filter, p.ic, p.kh * p.kw, 1));
        }
    }),
    wrong_backward_weight("last sample dropped", |p, batches, grad_weight| {
        let fewer = p.with_n(p.n - 1);
        let cut: Vec<_> = batches
            .iter()
            .map(|(input, grad)| (&input[..fewer.input_len()], &grad[..fewer.output_len()]))
            .collect();
        backward_weight(&fewer, &cut, grad_weight);
    }),
];

impl Convolution for Mutant {
    fn name(&self) -> &str {
        self.name
    }

    fn forward(
        &self,
        p: &P,
        input: &[f32],
        weight: &[f32],
        bias: Option<&[f32]>,
        output: &mut [f32],
    ) {
        (self.forward)(p, input, weight, bias, output);
    }

    fn backward_data(
        &self,
        p: &P,
        grad_output: &[f32],
        weight: &[f32],
        accumulate: bool,
        grad_input: &mut [f32],
    ) {
        (self.backward_data)(p, grad_output, weight, accumulate, grad_input);
    }

    fn backward_weight(&self, p: &P, batches: &[(&[f32], &[f32])], grad_weight: &mut [f32]) {
        (self.backward_weight)(p, batches, grad_weight);
    }
}

fn forward(p: &P, input: &[f32], weight: &[f32], bias: Option<&[f32]>, output: &mut [f32]) {
    reference::forward(p, input, weight, bias, output);
}

fn backward_data(
    p: &P,
    grad_output: &[f32],
    weight: &[f32],
    accumulate: bool,
    grad_input: &mut [f32],
) {
    let before = grad_input.to_vec();
    reference::backward_data(p, grad_output, weight, grad_input);
    if accumulate {
        grad_input.iter_mut().zip(before).for_each(|(grad_input, before)| *grad_input += before);
    }
}

fn backward_weight(p: &P, batches: &[(&[f32], &[f32])], grad_weight: &mut [f32]) {
    let mut sum = vec![0.0; p.weight_len()];
    for (input, grad_output) in batches {
        reference::backward_weight(p, input, grad_output, grad_weight);
        sum.iter_mut().zip(&*grad_weight).for_each(|(sum, grad)| *sum += grad);
    }
    grad_weight.copy_from_slice(&sum);
}

/// Every value moved by `distance` places, the first ones to the end.
fn shifted(values: &[f32], distance: usize) -> Vec<f32> {
    let mut shifted = values.to_vec();
    shifted.rotate_left(distance);
    shifted
}

/// `[rows, columns, inner]` to `[columns, rows, inner]`.
fn transposed(values: &[f32], rows: usize, columns: usize, inner: usize) -> Vec<f32> {
    let mut transposed = Vec::with_capacity(values.len());
    for column in 0..columns {
        for row in 0..rows {
            transposed.extend_from_slice(&values[(row * columns + column) * inner..][..inner]);
        }
    }
    transposed
}

/// Every kernel turned by half a turn.
fn flipped(p: &P, weight: &[f32]) -> Vec<f32> {
    weight.chunks_exact(p.kh * p.kw).flat_map(|kernel| kernel.iter().rev().copied()).collect()
}

fn last_zeroed(values: &[f32], period: usize) -> Vec<f32> {
    let keep = |i: usize| i % period != period - 1;
    values.iter().enumerate().map(|(i, &x)| if keep(i) { x } else { 0.0 }).collect()
}

fn bf16(values: &[f32]) -> Vec<f32> {
    values.iter().map(|x| f32::from_bits(x.to_bits() & 0xffff_0000)).collect()
}
