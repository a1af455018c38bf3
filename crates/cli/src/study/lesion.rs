//! `residua study lesion`: blocks deleted and swapped.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use residua_data::Split;
use residua_format::Model;
use residua_study::{LesionOptions, Study, Subject, lesion};
use residua_train::EvalOptions;

use crate::arguments::{OpenArgs, PrecisionArg, ThreadArgs, one_of};
use crate::failure::Outcome;
use crate::present::{PresentArgs, prepare, present};
use crate::{model_data, model_file, progress};

/// Delete each block of a trained network in turn and measure the rest (Veit et al. 2016)
///
/// Of a network with shortcuts a block's branch is silenced, so that its shortcut is left. Of a plain
/// network blocks are taken out, and single layers replaced by the identity, where input and output have
/// the same shape; the others are listed. Random sets and swaps are of blocks, and of a plain network's layers
/// too. Nothing is trained after it.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct LesionArgs {
    /// Model file or run folder; several with commas between them are compared
    #[arg(value_name = "MODEL", value_delimiter = ',', required = true)]
    model: Vec<PathBuf>,
    /// Archive, folder, file or synthetic set; `residua --help` lists them
    #[arg(value_name = "DATA")]
    data: String,
    /// Part of DATA to measure on
    #[arg(long, value_name = "SPLIT", default_value = "test",
          value_parser = one_of::<Split>(&["train", "dev", "test"]))]
    split: Split,
    /// Delete random sets of so many blocks (and layers) too; several numbers with commas between them
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',',
          value_parser = clap::value_parser!(u32).range(1..))]
    random: Vec<u32>,
    /// Random sets of each number
    #[arg(long, value_name = "NUMBER", default_value = "5", requires = "random",
          value_parser = clap::value_parser!(u32).range(1..))]
    draws: u32,
    /// Swap neighbouring blocks (and layers) of the same shape too
    #[arg(long)]
    swaps: bool,
    /// Decides the random sets
    #[arg(long, value_name = "NUMBER", default_value = "0")]
    seed: u64,
    /// Images that go through the network together; does not change the result
    #[arg(long, value_name = "NUMBER", default_value = "64",
          value_parser = clap::value_parser!(u32).range(1..=65536))]
    batch_size: u32,
    /// Number format of activations; `auto` is the fastest here
    #[arg(long, value_name = "FORMAT", default_value = "auto", value_parser = PrecisionArg::parser())]
    precision: PrecisionArg,
    #[command(flatten)]
    present: PresentArgs,
    #[command(flatten)]
    threads: ThreadArgs,
    #[command(flatten)]
    open: OpenArgs,
}

const EXAMPLES: &str = "\
Examples:
  residua study lesion runs/resnet56 cifar-10-binary.tar.gz --out studies/lesion
  residua study lesion runs/plain56,runs/resnet56 cifar-10-binary.tar.gz --swaps
  residua study lesion runs/resnet56 cifar-10-binary.tar.gz --random 1,2,4,8 --draws 10 --json";

pub(super) fn run(args: &LesionArgs) -> Result<Outcome> {
    prepare(args.present.out.as_deref(), "lesion")?;
    let models: Vec<Model> =
        args.model.iter().map(|path| model_file::load(path)).collect::<Result<_>>()?;
    let (dataset, _) =
        model_data::open(&args.model[0], &models[0], &args.data, &args.open, args.split)?;
    models[1..].iter().for_each(|model| model_data::note_other_data(model, &dataset));
    let precision = args.precision.resolve()?;
    let options = LesionOptions {
        split: args.split,
        eval: EvalOptions { precision, ..EvalOptions::new(args.batch_size as usize) },
        random: args.random.iter().map(|&number| number as usize).collect(),
        draws: args.draws as usize,
        swaps: args.swaps,
        seed: args.seed,
    };
    let names = names(&args.model, &models);
    let subjects = names.iter().zip(&models).map(|(name, model)| Subject { name, model });
    let subjects: Vec<Subject<'_>> = subjects.collect();
    let found = progress::counting("measuring", |on_progress| {
        args.threads.install(|| lesion(&subjects, &dataset, &options, on_progress))
    })??;
    present(Study::Lesion(found), &args.present)?;
    Ok(Outcome::Done)
}

/// What models are called: by their architecture, or by their path where that is not enough.
fn names(paths: &[PathBuf], models: &[Model]) -> Vec<String> {
    let name = |model: &Model| model.architecture.name().to_owned();
    let name_of = |(path, model): (&PathBuf, &Model)| {
        let is_same = |other: &&Model| name(other) == name(model);
        match models.iter().filter(is_same).count() {
            1 => name(model),
            _ => without_ending(path),
        }
    };
    paths.iter().zip(models).map(name_of).collect()
}

fn without_ending(path: &Path) -> String {
    // A folder's name may have dots.
    let is_file = path.extension().is_some_and(|ending| ending == "safetensors");
    if is_file { path.with_extension("") } else { path.to_owned() }.display().to_string()
}
