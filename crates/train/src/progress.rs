use residua_engine::Loss;
use serde::{Deserialize, Serialize};

use crate::MetricsRecord;

/// What a run has measured since its last record, and what it needs to go on measuring after it
/// was resumed.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Progress {
    window: Window,
    /// The last evaluation on the dev set, in percent.
    pub(crate) dev_error: Option<f64>,
    /// The loss of the last step.
    pub(crate) last_loss: Option<f32>,
    /// Seconds the run has taken, over all its sessions.
    pub(crate) seconds: f64,
    /// Of these, seconds spent in training steps.
    pub(crate) train_seconds: f64,
}

/// The steps since the last record.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Window {
    num_steps: u64,
    num_samples: u64,
    num_errors: u64,
    loss_sum: f64,
    seconds: f64,
    wait_seconds: f64,
}

impl Progress {
    /// Counts a step of `num_samples` samples, of whose `seconds` it waited `wait_seconds`.
    pub(crate) fn add(&mut self, loss: &Loss, num_samples: usize, seconds: f64, wait_seconds: f64) {
        let window = &mut self.window;
        window.num_steps += 1;
        window.num_samples += num_samples as u64;
        window.num_errors += loss.num_errors as u64;
        window.loss_sum += f64::from(loss.mean);
        window.seconds += seconds;
        window.wait_seconds += wait_seconds;
        self.last_loss = Some(loss.mean);
        self.train_seconds += seconds;
    }

    /// The record of the steps so far, without a dev error.
    pub(crate) fn record(&self, step: u64, epoch: f64, lr: f64) -> MetricsRecord {
        let window = &self.window;
        MetricsRecord {
            step,
            epoch,
            lr,
            loss: window.loss_sum / window.num_steps as f64,
            train_error: window.num_errors as f64 / window.num_samples as f64 * 100.0,
            dev_error: None,
            images_per_s: share(window.num_samples as f64, window.seconds),
            data_wait_share: share(window.wait_seconds, window.seconds),
            seconds: self.seconds,
            branch_norms: Vec::new(),
        }
    }

    /// Starts over after a record.
    pub(crate) fn start_window(&mut self) {
        self.window = Window::default();
    }
}

/// A quotient that is 0 when no time has passed, so that it is always a number.
fn share(part: f64, seconds: f64) -> f64 {
    if seconds > 0.0 { part / seconds } else { 0.0 }
}
