//! `residua convert`: shortcuts on or off a trained network.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use residua_data::Split;
use residua_resnet::{add_shortcuts, strip_shortcuts};
use residua_study::changed_model;

use crate::arguments::{OpenArgs, ThreadArgs, one_of};
use crate::failure::Outcome;
use crate::verify::{Changed, verify};
use crate::{model_file, verify};

/// Turn a trained plain network into a residual one with the same weights, or the other way round
///
/// Weights and running statistics stay as they are, what the network computes does not: it is where
/// training may go on, and --verify shows how well it does as it is. Added shortcuts have no parameters;
/// learned ones that are stripped are lost.
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
      --verify cifar-10-binary.tar.gz";

pub(crate) fn run(args: &ConvertArgs) -> Result<Outcome> {
    if args.out.is_dir() {
        bail!("{}: is a folder, expected a file to write the model to", args.out.display());
    }
    let model = model_file::load(&args.model)?;
    let convert = if args.direction.add_shortcuts { add_shortcuts } else { strip_shortcuts };
    let changed = convert(&model.architecture, &model.weights)?;
    let converted = changed_model(&model, &changed);
    let open = |data| verify::open(data, &args.open, args.split);
    let dataset = args.verify.as_deref().map(open).transpose()?;
    converted.save(&args.out)?;
    let models = [&model, &converted];
    let verified = match &dataset {
        Some(dataset) => verify(models, dataset, args.split, args.threads)?,
        None => Vec::new(),
    };
    Changed::new(models, &args.out, &verified).print(args.split, args.json)?;
    Ok(Outcome::Done)
}
