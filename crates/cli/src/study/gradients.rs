//! `residua study gradients`: gradients over depth and between neighbouring inputs.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use clap::Args;
use residua_data::Dataset;
use residua_graph::Shape;
use residua_resnet::Architecture;
use residua_study::{GradientOptions, GradientSubject, Study, gradients};

use crate::arguments::{OpenArgs, ThreadArgs};
use crate::failure::Outcome;
use crate::inspect::{looks_like_path, read_toml};
use crate::present::{PresentArgs, present};
use crate::{model_file, progress};

/// Measure gradients over depth, and how alike they are at neighbouring inputs
///
/// For each network: the norm of the loss's gradient at the input of each block, and the correlation of
/// the gradients at inputs on the line between two samples ("shattered gradients", Balduzzi et al. 2017).
/// A name stands for a network as it is initialised, a model file or run folder for a trained one.
/// Batch norms take the batch's statistics, as in training.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct GradientsArgs {
    /// Archive, folder, file or synthetic set; `residua --help` lists them
    #[arg(value_name = "DATA")]
    data: String,
    /// Names of architectures, .toml files, model files or run folders, with commas between them
    #[arg(long, value_name = "NETWORK", value_delimiter = ',', default_value = "resnet20,plain20")]
    model: Vec<String>,
    /// Training samples of which the loss is taken
    #[arg(long, value_name = "NUMBER", default_value = "64",
          value_parser = clap::value_parser!(u32).range(2..=65536))]
    batch_size: u32,
    /// Inputs on the line between two samples
    #[arg(long, value_name = "NUMBER", default_value = "64",
          value_parser = clap::value_parser!(u32).range(17..=65536))]
    points: u32,
    /// Repetitions, with other initial weights, samples and projections
    #[arg(long, value_name = "NUMBER", default_value = "1",
          value_parser = clap::value_parser!(u32).range(1..))]
    seeds: u32,
    #[command(flatten)]
    present: PresentArgs,
    #[command(flatten)]
    threads: ThreadArgs,
    #[command(flatten)]
    open: OpenArgs,
}

const EXAMPLES: &str = "\
Examples:
  residua study gradients cifar-10-binary.tar.gz
  residua study gradients cifar-10-binary.tar.gz --model resnet20,plain20,plain20-no-norm --seeds 3
  residua study gradients cifar-10-binary.tar.gz --model runs/first --out studies/gradients";

pub(crate) fn run(args: &GradientsArgs) -> Result<Outcome> {
    let dataset = Arc::new(progress::open(&args.data, &args.open.options())?);
    let subjects: Vec<GradientSubject> =
        args.model.iter().map(|name| subject(name, &dataset)).collect::<Result<_>>()?;
    let options = GradientOptions {
        batch_size: args.batch_size as usize,
        num_points: args.points as usize,
        num_seeds: args.seeds.into(),
    };
    let found = args.threads.install(|| gradients(&subjects, &dataset, &options))??;
    present(Study::Gradients(found), &args.present)?;
    Ok(Outcome::Done)
}

/// A network of the dataset's shape and classes, or a trained one.
fn subject(name: &str, dataset: &Dataset) -> Result<GradientSubject> {
    let path = Path::new(name);
    if name.ends_with(".toml") {
        return Ok(GradientSubject::Initial(read_toml(path)?));
    }
    if path.exists() || looks_like_path(name) {
        let model = Box::new(model_file::load(path)?);
        return Ok(GradientSubject::Trained { name: name.to_owned(), model });
    }
    let [c, h, w] = dataset.sample_shape();
    let architecture = Architecture::named(name, Shape::image(c, h, w), dataset.classes().len())?;
    Ok(GradientSubject::Initial(architecture))
}
