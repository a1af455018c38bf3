use std::path::Path;

use residua_format::write_whole;
use residua_graph::Weights;

use crate::checkpoint::{self, Checkpoint, CheckpointFolder, CheckpointHeader};
use crate::progress::Progress;
use crate::run_folder::CHECKPOINTS;
use crate::{Recipe, TrainError};

/// What a run starts from that goes on from another network's training: weights, and what momentum has
/// gathered. As a file it is a checkpoint at step 0.
#[derive(Debug, Clone, PartialEq)]
pub struct Start {
    /// The weights.
    pub weights: Weights,
    /// The velocities, laid out like the parameters.
    pub velocity: Vec<f32>,
    /// What the weights were trained with, but for the network.
    pub recipe: Recipe,
}

impl Start {
    /// From the newest checkpoint of a run, if it has one, and the steps that were made until then.
    ///
    /// # Errors
    /// Files that can't be read.
    pub fn of_run(folder: &Path) -> Result<Option<(u64, Self)>, TrainError> {
        let found = CheckpointFolder::new(folder.join(CHECKPOINTS)).newest()?;
        Ok(found.newest.map(|(_, checkpoint)| (checkpoint.header.step, checkpoint.into())))
    }

    /// Reads a file that [`save`](Self::save) has written.
    ///
    /// # Errors
    /// A file that can't be read, or is damaged.
    pub fn load(path: &Path) -> Result<Self, TrainError> {
        let checkpoint = Checkpoint::read(path)
            .map_err(|source| TrainError::Checkpoint { path: path.to_owned(), source })?;
        Ok(checkpoint.into())
    }

    /// Writes the file.
    ///
    /// # Errors
    /// A file that can't be written.
    pub fn save(&self, path: &Path) -> Result<(), TrainError> {
        let header = self.header(self.recipe.clone(), String::new(), String::new());
        let bytes = checkpoint::to_bytes(&header, &self.weights, &self.velocity)
            .map_err(|source| TrainError::Checkpoint { path: path.to_owned(), source })?;
        Ok(write_whole(path, |file| file.write_all(&bytes))?)
    }

    /// That of a run's checkpoint at step 0.
    pub(crate) fn header(
        &self,
        recipe: Recipe,
        dataset_fingerprint: String,
        isa: String,
    ) -> CheckpointHeader {
        CheckpointHeader {
            step: 0,
            recipe,
            dataset_fingerprint,
            isa,
            progress: Progress::default(),
        }
    }
}

impl From<Checkpoint> for Start {
    fn from(checkpoint: Checkpoint) -> Self {
        let Checkpoint { header, weights, velocity } = checkpoint;
        Self { weights, velocity, recipe: header.recipe }
    }
}
