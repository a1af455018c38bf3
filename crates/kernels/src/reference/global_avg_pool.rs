//! Mean over all pixels, as `torch.nn.AdaptiveAvgPool2d(1)`.
//!
//! `input` is `[n, num_pixels, c]`, `output` `[n, c]`; `n` follows from the lengths.

use super::Real;

/// Overwrites `output`.
pub fn forward<T: Real>(num_pixels: usize, c: usize, input: &[T], output: &mut [T]) {
    check(num_pixels, c, input.len(), output.len());
    for (sample, output) in input.chunks_exact(num_pixels * c).zip(output.chunks_exact_mut(c)) {
        for (c_i, output) in output.iter_mut().enumerate() {
            let sum: T = sample.iter().skip(c_i).step_by(c).copied().sum();
            *output = sum / T::from_count(num_pixels);
        }
    }
}

/// Overwrites every pixel of `grad_input` with `grad_output / num_pixels`.
pub fn backward<T: Real>(num_pixels: usize, c: usize, grad_output: &[T], grad_input: &mut [T]) {
    check(num_pixels, c, grad_input.len(), grad_output.len());
    let samples = grad_input.chunks_exact_mut(num_pixels * c);
    for (sample, grad_output) in samples.zip(grad_output.chunks_exact(c)) {
        for (i, grad_input) in sample.iter_mut().enumerate() {
            *grad_input = grad_output[i % c] / T::from_count(num_pixels);
        }
    }
}

fn check(num_pixels: usize, c: usize, input_len: usize, output_len: usize) {
    assert_eq!(output_len % c, 0, "output length");
    assert_eq!(input_len, output_len * num_pixels, "input length");
}
