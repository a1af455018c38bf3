//! `residua data`: what a dataset holds.

mod check;
mod export;
mod info;

use anyhow::Result;
use clap::{Args, Subcommand};
use residua_data::{OpenOptions, Report};

use crate::arguments::OpenArgs;
use crate::failure::Outcome;
use crate::progress;

/// Look at datasets, check them, export built-in ones
#[derive(Debug, Subcommand)]
pub(crate) enum DataCommand {
    Info(info::InfoArgs),
    Check(check::CheckArgs),
    Export(export::ExportArgs),
}

impl DataCommand {
    pub(crate) fn run(self) -> Result<Outcome> {
        match self {
            Self::Info(args) => info::run(&args),
            Self::Check(args) => check::run(&args),
            Self::Export(args) => export::run(&args),
        }
    }
}

/// A dataset to look at.
#[derive(Debug, Args)]
pub(crate) struct SourceArgs {
    /// Archive, folder, file or synthetic set; `residua --help` lists them
    #[arg(value_name = "DATA")]
    data: String,
    /// Height and width fed to the network [default: the images' own if small, else 224]
    #[arg(long, value_name = "PIXELS")]
    image_size: Option<usize>,
    #[command(flatten)]
    open: OpenArgs,
}

impl SourceArgs {
    fn options(&self) -> OpenOptions {
        OpenOptions { image_size: self.image_size, ..self.open.options() }
    }

    /// Looks at every sample.
    fn check(&self) -> Result<Report> {
        progress::while_checking(|on_progress| {
            residua_data::check(&self.data, &self.options(), on_progress)
        })
    }
}
