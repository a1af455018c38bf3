use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

/// How the learning rate changes over a run: a pure function of the step and the number of steps,
/// so that a resumed run needs no state for it.
///
/// ```
/// use residua_train::Schedule;
/// // He et al. 2015: 0.1, divided by 10 at half and at three quarters of 64,000 steps.
/// assert_eq!(Schedule::Paper.factor(31_999, 64_000), 1.0);
/// assert_eq!(Schedule::Paper.factor(32_000, 64_000), 0.1);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Schedule {
    /// The same throughout.
    Constant,
    /// Divided by 10 at 50 % and again at 75 % of the steps (He et al. 2015, section 4.2).
    Paper,
    /// Multiplied by `gamma` at each milestone, as `torch.optim.lr_scheduler.MultiStepLR`.
    Step {
        /// Steps at which it drops, in rising order.
        milestones: Vec<u64>,
        /// Factor of each drop.
        #[serde(default = "default_gamma")]
        gamma: f64,
    },
    /// Along a line from 1 down to 0, as `LinearLR` from 1 to 0 over all steps.
    Linear,
    /// Half a cosine from 1 down to 0, as `CosineAnnealingLR` with `T_max` = all steps.
    Cosine,
    /// Up from 1/25 to 1 over the first 30 % of the steps and down to 1/250,000, both along a
    /// cosine: `OneCycleLR` with its defaults, except that the momentum does not move.
    OneCycle,
}

fn default_gamma() -> f64 {
    0.1
}

impl Schedule {
    /// What the learning rate is multiplied by at `step`, counted from 0, of `total_steps`.
    pub fn factor(&self, step: u64, total_steps: u64) -> f64 {
        let share = step as f64 / total_steps as f64;
        match self {
            Self::Constant => 1.0,
            Self::Paper if share < 0.5 => 1.0,
            Self::Paper if share < 0.75 => 0.1,
            Self::Paper => 0.01,
            Self::Step { milestones, gamma } => {
                let num_drops = milestones.iter().filter(|&&milestone| milestone <= step).count();
                (0..num_drops).fold(1.0, |factor, _| factor * gamma)
            }
            Self::Linear => 1.0 - share,
            Self::Cosine => cosine(1.0, 0.0, share),
            Self::OneCycle => one_cycle(step as f64, total_steps as f64),
        }
    }
}

/// The part of the warm-up in the learning rate: it rises linearly over the first `warmup_steps`
/// steps, from `1 / warmup_steps` at step 0 to 1 at the last of them, and multiplies the
/// schedule, whose own milestones stay where they are.
pub fn warmup_factor(step: u64, warmup_steps: u64) -> f64 {
    match step + 1 < warmup_steps {
        true => (step + 1) as f64 / warmup_steps as f64,
        false => 1.0,
    }
}

/// Along half a cosine: `from` at share 0, `to` at share 1.
fn cosine(from: f64, to: f64, share: f64) -> f64 {
    to + (from - to) * (1.0 + (PI * share).cos()) / 2.0
}

/// PyTorch's defaults: `pct_start` 0.3, `div_factor` 25, `final_div_factor` 10⁴. The peak is at
/// step `0.3·total − 1` and the end at the last step, `total − 1`.
fn one_cycle(step: f64, total: f64) -> f64 {
    let (start, end) = (1.0 / 25.0, 1.0 / 25.0 / 1e4);
    let peak = 0.3 * total - 1.0;
    let last = total - 1.0;
    if step <= peak {
        cosine(start, 1.0, step / peak)
    } else {
        // A run too short for a rise starts on the way down.
        cosine(1.0, end, ((step - peak) / (last - peak)).clamp(0.0, 1.0))
    }
}
