//! `residua inspect --plan`: the steps that a network is run in here.

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use residua_engine::{PlanOptions, StepReport, ThreadPool};
use residua_resnet::Architecture;
use serde::Serialize;

use crate::arguments::{PrecisionArg, ThreadArgs};
use crate::bench::Task;
use crate::bench::step::{NUM_WARM_UP, Step};
use crate::{output, table};

/// Steps over which times are taken.
const NUM_TIMED: usize = 10;

#[derive(Debug, Args)]
#[command(next_help_heading = "With --plan")]
pub(super) struct PlanArgs {
    /// Samples in each step
    #[arg(long, value_name = "NUMBER", default_value = "128", requires = "plan",
          value_parser = clap::value_parser!(u32).range(1..))]
    batch_size: u32,
    /// Number format of activations; `auto` is the fastest here
    #[arg(long, value_name = "FORMAT", default_value = "auto", requires = "plan",
          value_parser = PrecisionArg::parser())]
    precision: PrecisionArg,
}

/// A plan for machines.
#[derive(Serialize)]
struct Plan<'a> {
    model: &'a str,
    task: Task,
    batch: usize,
    precision: String,
    isa: String,
    threads: usize,
    ms: f64,
    steps: Vec<Row>,
    /// Share of the threads' time outside of steps: weights, reductions, loss, update, waiting.
    rest_share: f64,
}

#[derive(Serialize)]
struct Row {
    phase: usize,
    backward: bool,
    parts: Vec<String>,
    kernel: Option<&'static str>,
    operations: u64,
    bytes: u64,
    /// Of one thread, for a batch.
    ms: f64,
    time_share: f64,
}

pub(super) fn show(
    architecture: &Architecture,
    task: Task,
    args: &PlanArgs,
    threads: ThreadArgs,
    json: bool,
) -> Result<()> {
    let batch = args.batch_size as usize;
    let precision = args.precision.resolve()?;
    let options = PlanOptions { mode: task.mode(), precision, ..PlanOptions::train(batch)? };
    let pool = ThreadPool::new(threads.number())?;
    let graph = architecture.to_graph()?;
    let mut step = Step::new(architecture, &graph, &options)?;
    pool.install(|| step.times(1));
    let before = step.plan().report();
    let times = pool.install(|| step.times(NUM_TIMED));
    // Steps to warm up are among those that the report counts.
    let num_run = NUM_TIMED + NUM_WARM_UP;
    let mean_ms = times.iter().sum::<f64>() / NUM_TIMED as f64;
    let available = mean_ms * pool.num_threads() as f64;
    let rows = step.plan().report().into_iter().zip(before).map(|(after, before)| {
        let ms = milliseconds(after.spent - before.spent) / num_run as f64;
        Row::new(after, ms, available)
    });
    let steps: Vec<Row> = rows.collect();
    let in_steps: f64 = steps.iter().map(|row| row.time_share).sum();
    let plan = Plan {
        model: architecture.name(),
        task,
        batch,
        precision: options.precision.to_string(),
        isa: options.isa.to_string(),
        threads: pool.num_threads(),
        ms: mean_ms,
        steps,
        rest_share: (1.0 - in_steps).max(0.0),
    };
    if json {
        output::json(&plan)?
    } else {
        print(&plan)?
    }
    Ok(())
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

impl Row {
    fn new(report: StepReport, ms: f64, available: f64) -> Self {
        let StepReport { backward, phase, parts, kernel, operations, bytes, .. } = report;
        Self { phase, backward, parts, kernel, operations, bytes, ms, time_share: ms / available }
    }

    /// How its convolution is done: the last word of its kernel's name.
    fn method(&self) -> &'static str {
        self.kernel.and_then(|name| name.rsplit('_').next()).unwrap_or_default()
    }

    fn cells(&self) -> [String; 7] {
        let rate = match self.operations {
            0 => String::new(),
            operations => format!("{:.0}", operations as f64 / self.ms / 1e6),
        };
        let mflop = match self.operations {
            0 => String::new(),
            operations => table::grouped(operations / 1_000_000),
        };
        [
            self.phase.to_string(),
            self.parts.join(" → "),
            self.method().to_owned(),
            mflop,
            format!("{:.1}", self.bytes as f64 / 1e6),
            rate,
            table::percent(100.0 * self.time_share),
        ]
    }
}

impl Plan<'_> {
    /// The whole names of the kernels of its convolutions.
    fn kernels(&self) -> String {
        let mut kernels: Vec<_> = self.steps.iter().filter_map(|row| row.kernel).collect();
        kernels.sort_unstable();
        kernels.dedup();
        kernels.join(", ")
    }
}

fn print(plan: &Plan<'_>) -> Result<()> {
    let header = [">Phase", "Step", "Kernel", ">MFLOP", ">MB", ">GFLOP/s", ">Time"];
    let mut rows = table::new(header);
    for (i, row) in plan.steps.iter().enumerate() {
        if row.backward && (i == 0 || !plan.steps[i - 1].backward) {
            rows.add_row(["", "── backward ──"]);
        }
        rows.add_row(row.cells());
    }
    let rest = "weights, reductions, loss, update, waiting";
    let share = table::percent(100.0 * plan.rest_share);
    rows.add_row(["", rest, "", "", "", "", &share]);
    output::line(table::text(&rows))?;
    output::line(format_args!(
        "{}, batch {}, {}, {} threads: {:.2} ms a step on random data\n\
         kernels {}; GFLOP/s are a thread's; MB are activations, gradients and packed\n\
         weights, each counted once",
        plan.model,
        plan.batch,
        plan.precision,
        plan.threads,
        plan.ms,
        plan.kernels(),
    ))?;
    Ok(())
}
