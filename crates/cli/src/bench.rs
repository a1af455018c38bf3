//! `residua bench`: how fast this machine is at it.

mod data;
mod hardware;
mod kernels;
mod step;
mod times;

use anyhow::Result;
use clap::{Args, Subcommand};
use residua_engine::{Mode, PlanOptions, ThreadPool};
use serde::Serialize;
use times::Times;

use crate::arguments::{self, PrecisionArg, ThreadArgs};
use crate::failure::Outcome;
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
  residua bench train --model resnet50 --batch-size 16 --steps 8 --json")]
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
    /// Names of architectures, with commas between them
    #[arg(long, value_name = "NAME", value_delimiter = ',', default_value = "resnet20")]
    model: Vec<String>,
    /// Samples in each step
    #[arg(long, value_name = "NUMBER", default_value = "128",
          value_parser = clap::value_parser!(u32).range(1..))]
    batch_size: u32,
    /// Steps to time, after three to warm up
    #[arg(long, value_name = "NUMBER", default_value = "20",
          value_parser = clap::value_parser!(u32).range(1..))]
    steps: u32,
    /// Number format of activations; `auto` is the fastest here
    #[arg(long, value_name = "FORMAT", default_value = "auto", value_parser = PrecisionArg::parser())]
    precision: PrecisionArg,
    /// Print JSON, one object in each line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    threads: ThreadArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Task {
    Train,
    Infer,
}

impl Task {
    fn mode(self) -> Mode {
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
    /// The most memory the process has had so far; unknown where the system doesn't tell.
    peak_bytes: Option<u64>,
}

fn run(task: Task, args: &StepArgs) -> Result<Outcome> {
    let batch = args.batch_size as usize;
    let options = PlanOptions {
        mode: task.mode(),
        precision: args.precision.resolve()?,
        ..PlanOptions::train(batch)?
    };
    let pool = ThreadPool::new(args.threads.number())?;
    let header = ["Network", ">ms a step", ">10–90 %", ">images/s", ">TFLOP/s", PEAK_HEADER];
    let mut rows = table::new(header);
    for name in &args.model {
        let architecture = arguments::named_architecture(name, &Default::default(), None, None)?;
        let graph = architecture.to_graph()?;
        let mut step = step::Step::new(&architecture, &graph, &options)?;
        let times = Times::of(pool.install(|| step.times(args.steps as usize)));
        let flops = 2 * task.passes() * graph.total_macs() * batch as u64;
        let measured = Measured {
            task,
            model: name,
            batch,
            precision: options.precision.to_string(),
            isa: options.isa.to_string(),
            threads: pool.num_threads(),
            steps: args.steps as usize,
            times,
            images_per_s: times.per_s(batch as f64),
            tflop_per_s: times.per_s(flops as f64) / 1e12,
            peak_bytes: peak_bytes(),
        };
        if args.json {
            output::json_line(&measured)?;
        } else {
            rows.add_row(measured.row());
        }
    }
    if !args.json {
        output::line(table::text(&rows))?;
        output::line(format_args!(
            "batch {batch}, {}, {}, {} threads, medians of {} steps",
            options.precision,
            options.isa,
            pool.num_threads(),
            args.steps
        ))?;
    }
    Ok(Outcome::Done)
}

impl Measured<'_> {
    fn row(&self) -> [String; 6] {
        let [median, spread] = self.times.cells();
        [
            self.model.to_owned(),
            median,
            spread,
            table::grouped(self.images_per_s.round() as u64),
            format!("{:.3}", self.tflop_per_s),
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
