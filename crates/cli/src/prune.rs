//! `residua prune`: blocks out of a trained network.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use residua_data::Split;
use residua_study::{Limit, PruneOptions, Study, prune};
use residua_train::EvalOptions;

use crate::arguments::{OpenArgs, PrecisionArg, ThreadArgs, one_of};
use crate::failure::Outcome;
use crate::fine_tune::{FineTuneArgs, FineTuning};
use crate::{model_data, model_file, output, present, progress};

/// Remove the blocks of a trained network that matter least
///
/// Each round tries every block whose shortcut is the identity and removes the one without which the
/// error on the dev set is lowest; a stage keeps a block. --fine-tune-steps trains what is left. Exits with 1,
/// and writes no file, if nothing can be removed within the limit.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES, override_usage = USAGE)]
pub(crate) struct PruneArgs {
    /// Model file or run folder
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Archive, folder, file or synthetic set; `residua --help` lists them
    #[arg(value_name = "DATA")]
    data: String,
    #[command(flatten)]
    limit: LimitArgs,
    /// Model file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    fine_tune: FineTuneArgs,
    /// Part of DATA that decides which blocks go
    #[arg(long, value_name = "SPLIT", default_value = "dev",
          value_parser = one_of::<Split>(&["train", "dev", "test"]))]
    split: Split,
    /// Images that go through the network together; does not change the result
    #[arg(long, value_name = "NUMBER", default_value = "64",
          value_parser = clap::value_parser!(u32).range(1..=65536))]
    batch_size: u32,
    /// Number format of activations; `auto` is the fastest here
    #[arg(long, value_name = "FORMAT", default_value = "auto", value_parser = PrecisionArg::parser())]
    precision: PrecisionArg,
    /// Folder for a record with all that was tried, and a plot
    #[arg(long, value_name = "DIR")]
    record: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    threads: ThreadArgs,
    #[command(flatten)]
    open: OpenArgs,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct LimitArgs {
    /// Blocks to remove
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    blocks: Option<u32>,
    /// Remove blocks until the error would be more points higher than at first
    #[arg(long, value_name = "POINTS", value_parser = points)]
    max_error_increase: Option<f64>,
}

const USAGE: &str = "\
residua prune [OPTIONS] --out <FILE> --blocks <NUMBER> <MODEL> <DATA>
       residua prune [OPTIONS] --out <FILE> --max-error-increase <POINTS> <MODEL> <DATA>";

const EXAMPLES: &str = "\
Examples:
  residua prune runs/resnet56 cifar-10-binary.tar.gz --blocks 4 --out smaller.safetensors
  residua prune runs/resnet56 cifar-10-binary.tar.gz --max-error-increase 0.5 \\
      --out smaller.safetensors --record studies/prune
  residua prune runs/resnet56 cifar-10-binary.tar.gz --blocks 8 --fine-tune-steps 2000 \\
      --out smaller.safetensors";

/// Batch sizes of which the time is measured.
const TIMED: [usize; 2] = [1, 64];

fn points(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| (0.0..=100.0).contains(number));
    number.ok_or_else(|| "expected a number from 0 to 100".to_owned())
}

pub(crate) fn run(args: &PruneArgs) -> Result<Outcome> {
    model_file::prepare_out(&args.out)?;
    present::prepare(args.record.as_deref(), "prune")?;
    let model = model_file::load(&args.model)?;
    let (dataset, open) =
        model_data::open(&args.model, &model, &args.data, &args.open, args.split)?;
    let precision = args.precision.resolve()?;
    let options = PruneOptions {
        split: args.split,
        eval: EvalOptions { precision, ..EvalOptions::new(args.batch_size as usize) },
        limit: args.limit.limit(),
        batch_sizes: TIMED.into(),
    };
    let (mut pruned, mut found) = progress::counting("measuring", |on_progress| {
        args.threads.install(|| prune(&model, &dataset, &options, on_progress))
    })??;
    let is_smaller = found.removed().next().is_some();
    if is_smaller && args.fine_tune.is_asked_for() {
        let tuning = FineTuning {
            from: &args.model,
            before: &model,
            data: &args.data,
            open,
            dataset: &dataset,
            threads: args.threads,
            folder: args.out.with_extension("run"),
        };
        let Some(tuned) = args.fine_tune.train(&pruned, tuning)? else {
            return Ok(Outcome::Interrupted);
        };
        found.fine_tuned = Some(tuned.1);
        pruned = tuned.0;
    }
    // First, as printing may fail.
    if is_smaller {
        pruned.save(&args.out)?;
    }
    present::keep(Study::Prune(Box::new(found)), args.record.as_deref(), args.json, "--record")?;
    if is_smaller && !args.json {
        output::line(format_args!("the smaller network is in {}", args.out.display()))?;
    }
    Ok(if is_smaller { Outcome::Done } else { Outcome::No })
}

impl LimitArgs {
    fn limit(&self) -> Limit {
        match (self.blocks, self.max_error_increase) {
            (_, Some(points)) => Limit::ErrorIncrease(points),
            (number, None) => Limit::NumBlocks(number.unwrap_or_default() as usize),
        }
    }
}
