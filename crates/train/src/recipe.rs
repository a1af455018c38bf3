use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use residua_data::{Augment, Dataset, Kind, OpenOptions, Split};
use residua_engine::Precision;
use residua_format::{Model, Provenance, write_whole};
use residua_graph::Weights;
use residua_resnet::{Architecture, Init, InitOptions, Shape, StemKind};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{EvalOptions, Schedule, TrainError};

/// Everything that decides the result of a run, down to the last bit on the same instruction set.
/// As TOML it is the `config.toml` of the run's folder, from which the run can be repeated. What
/// does not change the result (threads, folder) is not in it.
///
/// Optimisation is SGD as in PyTorch: `v ← momentum·v + (g + weight_decay·w)`, `w ← w − lr·v`, or
/// with Nesterov momentum `w ← w − lr·((g + weight_decay·w) + momentum·v)`. Weight decay is applied to
/// every parameter, biases and batch norms included, as in He et al. 2015 and by `torch.optim.SGD`
/// given all parameters; [`decay_bias`](Self::decay_bias) and [`decay_norm`](Self::decay_norm)
/// turn that off. [`muon`](Self::muon) takes the place of SGD for the weights of the layers between the
/// first and the last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The dataset, as [`residua_data::open`] takes it.
    pub data: String,
    /// Decides the initial weights, the order of the samples and their augmentation.
    #[serde(default)]
    pub seed: u64,
    /// Samples in each step.
    pub batch_size: usize,
    /// Learning rate that the schedule starts from; the highest one, for `one-cycle`.
    pub lr: f64,
    /// Learning rate of the head's linear layer as a multiple of the others'. Its weights decay as
    /// fast as the others all the same.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub head_lr: f64,
    /// Momentum.
    #[serde(default = "default_momentum")]
    pub momentum: f64,
    /// Whether the momentum is Nesterov's.
    #[serde(default)]
    pub nesterov: bool,
    /// Weight decay.
    #[serde(default = "default_weight_decay")]
    pub weight_decay: f64,
    /// Whether biases of convolutions and linear layers decay.
    #[serde(default = "yes")]
    pub decay_bias: bool,
    /// Whether weights and biases of batch norms decay.
    #[serde(default = "yes")]
    pub decay_norm: bool,
    /// Steps over which the learning rate rises linearly to the schedule's.
    #[serde(default)]
    pub warmup_steps: u64,
    /// Share of the target that is spread over all classes, as in `torch.nn.CrossEntropyLoss`.
    #[serde(default)]
    pub label_smoothing: f64,
    /// Largest norm of all gradients together; longer ones are scaled down to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip_grad_norm: Option<f64>,
    /// Precision of the computation.
    #[serde(default = "default_precision", with = "precision_name")]
    pub precision: Precision,
    /// Scale of the initial weights.
    #[serde(default)]
    pub init: Init,
    /// Whether each residual block starts as its shortcut.
    #[serde(default)]
    pub zero_init_residual: bool,
    /// Whether the first convolution starts with filters that whiten the patches of the training
    /// images.
    #[serde(default)]
    pub whiten_stem: bool,
    /// Whether the weights of the first convolution, or the first linear layer, stay as they are at the
    /// start.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub freeze_stem: bool,
    /// Steps between evaluations on the dev set; every epoch if not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eval_every: Option<u64>,
    /// Steps between checkpoints; every epoch if not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint_every: Option<u64>,
    /// Whether evaluations take the mean of the outputs for an image and its mirror image.
    #[serde(default)]
    pub test_time_flips: bool,
    /// Whether they take the mean of the outputs for an image and two shifts of it by a pixel.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub test_time_shifts: bool,
    /// SHA-256 of the weights that the run starts from, where those are not initial ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_sha256: Option<String>,
    /// How the learning rate changes.
    pub schedule: Schedule,
    /// How long the run is.
    pub length: Length,
    /// Random changes to the training samples.
    pub augment: Augment,
    /// Muon instead of SGD for the weights of all convolutions and linear operations but the first and the
    /// head's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub muon: Option<MuonOptions>,
    /// Smaller images in the first part of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub early_images: Option<EarlyImages>,
    /// How the dataset is opened.
    #[serde(default)]
    pub open: OpenOptions,
    /// The network.
    pub architecture: Architecture,
}

/// The first part of a run, on smaller images: a step takes less time in proportion to their pixels
/// (progressive resizing; Howard 2018, "Training Imagenet in 3 hours for USD 25; and CIFAR10 for USD 0.26").
/// Evaluations are on images of the full size throughout.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EarlyImages {
    /// Their height and width.
    pub size: usize,
    /// The share of the steps that this part has.
    pub share: f64,
}

/// How Muon updates weights (Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks";
/// `torch.optim.Muon`): by the gradients' momentum with all its singular values brought near 1. Its steps
/// are as long as its learning rate whatever the gradients' size, so the weights' decay alone decides how
/// large they become.
///
/// ```text
/// v ← momentum·v + g
/// w ← w − lr·weight_decay·w − lr·√max(1, rows/columns)·orthogonalised(g + momentum·v)
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MuonOptions {
    /// Learning rate as a multiple of SGD's.
    pub lr: f64,
    /// Momentum; always Nesterov's.
    pub momentum: f64,
    /// Share of the weights that each step takes off, over the learning rate.
    pub weight_decay: f64,
}

impl Default for MuonOptions {
    /// What did best on CIFAR-10's dev set after four epochs, next to SGD with a learning rate of 0.6.
    fn default() -> Self {
        Self { lr: 0.2, momentum: 0.6, weight_decay: 0.06 }
    }
}

/// How long a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Length {
    /// Passes over the training set. The samples that do not fill the last batch of a pass sit it
    /// out.
    Epochs(u64),
    /// Updates of the weights.
    Steps(u64),
}

impl Length {
    /// The number of steps.
    pub fn steps(self, steps_per_epoch: u64) -> u64 {
        match self {
            Self::Epochs(epochs) => epochs.saturating_mul(steps_per_epoch),
            Self::Steps(steps) => steps,
        }
    }
}

fn default_momentum() -> f64 {
    0.9
}

fn default_weight_decay() -> f64 {
    1e-4
}

fn default_precision() -> Precision {
    Precision::F32
}

fn yes() -> bool {
    true
}

fn one() -> f64 {
    1.0
}

fn is_one(value: &f64) -> bool {
    *value == 1.0
}

impl Recipe {
    /// What gives good results on this dataset, opened from `data` with these options, without
    /// anything to be set:
    ///
    /// | dataset | batch | lr | weight decay | epochs |
    /// |---|---|---|---|---|
    /// | small images | 128 | 0.1 | 5e-4 | 30 |
    /// | image folders | 32 | 0.025 | 1e-4 | 30 |
    /// | vectors | 128 | 0.1 | 1e-4 | 100 |
    ///
    /// all with one cycle of the learning rate, momentum 0.9 and the dataset's own augmentation.
    /// A batch is never more than a quarter of the training set.
    pub fn new(
        data: impl Into<String>,
        open: OpenOptions,
        dataset: &Dataset,
        architecture: Architecture,
    ) -> Self {
        let (lr, weight_decay, epochs) = match dataset.kind() {
            Kind::SmallImages => (0.1, 5e-4, 30),
            Kind::ImageFolder => (0.025, 1e-4, 30),
            Kind::Vectors => (0.1, 1e-4, 100),
        };
        Self {
            data: data.into(),
            seed: 0,
            batch_size: Self::default_batch_size(dataset),
            lr,
            head_lr: 1.0,
            momentum: default_momentum(),
            nesterov: false,
            weight_decay,
            decay_bias: true,
            decay_norm: true,
            warmup_steps: 0,
            label_smoothing: 0.0,
            clip_grad_norm: None,
            precision: default_precision(),
            init: Init::default(),
            zero_init_residual: false,
            whiten_stem: false,
            freeze_stem: false,
            muon: None,
            early_images: None,
            eval_every: None,
            checkpoint_every: None,
            test_time_flips: false,
            test_time_shifts: false,
            start_sha256: None,
            schedule: Schedule::OneCycle,
            length: Length::Epochs(epochs),
            augment: dataset.default_augment(),
            open,
            architecture,
        }
    }

    /// The samples in a batch of [`new`](Self::new).
    pub fn default_batch_size(dataset: &Dataset) -> usize {
        let batch_size = match dataset.kind() {
            Kind::ImageFolder => 32,
            Kind::SmallImages | Kind::Vectors => 128,
        };
        let quarter = dataset.len(Split::Train) / 4;
        batch_size.min(quarter.max(1))
    }

    /// Reads the TOML form.
    ///
    /// # Errors
    /// A text that is not a recipe, with the line, or a value out of range.
    pub fn from_toml(text: &str) -> Result<Self, TrainError> {
        let recipe: Self = toml::from_str(text)?;
        recipe.validate()?;
        Ok(recipe)
    }

    /// The TOML form.
    ///
    /// # Errors
    /// A value out of range.
    pub fn to_toml(&self) -> Result<String, TrainError> {
        self.validate()?;
        Ok(toml::to_string(self).expect("a recipe in range has a TOML form"))
    }

    /// Reads a `config.toml`.
    ///
    /// # Errors
    /// As [`from_toml`](Self::from_toml), or a file that can't be read.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, TrainError> {
        let path = path.as_ref();
        let text = fs::read_to_string(path)
            .map_err(|source| TrainError::Read { path: path.to_owned(), source })?;
        Self::from_toml(&text)
            .map_err(|source| TrainError::InFile { path: path.to_owned(), source: source.into() })
    }

    /// Writes a `config.toml`.
    ///
    /// # Errors
    /// A value out of range, or a file that can't be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), TrainError> {
        let text = self.to_toml()?;
        Ok(write_whole(path, |file| file.write_all(text.as_bytes()))?)
    }

    /// Refuses values that make no sense.
    ///
    /// # Errors
    /// Names the first such field, its value and what is expected.
    pub fn validate(&self) -> Result<(), TrainError> {
        let range = |field, value: f64, fine: bool, expected| match fine {
            true => Ok(()),
            false => Err(refused(field, value, expected)),
        };
        at_least_one("batch_size", self.batch_size as u64)?;
        let (lr, momentum) = (self.lr, self.momentum);
        range("lr", lr, lr > 0.0 && (lr as f32).is_finite(), "a number above 0, at most 3.4e38")?;
        let head_lr = self.head_lr;
        range("head_lr", head_lr, (1e-6..=1e6).contains(&head_lr), "1e-6 to 1e6")?;
        range("momentum", momentum, (0.0..1.0).contains(&momentum), "0 or more and below 1")?;
        if self.nesterov && momentum == 0.0 {
            return Err(refused("momentum", 0, "above 0 with nesterov"));
        }
        let decay = self.weight_decay;
        range("weight_decay", decay, decay >= 0.0 && decay.is_finite(), "0 or more")?;
        let smoothing = self.label_smoothing;
        range("label_smoothing", smoothing, (0.0..1.0).contains(&smoothing), "0 or more, below 1")?;
        if let Some(norm) = self.clip_grad_norm {
            range("clip_grad_norm", norm, norm > 0.0 && norm.is_finite(), "a number above 0")?;
        }
        let (Length::Epochs(length) | Length::Steps(length)) = self.length;
        let numbers = [
            ("seed", Some(self.seed)),
            ("open.seed", Some(self.open.seed)),
            ("length", Some(length)),
            ("eval_every", self.eval_every),
            ("checkpoint_every", self.checkpoint_every),
            ("warmup_steps", Some(self.warmup_steps)),
        ];
        numbers.into_iter().try_for_each(|(field, number)| fits_toml(field, number))?;
        at_least_one("length", length)?;
        self.eval_every.map_or(Ok(()), |steps| at_least_one("eval_every", steps))?;
        self.checkpoint_every.map_or(Ok(()), |steps| at_least_one("checkpoint_every", steps))?;
        self.validate_muon()?;
        self.validate_whitening()?;
        self.validate_early_images()?;
        self.validate_schedule()
    }

    fn validate_muon(&self) -> Result<(), TrainError> {
        let Some(MuonOptions { lr, momentum, weight_decay }) = self.muon else { return Ok(()) };
        if !(1e-6..=1e6).contains(&lr) {
            return Err(refused("muon.lr", lr, "1e-6 to 1e6"));
        }
        if !(0.0..1.0).contains(&momentum) {
            return Err(refused("muon.momentum", momentum, "0 or more and below 1"));
        }
        match weight_decay >= 0.0 && weight_decay.is_finite() {
            true => Ok(()),
            false => Err(refused("muon.weight_decay", weight_decay, "0 or more")),
        }
    }

    fn validate_whitening(&self) -> Result<(), TrainError> {
        let input = self.architecture.input();
        let kernel_size = match self.architecture.stem().kind {
            StemKind::Conv3x3 => Some(3),
            StemKind::Conv7x7Pool => Some(7),
            StemKind::Linear => None,
        };
        let fits = kernel_size.is_some_and(|size| size <= input.h.min(input.w));
        if self.whiten_stem && !fits {
            let expected = "false, as no window of a first convolution fits into the input";
            return Err(refused("whiten_stem", true, expected));
        }
        Ok(())
    }

    fn validate_early_images(&self) -> Result<(), TrainError> {
        let Some(EarlyImages { size, share }) = self.early_images else { return Ok(()) };
        let input = self.architecture.input();
        if self.architecture.stem().kind == StemKind::Linear {
            return Err(refused(
                "early_images",
                size,
                "no such part, as its network has no images",
            ));
        }
        if !(1..input.h.min(input.w)).contains(&size) {
            return Err(refused("early_images.size", size, "smaller than the network's images"));
        }
        match share > 0.0 && share < 1.0 {
            true => Ok(()),
            false => Err(refused("early_images.share", share, "above 0 and below 1")),
        }
    }

    fn validate_schedule(&self) -> Result<(), TrainError> {
        match &self.schedule {
            Schedule::OneCycle if self.warmup_steps > 0 => Err(refused(
                "warmup_steps",
                self.warmup_steps,
                "0, as one-cycle warms up by itself",
            )),
            Schedule::Step { milestones, gamma } => {
                fits_toml("schedule.step.milestones", milestones.iter().max().copied())?;
                if !milestones.is_sorted() {
                    let got = format!("{milestones:?}");
                    return Err(refused("schedule.step.milestones", got, "rising steps"));
                }
                match *gamma > 0.0 && gamma.is_finite() {
                    true => Ok(()),
                    false => Err(refused("schedule.step.gamma", gamma, "a number above 0")),
                }
            }
            _ => Ok(()),
        }
    }

    /// Refuses a dataset that the network can't be trained on.
    ///
    /// # Errors
    /// Another shape of the samples, another number of classes, or fewer training samples than a
    /// batch has.
    pub fn check_dataset(&self, dataset: &Dataset) -> Result<(), TrainError> {
        let input = self.architecture.input();
        let expected = [input.c, input.h, input.w];
        let got = dataset.sample_shape();
        let mismatch = |what, got: String, expected: String| {
            let dataset = dataset.name().to_owned();
            Err(TrainError::Dataset { dataset, what, got, expected })
        };
        if got != expected {
            return mismatch("samples of shape", format!("{got:?}"), format!("{expected:?}"));
        }
        let (got, expected) = (dataset.classes().len(), self.architecture.classes());
        if got != expected {
            return mismatch("number of classes", got.to_string(), expected.to_string());
        }
        let (got, batch_size) = (dataset.len(Split::Train), self.batch_size);
        if got < batch_size {
            let expected = format!("at least {batch_size}, one batch");
            return mismatch("number of training samples", got.to_string(), expected);
        }
        self.eval_options().check_views(dataset)?;
        Ok(dataset.expect_augment(self.augment)?)
    }

    /// Steps in one pass over the training set.
    pub fn steps_per_epoch(&self, dataset: &Dataset) -> u64 {
        (dataset.len(Split::Train) / self.batch_size) as u64
    }

    /// Steps of the whole run.
    pub fn total_steps(&self, dataset: &Dataset) -> u64 {
        self.length.steps(self.steps_per_epoch(dataset))
    }

    /// The steps on smaller images, with which a run begins.
    pub(crate) fn early_steps(&self, total_steps: u64) -> u64 {
        self.early_images.map_or(0, |early| (early.share * total_steps as f64).round() as u64)
    }

    /// The network that trains on the smaller images.
    pub(crate) fn early_architecture(&self) -> Result<Option<Architecture>, TrainError> {
        let Some(EarlyImages { size, .. }) = self.early_images else { return Ok(None) };
        let input = Shape { h: size, w: size, ..self.architecture.input() };
        Ok(Some(self.architecture.with_input(input)?))
    }

    /// The learning rate of a step, counted from 0.
    pub fn lr_at(&self, step: u64, total_steps: u64) -> f64 {
        let warmup = crate::warmup_factor(step, self.warmup_steps);
        self.lr * self.schedule.factor(step, total_steps) * warmup
    }

    /// The first field whose value differs, if any. The dataset may have moved: whether it is the
    /// same one is told by its fingerprint.
    pub fn first_difference(&self, other: &Self) -> Option<String> {
        let fields = |recipe: &Self| {
            let fields = serde_json::to_value(recipe).expect("a recipe has a JSON form");
            let fields = fields.as_object().into_iter().flatten();
            let fields = fields.filter(|(name, _)| *name != "data");
            fields.map(|(name, value)| (name.clone(), value.clone())).collect()
        };
        let (ours, theirs): (BTreeMap<String, Value>, _) = (fields(self), fields(other));
        let mut names = ours.keys().chain(theirs.keys());
        names.find(|&name| ours.get(name) != theirs.get(name)).cloned()
    }

    /// The network with these weights after so many steps on the data.
    pub fn model(&self, dataset: &Dataset, weights: Weights, steps: u64) -> Model {
        Model {
            architecture: self.architecture.clone(),
            weights,
            classes: dataset.classes().to_vec(),
            preprocessing: dataset.preprocessing().clone(),
            provenance: Provenance {
                dataset: dataset.name().to_owned(),
                dataset_fingerprint: dataset.fingerprint().to_owned(),
                seed: self.seed,
                steps,
                precision: self.precision.to_string(),
                residua_version: env!("CARGO_PKG_VERSION").to_owned(),
                inserted_blocks: Vec::new(),
            },
        }
    }

    /// How the run evaluates its network.
    pub fn eval_options(&self) -> EvalOptions {
        let Self { batch_size, precision, test_time_flips, test_time_shifts, .. } = *self;
        EvalOptions { batch_size, precision, test_time_flips, test_time_shifts }
    }

    pub(crate) fn init_options(&self) -> InitOptions {
        let Self { init, zero_init_residual, seed, .. } = *self;
        InitOptions { init, zero_init_residual, seed }
    }
}

fn refused(field: &'static str, got: impl ToString, expected: &'static str) -> TrainError {
    TrainError::Recipe { field, got: got.to_string(), expected }
}

/// Refuses numbers that config.toml can't hold.
fn fits_toml(field: &'static str, number: Option<u64>) -> Result<(), TrainError> {
    match number {
        Some(number) if i64::try_from(number).is_err() => {
            Err(refused(field, number, "at most 9223372036854775807"))
        }
        _ => Ok(()),
    }
}

fn at_least_one(field: &'static str, value: u64) -> Result<(), TrainError> {
    match value {
        0 => Err(refused(field, 0, "at least 1")),
        _ => Ok(()),
    }
}

/// A precision by its name, `f32`.
mod precision_name {
    use super::Precision;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(
        p: &Precision,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(p)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Precision, D::Error> {
        String::deserialize(d)?.parse().map_err(Error::custom)
    }
}
