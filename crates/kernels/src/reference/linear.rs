//! `output = input · weightᵀ + bias`, as `torch.nn.Linear`.
//!
//! `input` is `[n, in_features]`, `weight` `[out_features, in_features]`, `bias` `[out_features]`
//! and `output` `[n, out_features]`; `n` and `out_features` follow from the lengths.

use super::Real;

/// Overwrites `output`.
pub fn forward<T: Real>(
    in_features: usize,
    input: &[T],
    weight: &[T],
    bias: Option<&[T]>,
    output: &mut [T],
) {
    let out_features = weight.len() / in_features;
    check(in_features, out_features, input, weight, output);
    if let Some(bias) = bias {
        assert_eq!(bias.len(), out_features, "bias length");
    }
    for (input, output) in
        input.chunks_exact(in_features).zip(output.chunks_exact_mut(out_features))
    {
        for (o_i, output) in output.iter_mut().enumerate() {
            let row = &weight[o_i * in_features..][..in_features];
            *output = bias.map_or(T::ZERO, |bias| bias[o_i]);
            for (&input, &weight) in input.iter().zip(row) {
                *output += input * weight;
            }
        }
    }
}

/// Overwrites `grad_input = grad_output · weight`.
pub fn backward_data<T: Real>(
    in_features: usize,
    grad_output: &[T],
    weight: &[T],
    grad_input: &mut [T],
) {
    let out_features = weight.len() / in_features;
    check(in_features, out_features, grad_input, weight, grad_output);
    grad_input.fill(T::ZERO);
    let samples = grad_output.chunks_exact(out_features);
    for (grad_output, grad_input) in samples.zip(grad_input.chunks_exact_mut(in_features)) {
        for (&grad_output, row) in grad_output.iter().zip(weight.chunks_exact(in_features)) {
            for (grad_input, &weight) in grad_input.iter_mut().zip(row) {
                *grad_input += grad_output * weight;
            }
        }
    }
}

/// Overwrites `grad_weight = grad_outputᵀ · input`.
pub fn backward_weight<T: Real>(
    in_features: usize,
    input: &[T],
    grad_output: &[T],
    grad_weight: &mut [T],
) {
    let out_features = grad_weight.len() / in_features;
    check(in_features, out_features, input, grad_weight, grad_output);
    grad_weight.fill(T::ZERO);
    for (input, grad_output) in
        input.chunks_exact(in_features).zip(grad_output.chunks_exact(out_features))
    {
        for (&grad_output, row) in grad_output.iter().zip(grad_weight.chunks_exact_mut(in_features))
        {
            for (grad_weight, &input) in row.iter_mut().zip(input) {
                *grad_weight += grad_output * input;
            }
        }
    }
}

/// Overwrites `grad_bias` with the sum of `grad_output` over the samples.
pub fn backward_bias<T: Real>(grad_output: &[T], grad_bias: &mut [T]) {
    assert_eq!(grad_output.len() % grad_bias.len(), 0, "grad_output length");
    grad_bias.fill(T::ZERO);
    for sample in grad_output.chunks_exact(grad_bias.len()) {
        for (grad_bias, &grad_output) in grad_bias.iter_mut().zip(sample) {
            *grad_bias += grad_output;
        }
    }
}

fn check<T>(in_features: usize, out_features: usize, input: &[T], weight: &[T], output: &[T]) {
    assert_eq!(weight.len(), out_features * in_features, "weight length");
    let n = input.len() / in_features;
    assert_eq!(input.len(), n * in_features, "input length");
    assert_eq!(output.len(), n * out_features, "output length");
}
