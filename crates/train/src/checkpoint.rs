use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use residua_format::{F32Tensor, write_whole};
use residua_graph::{Graph, Weights};
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::write_error;
use crate::progress::Progress;
use crate::step_files::StepFiles;
use crate::{CheckpointError, Recipe, TrainError};

/// A checkpoint is a safetensors file with the flat tensors `params`, `buffers` and `velocity` and
/// the [`CheckpointHeader`] as JSON in its metadata, followed by the SHA-256 of all that. So a file
/// that was cut or changed is known by reading it once.
const DIGEST_BYTES: usize = 32;
const METADATA_KEY: &str = "residua-checkpoint";
/// How many are kept: the newest, and one to fall back to.
const NUM_KEPT: usize = 2;

/// What a checkpoint says besides the tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CheckpointHeader {
    /// Steps made.
    pub(crate) step: u64,
    pub(crate) recipe: Recipe,
    pub(crate) dataset_fingerprint: String,
    /// Name of the instruction set; another one rounds differently.
    pub(crate) isa: String,
    pub(crate) progress: Progress,
}

/// A checkpoint that was read and verified.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Checkpoint {
    pub(crate) header: CheckpointHeader,
    pub(crate) weights: Weights,
    pub(crate) velocity: Vec<f32>,
}

impl Checkpoint {
    /// Reads and verifies a checkpoint.
    pub(crate) fn read(path: &Path) -> Result<Self, CheckpointError> {
        Self::from_bytes(&fs::read(path)?)
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, CheckpointError> {
        let (content, digest) =
            bytes.split_last_chunk::<DIGEST_BYTES>().ok_or(CheckpointError::Digest)?;
        if Sha256::digest(content)[..] != digest[..] {
            return Err(CheckpointError::Digest);
        }
        let (_, metadata) = SafeTensors::read_metadata(content)?;
        let header = metadata.metadata().as_ref().and_then(|all| all.get(METADATA_KEY));
        let header = serde_json::from_str(header.ok_or(CheckpointError::NoHeader)?)?;
        let tensors = SafeTensors::deserialize(content)?;
        let weights =
            Weights { params: values(&tensors, "params")?, buffers: values(&tensors, "buffers")? };
        Ok(Self { header, weights, velocity: values(&tensors, "velocity")? })
    }

    /// Whether its tensors are of the graph's size.
    pub(crate) fn fits(&self, graph: &Graph) -> bool {
        self.weights.params.len() == graph.num_parameters()
            && self.weights.buffers.len() == graph.num_buffer_elements()
            && self.velocity.len() == graph.num_parameters()
    }
}

/// The content of a checkpoint's file.
pub(crate) fn to_bytes(
    header: &CheckpointHeader,
    weights: &Weights,
    velocity: &[f32],
) -> Result<Vec<u8>, CheckpointError> {
    let metadata = HashMap::from([(METADATA_KEY.to_owned(), serde_json::to_string(header)?)]);
    let tensors =
        [("params", &weights.params[..]), ("buffers", &weights.buffers), ("velocity", velocity)];
    let shapes = tensors.map(|(_, values)| [values.len()]);
    let tensors = tensors.iter().zip(&shapes);
    let tensors = tensors.map(|(&(name, values), shape)| (name, F32Tensor { shape, values }));
    let mut bytes = safetensors::serialize(tensors, Some(metadata))?;
    let digest = Sha256::digest(&bytes);
    bytes.extend_from_slice(&digest);
    Ok(bytes)
}

fn values(tensors: &SafeTensors<'_>, name: &str) -> Result<Vec<f32>, CheckpointError> {
    let view = tensors.tensor(name)?;
    match F32Tensor::read(&view) {
        Some(values) => Ok(values.collect()),
        None => Err(CheckpointError::Dtype { tensor: name.to_owned(), got: view.dtype() }),
    }
}

/// The checkpoints of a run.
#[derive(Debug)]
pub(crate) struct CheckpointFolder(StepFiles);

impl CheckpointFolder {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self(StepFiles::new(path, "ckpt"))
    }

    /// Writes a checkpoint, then removes those that are no longer kept.
    pub(crate) fn write(
        &self,
        header: &CheckpointHeader,
        weights: &Weights,
        velocity: &[f32],
    ) -> Result<PathBuf, TrainError> {
        let path = self.0.path(header.step);
        let bytes = to_bytes(header, weights, velocity)
            .map_err(|source| TrainError::Checkpoint { path: path.clone(), source })?;
        let folder = self.0.folder();
        fs::create_dir_all(folder).map_err(|source| write_error(folder, source))?;
        write_whole(&path, |file| file.write_all(&bytes))?;
        for (_, old) in self.0.list()?.into_iter().rev().skip(NUM_KEPT) {
            fs::remove_file(&old).map_err(|source| write_error(&old, source))?;
        }
        Ok(path)
    }

    /// Where the weights are that a run starts from, if they are not initial ones.
    pub(crate) fn of_start(&self) -> PathBuf {
        self.0.path(0)
    }

    /// Whether there is none, damaged ones aside.
    pub(crate) fn is_empty(&self) -> Result<bool, TrainError> {
        Ok(self.0.list()?.is_empty())
    }

    /// The newest checkpoint that verifies. Newer ones that were cut short or changed are set aside
    /// under another name; one that can't be read, or only by a later version, is an error.
    pub(crate) fn newest(&self) -> Result<Found, TrainError> {
        let mut damaged = Vec::new();
        for (step, path) in self.0.list()?.into_iter().rev() {
            let error = match Checkpoint::read(&path) {
                Ok(checkpoint) if checkpoint.header.step == step => {
                    return Ok(Found { newest: Some((path, checkpoint)), damaged });
                }
                Ok(checkpoint) => CheckpointError::Step { got: checkpoint.header.step },
                Err(error @ CheckpointError::Digest) => error,
                Err(source) => return Err(TrainError::Checkpoint { path, source }),
            };
            let aside = path.with_extension("ckpt.damaged");
            fs::rename(&path, &aside).map_err(|source| write_error(&aside, source))?;
            damaged.push((path, error));
        }
        Ok(Found { newest: None, damaged })
    }
}

/// What [`CheckpointFolder::newest`] found.
#[derive(Debug)]
pub(crate) struct Found {
    /// The newest checkpoint that verifies.
    pub(crate) newest: Option<(PathBuf, Checkpoint)>,
    /// The newer ones, which do not.
    pub(crate) damaged: Vec<(PathBuf, CheckpointError)>,
}
