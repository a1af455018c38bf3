//! `residua study gradients`: gradients over depth and between neighbouring inputs.

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, bail};
use clap::Args;
use residua_data::Dataset;
use residua_graph::Shape;
use residua_resnet::Architecture;
use residua_study::{
    GradientOptions, GradientStudy, GradientSubject, GradientTraining, RunState, Study, StudyRun,
    gradients,
};
use residua_train::{Length, Recipe, RunOptions, kept_models};

use crate::arguments::{OpenArgs, ThreadArgs, default_precision};
use crate::failure::Outcome;
use crate::inspect::{looks_like_path, read_toml};
use crate::present::{PresentArgs, prepare, present};
use crate::train::short_name;
use crate::{interrupt, model_file, progress, study_runs};

/// Measure gradients over depth, and how alike they are at neighbouring inputs
///
/// For each network: the norm of the loss's gradient at the input of each block, and the correlation of
/// the gradients at inputs on the line between two samples ("shattered gradients", Balduzzi et al. 2017).
/// A name stands for a network as it is initialised, a model file or run folder for a trained one.
/// Batch norms take the batch's statistics, as in training. With --steps the named networks are trained,
/// and measured on the way.
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
    /// Train the networks for so many steps, and measure them at the start, three times on the way, and at
    /// the end
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    steps: Option<u64>,
    /// Learning rate of these steps [default: what suits DATA]
    #[arg(long, value_name = "RATE", requires = "steps")]
    lr: Option<f64>,
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
  residua study gradients cifar-10-binary.tar.gz --model runs/first --out studies/gradients
  residua study gradients cifar-10-binary.tar.gz --model resnet56,plain56 --steps 500";

/// Models that are kept of a training, the last one aside.
const NUM_KEPT: u64 = 4;

pub(crate) fn run(args: &GradientsArgs) -> Result<Outcome> {
    prepare(args.present.out.as_deref(), "gradients")?;
    let dataset = Arc::new(progress::open(&args.data, &args.open.options())?);
    let subjects: Vec<GradientSubject> =
        args.model.iter().map(|name| subject(name, &dataset)).collect::<Result<_>>()?;
    let options = GradientOptions {
        batch_size: args.batch_size as usize,
        num_points: args.points as usize,
        num_seeds: args.seeds.into(),
    };
    let Some(steps) = args.steps else {
        let found = measure(args, &subjects, &dataset, &options)?;
        present(Study::Gradients(found), &args.present)?;
        return Ok(Outcome::Done);
    };
    let folder = args.present.out.clone().unwrap_or_else(|| {
        Path::new("runs").join(format!("gradients-{}", short_name(dataset.name())))
    });
    let runs = runs(args, &subjects, &dataset, steps, &folder)?;
    let keep_every = NonZeroU64::new(steps.div_ceil(NUM_KEPT));
    let run_options = RunOptions { keep_every, ..args.threads.run_options() };
    let stop = interrupt::stop_flag()?;
    if !study_runs::carry_out(&runs, &dataset, run_options, &stop)? {
        return Ok(Outcome::Interrupted);
    }
    let moments: Vec<Vec<_>> =
        runs.iter().map(|run| moments(run, &dataset)).collect::<Result<_>>()?;
    let moments = moments.concat();
    let found = measure(args, &moments, &dataset, &options)?;
    let Recipe { lr, batch_size, precision, .. } = runs[0].recipe;
    let precision = Some(precision.to_string());
    let training = Some(GradientTraining { steps, lr, batch_size, precision });
    let present_args = PresentArgs { out: Some(folder), ..args.present.clone() };
    present(Study::Gradients(GradientStudy { training, ..found }), &present_args)?;
    Ok(Outcome::Done)
}

fn measure(
    args: &GradientsArgs,
    subjects: &[GradientSubject],
    dataset: &Arc<Dataset>,
    options: &GradientOptions,
) -> Result<GradientStudy> {
    Ok(progress::counting("measuring", |on_progress| {
        args.threads.install(|| gradients(subjects, dataset, options, on_progress))
    })??)
}

/// The trainings of networks as they are initialised.
fn runs(
    args: &GradientsArgs,
    subjects: &[GradientSubject],
    dataset: &Dataset,
    steps: u64,
    folder: &Path,
) -> Result<Vec<StudyRun>> {
    let precision = default_precision(dataset.kind())?;
    let run = |subject: &GradientSubject| {
        let architecture = match subject {
            GradientSubject::Initial(architecture) => architecture,
            GradientSubject::Trained { name, .. } | GradientSubject::OnTheWay { name, .. } => {
                bail!(
                    "{name} is a trained model here, and --steps trains networks from their initial \
                 weights: expected names of architectures that are no folders here, or .toml files"
                )
            }
        };
        let recipe =
            Recipe::new(args.data.clone(), args.open.options(), dataset, architecture.clone());
        let lr = args.lr.unwrap_or(recipe.lr);
        let recipe = Recipe { lr, precision, length: Length::Steps(steps), ..recipe };
        Ok(StudyRun::new(folder.join(architecture.name()), recipe))
    };
    subjects.iter().map(run).collect()
}

/// The network of a run as it was on the way and at the end, as far as it came.
fn moments(run: &StudyRun, dataset: &Dataset) -> Result<Vec<GradientSubject>> {
    let mut paths: Vec<PathBuf> =
        kept_models(&run.folder)?.into_iter().map(|(_, path)| path).collect();
    if let RunState::Finished(_) = run.state(dataset)? {
        paths.push(run.folder.clone());
    }
    let moment = |path: &PathBuf| {
        let model = Box::new(model_file::load(path)?);
        let name = model.architecture.name().to_owned();
        Ok(GradientSubject::OnTheWay { name, model })
    };
    paths.iter().map(moment).collect()
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
