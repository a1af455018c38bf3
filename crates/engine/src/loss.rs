use residua_kernels::cross_entropy as kernel;

/// What a batch lost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Loss {
    /// Mean over the samples.
    pub mean: f32,
    /// Samples whose greatest logit is not their label's (the first of equals counts; a NaN never
    /// wins, and a sample of NaNs is wrong).
    pub num_errors: usize,
}

/// Softmax cross-entropy as `torch.nn.CrossEntropyLoss(label_smoothing=…)`: writes the loss of each
/// sample to `losses` and the gradient of their mean to `grad_logits` (`[n, num_classes]`).
///
/// # Panics
/// Lengths that don't fit, or a label that is not below `num_classes`.
pub fn cross_entropy(
    logits: &[f32],
    labels: &[u32],
    num_classes: usize,
    label_smoothing: f32,
    losses: &mut [f32],
    grad_logits: &mut [f32],
) -> Loss {
    kernel::forward_backward(logits, labels, num_classes, label_smoothing, losses, grad_logits);
    let total: f64 = losses.iter().map(|loss| f64::from(*loss)).sum();
    let rows = logits.chunks_exact(num_classes).zip(labels);
    let num_errors = rows.filter(|(row, label)| argmax(row) != Some(**label as usize)).count();
    Loss { mean: (total / labels.len() as f64) as f32, num_errors }
}

/// The first greatest logit; none if all are NaN.
fn argmax(logits: &[f32]) -> Option<usize> {
    let mut best: Option<(usize, f32)> = None;
    for (i, logit) in logits.iter().enumerate() {
        if !logit.is_nan() && best.is_none_or(|(_, greatest)| *logit > greatest) {
            best = Some((i, *logit));
        }
    }
    best.map(|(i, _)| i)
}
