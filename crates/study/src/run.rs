use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use residua_data::Dataset;
use residua_format::write_whole;
use residua_train::{Observer, Outcome, Recipe, RunOptions, Start, Summary, TrainError, Trainer};
use serde::{Deserialize, Serialize};

use crate::StudyError;

/// What a run that came to its end leaves.
pub(crate) const MODEL_FILE: &str = "model.safetensors";
/// Says in the folder of a run that its loss was no number; there is no summary then.
const DIVERGED_FILE: &str = "diverged.json";

/// A run of training that belongs to a study. What is there of it in its folder stays: a finished one is
/// not made again, one that was broken off goes on from its checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct StudyRun {
    /// Where it is.
    pub folder: PathBuf,
    /// All that decides its result.
    pub recipe: Recipe,
    /// What it starts from, where [`Recipe::start_sha256`] is set.
    pub start: Option<Start>,
}

/// How far a run is.
#[derive(Debug, Clone, PartialEq)]
pub enum RunState {
    /// It has not begun.
    Missing,
    /// It was broken off.
    Begun,
    /// It came to its end.
    Finished(Box<Summary>),
    /// Its loss was no number at some step.
    Diverged(Diverged),
}

/// Where a run's loss, or an output or a weight, was no number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diverged {
    /// The step, counted from 1.
    pub step: u64,
    /// Identifies the data and its splits.
    pub dataset_fingerprint: String,
}

impl RunState {
    /// Whether there is nothing left to do.
    pub fn is_over(&self) -> bool {
        matches!(self, Self::Finished(_) | Self::Diverged(_))
    }
}

impl StudyRun {
    /// A run from initial weights.
    pub fn new(folder: PathBuf, recipe: Recipe) -> Self {
        Self { folder, recipe, start: None }
    }

    /// Multiply-adds of the forward pass for all samples of all steps.
    pub fn macs(&self, dataset: &Dataset) -> f64 {
        let graph = self.recipe.architecture.to_graph().expect("checked when it was made");
        let steps = self.recipe.total_steps(dataset);
        graph.total_macs() as f64 * (steps * self.recipe.batch_size as u64) as f64
    }

    /// How far it is on this data.
    ///
    /// # Errors
    /// A folder that holds a run with other settings or, if it is over, on other data; files that can't be
    /// read.
    pub fn state(&self, dataset: &Dataset) -> Result<RunState, StudyError> {
        let config = self.folder.join("config.toml");
        if !config.exists() {
            return Ok(RunState::Missing);
        }
        if let Some(field) = self.recipe.first_difference(&Recipe::load(&config)?) {
            return Err(self.other(format!("with other settings ({field})")));
        }
        if let Some(summary) = self.read::<Summary>("summary.json")? {
            self.expect_data(dataset, &summary.dataset_fingerprint)?;
            return Ok(RunState::Finished(Box::new(summary)));
        }
        let Some(diverged) = self.read::<Diverged>(DIVERGED_FILE)? else {
            return Ok(RunState::Begun);
        };
        self.expect_data(dataset, &diverged.dataset_fingerprint)?;
        Ok(RunState::Diverged(diverged))
    }

    fn expect_data(&self, dataset: &Dataset, fingerprint: &str) -> Result<(), StudyError> {
        match fingerprint == dataset.fingerprint() {
            true => Ok(()),
            false => Err(self.other("on other data, or with other splits".to_owned())),
        }
    }

    /// Refuses the folder's run.
    fn other(&self, how: String) -> StudyError {
        StudyError::Unsuitable {
            subject: self.folder.display().to_string(),
            got: format!("holds a run {how}"),
            expected: "those of this study, or another folder".to_owned(),
        }
    }

    /// Trains from where it is, and tells whether it came to an end. A divergence is one.
    ///
    /// # Errors
    /// As of [`Trainer`], and of [`state`](Self::state).
    pub fn carry_out(
        &self,
        dataset: &Arc<Dataset>,
        options: RunOptions,
        observer: &mut dyn Observer,
        stop: &AtomicBool,
    ) -> Result<bool, StudyError> {
        let dataset_fingerprint = dataset.fingerprint().to_owned();
        let trainer = match (self.state(dataset)?, &self.start) {
            (RunState::Missing, None) => {
                let recipe = self.recipe.clone();
                Trainer::create(&self.folder, false, recipe, Arc::clone(dataset), options)?
            }
            (RunState::Missing, Some(start)) => {
                let recipe = self.recipe.clone();
                let dataset = Arc::clone(dataset);
                Trainer::create_from(&self.folder, false, recipe, dataset, options, start)?
            }
            _ => Trainer::resume(&self.folder, Arc::clone(dataset), options)?,
        };
        match trainer.run(observer, stop) {
            Err(TrainError::NotFinite { step, .. }) => {
                let diverged = Diverged { step, dataset_fingerprint };
                let json = serde_json::to_vec(&diverged).expect("it is valid JSON");
                write_whole(self.folder.join(DIVERGED_FILE), |file| file.write_all(&json))?;
                Ok(true)
            }
            outcome => Ok(matches!(outcome?, Outcome::Finished(_))),
        }
    }

    /// A JSON file of the run's folder, if it is there.
    fn read<T: for<'de> Deserialize<'de>>(&self, name: &str) -> Result<Option<T>, StudyError> {
        let path = self.folder.join(name);
        if !path.exists() {
            return Ok(None);
        }
        let bytes =
            fs::read(&path).map_err(|source| StudyError::Read { path: path.clone(), source })?;
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|source| StudyError::Record { path, source })
    }
}
