//! `residua study`: why residual networks work, measured.

mod gradients;
mod identity_task;
mod lesion;

use anyhow::Result;
use clap::Subcommand;

use crate::failure::Outcome;

/// Measure why residual networks work: lost blocks, gradients, learning the identity
#[derive(Debug, Subcommand)]
pub(crate) enum StudyCommand {
    Lesion(lesion::LesionArgs),
    Gradients(gradients::GradientsArgs),
    IdentityTask(identity_task::IdentityTaskArgs),
}

impl StudyCommand {
    pub(crate) fn run(&self) -> Result<Outcome> {
        match self {
            Self::Lesion(args) => lesion::run(args),
            Self::Gradients(args) => gradients::run(args),
            Self::IdentityTask(args) => identity_task::run(args),
        }
    }
}
