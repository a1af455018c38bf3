//! Softmax cross-entropy with label smoothing, as `torch.nn.CrossEntropyLoss`, loss and gradient in
//! one pass. The reference is [`crate::reference::cross_entropy`].
//!
//! A batch has `n · classes` logits, a millionth of a step's work: plain loops in f64.

/// Writes the loss of each sample, and the gradient of their mean in the logits
/// (`[n, num_classes]`).
///
/// `loss = −Σ_k q_k log p_k` with `q = (1 − ε)·onehot + ε / num_classes`, `p = softmax(logits)`.
///
/// # Panics
/// A label is not below `num_classes`.
pub fn forward_backward(
    logits: &[f32],
    labels: &[u32],
    num_classes: usize,
    label_smoothing: f32,
    losses: &mut [f32],
    grad_logits: &mut [f32],
) {
    let n = labels.len();
    assert_eq!((logits.len(), grad_logits.len()), (n * num_classes, n * num_classes));
    assert_eq!(losses.len(), n);
    let smoothing = f64::from(label_smoothing);
    let share = smoothing / num_classes as f64;
    let rows = logits.chunks_exact(num_classes).zip(grad_logits.chunks_exact_mut(num_classes));
    for ((logits, grads), (label, loss)) in rows.zip(labels.iter().zip(losses)) {
        let label = *label as usize;
        assert!(label < num_classes, "label is {label}, expected below {num_classes}");
        // Infinite logits give NaN here, as in PyTorch.
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let exp = |logit: f32| f64::from(logit - max).exp();
        let total: f64 = logits.iter().map(|logit| exp(*logit)).sum();
        let log_total = total.ln() + f64::from(max);
        let mut expected = (1.0 - smoothing) * f64::from(logits[label]);
        // Without smoothing, a class that is ruled out by a logit of −∞ takes no part.
        if share > 0.0 {
            expected += share * logits.iter().map(|logit| f64::from(*logit)).sum::<f64>();
        }
        *loss = (log_total - expected) as f32;
        for (k, (logit, grad)) in logits.iter().zip(grads).enumerate() {
            let target = share + if k == label { 1.0 - smoothing } else { 0.0 };
            *grad = ((exp(*logit) / total - target) / n as f64) as f32;
        }
    }
}
