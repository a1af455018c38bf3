//! The outputs of a changed network beside those of the one before.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use residua_data::{Dataset, OnProgress, Progress, Split};
use residua_engine::Precision;
use residua_format::Model;
use residua_study::{Difference, FineTuned, difference};
use residua_train::EvalOptions;
use serde::Serialize;

use crate::arguments::ThreadArgs;
use crate::{output, progress, table};

/// How far the outputs are from each other in a precision.
#[derive(Debug, Serialize)]
pub(crate) struct Verified {
    precision: String,
    #[serde(flatten)]
    pub(crate) difference: Difference,
}

/// The difference of the outputs in each precision.
pub(crate) fn verify(
    [before, after]: [&Model; 2],
    dataset: &Arc<Dataset>,
    split: Split,
    threads: ThreadArgs,
) -> Result<Vec<Verified>> {
    let precisions = [Precision::F32, Precision::Bf16];
    let in_precision = |precision: Precision, on_progress: OnProgress<'_>| -> Result<Verified> {
        let options = EvalOptions { precision, ..EvalOptions::new(64) };
        let difference = threads
            .install(|| difference(before, after, dataset, split, &options, on_progress))??;
        Ok(Verified { precision: precision.to_string(), difference })
    };
    progress::counting("comparing", |on_progress| {
        let part = |(i, precision): (usize, Precision)| {
            let on_part = |Progress { done, total }| {
                let (done, total) = (i * total + done, precisions.len() * total);
                on_progress(Progress { done, total });
            };
            in_precision(precision, &on_part)
        };
        precisions.into_iter().enumerate().map(part).collect()
    })
}

/// What a changed network is, and how far its outputs are from those before, for machines.
#[derive(Serialize)]
pub(crate) struct Changed<'a> {
    before: &'a str,
    after: &'a str,
    num_parameters_before: usize,
    num_parameters_after: usize,
    file: String,
    /// Before it was trained any further; empty if it was not measured.
    verified: Vec<Verified>,
    /// After a little training, if there was any.
    #[serde(skip_serializing_if = "Option::is_none")]
    tuned: Option<FineTuned>,
}

impl<'a> Changed<'a> {
    pub(crate) fn new(
        [before, after]: [&'a Model; 2],
        file: &Path,
        verified: Vec<Verified>,
        tuned: Option<FineTuned>,
    ) -> Self {
        Self {
            before: before.architecture.name(),
            after: after.architecture.name(),
            num_parameters_before: before.weights.params.len(),
            num_parameters_after: after.weights.params.len(),
            file: file.display().to_string(),
            verified,
            tuned,
        }
    }

    /// Prints it, for machines or for people.
    pub(crate) fn print(&self, split: Split, json: bool) -> Result<()> {
        if json {
            return Ok(output::json(self)?);
        }
        output::line(format_args!(
            "{} → {}: {} → {} parameters, in {}",
            self.before,
            self.after,
            table::grouped(self.num_parameters_before as u64),
            table::grouped(self.num_parameters_after as u64),
            self.file
        ))?;
        for Verified { precision, difference } in &self.verified {
            output::line(format_args!(
                "{precision}: max |Δlogit| = {} over {} {split} samples, top-1 error {} → {}",
                difference.max_abs,
                table::grouped(difference.num_samples),
                table::percent(difference.top1_error_before),
                table::percent(difference.top1_error_after),
            ))?;
        }
        if let Some(FineTuned { steps, lr, train_error, dev_error, test_error }) = &self.tuned {
            let percent = |error: Option<f64>| error.map_or("-".to_owned(), table::percent);
            let (dev, test) = (percent(*dev_error), percent(*test_error));
            output::line(format_args!(
                "after {} more steps at lr {lr}: train error {}, dev error {dev}, test error {test}",
                table::grouped(*steps),
                table::percent(*train_error),
            ))?;
        }
        Ok(())
    }
}
