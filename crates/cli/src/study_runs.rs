//! The runs of a study, one after another.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Result, bail};
use residua_data::Dataset;
use residua_study::{Diverged, RunState, StudyRun};
use residua_train::{RunOptions, Summary};

use crate::failure::hinted;
use crate::train::Live;
use crate::{output, table};

/// Trains what is missing; false if it was stopped.
pub(crate) fn carry_out(
    runs: &[StudyRun],
    dataset: &Arc<Dataset>,
    options: RunOptions,
    stop: &AtomicBool,
) -> Result<bool> {
    let macs = runs.iter().map(|run| run.macs(dataset)).sum();
    let mut series = Series::new(runs.len(), macs, dataset, options, stop);
    for run in runs {
        series.know(run)?;
    }
    for run in runs {
        if !series.carry_out(run)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What a run that is over has come to; an error if it diverged.
pub(crate) fn summary(run: &StudyRun, dataset: &Dataset) -> Result<Summary> {
    match run.state(dataset)? {
        RunState::Finished(summary) => Ok(*summary),
        RunState::Diverged(Diverged { step, .. }) => Err(hinted(
            format!("{}: the training diverged at step {step}", run.folder.display()),
            "a lower --lr, and another --out, as the folder keeps the run as it is",
        )),
        RunState::Missing | RunState::Begun => {
            bail!("{}: the training is not over", run.folder.display())
        }
    }
}

/// Runs that are carried out one after another.
pub(crate) struct Series<'a> {
    dataset: &'a Arc<Dataset>,
    options: RunOptions,
    stop: &'a AtomicBool,
    num_runs: usize,
    /// The next one's, from 1.
    number: usize,
    clock: Clock,
}

impl<'a> Series<'a> {
    /// So many runs, of so many multiply-adds together.
    pub(crate) fn new(
        num_runs: usize,
        macs: f64,
        dataset: &'a Arc<Dataset>,
        options: RunOptions,
        stop: &'a AtomicBool,
    ) -> Self {
        let clock = Clock { macs_left: macs, macs_done: 0.0, seconds: 0.0 };
        Self { dataset, options, stop, num_runs, number: 1, clock }
    }

    /// Takes what is there of a run into account in the time that is left.
    pub(crate) fn know(&mut self, run: &StudyRun) -> Result<()> {
        let macs = run.macs(self.dataset);
        match run.state(self.dataset)? {
            RunState::Finished(summary) => self.clock.count(macs, summary.seconds),
            RunState::Diverged(_) => self.clock.macs_left -= macs,
            RunState::Missing | RunState::Begun => {}
        }
        Ok(())
    }

    /// Trains what is missing of the next one; false if it was stopped.
    pub(crate) fn carry_out(&mut self, run: &StudyRun) -> Result<bool> {
        let name = run.folder.file_name().unwrap_or_default().display();
        let which = format!("run {} of {}: {name}", self.number, self.num_runs);
        self.number += 1;
        if run.state(self.dataset)?.is_over() {
            output::note(format_args!("{which} is there already"));
            return Ok(true);
        }
        output::note(format_args!("\n{which}{}", self.clock.left()));
        let mut live = Live::new(self.dataset);
        let ended = run.carry_out(self.dataset, self.options, &mut live, self.stop);
        live.finish();
        if !ended? {
            output::note("stopped; the same command goes on from here");
            return Ok(false);
        }
        self.know(run)?;
        Ok(true)
    }
}

/// Reckons how long the runs that are left will take, from those that are over.
struct Clock {
    macs_left: f64,
    macs_done: f64,
    seconds: f64,
}

impl Clock {
    fn count(&mut self, macs: f64, seconds: f64) {
        self.macs_left -= macs;
        self.macs_done += macs;
        self.seconds += seconds;
    }

    fn left(&self) -> String {
        if self.macs_done == 0.0 {
            return String::new();
        }
        let seconds = self.seconds / self.macs_done * self.macs_left;
        format!("; {} left for all", table::duration(seconds))
    }
}
