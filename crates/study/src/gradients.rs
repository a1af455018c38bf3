mod section;

use std::sync::Arc;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;
use residua_data::{
    Augment, Batch, Dataset, LoaderOptions, OnProgress, ProgressCount, TrainLoader, default_workers,
};
use residua_engine::reference::{self, Tensors};
use residua_engine::{Isa, PlanError, cross_entropy};
use residua_format::Model;
use residua_graph::{Graph, Weights};
use residua_resnet::{Architecture, BlockSpan, InitOptions, init_weights};
use residua_train::match_classes;
use serde::{Deserialize, Serialize};

use crate::StudyError;
use crate::identity::{cosine, norm};
use crate::section::mean;

/// Distances along the line at which gradients are compared, from 1.
const NUM_LAGS: usize = 16;

/// A network whose gradients are measured.
#[derive(Debug, Clone)]
pub enum GradientSubject {
    /// As it is before training.
    Initial(Architecture),
    /// As it is after.
    Trained {
        /// What it is called.
        name: String,
        /// The network.
        model: Box<Model>,
    },
    /// As it is on the way: one of several moments of the same training.
    OnTheWay {
        /// What the network is called at each of them.
        name: String,
        /// The network.
        model: Box<Model>,
    },
}

/// How [`gradients`] measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GradientOptions {
    /// Training samples of which the loss is taken.
    pub batch_size: usize,
    /// Inputs on the line between two samples.
    pub num_points: usize,
    /// Repetitions: with other initial weights, samples and projections.
    pub num_seeds: u64,
}

impl Default for GradientOptions {
    fn default() -> Self {
        Self { batch_size: 64, num_points: 64, num_seeds: 1 }
    }
}

/// Gradients of networks: how their size changes over the blocks, and how alike they are at neighbouring
/// inputs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GradientStudy {
    /// Where the samples are from.
    pub dataset: String,
    /// Samples of which the loss is taken.
    pub batch_size: usize,
    /// Inputs on the line between two samples.
    pub num_points: usize,
    /// How those were trained that are measured on the way, if any are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training: Option<GradientTraining>,
    /// In the order in which they were named.
    pub networks: Vec<NetworkGradients>,
}

/// How networks were trained while their gradients were measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GradientTraining {
    /// Number format of activations; not in records of before 2026-11-22.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<String>,
    /// Steps.
    pub steps: u64,
    /// Learning rate.
    pub lr: f64,
    /// Samples in a step.
    pub batch_size: usize,
}

/// Gradients of one network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NetworkGradients {
    /// The network.
    pub network: String,
    /// Whether it is trained, or as initialised.
    pub trained: bool,
    /// Of one that is measured on the way: steps made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<u64>,
    /// Its blocks, in order.
    pub blocks: Vec<String>,
    /// One for each seed.
    pub runs: Vec<GradientRun>,
}

/// Gradients of one network with one seed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GradientRun {
    /// The seed.
    pub seed: u64,
    /// For each block the Euclidean norm, over the batch, of the loss's gradient at its input.
    pub norms: Vec<f64>,
    /// For the lags 1, 2, …: the mean cosine between gradients at inputs so far apart, after the mean of
    /// all has been subtracted. None where these are 0.
    pub autocorrelation: Vec<Option<f64>>,
}

/// Measures the gradient of the loss at each block's input over a batch of training samples, and how alike
/// the gradients of a random projection of the logits are at neighbouring inputs on the line between two
/// samples ("shattered gradients", Balduzzi et al. 2017, arXiv 1702.08591). In f32, batch norms in training
/// mode: the inputs on the line are a batch. Runs on the threads of the pool it is called in, and tells
/// `on_progress` after each of the two measures of each network with each seed. Moments of a training whose
/// gradients are not finite are left out.
///
/// # Errors
/// Settings out of range; networks that the data do not fit; gradients of others that are not finite.
pub fn gradients(
    subjects: &[GradientSubject],
    dataset: &Arc<Dataset>,
    options: &GradientOptions,
    on_progress: OnProgress<'_>,
) -> Result<GradientStudy, StudyError> {
    check(options)?;
    let prepared: Vec<Prepared<'_>> =
        subjects.iter().map(|it| Prepared::new(it, dataset)).collect::<Result<_, _>>()?;
    let seeds = 0..options.num_seeds;
    let batches: Vec<Batch> = seeds
        .clone()
        .map(|seed| batch(dataset, options.batch_size, seed))
        .collect::<Result<_, _>>()?;
    let pairs: Vec<_> =
        prepared.iter().flat_map(|it| seeds.clone().map(move |seed| (it, seed))).collect();
    let count = ProgressCount::new(2 * pairs.len(), on_progress);
    let run = |&(it, seed): &(&Prepared<'_>, u64)| {
        it.run(&batches[seed as usize], options.num_points, seed, &count)
    };
    let runs: Vec<Option<GradientRun>> =
        pairs.par_iter().with_max_len(1).map(run).collect::<Result<_, _>>()?;
    let networks = prepared.iter().zip(runs.chunks_exact(options.num_seeds as usize));
    let network = |(it, runs): (&Prepared<'_>, &[Option<GradientRun>])| {
        Some(NetworkGradients {
            network: it.name.clone(),
            trained: it.trained.is_some(),
            step: it.step,
            blocks: it.spans.iter().map(|span| span.name.clone()).collect(),
            runs: runs.iter().cloned().collect::<Option<_>>()?,
        })
    };
    Ok(GradientStudy {
        dataset: dataset.name().to_owned(),
        batch_size: options.batch_size,
        num_points: options.num_points,
        training: None,
        networks: networks.filter_map(network).collect(),
    })
}

fn check(options: &GradientOptions) -> Result<(), StudyError> {
    let &GradientOptions { batch_size, num_points, num_seeds } = options;
    let limits = [
        ("batch size", batch_size, 2),
        ("points on the line", num_points, NUM_LAGS + 1),
        ("seeds", num_seeds as usize, 1),
    ];
    match limits.iter().find(|(_, got, least)| got < least) {
        None => Ok(()),
        Some((subject, got, least)) => {
            Err(unsuitable(subject, got.to_string(), format!("at least {least}")))
        }
    }
}

fn unsuitable(subject: &str, got: String, expected: String) -> StudyError {
    StudyError::Unsuitable { subject: subject.to_owned(), got, expected }
}

fn batch(dataset: &Arc<Dataset>, batch_size: usize, seed: u64) -> Result<Batch, StudyError> {
    let (augment, workers) = (Augment::None, default_workers());
    let options = LoaderOptions { batch_size, seed, augment, image_size: None, workers };
    Ok(TrainLoader::new(dataset, &options, 0)?.next()?)
}

/// A network that fits the data.
struct Prepared<'a> {
    name: String,
    architecture: &'a Architecture,
    graph: Graph,
    spans: Vec<BlockSpan>,
    trained: Option<&'a Weights>,
    step: Option<u64>,
    /// For each class of the dataset, the network's.
    labels: Vec<u32>,
}

impl<'a> Prepared<'a> {
    fn new(subject: &'a GradientSubject, dataset: &Dataset) -> Result<Self, StudyError> {
        let (name, architecture, model) = match subject {
            GradientSubject::Initial(architecture) => (architecture.name(), architecture, None),
            GradientSubject::Trained { name, model }
            | GradientSubject::OnTheWay { name, model } => {
                (name.as_str(), &model.architecture, Some(&**model))
            }
        };
        let step = match subject {
            GradientSubject::OnTheWay { model, .. } => Some(model.provenance.steps),
            _ => None,
        };
        let num_classes = dataset.classes().len();
        let labels = match model {
            None if architecture.classes() == num_classes => (0..num_classes as u32).collect(),
            None => {
                let got = format!("{} classes", architecture.classes());
                return Err(unsuitable(name, got, format!("the {num_classes} of the data")));
            }
            Some(model) => match_classes(&model.classes, dataset)?,
        };
        if model.is_some_and(|model| model.preprocessing != *dataset.preprocessing()) {
            let got = "other preprocessing than that of the data".to_owned();
            let expected = "the data, and the splits, that it was trained on".to_owned();
            return Err(unsuitable(name, got, expected));
        }
        let (graph, [c, h, w]) = (architecture.to_graph()?, dataset.sample_shape());
        let input = graph.shape(graph.input());
        if input.len() != c * h * w {
            let got = format!("takes inputs of {input}");
            return Err(unsuitable(name, got, format!("{c}x{h}x{w} as of the data")));
        }
        let (name, spans) = (name.to_owned(), architecture.blocks());
        let trained = model.map(|model| &model.weights);
        Ok(Self { name, architecture, graph, spans, trained, step, labels })
    }

    /// Nothing of a training on its way that has diverged.
    fn run(
        &self,
        batch: &Batch,
        num_points: usize,
        seed: u64,
        count: &ProgressCount<'_>,
    ) -> Result<Option<GradientRun>, StudyError> {
        let options = InitOptions { seed, ..InitOptions::default() };
        let tensors = Tensors::new(&match self.trained {
            Some(weights) => weights.clone(),
            None => init_weights(self.architecture, &self.graph, &options),
        });
        let tensors = tensors.by_kernels(Isa::best().map_err(PlanError::from)?);
        let sample_len = batch.input.len() / batch.len();
        let points = line(&batch.input[..2 * sample_len], num_points);
        let (norms, autocorrelation) = rayon::join(
            || {
                let norms = self.norms(tensors.clone(), batch);
                count.add_one();
                norms
            },
            || {
                let gradients = self.input_gradients(tensors.clone(), &points, seed);
                let autocorrelation = autocorrelation(&gradients, sample_len);
                count.add_one();
                autocorrelation
            },
        );
        if !norms.iter().all(|norm| norm.is_finite()) {
            if self.step.is_some() {
                return Ok(None);
            }
            let got = "gradients that are not finite".to_owned();
            return Err(unsuitable(&self.name, got, "numbers".to_owned()));
        }
        Ok(Some(GradientRun { seed, norms, autocorrelation }))
    }

    /// Of the gradient of the mean loss at the input of each block.
    fn norms(&self, mut tensors: Tensors<f32>, batch: &Batch) -> Vec<f64> {
        let trace = reference::forward_train(&self.graph, &mut tensors, &batch.input);
        let labels: Vec<u32> =
            batch.labels.iter().map(|&label| self.labels[label as usize]).collect();
        let mut losses = vec![0.0; labels.len()];
        let mut grad_logits = vec![0.0; trace.output().len()];
        let num_classes = self.labels.len();
        cross_entropy(trace.output(), &labels, num_classes, 0.0, &mut losses, &mut grad_logits);
        let grads = reference::backward(&self.graph, &tensors, &trace, &grad_logits);
        self.spans.iter().map(|span| norm(grads.value(span.input))).collect()
    }

    /// Of a random projection of the logits, at each input.
    fn input_gradients(&self, mut tensors: Tensors<f32>, input: &[f32], seed: u64) -> Vec<f32> {
        let trace = reference::forward_train(&self.graph, &mut tensors, input);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let projection: Vec<f32> =
            (0..self.labels.len()).map(|_| StandardNormal.sample(&mut rng)).collect();
        let grad_logits = projection.repeat(trace.output().len() / projection.len());
        reference::backward(&self.graph, &tensors, &trace, &grad_logits).input
    }
}

/// `x + t/n·(y − x)` for `t` from 0, of the two samples `x` and `y`.
fn line(ends: &[f32], num_points: usize) -> Vec<f32> {
    let (x, y) = ends.split_at(ends.len() / 2);
    let point = |t: usize| {
        let share = t as f32 / num_points as f32;
        x.iter().zip(y).map(move |(x, y)| x + share * (y - x))
    };
    (0..num_points).flat_map(point).collect()
}

/// Mean cosine between vectors that are 1, 2, … places apart, after their mean has been subtracted.
fn autocorrelation(vectors: &[f32], len: usize) -> Vec<Option<f64>> {
    let num = vectors.len() / len;
    let mut centre = vec![0.0_f64; len];
    for vector in vectors.chunks_exact(len) {
        centre.iter_mut().zip(vector).for_each(|(sum, &value)| *sum += f64::from(value));
    }
    let minus_mean = |vector: &[f32]| -> Vec<f32> {
        let pairs = vector.iter().zip(&centre);
        pairs.map(|(&value, sum)| (f64::from(value) - sum / num as f64) as f32).collect()
    };
    let centred: Vec<Vec<f32>> = vectors.chunks_exact(len).map(minus_mean).collect();
    let at_lag = |lag: usize| {
        let pairs = centred.iter().zip(&centred[lag..]);
        let cosines: Vec<f64> = pairs.filter_map(|(a, b)| cosine(a, b)).collect();
        (!cosines.is_empty()).then(|| mean(&cosines))
    };
    (1..=NUM_LAGS).map(at_lag).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn correlations_are_those_of_vectors_without_their_mean() {
        let mean = [3.0, -1.0];
        let alternating: Vec<f32> =
            (0..20).flat_map(|i| if i % 2 == 0 { [4.0, 1.0] } else { [2.0, -3.0] }).collect();
        let found = autocorrelation(&alternating, mean.len());
        assert_eq!(found.len(), NUM_LAGS);
        for (i, value) in found.iter().enumerate() {
            let expected = if i % 2 == 0 { -1.0 } else { 1.0 };
            assert!((value.unwrap() - expected).abs() < 1e-12, "lag {}: {value:?}", i + 1);
        }
        assert_eq!(autocorrelation(&mean.repeat(20), 2), vec![None; NUM_LAGS]);
    }

    #[test]
    fn the_line_starts_at_one_sample_and_ends_before_the_other() {
        assert_eq!(line(&[0.0, 8.0, 4.0, 0.0], 4), [0.0, 8.0, 1.0, 6.0, 2.0, 4.0, 3.0, 2.0]);
    }
}
