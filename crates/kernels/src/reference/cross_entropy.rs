//! Softmax cross-entropy, as `torch.nn.CrossEntropyLoss`. With `p = softmax(logits)`, `k` classes
//! and smoothing `s`, a sample with label `y` has the target distribution
//! `q[j] = (1 − s)·[j = y] + s / k` and the loss
//!
//! ```text
//! loss = − Σ q[j] · ln p[j]
//! ```
//!
//! `logits` is `[n, num_classes]`; `n` is the number of labels.

use super::Real;

/// Overwrites `losses[n]`, the loss of every sample.
pub fn forward<T: Real>(
    logits: &[T],
    labels: &[u32],
    num_classes: usize,
    label_smoothing: T,
    losses: &mut [T],
) {
    check(logits, labels, num_classes);
    assert_eq!(losses.len(), labels.len(), "losses length");
    for ((loss, &label), logits) in losses.iter_mut().zip(labels).zip(logits.chunks(num_classes)) {
        *loss = T::ZERO;
        for (j, log_p) in log_softmax(logits).into_iter().enumerate() {
            let q = target(j, label, num_classes, label_smoothing);
            // A class without weight costs nothing even where its logit is −∞.
            if q != T::ZERO {
                *loss += -q * log_p;
            }
        }
    }
}

/// Overwrites `grad_logits[n, num_classes]`, the gradient of the *mean* of the losses:
/// `(p − q) / n`.
pub fn backward<T: Real>(
    logits: &[T],
    labels: &[u32],
    num_classes: usize,
    label_smoothing: T,
    grad_logits: &mut [T],
) {
    check(logits, labels, num_classes);
    assert_eq!(grad_logits.len(), logits.len(), "grad_logits length");
    let n = T::from_count(labels.len());
    let samples = logits.chunks(num_classes).zip(grad_logits.chunks_mut(num_classes));
    for ((logits, grad_logits), &label) in samples.zip(labels) {
        for (j, log_p) in log_softmax(logits).into_iter().enumerate() {
            let q = target(j, label, num_classes, label_smoothing);
            grad_logits[j] = (log_p.exp() - q) / n;
        }
    }
}

/// `ln softmax(logits)` of one sample.
fn log_softmax<T: Real>(logits: &[T]) -> Vec<T> {
    // Shifted by the maximum, no exponential overflows. A NaN reaches the sum either way.
    let larger = |best, logit| if logit > best { logit } else { best };
    let max = logits.iter().copied().fold(T::NEG_INFINITY, larger);
    let ln_sum = logits.iter().map(|&logit| (logit - max).exp()).sum::<T>().ln();
    logits.iter().map(|&logit| logit - max - ln_sum).collect()
}

fn target<T: Real>(class: usize, label: u32, num_classes: usize, label_smoothing: T) -> T {
    let hard = if class == label as usize { T::ONE } else { T::ZERO };
    (T::ONE - label_smoothing) * hard + label_smoothing / T::from_count(num_classes)
}

fn check<T>(logits: &[T], labels: &[u32], num_classes: usize) {
    assert_eq!(logits.len(), labels.len() * num_classes, "logits length");
    for &label in labels {
        assert!((label as usize) < num_classes, "label is {label}, expected below {num_classes}");
    }
}
