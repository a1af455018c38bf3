use std::sync::Arc;

use residua_data::{Dataset, OnProgress, Progress, Split};
use residua_format::Model;
use residua_train::{EvalOptions, TrainError, outputs};
use serde::{Deserialize, Serialize};

/// How far two models' outputs are from each other on a split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// Samples in the split.
    pub num_samples: u64,
    /// Outputs whose bits differ, of `num_samples · num_classes`.
    pub num_different: u64,
    /// Largest difference of two outputs.
    pub max_abs: f32,
    /// Top-1 error of the first model, in percent.
    pub top1_error_before: f64,
    /// Top-1 error of the second model, in percent.
    pub top1_error_after: f64,
}

impl Difference {
    /// Whether the models put out the same, bit for bit.
    pub fn is_none(&self) -> bool {
        self.num_different == 0
    }
}

/// Runs two models of the same classes on a split and compares their outputs. Tells `on_progress` after each
/// sample of each.
///
/// # Errors
/// As [`residua_train::evaluate`].
///
/// # Panics
/// If the models' classes differ.
pub fn difference(
    before: &Model,
    after: &Model,
    dataset: &Arc<Dataset>,
    split: Split,
    options: &EvalOptions,
    on_progress: OnProgress<'_>,
) -> Result<Difference, TrainError> {
    assert_eq!(before.classes, after.classes, "models of the same classes");
    let half = |model, earlier: usize| {
        let on_half = |Progress { done, total }| {
            on_progress(Progress { done: earlier * total + done, total: 2 * total });
        };
        outputs(model, dataset, split, options, &on_half)
    };
    let (before, after) = (half(before, 0)?, half(after, 1)?);
    let pairs = || before.logits.iter().zip(&after.logits);
    Ok(Difference {
        num_samples: before.labels.len() as u64,
        num_different: pairs().filter(|(a, b)| a.to_bits() != b.to_bits()).count() as u64,
        max_abs: pairs().map(|(a, b)| (a - b).abs()).fold(0.0, f32::max),
        top1_error_before: before.top1_error(),
        top1_error_after: after.top1_error(),
    })
}
