//! `residua inspect --identity`: how near the blocks of a network are to passing their input on.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Args;
use residua_data::Split;
use residua_study::{IdentityOptions, Study, identity, identity_of_weights};

use crate::arguments::{OpenArgs, ThreadArgs, one_of};
use crate::present::{PresentArgs, prepare, present};
use crate::{model_data, model_file};

#[derive(Debug, Args)]
#[command(next_help_heading = "With --identity")]
pub(super) struct IdentityArgs {
    /// Part of DATA to measure on
    #[arg(long, value_name = "SPLIT", default_value = "dev", requires = "identity",
          value_parser = one_of::<Split>(&["train", "dev", "test"]))]
    split: Split,
    /// Samples to measure on, from the first
    #[arg(long, value_name = "NUMBER", default_value = "256", requires = "identity",
          value_parser = clap::value_parser!(u32).range(1..))]
    samples: u32,
    /// Folder for the record and the plots, which `residua report` takes
    #[arg(long, value_name = "DIR", requires = "identity")]
    out: Option<PathBuf>,
    #[command(flatten)]
    open: OpenArgs,
}

impl IdentityArgs {
    pub(super) fn show(
        &self,
        path: &Path,
        data: Option<&str>,
        threads: ThreadArgs,
        json: bool,
    ) -> Result<()> {
        if path.extension().is_some_and(|ending| ending == "toml") {
            bail!("{}: has no weights, expected a model file or run folder", path.display());
        }
        prepare(self.out.as_deref(), "identity")?;
        let model = model_file::load(path)?;
        let found = match data {
            None => identity_of_weights(&model)?,
            Some(data) => {
                let (dataset, _) = model_data::open(path, &model, data, &self.open, self.split)?;
                let options =
                    IdentityOptions { split: self.split, num_samples: self.samples as usize };
                threads.install(|| identity(&model, &dataset, &options))??
            }
        };
        present(Study::Identity(found), &PresentArgs { out: self.out.clone(), json })
    }
}
