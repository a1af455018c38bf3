use std::f64::consts::TAU;

use rand::RngExt;

use super::{noise, positions};
use crate::random::{Purpose, stream};

/// Points on `arms` spirals that wind `turns` times around each other, with noise of the given
/// standard deviation: `[sample, 2]` and the arm of each.
pub(super) fn points(
    counts: &[usize; 3],
    seed: u64,
    arms: usize,
    turns: f64,
    noise_std: f64,
) -> (Vec<f32>, Vec<u32>) {
    let mut data = Vec::new();
    let mut labels = Vec::new();
    for (split, i) in positions(counts) {
        let mut rng = stream(seed, Purpose::Spirals, split as u64, i as u64);
        let arm = i % arms;
        // The square root spreads the points evenly along an arm, which gets longer outwards.
        let radius = rng.random_range(0.0025..1.0_f64).sqrt();
        let angle = TAU * (radius * turns + arm as f64 / arms as f64);
        for at in [radius * angle.cos(), radius * angle.sin()] {
            data.push((at + noise_std * f64::from(noise(&mut rng))) as f32);
        }
        labels.push(arm as u32);
    }
    (data, labels)
}
