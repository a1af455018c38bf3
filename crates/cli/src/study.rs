//! `residua study`: why residual networks work.

mod lesion;

use anyhow::Result;
use clap::Subcommand;

use crate::failure::Outcome;

/// Study trained networks: what becomes of them without some of their blocks
#[derive(Debug, Subcommand)]
pub(crate) enum StudyCommand {
    Lesion(lesion::LesionArgs),
}

impl StudyCommand {
    pub(crate) fn run(&self) -> Result<Outcome> {
        match self {
            Self::Lesion(args) => lesion::run(args),
        }
    }
}
