//! `residua data`: what a dataset holds.

mod info;

use anyhow::Result;
use clap::Subcommand;

use crate::failure::Outcome;

/// Look at datasets, check them, export built-in ones
#[derive(Debug, Subcommand)]
pub(crate) enum DataCommand {
    Info(info::InfoArgs),
}

impl DataCommand {
    pub(crate) fn run(self) -> Result<Outcome> {
        match self {
            Self::Info(args) => info::run(&args),
        }
    }
}
