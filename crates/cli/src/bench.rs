//! `residua bench`: how fast this machine is at it.

mod caches;
mod data;
mod hardware;
mod kernels;
pub(crate) mod step;
mod times;

use std::path::Path;

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};
use residua_engine::{Mode, PlanOptions, ThreadPool};
use residua_train::plot::{CostCurve, Growth, cost_curves};
use serde::Serialize;
use times::Times;

use crate::arguments::{self, PrecisionArg, ThreadArgs};
use crate::failure::Outcome;
use crate::inspect::read_toml;
use crate::picture::Picture;
use crate::{output, table};

/// Measure how fast this machine is: kernels, networks on random data, input of training
#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    Hardware(hardware::HardwareBench),
    Kernels(kernels::KernelsBench),
    Train(TrainBench),
    Infer(InferBench),
    Data(data::DataBench),
}

impl BenchCommand {
    pub(crate) fn run(&self) -> Result<Outcome> {
        match self {
            Self::Hardware(bench) => bench.run(),
            Self::Kernels(bench) => bench.run(),
            Self::Train(TrainBench { args }) => run(Task::Train, args),
            Self::Infer(InferBench { args }) => run(Task::Infer, args),
            Self::Data(bench) => bench.run(),
        }
    }
}

/// Time training steps: forward, loss, backward and update
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  residua bench train
  residua bench train --model resnet20,resnet56 --batch-size 100
  residua bench train --model resnet50 --batch-size 16 --steps 8 --json
  residua bench train --model resnet20,resnet56,resnet110 --batch-size 32,128 --plot cost.svg")]
pub(crate) struct TrainBench {
    #[command(flatten)]
    args: StepArgs,
}

/// Time evaluation: forward with running statistics
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  residua bench infer --model resnet20 --batch-size 1000
  residua bench infer --model resnet50 --batch-size 1 --json")]
pub(crate) struct InferBench {
    #[command(flatten)]
    args: StepArgs,
}

#[derive(Debug, Args)]
struct StepArgs {
    /// Names of architectures or .toml files with one, with commas between them
    #[arg(long, value_name = "NAME", value_delimiter = ',', default_value = "resnet20")]
    model: Vec<String>,
    /// Samples in each step; each of several numbers with commas between them
    #[arg(long, value_name = "NUMBER", value_delimiter = ',', default_value = "128",
          value_parser = clap::value_parser!(u32).range(1..))]
    batch_size: Vec<u32>,
    /// Steps to time, after three to warm up
    #[arg(long, value_name = "NUMBER", default_value = "20",
          value_parser = clap::value_parser!(u32).range(1..))]
    steps: u32,
    /// Number format of activations; `auto` is the fastest here
    #[arg(long, value_name = "FORMAT", default_value = "auto", value_parser = PrecisionArg::parser())]
    precision: PrecisionArg,
    /// Draw the time of a step over its multiply-adds, for each network and each batch size, as .svg or
    /// .png
    #[arg(long, value_name = "FILE")]
    plot: Option<Picture>,
    /// Print JSON, one object in each line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    threads: ThreadArgs,
}

/// What a plan is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Task {
    /// Forward and backward
    Train,
    /// Forward with running statistics
    Infer,
}

impl Task {
    pub(crate) fn mode(self) -> Mode {
        match self {
            Self::Train => Mode::Train,
            Self::Infer => Mode::Eval,
        }
    }

    /// Passes over the multiply-adds of a forward pass.
    fn passes(self) -> u64 {
        match self {
            Self::Train => 3,
            Self::Infer => 1,
        }
    }
}

/// What was measured of one network.
#[derive(Debug, Serialize)]
struct Measured<'a> {
    task: Task,
    model: &'a str,
    batch: usize,
    precision: String,
    isa: String,
    threads: usize,
    steps: usize,
    #[serde(flatten)]
    times: Times,
    images_per_s: f64,
    tflop_per_s: f64,
    /// What this machine does at most of the operations that the precision takes.
    limit_tflop_per_s: f64,
    /// Share of that; more than 1 where an algorithm does with fewer operations.
    limit_share: f64,
    /// The most memory the process has had so far; unknown where the system doesn't tell.
    peak_bytes: Option<u64>,
    /// Multiply-adds of a step.
    #[serde(skip)]
    macs: u64,
}

fn run(task: Task, args: &StepArgs) -> Result<Outcome> {
    let pool = ThreadPool::new(args.threads.number())?;
    let precision = args.precision.resolve()?;
    let limit = hardware::limit(&pool, precision, PlanOptions::train(1)?.isa);
    let header = [
        "Network",
        ">batch",
        ">ms a step",
        ">10–90 %",
        ">images/s",
        ">TFLOP/s",
        ">of the limit",
        PEAK_HEADER,
    ];
    let mut rows = table::new(header);
    let mut all = Vec::new();
    for name in &args.model {
        for batch in &args.batch_size {
            let options = PlanOptions {
                mode: task.mode(),
                precision,
                ..PlanOptions::train(*batch as usize)?
            };
            let measured = measure(task, name, &options, args.steps as usize, &pool, limit)?;
            if args.json {
                output::json_line(&measured)?;
            }
            rows.add_row(measured.row());
            all.push(measured);
        }
    }
    if !args.json {
        output::line(table::text(&rows))?;
        output::line(format_args!(
            "{precision}, {}, {} threads, medians of {} steps; the limit is {:.3} TFLOP/s",
            PlanOptions::train(1)?.isa,
            pool.num_threads(),
            args.steps,
            limit / 1e12,
        ))?;
    }
    if let Some(picture) = &args.plot {
        let title = format!("Time of a step in {precision}, {} threads", pool.num_threads());
        picture.draw(cost_curves(&title, &curves(&all, args)))?;
    }
    Ok(Outcome::Done)
}

fn measure<'a>(
    task: Task,
    name: &'a str,
    options: &PlanOptions,
    num_steps: usize,
    pool: &ThreadPool,
    limit: f64,
) -> Result<Measured<'a>> {
    let batch = options.batch_size;
    let architecture = match name.ends_with(".toml") {
        true => read_toml(Path::new(name))?,
        false => arguments::named_architecture(name, &Default::default(), None, None)?,
    };
    let graph = architecture.to_graph()?;
    let mut step = step::Step::new(&architecture, &graph, options)?;
    let times = Times::of(pool.install(|| step.times(num_steps)));
    let macs = task.passes() * graph.total_macs() * batch as u64;
    let flop_per_s = times.per_s(2.0 * macs as f64);
    Ok(Measured {
        task,
        model: name,
        batch,
        precision: options.precision.to_string(),
        isa: options.isa.to_string(),
        threads: pool.num_threads(),
        steps: num_steps,
        times,
        images_per_s: times.per_s(batch as f64),
        tflop_per_s: flop_per_s / 1e12,
        limit_tflop_per_s: limit / 1e12,
        limit_share: flop_per_s / limit,
        peak_bytes: peak_bytes(),
        macs,
    })
}

/// A curve over batch sizes for each network, and one over networks for each batch size, where there
/// are several.
fn curves(all: &[Measured<'_>], args: &StepArgs) -> Vec<CostCurve> {
    let curve = |name: String, growth: Growth, which: &dyn Fn(&Measured<'_>) -> bool| CostCurve {
        name,
        growth,
        points: all.iter().filter(|one| which(one)).map(Measured::cost).collect(),
    };
    let networks = args.model.iter().filter(|_| args.batch_size.len() > 1);
    let batches = args.batch_size.iter().filter(|_| args.model.len() > 1);
    let networks =
        networks.map(|model| curve(model.clone(), Growth::Batch, &|one| one.model == model));
    let batches = batches.map(|batch| {
        let name = format!("batch {batch}");
        curve(name, Growth::Network, &|one| one.batch == *batch as usize)
    });
    networks.chain(batches).collect()
}

impl Measured<'_> {
    /// Billions of multiply-adds, and milliseconds.
    fn cost(&self) -> (f64, f64) {
        (self.macs as f64 / 1e9, 1e3 / self.times.per_s(1.0))
    }

    fn row(&self) -> [String; 8] {
        let [median, spread] = self.times.cells();
        [
            self.model.to_owned(),
            self.batch.to_string(),
            median,
            spread,
            table::grouped(self.images_per_s.round() as u64),
            format!("{:.3}", self.tflop_per_s),
            format!("{:.0} %", 100.0 * self.limit_share),
            peak_cell(self.peak_bytes),
        ]
    }
}

const PEAK_HEADER: &str = ">peak memory of the process";

fn peak_cell(bytes: Option<u64>) -> String {
    bytes.map_or("?".to_owned(), |bytes| format!("{} MiB", bytes >> 20))
}

/// The most resident memory this process has had, where `/proc` tells.
fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    #[test]
    #[cfg(target_os = "linux")]
    fn the_peak_grows_with_what_is_touched() {
        let before = super::peak_bytes().expect("Linux tells");
        let touched = vec![1u8; 64 << 20];
        let after = super::peak_bytes().expect("Linux tells");
        assert!(after > 64 << 20 && after >= before, "{before} {after} {}", touched[1 << 20]);
    }
}
