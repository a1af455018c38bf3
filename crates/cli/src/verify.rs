//! The outputs of a changed network beside those of the one before.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use residua_data::{Dataset, OnProgress, Progress, Split};
use residua_engine::Precision;
use residua_format::Model;
use residua_study::{Change, Changed, FineTuned, Study, Verified, difference};
use residua_train::EvalOptions;

use crate::arguments::ThreadArgs;
use crate::{output, present, progress, table};

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

/// What a changed network is, with what was measured of it.
pub(crate) fn changed(
    change: Change,
    [before, after]: [&Model; 2],
    file: &Path,
    dataset: Option<&Dataset>,
    split: Split,
) -> Changed {
    Changed {
        change,
        before: before.architecture.name().to_owned(),
        after: after.architecture.name().to_owned(),
        num_parameters_before: before.weights.params.len(),
        num_parameters_after: after.weights.params.len(),
        file: file.display().to_string(),
        dataset: dataset.map(|dataset| dataset.name().to_owned()),
        split,
        verified: Vec::new(),
        tuned: None,
    }
}

/// Keeps it where it is to be kept, and prints it, for machines or for people.
pub(crate) fn show(changed: Changed, record: Option<&Path>, json: bool) -> Result<()> {
    match json {
        true => output::json(&changed)?,
        false => print(&changed)?,
    }
    if let Some(folder) = record {
        present::record(Study::Changed(changed)).save(folder)?;
    }
    Ok(())
}

fn print(changed: &Changed) -> Result<()> {
    output::line(format_args!(
        "{} → {}: {} → {} parameters, in {}",
        changed.before,
        changed.after,
        table::grouped(changed.num_parameters_before as u64),
        table::grouped(changed.num_parameters_after as u64),
        changed.file
    ))?;
    for Verified { precision, difference } in &changed.verified {
        output::line(format_args!(
            "{precision}: max |Δlogit| = {} over {} {} samples, top-1 error {} → {}",
            difference.max_abs,
            table::grouped(difference.num_samples),
            changed.split,
            table::percent(difference.top1_error_before),
            table::percent(difference.top1_error_after),
        ))?;
    }
    if let Some(FineTuned { steps, lr, train_error, dev_error, test_error }) = &changed.tuned {
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
