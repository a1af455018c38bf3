//! Batch normalisation, as `torch.nn.BatchNorm2d` and `BatchNorm1d` (Ioffe and Szegedy 2015):
//!
//! ```text
//! output = (input − mean) / sqrt(var + eps) · weight + bias
//! ```
//!
//! per channel. `input` is `[count, c]`, `count` being samples times pixels; everything else is
//! `[c]`. Training takes the mean and the *biased* variance of the batch, evaluation the running
//! ones; the running variance is *unbiased*.

use super::Real;

/// The learned scale and shift, and the constant inside the square root.
#[derive(Debug, Clone, Copy)]
pub struct Params<'a, T> {
    /// Scale.
    pub weight: &'a [T],
    /// Shift.
    pub bias: &'a [T],
    /// Added to the variance.
    pub eps: T,
}

/// A mean and a variance for each channel: of a batch (biased) or running (unbiased).
#[derive(Debug, Clone, PartialEq)]
pub struct Statistics<T> {
    /// Means.
    pub mean: Vec<T>,
    /// Variances.
    pub var: Vec<T>,
}

impl<T: Real> Statistics<T> {
    /// Mean and biased variance of a batch.
    pub fn of_batch(c: usize, input: &[T]) -> Self {
        assert_eq!(input.len() % c, 0, "input length");
        let count = T::from_count(input.len() / c);
        let mut mean = vec![T::ZERO; c];
        for row in input.chunks_exact(c) {
            mean.iter_mut().zip(row).for_each(|(mean, &input)| *mean += input);
        }
        mean.iter_mut().for_each(|mean| *mean = *mean / count);
        let mut var = vec![T::ZERO; c];
        for row in input.chunks_exact(c) {
            for ((var, &mean), &input) in var.iter_mut().zip(&mean).zip(row) {
                *var += (input - mean) * (input - mean);
            }
        }
        var.iter_mut().for_each(|var| *var = *var / count);
        Self { mean, var }
    }

    /// `running = (1 − momentum) · running + momentum · batch`, where the batch's variance is made
    /// unbiased: `var · count / (count − 1)`.
    ///
    /// # Panics
    /// `count` is below 2: the unbiased variance of one value does not exist.
    pub fn update_running(&mut self, batch: &Self, count: usize, momentum: T) {
        assert!(count >= 2, "batch norm over {count} values a channel, expected at least 2");
        let unbiased = T::from_count(count) / T::from_count(count - 1);
        let mix = |running: &mut T, batch: T| {
            *running = (T::ONE - momentum) * *running + momentum * batch;
        };
        self.mean.iter_mut().zip(&batch.mean).for_each(|(running, &mean)| mix(running, mean));
        self.var
            .iter_mut()
            .zip(&batch.var)
            .for_each(|(running, &var)| mix(running, var * unbiased));
    }
}

/// Normalises by the batch's own statistics, which it returns.
pub fn forward_train<T: Real>(
    params: Params<'_, T>,
    input: &[T],
    output: &mut [T],
) -> Statistics<T> {
    let batch = Statistics::of_batch(params.weight.len(), input);
    forward_eval(params, &batch, input, output);
    batch
}

/// Normalises by given statistics.
pub fn forward_eval<T: Real>(
    params: Params<'_, T>,
    statistics: &Statistics<T>,
    input: &[T],
    output: &mut [T],
) {
    let c = params.weight.len();
    assert_eq!(params.bias.len(), c, "bias length");
    assert_eq!(input.len() % c, 0, "input length");
    assert_eq!(input.len(), output.len(), "input and output lengths");
    for (i, (output, &input)) in output.iter_mut().zip(input).enumerate() {
        let (mean, var) = (statistics.mean[i % c], statistics.var[i % c]);
        let normalised = (input - mean) / (var + params.eps).sqrt();
        *output = normalised * params.weight[i % c] + params.bias[i % c];
    }
}

/// Gradients through [`forward_train`], whose statistics depend on the input. With
/// `x̂ = (input − mean) / sqrt(var + eps)`:
///
/// ```text
/// grad_bias   = Σ grad_output
/// grad_weight = Σ grad_output · x̂
/// grad_input  = weight / sqrt(var + eps) · (grad_output − grad_bias / count − x̂ · grad_weight / count)
/// ```
pub fn backward<T: Real>(
    params: Params<'_, T>,
    batch: &Statistics<T>,
    input: &[T],
    grad_output: &[T],
    grad_input: &mut [T],
    grad_weight: &mut [T],
    grad_bias: &mut [T],
) {
    let c = params.weight.len();
    assert_eq!(input.len() % c, 0, "input length");
    assert_eq!(input.len(), grad_output.len(), "input and grad_output lengths");
    assert_eq!(input.len(), grad_input.len(), "input and grad_input lengths");
    assert_eq!(grad_weight.len(), c, "grad_weight length");
    assert_eq!(grad_bias.len(), c, "grad_bias length");
    let count = T::from_count(input.len() / c);
    let normalised =
        |i: usize| (input[i] - batch.mean[i % c]) / (batch.var[i % c] + params.eps).sqrt();

    grad_weight.fill(T::ZERO);
    grad_bias.fill(T::ZERO);
    for (i, &grad_output) in grad_output.iter().enumerate() {
        grad_weight[i % c] += grad_output * normalised(i);
        grad_bias[i % c] += grad_output;
    }
    for (i, (grad_input, &grad_output)) in grad_input.iter_mut().zip(grad_output).enumerate() {
        let through_statistics =
            grad_bias[i % c] / count + normalised(i) * grad_weight[i % c] / count;
        let scale = params.weight[i % c] / (batch.var[i % c] + params.eps).sqrt();
        *grad_input = scale * (grad_output - through_statistics);
    }
}
