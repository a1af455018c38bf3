//! `output = max(input, 0)`, as `torch.nn.ReLU`.

use super::Real;

/// `output = input` where it is positive or NaN, else 0.
pub fn forward<T: Real>(input: &[T], output: &mut [T]) {
    assert_eq!(input.len(), output.len(), "input and output lengths");
    for (output, &input) in output.iter_mut().zip(input) {
        *output = if input <= T::ZERO { T::ZERO } else { input };
    }
}

/// The gradient passes where `output` is not `<= 0`: at an input of exactly 0 it is 0, and where
/// the output is NaN it passes.
pub fn backward<T: Real>(output: &[T], grad_output: &[T], grad_input: &mut [T]) {
    assert_eq!(output.len(), grad_output.len(), "output and grad_output lengths");
    assert_eq!(output.len(), grad_input.len(), "output and grad_input lengths");
    for ((grad_input, &grad_output), &output) in grad_input.iter_mut().zip(grad_output).zip(output)
    {
        *grad_input = if output <= T::ZERO { T::ZERO } else { grad_output };
    }
}
