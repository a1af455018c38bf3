use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use residua_engine::{Plan, PlanOptions, Precision};
use residua_format::Model;
use serde::{Deserialize, Serialize};

use crate::StudyError;
use crate::section::median;

/// How long two networks take for a batch, one after the other again and again.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Samples of the batch.
    pub batch_size: usize,
    /// Milliseconds of the first, the median.
    pub ms_before: f64,
    /// Milliseconds of the second, the median.
    pub ms_after: f64,
    /// Batches of each.
    pub num_runs: usize,
}

/// Times two models on random data, batch by batch in turn, so that what else the machine does falls on
/// both. Runs on the threads of the pool it is called in.
///
/// # Errors
/// Models that the engine can't run.
pub fn latencies(
    [before, after]: [&Model; 2],
    batch_sizes: &[usize],
    precision: Precision,
) -> Result<Vec<Latency>, StudyError> {
    let latency = |&batch_size: &usize| {
        let plans = [plan(before, batch_size, precision)?, plan(after, batch_size, precision)?];
        Ok(time(plans, batch_size))
    };
    batch_sizes.iter().map(latency).collect()
}

fn plan(model: &Model, batch_size: usize, precision: Precision) -> Result<Plan, StudyError> {
    let graph = model.architecture.to_graph()?;
    let options = PlanOptions { precision, ..PlanOptions::eval(batch_size)? };
    let mut plan = Plan::new(&graph, &options)?;
    plan.load(&model.weights);
    Ok(plan)
}

/// Ends after so many runs, or when it has taken long, but not before a few.
fn time(mut plans: [Plan; 2], batch_size: usize) -> Latency {
    const NUM_WARM_UP: usize = 2;
    const RUNS: std::ops::RangeInclusive<usize> = 5..=51;
    const LONG: Duration = Duration::from_secs(3);
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let input_len = batch_size * plans[0].input_len();
    let input: Vec<f32> = (0..input_len).map(|_| rng.random_range(-1.0..1.0)).collect();
    let mut logits = vec![0.0; batch_size * plans[0].num_classes()];
    let mut ms = [Vec::new(), Vec::new()];
    let start = Instant::now();
    for run in 0..NUM_WARM_UP + RUNS.end() {
        if run >= NUM_WARM_UP + RUNS.start() && start.elapsed() > LONG {
            break;
        }
        for (plan, ms) in plans.iter_mut().zip(&mut ms) {
            let start = Instant::now();
            plan.forward(&input, &mut logits);
            if run >= NUM_WARM_UP {
                ms.push(start.elapsed().as_secs_f64() * 1e3);
            }
        }
    }
    let [ms_before, ms_after] = [median(&ms[0]), median(&ms[1])];
    Latency { batch_size, ms_before, ms_after, num_runs: ms[0].len() }
}
