use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::Arc;

use residua_data::{Dataset, OnProgress, Progress};
use residua_train::{BranchNorms, MetricsRecord, Recipe, Summary, read_metrics};

use super::decay::branch_ratios;
use super::{Compare, Compared, CurvePoint, Ended, Errors, Network};
use crate::section::mean;
use crate::{Diverged, RunState, StudyError, StudyRun};

/// Networks that are to be compared, and the folder of their runs.
///
/// Each run has a folder of its own there, named after it. Runs that are finished stay as they are, so
/// that networks and seeds can be added; one that was broken off goes on from its checkpoint.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// What all runs have in common; network, weight decay and seed are those of each run.
    pub recipe: Recipe,
    /// What is compared.
    pub networks: Vec<Compared>,
    /// Each network is trained with each of them.
    pub seeds: Vec<u64>,
    /// Where the runs are.
    pub folder: PathBuf,
}

impl Comparison {
    /// Its runs: all of one seed first, so that a comparison that is cut short has every network.
    pub fn runs(&self) -> Vec<StudyRun> {
        let of_seed =
            |&seed: &u64| self.networks.iter().map(move |network| self.run(network, seed));
        self.seeds.iter().flat_map(of_seed).collect()
    }

    fn run(&self, network: &Compared, seed: u64) -> StudyRun {
        let Compared { architecture, weight_decay } = network;
        let name = format!("{}-wd{weight_decay}-s{seed}", architecture.name());
        let recipe = Recipe {
            architecture: architecture.clone(),
            weight_decay: *weight_decay,
            seed,
            ..self.recipe.clone()
        };
        StudyRun::new(self.folder.join(name), recipe)
    }

    fn has_several_decays(&self) -> bool {
        let mut decays = self.networks.iter().map(|network| network.weight_decay);
        let first = decays.next();
        decays.any(|decay| Some(decay) != first)
    }

    /// Steps after which runs keep a model, as [`RunOptions::keep_every`] takes them: where weight decays are
    /// compared, so that their blocks can be measured.
    ///
    /// [`RunOptions::keep_every`]: residua_train::RunOptions::keep_every
    pub fn keep_every(&self, dataset: &Dataset) -> Option<NonZeroU64> {
        const NUM_MODELS: u64 = 8;
        let steps = self.recipe.total_steps(dataset).div_ceil(NUM_MODELS);
        NonZeroU64::new(steps).filter(|_| self.has_several_decays())
    }

    /// What is known so far. Blocks of models that were kept are measured, on the threads of the pool it is
    /// called in.
    ///
    /// # Errors
    /// Files of a run that can't be read.
    pub fn result(
        &self,
        dataset: &Arc<Dataset>,
        on_progress: OnProgress<'_>,
    ) -> Result<Compare, StudyError> {
        let (mut networks, total) = (Vec::new(), self.networks.len());
        for (done, network) in self.networks.iter().enumerate() {
            on_progress(Progress { done, total });
            networks.push(self.network(network, dataset)?);
        }
        let num_ended: usize = networks.iter().map(|network| network.runs.len()).sum();
        let recipe = &self.recipe;
        let steps = recipe.total_steps(dataset);
        Ok(Compare {
            dataset: dataset.name().to_owned(),
            dataset_fingerprint: dataset.fingerprint().to_owned(),
            recipe: self.runs().first().map_or(recipe, |run| &run.recipe).to_toml()?,
            lr: recipe.lr,
            batch_size: recipe.batch_size,
            steps,
            epochs: steps as f64 / recipe.steps_per_epoch(dataset) as f64,
            precision: recipe.precision.to_string(),
            num_missing: self.networks.len() * self.seeds.len() - num_ended,
            networks,
        })
    }

    fn network(&self, network: &Compared, dataset: &Arc<Dataset>) -> Result<Network, StudyError> {
        let (mut runs, mut records) = (Vec::new(), Vec::new());
        let mut ratios = Vec::new();
        for &seed in &self.seeds {
            let run = self.run(network, seed);
            let ended =
                |errors, steps, seconds| Ended { seed, lr: self.recipe.lr, errors, steps, seconds };
            match run.state(dataset)? {
                RunState::Finished(summary) => {
                    let Summary { steps, seconds, .. } = *summary;
                    runs.push(ended(Some(Errors::from(&*summary)), steps, seconds));
                    if records.is_empty() {
                        ratios = branch_ratios(&run.folder, dataset)?;
                    }
                    records.push(read_metrics(&run.folder.join("metrics.jsonl"))?);
                }
                RunState::Diverged(Diverged { step, .. }) => runs.push(ended(None, step, 0.0)),
                RunState::Missing | RunState::Begun => {}
            }
        }
        let Compared { architecture, weight_decay } = network;
        let graph = architecture.to_graph()?;
        let name = match self.has_several_decays() {
            true => format!("{}, decay {weight_decay}", architecture.name()),
            false => architecture.name().to_owned(),
        };
        Ok(Network {
            name,
            family: architecture.family(),
            shortcut: architecture.shortcut(),
            norm: architecture.norm(),
            block: Some(architecture.block()),
            depth: architecture.depth(),
            num_parameters: graph.num_parameters() as u64,
            macs: graph.total_macs(),
            weight_decay: *weight_decay,
            runs,
            curve: mean_curve(&records),
            branch_ratios: ratios,
        })
    }
}

/// The mean over blocks.
fn mean_norms(blocks: &[BranchNorms]) -> Option<BranchNorms> {
    let over_blocks = |norm: fn(&BranchNorms) -> Option<f64>| {
        let norms: Option<Vec<f64>> = blocks.iter().map(norm).collect();
        norms.filter(|norms| !norms.is_empty()).map(|norms| mean(&norms))
    };
    Some(BranchNorms {
        weight: over_blocks(|norms| Some(norms.weight))?,
        norm_weight: over_blocks(|norms| norms.norm_weight),
        bias: over_blocks(|norms| norms.bias),
    })
}

/// The mean over runs whose records are at the same steps.
pub(crate) fn mean_curve(runs: &[Vec<MetricsRecord>]) -> Vec<CurvePoint> {
    let Some((first, others)) = runs.split_first() else { return Vec::new() };
    let point = |(i, record): (usize, &MetricsRecord)| {
        let same_step =
            |run: &&Vec<MetricsRecord>| run.get(i).is_some_and(|r| r.step == record.step);
        let records: Vec<&MetricsRecord> = std::iter::once(record)
            .chain(others.iter().filter(same_step).map(|run| &run[i]))
            .collect();
        let mean = |sum: f64| sum / records.len() as f64;
        let dev: Option<f64> = records.iter().map(|record| record.dev_error).sum();
        CurvePoint {
            step: record.step,
            train_error: mean(records.iter().map(|record| record.train_error).sum()),
            dev_error: dev.map(mean),
            branch_norms: mean_norms(&record.branch_norms),
        }
    };
    first.iter().enumerate().map(point).collect()
}
