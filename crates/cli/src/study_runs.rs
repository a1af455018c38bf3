//! The runs of a study, one after another.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use anyhow::Result;
use residua_data::Dataset;
use residua_study::{RunState, StudyRun};
use residua_train::RunOptions;

use crate::train::Live;
use crate::{output, table};

/// Trains what is missing; false if it was stopped.
pub(crate) fn carry_out(
    runs: &[StudyRun],
    dataset: &Arc<Dataset>,
    options: RunOptions,
    stop: &AtomicBool,
) -> Result<bool> {
    let mut clock = Clock::new(runs, dataset)?;
    for (i, run) in runs.iter().enumerate() {
        let (number, name) = (i + 1, run.folder.file_name().unwrap_or_default().display());
        if run.state()?.is_over() {
            output::note(format_args!("run {number} of {}: {name} is there already", runs.len()));
            continue;
        }
        output::note(format_args!("\nrun {number} of {}: {name}{}", runs.len(), clock.left()));
        let mut live = Live::new(dataset);
        let started = Instant::now();
        let ended = run.carry_out(dataset, options, &mut live, stop);
        live.finish();
        if !ended? {
            output::note("stopped; the same command goes on from here");
            return Ok(false);
        }
        clock.count(run.macs(dataset), started.elapsed().as_secs_f64());
    }
    Ok(true)
}

/// Reckons how long the runs that are left will take, from those that are over.
struct Clock {
    macs_left: f64,
    macs_done: f64,
    seconds: f64,
}

impl Clock {
    fn new(runs: &[StudyRun], dataset: &Dataset) -> Result<Self> {
        let mut clock = Self { macs_left: 0.0, macs_done: 0.0, seconds: 0.0 };
        for run in runs {
            let macs = run.macs(dataset);
            clock.macs_left += macs;
            match run.state()? {
                RunState::Finished(summary) => clock.count(macs, summary.seconds),
                RunState::Diverged(_) => clock.macs_left -= macs,
                RunState::Missing | RunState::Begun => {}
            }
        }
        Ok(clock)
    }

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
