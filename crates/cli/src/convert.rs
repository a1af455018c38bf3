//! `residua convert`: shortcuts on or off a trained network.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;
use residua_data::Split;
use residua_resnet::{add_shortcuts, strip_shortcuts};
use residua_study::{Change, Changed, changed_model};

use crate::arguments::{OpenArgs, ThreadArgs, one_of};
use crate::failure::Outcome;
use crate::fine_tune::{FineTuneArgs, FineTuning};
use crate::verify::{changed, show, verify};
use crate::{model_data, model_file, present};

/// Turn a trained plain network into a residual one with the same weights, or the other way round
///
/// Weights and running statistics stay as they are, what the network computes does not: it is where
/// training may go on. --verify shows how well it does as it is, and with --fine-tune-steps how well after a
/// little training, which then is in the file. Added shortcuts have no parameters; learned ones that are
/// stripped are lost.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct ConvertArgs {
    /// Model file or run folder
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    #[command(flatten)]
    direction: Direction,
    /// Model file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Measure both networks on this data, in f32 and bf16
    #[arg(long, value_name = "DATA")]
    verify: Option<String>,
    /// Part of the data to measure them on
    #[arg(long, value_name = "SPLIT", default_value = "test",
          value_parser = one_of::<Split>(&["train", "dev", "test"]))]
    split: Split,
    #[command(flatten)]
    fine_tune: FineTuneArgs,
    /// Folder for a record of the comparison with a plot, which `residua report` takes
    #[arg(long, value_name = "DIR", requires = "verify")]
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
struct Direction {
    /// Put shortcuts without parameters around the blocks of a plain network
    #[arg(long)]
    add_shortcuts: bool,
    /// Take the shortcuts off
    #[arg(long)]
    strip_shortcuts: bool,
}

const EXAMPLES: &str = "\
Examples:
  residua convert --add-shortcuts runs/plain20 --out resnet20.safetensors
  residua convert --strip-shortcuts runs/resnet20 --out plain20.safetensors \\
      --verify cifar-10-binary.tar.gz --fine-tune-steps 400";

pub(crate) fn run(args: &ConvertArgs) -> Result<Outcome> {
    model_file::prepare_out(&args.out)?;
    present::prepare(args.record.as_deref(), "changed")?;
    let model = model_file::load(&args.model)?;
    let (change, network) = match args.direction.add_shortcuts {
        true => (Change::ShortcutsAdded, add_shortcuts(&model.architecture, &model.weights)?),
        false => (Change::ShortcutsStripped, strip_shortcuts(&model.architecture, &model.weights)?),
    };
    let mut converted = changed_model(&model, &network);
    let Some(data) = &args.verify else {
        ensure!(!args.fine_tune.is_asked_for(), "--fine-tune-steps trains on the data of --verify");
        converted.save(&args.out)?;
        let changed = changed(change, [&model, &converted], &args.out, None, args.split);
        show(changed, None, args.json)?;
        return Ok(Outcome::Done);
    };
    let (dataset, open) = model_data::open(&args.model, &model, data, &args.open, args.split)?;
    let verified = verify([&model, &converted], &dataset, args.split, args.threads)?;
    let mut tuned = None;
    if args.fine_tune.is_asked_for() {
        let tuning = FineTuning {
            from: &args.model,
            before: &model,
            data,
            open,
            dataset: &dataset,
            threads: args.threads,
            folder: args.out.with_extension("run"),
        };
        let Some((trained, errors)) = args.fine_tune.train(&converted, tuning)? else {
            return Ok(Outcome::Interrupted);
        };
        (converted, tuned) = (trained, Some(errors));
    }
    converted.save(&args.out)?;
    let changed = changed(change, [&model, &converted], &args.out, Some(&dataset), args.split);
    show(Changed { verified, tuned, ..changed }, args.record.as_deref(), args.json)?;
    Ok(Outcome::Done)
}
