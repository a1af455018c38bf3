//! Plain networks against residual ones, at growing depth.

mod carry_out;
mod decay;
mod findings;
mod networks;

use residua_resnet::{Block, Family, Shortcut};
use residua_train::{BranchNorms, SplitSummary, Summary};
use serde::{Deserialize, Serialize};

pub use carry_out::Comparison;
pub(crate) use carry_out::mean_curve;
pub(crate) use findings::{curves_chart, error_curve, shown_up_to};
pub use networks::{Compared, Variants};

/// What a comparison found: networks that were trained with the same settings, from the same initial
/// weights where their parameters are the same, on the same batches in the same order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Compare {
    /// Name of the dataset.
    pub dataset: String,
    /// SHA-256 over its content, in hexadecimal.
    pub dataset_fingerprint: String,
    /// The first run's recipe as TOML; the others differ in the network, the weight decay and the seed.
    pub recipe: String,
    /// Learning rate.
    pub lr: f64,
    /// Samples in each step.
    pub batch_size: usize,
    /// Steps of each run.
    pub steps: u64,
    /// Passes over the training set of each run.
    pub epochs: f64,
    /// Precision of the training.
    pub precision: String,
    /// Runs that are not finished.
    pub num_missing: usize,
    /// The networks, with what is known of them.
    pub networks: Vec<Network>,
}

/// A network of a comparison, over all seeds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Network {
    /// Its name, with the weight decay where that differs between the runs.
    pub name: String,
    /// Its family.
    pub family: Family,
    /// What goes around its blocks.
    pub shortcut: Shortcut,
    /// Whether it has batch norms.
    pub norm: bool,
    /// What its blocks are made of; not in records of before 2026-11-23.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block: Option<Block>,
    /// Layers with weights.
    pub depth: usize,
    /// Number of trainable parameters.
    pub num_parameters: u64,
    /// Multiply-adds for one sample.
    pub macs: u64,
    /// Weight decay.
    pub weight_decay: f64,
    /// One for each seed that is finished.
    pub runs: Vec<Ended>,
    /// Its training, the mean over the seeds that came to the end.
    pub curve: Vec<CurvePoint>,
    /// Of the first seed that came to its end, where models were kept on the way: how large branches are over its training.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub branch_ratios: Vec<BranchRatio>,
}

/// How large the branches of a network are at a moment of its training.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BranchRatio {
    /// Steps made.
    pub step: u64,
    /// `‖F(x)‖ / ‖x‖`, the mean over blocks and a few samples; see [`BlockIdentity`](crate::BlockIdentity).
    pub ratio: f64,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    /// Its seed.
    pub seed: u64,
    /// Its learning rate.
    pub lr: f64,
    /// The errors at the end; none if the loss was no number before.
    pub errors: Option<Errors>,
    /// Steps that were made.
    pub steps: u64,
    /// Seconds the run took.
    pub seconds: f64,
}

/// What a network does on each split at the end of its training.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Errors {
    /// All training samples, without augmentation.
    pub train: SplitSummary,
    /// The dev set, if there is one.
    pub dev: Option<SplitSummary>,
    /// The test set, if there is one.
    pub test: Option<SplitSummary>,
}

impl From<&Summary> for Errors {
    fn from(&Summary { train, dev, test, .. }: &Summary) -> Self {
        Self { train, dev, test }
    }
}

/// A moment of the training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// Steps made.
    pub step: u64,
    /// Error on the batches as they were fed in, in percent.
    pub train_error: f64,
    /// Error on the dev set in percent, where it was evaluated.
    pub dev_error: Option<f64>,
    /// Of the first seed: how near its blocks are to their shortcuts, the mean over them, where it was
    /// measured. `metrics.jsonl` of the run has each block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch_norms: Option<BranchNorms>,
}

impl Network {
    /// One value of each run that came to the end.
    fn values(&self, value: impl Fn(&Errors) -> Option<f64>) -> Vec<f64> {
        self.runs.iter().filter_map(|run| value(run.errors.as_ref()?)).collect()
    }

    fn train_errors(&self) -> Vec<f64> {
        self.values(|errors| Some(errors.train.top1_error))
    }

    fn dev_errors(&self) -> Vec<f64> {
        self.values(|errors| Some(errors.dev?.top1_error))
    }

    fn test_errors(&self) -> Vec<f64> {
        self.values(|errors| Some(errors.test?.top1_error))
    }
}
