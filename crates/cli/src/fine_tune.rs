//! More training of a network that was changed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use clap::Args;
use residua_data::{Dataset, OpenOptions};
use residua_format::Model;
use residua_study::{FineTuned, start_from};
use residua_train::{Length, Recipe, SplitSummary};

use crate::arguments::{ThreadArgs, default_precision};
use crate::train::from;
use crate::{interrupt, model_file, study_runs};

#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct FineTuneArgs {
    /// Train the new network for so many steps
    #[arg(long, value_name = "STEPS", value_parser = clap::value_parser!(u64).range(1..))]
    fine_tune_steps: Option<u64>,
    /// Learning rate of these steps [default: a tenth of that before, or of what suits DATA]
    #[arg(long, value_name = "RATE", requires = "fine_tune_steps")]
    lr: Option<f64>,
}

/// A network that was changed, and where it is from.
pub(crate) struct FineTuning<'a> {
    /// File or run folder of the network before.
    pub(crate) from: &'a Path,
    /// The network before.
    pub(crate) before: &'a Model,
    /// What it is trained on.
    pub(crate) data: &'a str,
    /// How that is opened.
    pub(crate) open: OpenOptions,
    /// The same, opened.
    pub(crate) dataset: &'a Arc<Dataset>,
    /// Threads.
    pub(crate) threads: ThreadArgs,
    /// Folder of the run.
    pub(crate) folder: PathBuf,
}

impl FineTuneArgs {
    pub(crate) fn is_asked_for(self) -> bool {
        self.fine_tune_steps.is_some()
    }

    /// Trains the changed network; none if that was stopped. Momentum starts at zero, as weights have gone
    /// or mean something else.
    ///
    /// # Panics
    /// If it is not asked for.
    pub(crate) fn train(
        self,
        changed: &Model,
        tuning: FineTuning<'_>,
    ) -> Result<Option<(Model, FineTuned)>> {
        let steps = self.fine_tune_steps.expect("checked by the caller");
        let FineTuning { from, before, data, open, dataset, threads, folder } = tuning;
        let (data, architecture) = (data.to_owned(), changed.architecture.clone());
        let recipe = match from::start_of(from, before)? {
            Some(start) => Recipe { data, open, architecture, ..start.recipe },
            None => {
                let precision = default_precision(dataset.kind())?;
                Recipe { precision, ..Recipe::new(data, open, dataset, architecture) }
            }
        };
        let lr = self.lr.unwrap_or(recipe.lr / from::LR_DIVISOR);
        let recipe = Recipe {
            lr,
            length: Length::Steps(steps),
            warmup_steps: 0,
            // As the network is measured before and after the change.
            test_time_flips: false,
            test_time_shifts: false,
            ..recipe
        };
        let velocity = vec![0.0; changed.weights.params.len()];
        let run = start_from(changed, velocity, &recipe, folder)?;
        let stop = interrupt::stop_flag()?;
        let runs = std::slice::from_ref(&run);
        if !study_runs::carry_out(runs, dataset, threads.run_options(), &stop)? {
            return Ok(None);
        }
        let summary = study_runs::summary(&run, dataset)?;
        let error = |split: SplitSummary| split.top1_error;
        let tuned = FineTuned {
            steps,
            lr,
            train_error: error(summary.train),
            dev_error: summary.dev.map(error),
            test_error: summary.test.map(error),
        };
        Ok(Some((model_file::load(&run.folder)?, tuned)))
    }
}
