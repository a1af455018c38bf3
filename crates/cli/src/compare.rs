//! `residua compare`: the same training for networks of several depths and families.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use clap::{ArgAction, Args, ValueEnum};
use residua_data::{Dataset, Kind};
use residua_graph::Shape;
use residua_resnet::{Family, Shortcut};
use residua_study::compare::{Comparison, Variants};
use residua_study::{Growth, Study};
use residua_train::{Recipe, RunOptions};

use crate::arguments::{ThreadArgs, on_or_off, one_of};
use crate::failure::Outcome;
use crate::present::{PresentArgs, prepare, present};
use crate::study_runs::{self, Series};
use crate::train::recipe::TrainingArgs;
use crate::train::short_name;
use crate::{interrupt, progress};

/// Train plain networks and their residual twins at growing depth, and compare their errors
///
/// All start from the same weights where their parameters are the same, see the same batches in the
/// same order, and have the same settings. Every run is kept: a comparison that was stopped or killed
/// goes on where it was. To add depths, families or seeds to one that is finished, name those it has and the
/// new ones: only these are trained.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct CompareArgs {
    /// Archive, folder, file or synthetic set; `residua --help` lists them
    #[arg(value_name = "DATA")]
    data: String,
    /// Layers with weights of the networks, with commas between them
    #[arg(
        long,
        value_name = "LAYERS",
        value_delimiter = ',',
        required = true,
        help_heading = "Networks"
    )]
    depths: Vec<usize>,
    /// Families, with commas between them
    #[arg(
        long,
        value_enum,
        value_name = "FAMILIES",
        value_delimiter = ',',
        default_value = "plain,residual",
        help_heading = "Networks"
    )]
    families: Vec<FamilyArg>,
    /// What goes around the blocks of those that are not plain [default: as the names have it]
    #[arg(long, value_name = "KINDS", value_delimiter = ',', help_heading = "Networks",
          value_parser = one_of::<Shortcut>(&["zero-pad", "projection", "projection-all"]))]
    shortcuts: Vec<Shortcut>,
    /// Channels of the first stage; features of fully connected networks
    #[arg(long, value_name = "CHANNELS", help_heading = "Networks")]
    width: Option<usize>,
    /// With batch normalisation, without, or both
    #[arg(long, value_name = "ON|OFF", value_delimiter = ',', default_value = "on",
          action = ArgAction::Append, value_parser = on_or_off(), help_heading = "Networks")]
    norm: Vec<bool>,
    /// Train the shallowest, deepen it, train on and so on, against the deepest from scratch with the same
    /// computation
    #[arg(long, help_heading = "Networks")]
    grow: bool,
    /// Seeds of each network, from 0 on
    #[arg(long, value_name = "NUMBER", default_value = "1",
          value_parser = clap::value_parser!(u64).range(1..), help_heading = "Optimisation")]
    seeds: u64,
    /// Weight decays, with commas between them [default: 5e-4 for small images, else 1e-4]
    #[arg(long, value_name = "RATES", value_delimiter = ',', help_heading = "Optimisation")]
    weight_decay: Vec<f64>,
    #[command(flatten)]
    training: TrainingArgs,
    #[command(flatten)]
    threads: ThreadArgs,
    #[command(flatten)]
    present: PresentArgs,
}

const EXAMPLES: &str = "\
Examples:
  residua compare cifar-10-binary.tar.gz --depths 20,56 --steps 8000 --out runs/depth
  residua compare cifar-10-binary.tar.gz --depths 20,32,44,56 --schedule paper --steps 64000 \\
      --weight-decay 1e-4 --out runs/table-6
  residua compare synthetic:spirals --depths 2,10,30,100 --width 32 --norm on,off --epochs 20
  residua compare cifar-10-binary.tar.gz --grow --depths 8,14,20 --steps 4000
  residua compare synthetic:shapes --depths 20 --families residual --weight-decay 0,1e-4,1e-3
  residua compare cifar-10-binary.tar.gz --depths 20 --families residual --seeds 3 --epochs 10 \\
      --shortcuts zero-pad,projection,projection-all";

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FamilyArg {
    /// Without shortcuts
    Plain,
    /// With shortcuts
    Residual,
    /// With shortcuts, batch norm and ReLU first
    Preact,
}

impl From<FamilyArg> for Family {
    fn from(family: FamilyArg) -> Self {
        match family {
            FamilyArg::Plain => Self::Plain,
            FamilyArg::Residual => Self::Residual,
            FamilyArg::Preact => Self::Preact,
        }
    }
}

pub(crate) fn run(args: &CompareArgs) -> Result<Outcome> {
    let mut open = Default::default();
    args.training.apply_open(&mut open);
    let dataset = Arc::new(progress::open(&args.data, &open)?);
    let networks = args.variants(&dataset).networks()?;
    let Some(first) = networks.first() else { bail!("no network to compare") };
    let architecture = first.architecture.clone();
    let recipe = args.training.recipe(args.data.clone(), open, &dataset, architecture)?;
    let folder = match &args.present.out {
        Some(folder) => folder.clone(),
        None => Path::new("runs").join(format!("compare-{}", short_name(dataset.name()))),
    };
    prepare(Some(&folder), if args.grow { "grown" } else { "compare" })?;
    if args.grow {
        return grow(args, recipe, &dataset, folder);
    }
    let comparison = Comparison {
        networks: args.variants_with_decay(&dataset, &recipe).networks()?,
        recipe,
        seeds: (0..args.seeds).collect(),
        folder: folder.clone(),
    };
    // What is wrong is told before anything is trained.
    comparison.runs().iter().try_for_each(|run| run.recipe.validate())?;
    let stop = interrupt::stop_flag()?;
    let options =
        RunOptions { keep_every: comparison.keep_every(&dataset), ..args.threads.run_options() };
    let ended = study_runs::carry_out(&comparison.runs(), &dataset, options, &stop)?;
    let result = progress::counting("measuring", |on_progress| {
        args.threads.install(|| comparison.result(&dataset, on_progress))
    })??;
    let study = Study::Compare(result);
    present(study, &PresentArgs { out: Some(folder), ..args.present.clone() })?;
    Ok(if ended { Outcome::Done } else { Outcome::Interrupted })
}

/// The residual networks of the depths, one grown out of the other.
fn grow(
    args: &CompareArgs,
    recipe: Recipe,
    dataset: &Arc<Dataset>,
    folder: PathBuf,
) -> Result<Outcome> {
    let mut variants = args.variants(dataset);
    variants.families.retain(|&family| family != Family::Plain);
    variants.families.truncate(1);
    variants.depths.sort_unstable();
    variants.depths.dedup();
    let networks = variants.networks()?;
    let is_one_series = variants.depths.len() > 1 && networks.len() == variants.depths.len();
    ensure!(
        is_one_series && args.seeds == 1 && args.weight_decay.len() <= 1,
        "--grow takes two or more depths of one family with shortcuts, one shortcut, one weight decay and \
         one seed"
    );
    let weight_decay = args.weight_decay.first().copied().unwrap_or(recipe.weight_decay);
    let growth = Growth {
        recipe: Recipe { weight_decay, ..recipe },
        architectures: networks.into_iter().map(|network| network.architecture).collect(),
        folder: folder.clone(),
    };
    let stop = interrupt::stop_flag()?;
    let scratch = growth.scratch()?;
    // The last run's: what is wrong is told before the others are trained.
    scratch.recipe.validate()?;
    // The stages have as many multiply-adds together as the run from scratch.
    let (num_stages, macs) = (growth.architectures.len(), 2.0 * scratch.macs(dataset));
    let options = args.threads.run_options();
    let mut series = Series::new(num_stages + 1, macs, dataset, options, &stop);
    for i in 0..=num_stages {
        let run = match i < num_stages {
            true => growth.run(i, dataset)?.context("the run before diverged: try a lower --lr")?,
            false => scratch.clone(),
        };
        series.know(&run)?;
        if !series.carry_out(&run)? {
            return Ok(Outcome::Interrupted);
        }
    }
    let grown = growth.result(dataset)?.context("a run diverged: try a lower --lr")?;
    present(
        Study::Grown(Box::new(grown)),
        &PresentArgs { out: Some(folder), ..args.present.clone() },
    )?;
    Ok(Outcome::Done)
}

impl CompareArgs {
    fn variants(&self, dataset: &Dataset) -> Variants {
        let [c, h, w] = dataset.sample_shape();
        Variants {
            input: Shape::image(c, h, w),
            classes: dataset.classes().len(),
            dense: dataset.kind() == Kind::Vectors,
            width: self.width,
            families: self.families.iter().copied().map(Family::from).collect(),
            depths: self.depths.clone(),
            shortcuts: self.shortcuts.clone(),
            norms: self.norm.clone(),
            weight_decays: vec![0.0],
        }
    }

    /// With the weight decays that were asked for, or the recipe's.
    fn variants_with_decay(&self, dataset: &Dataset, recipe: &Recipe) -> Variants {
        let weight_decays = match &self.weight_decay[..] {
            [] => vec![recipe.weight_decay],
            decays => decays.to_vec(),
        };
        Variants { weight_decays, ..self.variants(dataset) }
    }
}
