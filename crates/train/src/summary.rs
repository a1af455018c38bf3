use serde::{Deserialize, Serialize};

/// How a run ended: its `summary.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Name of the architecture.
    pub architecture: String,
    /// Number of trainable parameters.
    pub num_parameters: u64,
    /// Name of the dataset.
    pub dataset: String,
    /// SHA-256 over the dataset's content, in hexadecimal.
    pub dataset_fingerprint: String,
    /// Seed of the run.
    pub seed: u64,
    /// Steps of training.
    pub steps: u64,
    /// Passes over the training set.
    pub epochs: f64,
    /// All training samples, without augmentation.
    pub train: SplitSummary,
    /// The dev set, if there is one.
    pub dev: Option<SplitSummary>,
    /// The test set, if there is one.
    pub test: Option<SplitSummary>,
    /// SHA-256 over the weights, as [`residua_format::Model::weights_sha256`] defines it.
    pub weights_sha256: String,
    /// Precision of the training.
    pub precision: String,
    /// Instruction set of the last session.
    pub isa: String,
    /// Threads of the last session.
    pub num_threads: u64,
    /// Seconds the run took, over all its sessions, evaluations included.
    pub seconds: f64,
    /// Training images a second, evaluations and checkpoints left out.
    pub images_per_s: f64,
    /// Version of Residua.
    pub residua_version: String,
}

/// How the final weights do on a split.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SplitSummary {
    /// Samples in the split.
    pub num_samples: u64,
    /// Top-1 error in percent.
    pub top1_error: f64,
    /// Mean cross-entropy, without label smoothing.
    pub mean_loss: f64,
}
