//! `output = max(left + right, 0)`: the end of a residual block.

use super::{Real, relu};

/// `output = left + right` where that is positive or NaN, else 0.
pub fn forward<T: Real>(left: &[T], right: &[T], output: &mut [T]) {
    assert_eq!(left.len(), right.len(), "left and right lengths");
    assert_eq!(left.len(), output.len(), "left and output lengths");
    for ((output, &left), &right) in output.iter_mut().zip(left).zip(right) {
        let sum = left + right;
        *output = if sum <= T::ZERO { T::ZERO } else { sum };
    }
}

/// `grad_input` is the gradient of `left` and of `right`, which are the same; as
/// [`relu::backward`].
pub fn backward<T: Real>(output: &[T], grad_output: &[T], grad_input: &mut [T]) {
    relu::backward(output, grad_output, grad_input);
}
