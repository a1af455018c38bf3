//! The flags that decide the result of a run.

use std::path::Path;

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use residua_data::{Dataset, Kind, OpenOptions};
use residua_graph::Shape;
use residua_resnet::{Architecture, Init};
use residua_train::{EarlyImages, Length, MuonOptions, Recipe, Schedule};

use crate::arguments::{
    ArchitectureArgs, InputArgs, PrecisionArg, default_precision, on_or_off, one_of,
};
use crate::inspect::read_toml;

/// Everything that decides the result.
#[derive(Debug, Args)]
pub(crate) struct RecipeArgs {
    /// Name of an architecture or a .toml file with one [default: resnet20 for small images,
    /// resnet18 for photographs, dense-resnet for vectors]
    #[arg(long, value_name = "NAME", help_heading = "Network")]
    model: Option<String>,
    #[command(flatten)]
    architecture: ArchitectureArgs,
    #[command(flatten)]
    training: TrainingArgs,
    /// Weight decay [default: 5e-4 for small images, else 1e-4]
    #[arg(long, value_name = "RATE", help_heading = "Optimisation")]
    weight_decay: Option<f64>,
    /// Decides the initial weights, the order of the samples and their augmentation [default: 0]
    #[arg(long, value_name = "NUMBER", help_heading = "Optimisation")]
    seed: Option<u64>,
}

/// What decides the result, but for the network, the weight decay and the seed, of which a comparison
/// has several.
#[derive(Debug, Args)]
pub(crate) struct TrainingArgs {
    /// Initial weights of convolutions [default: kaiming-fan-out]
    #[arg(long, value_name = "KIND", help_heading = "Network",
          value_parser = one_of::<Init>(&["kaiming-fan-out", "kaiming-fan-in", "dirac"]))]
    init: Option<Init>,
    /// Start every residual block as its shortcut
    #[arg(long, help_heading = "Network")]
    zero_init_residual: bool,
    /// Start the first convolution with filters that whiten the patches of the training images
    #[arg(long, help_heading = "Network")]
    whiten_stem: bool,
    /// Leave the first layer's weights as they are at the start
    #[arg(long, help_heading = "Network")]
    freeze_stem: bool,

    #[command(flatten)]
    input: InputArgs,
    /// Height and width of the images in the first part of the run, which takes less time so
    #[arg(long, value_name = "PIXELS", help_heading = "Data")]
    early_image_size: Option<usize>,
    /// That part's share of the steps [default: 0.5]
    #[arg(long, value_name = "SHARE", help_heading = "Data", requires = "early_image_size")]
    early_share: Option<f64>,

    /// Passes over the training set [default: 30, or 100 for vectors]
    #[arg(long, value_name = "NUMBER", help_heading = "Length", conflicts_with = "steps")]
    epochs: Option<u64>,
    /// Updates of the weights, instead of epochs
    #[arg(long, value_name = "NUMBER", help_heading = "Length")]
    steps: Option<u64>,
    /// Steps between evaluations on the dev set [default: one epoch]
    #[arg(long, value_name = "STEPS", help_heading = "Length")]
    eval_every: Option<u64>,
    /// Steps between checkpoints [default: one epoch]
    #[arg(long, value_name = "STEPS", help_heading = "Length")]
    checkpoint_every: Option<u64>,

    /// Samples in each step [default: 128, or 32 for photographs; at most a quarter of the training set]
    #[arg(long, value_name = "NUMBER", help_heading = "Optimisation")]
    batch_size: Option<usize>,
    /// Learning rate, the highest one of one-cycle [default: 0.1, or 0.025 for photographs]
    #[arg(long, value_name = "RATE", help_heading = "Optimisation")]
    lr: Option<f64>,
    /// Learning rate of the last layer, as a multiple of the others' [default: 1]
    #[arg(long, value_name = "FACTOR", help_heading = "Optimisation")]
    head_lr: Option<f64>,
    /// How the learning rate changes [default: one-cycle]
    #[arg(long, value_enum, value_name = "KIND", help_heading = "Optimisation")]
    schedule: Option<ScheduleKind>,
    /// Steps at which the step schedule multiplies the learning rate by --gamma
    #[arg(
        long,
        value_name = "STEPS",
        help_heading = "Optimisation",
        value_delimiter = ',',
        required_if_eq("schedule", "step")
    )]
    milestones: Option<Vec<u64>>,
    /// Factor of each drop of the step schedule [default: 0.1]
    #[arg(long, value_name = "FACTOR", help_heading = "Optimisation", requires = "milestones")]
    gamma: Option<f64>,
    /// Steps over which the learning rate rises to the schedule's [default: 0]
    #[arg(long, value_name = "STEPS", help_heading = "Optimisation")]
    warmup_steps: Option<u64>,
    /// Momentum of SGD [default: 0.9]
    #[arg(long, value_name = "SHARE", help_heading = "Optimisation")]
    momentum: Option<f64>,
    /// Nesterov's momentum
    #[arg(long, help_heading = "Optimisation")]
    nesterov: bool,
    /// Update the weights of all layers but the first and the last by Muon, the rest by SGD
    #[arg(long, help_heading = "Optimisation")]
    muon: bool,
    /// Learning rate of Muon, as a multiple of SGD's [default: 0.2]
    #[arg(long, value_name = "FACTOR", help_heading = "Optimisation")]
    muon_lr: Option<f64>,
    /// Momentum of Muon [default: 0.6]
    #[arg(long, value_name = "SHARE", help_heading = "Optimisation")]
    muon_momentum: Option<f64>,
    /// Weight decay of Muon, taken off the weights themselves [default: 0.06]
    #[arg(long, value_name = "RATE", help_heading = "Optimisation")]
    muon_weight_decay: Option<f64>,
    /// Whether biases decay [default: on]
    #[arg(long, value_name = "ON|OFF", help_heading = "Optimisation",
          num_args = 0..=1, default_missing_value = "on", value_parser = on_or_off())]
    decay_bias: Option<bool>,
    /// Whether weights and biases of batch norms decay [default: on]
    #[arg(long, value_name = "ON|OFF", help_heading = "Optimisation",
          num_args = 0..=1, default_missing_value = "on", value_parser = on_or_off())]
    decay_norm: Option<bool>,
    /// Share of the target that is spread over all classes [default: 0]
    #[arg(long, value_name = "SHARE", help_heading = "Optimisation")]
    label_smoothing: Option<f64>,
    /// Largest norm of the gradients; longer ones are scaled down to it [default: no limit]
    #[arg(long, value_name = "NORM", help_heading = "Optimisation")]
    clip_grad_norm: Option<f64>,
    /// Evaluate with the mean of the outputs for an image and its mirror image
    #[arg(long, help_heading = "Optimisation")]
    test_time_flips: bool,
    /// Evaluate with the mean of the outputs for an image and two shifts of it by a pixel
    #[arg(long, help_heading = "Optimisation")]
    test_time_shifts: bool,
    /// Number format of activations; `auto` is the fastest here [default: auto for images, f32 for
    /// vectors]
    #[arg(long, value_name = "FORMAT", help_heading = "Optimisation",
          value_parser = PrecisionArg::parser())]
    precision: Option<PrecisionArg>,
}

/// How the learning rate changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ScheduleKind {
    /// The same throughout
    Constant,
    /// Divided by 10 at half and at three quarters of the steps (He et al. 2015)
    Paper,
    /// Multiplied by --gamma at each of --milestones
    Step,
    /// Along a line down to 0
    Linear,
    /// Half a cosine down to 0
    Cosine,
    /// Up for 30 % of the steps, then down to almost 0
    OneCycle,
}

impl TrainingArgs {
    /// What suits the dataset and the network, with what is set here.
    pub(crate) fn recipe(
        &self,
        data: String,
        open: OpenOptions,
        dataset: &Dataset,
        architecture: Architecture,
    ) -> Result<Recipe> {
        let precision = default_precision(dataset.kind())?;
        self.apply(Recipe { precision, ..Recipe::new(data, open, dataset, architecture) })
    }

    /// Changes how the dataset is opened.
    pub(crate) fn apply_open(&self, open: &mut OpenOptions) {
        self.input.apply_open(open);
    }

    /// Changes what is set here.
    pub(crate) fn apply(&self, recipe: Recipe) -> Result<Recipe> {
        let epochs = self.epochs.map(Length::Epochs);
        let share = self.early_share.or(recipe.early_images.map(|early| early.share));
        let early_images =
            self.early_image_size.map(|size| EarlyImages { size, share: share.unwrap_or(0.5) });
        let precision = self.precision.map(PrecisionArg::resolve).transpose()?;
        Ok(Recipe {
            batch_size: self.batch_size.unwrap_or(recipe.batch_size),
            lr: self.lr.unwrap_or(recipe.lr),
            head_lr: self.head_lr.unwrap_or(recipe.head_lr),
            momentum: self.momentum.unwrap_or(recipe.momentum),
            nesterov: self.nesterov || recipe.nesterov,
            decay_bias: self.decay_bias.unwrap_or(recipe.decay_bias),
            decay_norm: self.decay_norm.unwrap_or(recipe.decay_norm),
            warmup_steps: self.warmup_steps.unwrap_or(recipe.warmup_steps),
            label_smoothing: self.label_smoothing.unwrap_or(recipe.label_smoothing),
            clip_grad_norm: self.clip_grad_norm.or(recipe.clip_grad_norm),
            precision: precision.unwrap_or(recipe.precision),
            init: self.init.unwrap_or(recipe.init),
            zero_init_residual: self.zero_init_residual || recipe.zero_init_residual,
            whiten_stem: self.whiten_stem || recipe.whiten_stem,
            freeze_stem: self.freeze_stem || recipe.freeze_stem,
            muon: self.muon(recipe.muon)?,
            eval_every: self.eval_every.or(recipe.eval_every),
            checkpoint_every: self.checkpoint_every.or(recipe.checkpoint_every),
            test_time_flips: self.test_time_flips || recipe.test_time_flips,
            test_time_shifts: self.test_time_shifts || recipe.test_time_shifts,
            schedule: self.schedule(recipe.schedule)?,
            length: self.steps.map(Length::Steps).or(epochs).unwrap_or(recipe.length),
            augment: self.input.augment.unwrap_or(recipe.augment),
            early_images: early_images.or(recipe.early_images),
            ..recipe
        })
    }

    fn muon(&self, before: Option<MuonOptions>) -> Result<Option<MuonOptions>> {
        let options = [self.muon_lr, self.muon_momentum, self.muon_weight_decay];
        let Some(before) = before.or(self.muon.then(MuonOptions::default)) else {
            ensure!(
                options.iter().all(Option::is_none),
                "--muon-lr, --muon-momentum and --muon-weight-decay go with --muon"
            );
            return Ok(None);
        };
        Ok(Some(MuonOptions {
            lr: self.muon_lr.unwrap_or(before.lr),
            momentum: self.muon_momentum.unwrap_or(before.momentum),
            weight_decay: self.muon_weight_decay.unwrap_or(before.weight_decay),
        }))
    }

    fn schedule(&self, before: Schedule) -> Result<Schedule> {
        let is_step = match self.schedule {
            None => matches!(before, Schedule::Step { .. }),
            Some(kind) => kind == ScheduleKind::Step,
        };
        ensure!(
            is_step || self.milestones.is_none(),
            "--milestones and --gamma go with --schedule step"
        );
        let gamma = match (self.gamma, &before) {
            (None, Schedule::Step { gamma, .. }) => *gamma,
            (gamma, _) => gamma.unwrap_or(0.1),
        };
        Ok(match (self.schedule, &self.milestones) {
            (Some(ScheduleKind::Constant), _) => Schedule::Constant,
            (Some(ScheduleKind::Paper), _) => Schedule::Paper,
            (Some(ScheduleKind::Linear), _) => Schedule::Linear,
            (Some(ScheduleKind::Cosine), _) => Schedule::Cosine,
            (Some(ScheduleKind::OneCycle), _) => Schedule::OneCycle,
            (_, Some(milestones)) => Schedule::Step { milestones: milestones.clone(), gamma },
            (_, None) => before,
        })
    }
}

impl RecipeArgs {
    /// What suits the dataset, with what is set here.
    pub(crate) fn recipe(
        &self,
        data: String,
        open: OpenOptions,
        dataset: &Dataset,
    ) -> Result<Recipe> {
        let name = self.model.as_deref().unwrap_or(match dataset.kind() {
            Kind::SmallImages => "resnet20",
            Kind::ImageFolder => "resnet18",
            Kind::Vectors => "dense-resnet",
        });
        let architecture = self.architecture(name, dataset)?;
        self.of_architecture(data, open, dataset, architecture)
    }

    /// What suits the dataset and a network that is given, with what is set here.
    pub(crate) fn of_architecture(
        &self,
        data: String,
        open: OpenOptions,
        dataset: &Dataset,
        architecture: Architecture,
    ) -> Result<Recipe> {
        Ok(self.apply_own(self.training.recipe(data, open, dataset, architecture)?))
    }

    /// Changes how the dataset is opened.
    pub(crate) fn apply_open(&self, open: &mut OpenOptions) {
        self.training.apply_open(open);
    }

    /// Changes what is set here.
    pub(crate) fn apply(&self, recipe: Recipe, dataset: &Dataset) -> Result<Recipe> {
        let mut recipe = self.training.apply(recipe)?;
        if self.model.is_some() || !self.architecture.is_empty() {
            let name = self.model.as_deref().unwrap_or(recipe.architecture.name());
            recipe.architecture = self.architecture(name, dataset)?;
        }
        Ok(self.apply_own(recipe))
    }

    fn apply_own(&self, recipe: Recipe) -> Recipe {
        Recipe {
            weight_decay: self.weight_decay.unwrap_or(recipe.weight_decay),
            seed: self.seed.unwrap_or(recipe.seed),
            ..recipe
        }
    }

    /// The network, of the dataset's shape and number of classes.
    fn architecture(&self, name: &str, dataset: &Dataset) -> Result<Architecture> {
        if name.ends_with(".toml") {
            ensure!(
                self.architecture.is_empty(),
                "--depth, --width, --shortcut and --no-norm go with a name, not with a .toml file"
            );
            return read_toml(Path::new(name));
        }
        let [c, h, w] = dataset.sample_shape();
        let (input, classes) = (Shape::image(c, h, w), dataset.classes().len());
        Ok(Architecture::named_with(name, input, classes, &self.architecture.options())?)
    }
}
