//! `residua data export`: a dataset as a folder of PNGs.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use residua_data::Split;

use super::SourceArgs;
use crate::failure::Outcome;
use crate::{output, progress, table};

/// Write the images of a dataset as PNGs under DIR/train, DIR/val and DIR/test
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// Folder that is new or empty
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

const EXAMPLES: &str = "\
Examples:
  residua data export synthetic:shapes shapes/
  residua data export 'synthetic:shapes?train=500&dev=100&test=100&seed=7' few-shapes/
  residua data export cifar-10-binary.tar.gz cifar10/";

pub(crate) fn run(args: &ExportArgs) -> Result<Outcome> {
    let dataset = progress::open(&args.source.data, &args.source.options())?;
    progress::while_doing("writing", |on_progress| {
        residua_data::export_image_folder(&dataset, &args.folder, on_progress)
    })?;
    let total = Split::ALL.iter().map(|&split| dataset.len(split)).sum();
    output::line(format_args!("{} in {}", table::count(total, "image"), args.folder.display()))?;
    Ok(Outcome::Done)
}
