use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use residua_data::Dataset;
use residua_engine::{Isa, Mode, Plan, PlanError, PlanOptions, ThreadPool};

use crate::checkpoint::Checkpoint;
use crate::run_folder::RunFolder;
use crate::session::Session;
use crate::{Observer, Recipe, Start, Summary, TrainError, Warning};

/// What a run can be started with that does not change its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RunOptions {
    /// Threads that compute; one for each core if not set.
    pub threads: Option<usize>,
    /// Threads that decode and augment; one for each core if not set.
    pub workers: Option<usize>,
    /// The most that kernels may use; the best there is if not set. Only this one changes the last
    /// bits of the result.
    pub isa: Option<Isa>,
    /// Steps between models that are kept on the way, from the initial one on; none if not set.
    /// [`kept_models`](crate::kept_models) lists them.
    pub keep_every: Option<NonZeroU64>,
}

impl RunOptions {
    /// The most that kernels may use here.
    pub(crate) fn isa(&self) -> Result<Isa, PlanError> {
        Ok(self.isa.map_or_else(Isa::best, Ok)?)
    }
}

/// How a session of training ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The run is over.
    Finished(Box<Summary>),
    /// It was stopped, wrote a checkpoint and can be resumed.
    Interrupted {
        /// Steps made so far.
        step: u64,
    },
}

/// A run of training in a folder of its own, which it locks.
///
/// The folder holds `config.toml` (the [`Recipe`]), `metrics.jsonl`, `checkpoints/`, and at the end
/// `model.safetensors`, `curves.svg` and `summary.json`; `models/` if some are kept on the way. Every
/// file is written whole; a run that is killed at any moment is resumed with [`Trainer::resume`] from
/// its newest checkpoint and ends with the same bits in its model file as if nothing had happened.
///
/// ```no_run
/// use std::sync::{Arc, atomic::AtomicBool};
/// use residua_data::OpenOptions;
/// use residua_resnet::{Architecture, Shape};
/// use residua_train::{Recipe, RunOptions, Trainer};
///
/// let (source, open) = ("synthetic:shapes", OpenOptions::default());
/// let dataset = Arc::new(residua_data::open(source, &open)?);
/// let [c, h, w] = dataset.sample_shape();
/// let input = Shape::image(c, h, w);
/// let architecture = Architecture::named("resnet20", input, dataset.classes().len())?;
/// let recipe = Recipe::new(source, open, &dataset, architecture);
/// let trainer =
///     Trainer::create("runs/shapes".as_ref(), false, recipe, dataset, RunOptions::default())?;
/// trainer.run(&mut (), &AtomicBool::new(false))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Trainer {
    pub(crate) folder: RunFolder,
    pub(crate) recipe: Recipe,
    pub(crate) dataset: Arc<Dataset>,
    pub(crate) options: RunOptions,
    pub(crate) resumed: Option<Checkpoint>,
    pub(crate) last_checkpoint: Option<PathBuf>,
    pub(crate) warnings: Vec<Warning>,
}

impl Trainer {
    /// Starts a new run in `folder`, which is made if it is not there.
    ///
    /// # Errors
    /// A recipe that makes no sense or does not fit the dataset; a folder that can't be written, is
    /// in use, or holds a run, unless that is to be overwritten.
    pub fn create(
        folder: &Path,
        overwrite: bool,
        recipe: Recipe,
        dataset: Arc<Dataset>,
        options: RunOptions,
    ) -> Result<Self, TrainError> {
        expect_start(&recipe, None)?;
        let folder = Self::new_folder(folder, overwrite, &recipe, &dataset, &options)?;
        recipe.save(folder.file("config.toml"))?;
        Ok(Self {
            folder,
            recipe,
            dataset,
            options,
            resumed: None,
            last_checkpoint: None,
            warnings: Vec::new(),
        })
    }

    /// Starts a new run in `folder` from other weights than initial ones. The recipe says which, by
    /// [`Recipe::start_sha256`]; that they are these is for the caller to see to.
    ///
    /// # Errors
    /// As [`create`](Self::create); weights of another network.
    pub fn create_from(
        folder: &Path,
        overwrite: bool,
        recipe: Recipe,
        dataset: Arc<Dataset>,
        options: RunOptions,
        start: &Start,
    ) -> Result<Self, TrainError> {
        let graph = recipe.architecture.to_graph()?;
        let (got, expected) = (start.weights.params.len(), graph.num_parameters());
        if (got, start.velocity.len()) != (expected, expected)
            || start.weights.buffers.len() != graph.num_buffer_elements()
        {
            return Err(TrainError::OtherStart { got, expected });
        }
        let isa = options.isa()?;
        let fingerprint = dataset.fingerprint().to_owned();
        let header = start.header(recipe.clone(), fingerprint, isa.to_string());
        {
            let folder = Self::new_folder(folder, overwrite, &recipe, &dataset, &options)?;
            // First: a config without it would be a run that can't be resumed.
            folder.checkpoints().write(&header, &start.weights, &start.velocity)?;
            recipe.save(folder.file("config.toml"))?;
        }
        Self::resume(folder, dataset, options)
    }

    fn new_folder(
        folder: &Path,
        overwrite: bool,
        recipe: &Recipe,
        dataset: &Dataset,
        options: &RunOptions,
    ) -> Result<RunFolder, TrainError> {
        recipe.validate()?;
        recipe.check_dataset(dataset)?;
        // All that can be refused is refused before a run is overwritten.
        expect_plan(recipe, options)?;
        RunFolder::create(folder, overwrite)
    }

    /// Goes on with the run in `folder` from its newest checkpoint that verifies, or from the start
    /// if there is none. The dataset is the one that the folder's `config.toml` names.
    ///
    /// # Errors
    /// A folder without a run or in use; a checkpoint of another recipe or other data.
    pub fn resume(
        folder: &Path,
        dataset: Arc<Dataset>,
        options: RunOptions,
    ) -> Result<Self, TrainError> {
        let folder = RunFolder::open(folder)?;
        let recipe = Recipe::load(folder.file("config.toml"))?;
        recipe.check_dataset(&dataset)?;
        let found = folder.checkpoints().newest()?;
        let damaged = found.damaged.into_iter();
        let warnings =
            damaged.map(|(path, error)| Warning::DamagedCheckpoint { path, error }).collect();
        let (last_checkpoint, resumed) = found.newest.unzip();
        let trainer = Self { folder, recipe, dataset, options, resumed, last_checkpoint, warnings };
        expect_start(&trainer.recipe, trainer.resumed.as_ref())?;
        trainer.check_resumed()?;
        Ok(trainer)
    }

    /// The recipe of the run.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// Refuses a checkpoint that this run can't have written.
    fn check_resumed(&self) -> Result<(), TrainError> {
        let (Some(checkpoint), Some(path)) = (&self.resumed, &self.last_checkpoint) else {
            return Ok(());
        };
        let header = &checkpoint.header;
        let other = |what, got: &str, expected: &str| {
            let (got, expected) = (got.to_owned(), expected.to_owned());
            Err(TrainError::OtherRun { path: path.clone(), what, got, expected })
        };
        if let Some(key) = self.recipe.first_difference(&header.recipe) {
            return other("its recipe differs from config.toml in", &key, "the same");
        }
        if header.dataset_fingerprint != self.dataset.fingerprint() {
            let (got, expected) = (&header.dataset_fingerprint, self.dataset.fingerprint());
            return other("trained on data with fingerprint", got, expected);
        }
        match checkpoint.fits(&self.recipe.architecture.to_graph()?) {
            true => Ok(()),
            false => other("its tensors are of", "another size", "this network's"),
        }
    }

    /// Trains to the end, or until `stop` is set: then it finishes the step, writes a checkpoint and
    /// returns.
    ///
    /// # Errors
    /// A loss that is not finite, which keeps the last good checkpoint; data that can't be read;
    /// files that can't be written.
    pub fn run(
        self,
        observer: &mut dyn Observer,
        stop: &AtomicBool,
    ) -> Result<Outcome, TrainError> {
        let pool = ThreadPool::new(self.options.threads)?;
        pool.install(|| Session::start(self, pool.num_threads(), observer, stop)?.run())
    }
}

/// Refuses a run from other weights than initial ones that does not have them.
fn expect_start(recipe: &Recipe, resumed: Option<&Checkpoint>) -> Result<(), TrainError> {
    match (&recipe.start_sha256, resumed) {
        (Some(sha256), None) => Err(TrainError::NoStart { sha256: sha256.clone() }),
        _ => Ok(()),
    }
}

/// Refuses a network that can't be trained here.
fn expect_plan(recipe: &Recipe, options: &RunOptions) -> Result<(), TrainError> {
    let isa = options.isa()?;
    let Recipe { batch_size, precision, .. } = *recipe;
    let options = PlanOptions { batch_size, mode: Mode::Train, precision, isa };
    let early = recipe.early_architecture()?;
    for architecture in [Some(&recipe.architecture), early.as_ref()].into_iter().flatten() {
        Plan::new(&architecture.to_graph()?, &options)?;
    }
    Ok(())
}
