mod section;

use std::cmp::Ordering;
use std::sync::Arc;

use residua_data::{Dataset, OnProgress, Progress, Split};
use residua_format::Model;
use residua_resnet::{Architecture, BlockIndex, remove_blocks, summary};
use residua_train::EvalOptions;
use serde::{Deserialize, Serialize};

use crate::{Latency, Score, StudyError, changed_model, latencies};

/// Blocks removed from a network, the one that matters least first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prune {
    /// Name of the dataset.
    pub dataset: String,
    /// SHA-256 over the dataset's content.
    pub dataset_fingerprint: String,
    /// What decided which blocks go.
    pub split: Split,
    /// Samples in it.
    pub num_samples: usize,
    /// Precision of the computation.
    pub precision: String,
    /// When to stop.
    pub limit: Limit,
    /// One after the other. The last one may have removed nothing.
    pub rounds: Vec<Round>,
    /// The network before.
    pub before: Size,
    /// What is left.
    pub after: Size,
    /// How long both take.
    pub latencies: Vec<Latency>,
    /// What is left after more training, if there was any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fine_tuned: Option<FineTuned>,
}

/// More training of what is left.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct FineTuned {
    /// Its steps.
    pub steps: u64,
    /// Its learning rate.
    pub lr: f64,
    /// Top-1 error on the training set after it, in percent.
    pub train_error: f64,
    /// On the dev set, if there is one.
    pub dev_error: Option<f64>,
    /// On the test set, if there is one.
    pub test_error: Option<f64>,
}

/// When to stop removing blocks.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Limit {
    /// After so many.
    NumBlocks(usize),
    /// Before the error has risen by more than so many points.
    ErrorIncrease(f64),
}

impl Limit {
    /// Whether the error may rise so far.
    fn allows(self, before: Score, after: Score) -> bool {
        // Errors are shares of the samples: far less than one sample is rounding.
        const ROUNDING: f64 = 1e-9;
        match self {
            Self::NumBlocks(_) => true,
            Self::ErrorIncrease(points) => {
                after.top1_error - before.top1_error <= points + ROUNDING
            }
        }
    }
}

/// Each block removed on trial, and one for good.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Round {
    /// What was tried, the block that matters least first.
    pub tried: Vec<Tried>,
    /// The first of them, unless the limit forbade it.
    pub removed: Option<String>,
}

/// A network without a block, besides those of earlier rounds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tried {
    /// The block, as the whole network calls it.
    pub block: String,
    /// How well the rest does.
    #[serde(flatten)]
    pub score: Score,
}

/// What a network costs and what it does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Size {
    /// Name of its architecture.
    pub architecture: String,
    /// Number of blocks.
    pub num_blocks: usize,
    /// Trainable parameters.
    pub num_parameters: u64,
    /// Multiply-adds for one sample.
    pub macs: u64,
    /// How well it does on what decided which blocks go.
    pub score: Score,
    /// How well it does on the test set, where there is one besides.
    pub test: Option<Score>,
}

/// How blocks are chosen, and when to stop.
#[derive(Debug, Clone, PartialEq)]
pub struct PruneOptions {
    /// What decides which blocks go.
    pub split: Split,
    /// How it is measured.
    pub eval: EvalOptions,
    /// When to stop.
    pub limit: Limit,
    /// Batch sizes to time both networks with.
    pub batch_sizes: Vec<usize>,
}

/// Removes blocks whose shortcut is the identity. Each round tries all of them and removes the one without
/// which the error is lowest; of equal errors the one with the lowest loss. A stage keeps a block.
///
/// # Errors
/// A network without such blocks, or with fewer than are to be removed; models that can't be evaluated on the
/// data.
pub fn prune(
    model: &Model,
    dataset: &Arc<Dataset>,
    options: &PruneOptions,
    on_progress: OnProgress<'_>,
) -> Result<(Model, Prune), StudyError> {
    let num_rounds = num_rounds(&model.architecture, options.limit)?;
    let score = |model: &Model, split| Score::of(model, dataset, split, &options.eval);
    let intact = score(model, options.split)?;
    let total = (0..num_rounds).map(|i| removable(&model.architecture).len() - i).sum();
    let mut progress = Progress { done: 0, total };
    let mut pruner = Pruner::new(model.clone());
    let (mut rounds, mut last) = (Vec::new(), intact);
    for _ in 0..num_rounds {
        let mut tried = Vec::new();
        for block in removable(&pruner.model.architecture) {
            tried.push((block, score(&pruner.without(block)?, options.split)?));
            progress.done += 1;
            on_progress(progress);
        }
        tried.sort_by(|(_, a), (_, b)| compare(*a, *b));
        let (block, best) = tried[0];
        let name = |block| pruner.original(block).to_string();
        let names = tried.iter().map(|&(block, score)| Tried { block: name(block), score });
        let is_within = options.limit.allows(intact, best);
        let removed = is_within.then(|| name(block));
        rounds.push(Round { tried: names.collect(), removed });
        if !is_within {
            break;
        }
        pruner.remove(block)?;
        last = best;
    }
    let test = |model: &Model| -> Result<Option<Score>, StudyError> {
        let is_there = options.split != Split::Test && !dataset.is_empty(Split::Test);
        Ok(is_there.then(|| score(model, Split::Test)).transpose()?)
    };
    let pruned = pruner.model;
    let found = Prune {
        dataset: dataset.name().to_owned(),
        dataset_fingerprint: dataset.fingerprint().to_owned(),
        split: options.split,
        num_samples: dataset.len(options.split),
        precision: options.eval.precision.to_string(),
        limit: options.limit,
        rounds,
        before: Size::of(model, intact, test(model)?),
        after: Size::of(&pruned, last, test(&pruned)?),
        latencies: latencies([model, &pruned], &options.batch_sizes, options.eval.precision)?,
        fine_tuned: None,
    };
    Ok((pruned, found))
}

impl Prune {
    /// Blocks that are gone, in the order in which they went.
    pub fn removed(&self) -> impl Iterator<Item = &str> {
        self.rounds.iter().filter_map(|round| round.removed.as_deref())
    }
}

impl Size {
    fn of(model: &Model, score: Score, test: Option<Score>) -> Self {
        let summary = summary(&model.architecture);
        Self {
            architecture: summary.name,
            num_blocks: model.architecture.num_blocks(),
            num_parameters: summary.parameters,
            macs: summary.macs,
            score,
            test,
        }
    }
}

/// Rounds there are at most.
fn num_rounds(architecture: &Architecture, limit: Limit) -> Result<usize, StudyError> {
    let stages = architecture.stages().iter().enumerate();
    let blocks = identity_blocks(architecture);
    let num_removable = stages.map(|(stage, spec)| {
        blocks.iter().filter(|block| block.stage == stage).count().min(spec.blocks - 1)
    });
    let num_removable: usize = num_removable.sum();
    let unsuitable = |got, expected| {
        Err(StudyError::Unsuitable { subject: architecture.name().to_owned(), got, expected })
    };
    match limit {
        _ if num_removable == 0 => unsuitable(
            "no block can be removed".to_owned(),
            "identity shortcuts in a stage of two blocks or more".to_owned(),
        ),
        Limit::NumBlocks(number) if number > num_removable => unsuitable(
            format!("{number} blocks to remove"),
            format!(
                "at most {num_removable}, as the first one of a stage that changes shape, and one of \
                     each other stage, stays"
            ),
        ),
        Limit::NumBlocks(number) => Ok(number),
        Limit::ErrorIncrease(_) => Ok(num_removable),
    }
}

/// Blocks whose shortcut is the identity.
fn identity_blocks(architecture: &Architecture) -> Vec<BlockIndex> {
    let spans = architecture.blocks().into_iter();
    spans.filter(|span| span.has_identity_shortcut()).map(|span| span.block()).collect()
}

/// Those of them that are not alone in their stage.
fn removable(architecture: &Architecture) -> Vec<BlockIndex> {
    let mut blocks = identity_blocks(architecture);
    blocks.retain(|block| architecture.stages()[block.stage].blocks > 1);
    blocks
}

/// By error, then by loss.
fn compare(a: Score, b: Score) -> Ordering {
    a.top1_error.total_cmp(&b.top1_error).then(a.mean_loss.total_cmp(&b.mean_loss))
}

/// A network that loses blocks.
struct Pruner {
    model: Model,
    /// For each stage, what its blocks were called at first.
    original: Vec<Vec<usize>>,
}

impl Pruner {
    fn new(model: Model) -> Self {
        let stages = model.architecture.stages().iter();
        let original = stages.map(|stage| (0..stage.blocks).collect()).collect();
        Self { model, original }
    }

    /// What a block was called at first.
    fn original(&self, BlockIndex { stage, block }: BlockIndex) -> BlockIndex {
        BlockIndex { stage, block: self.original[stage][block] }
    }

    fn without(&self, block: BlockIndex) -> Result<Model, StudyError> {
        let rest = remove_blocks(&self.model.architecture, &self.model.weights, &[block])?;
        Ok(changed_model(&self.model, &rest))
    }

    fn remove(&mut self, block: BlockIndex) -> Result<(), StudyError> {
        self.model = self.without(block)?;
        self.original[block.stage].remove(block.block);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_itself_is_allowed_and_one_sample_more_is_not() {
        let score =
            |wrong: u32| Score { top1_error: f64::from(wrong) / 1e4 * 100.0, mean_loss: 1.0 };
        for before in 0..9_900 {
            let after =
                |rise| Limit::ErrorIncrease(0.5).allows(score(before), score(before + rise));
            assert!(after(50) && !after(51), "{before}");
        }
    }
}
