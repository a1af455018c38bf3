use std::sync::Arc;

use residua_data::{Dataset, Split};
use residua_format::Model;
use residua_train::{EvalOptions, TrainError, evaluate};
use serde::{Deserialize, Serialize};

/// How well a network does on a split, in short.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Top-1 error in percent.
    pub top1_error: f64,
    /// Mean cross-entropy.
    pub mean_loss: f64,
}

impl Score {
    pub(crate) fn of(
        model: &Model,
        dataset: &Arc<Dataset>,
        split: Split,
        options: &EvalOptions,
    ) -> Result<Self, TrainError> {
        let evaluation = evaluate(model, dataset, split, options)?;
        let (top1_error, mean_loss) = (evaluation.top1_error, evaluation.mean_loss);
        Ok(Self { top1_error, mean_loss })
    }
}
