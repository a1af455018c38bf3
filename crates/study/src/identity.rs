mod section;

use std::sync::Arc;

use rayon::prelude::*;
use residua_data::{Dataset, EvalLoader, Preprocessing, Split, default_workers};
use residua_engine::reference::{self, Tensors, Trace};
use residua_engine::{Isa, PlanError};
use residua_format::Model;
use residua_graph::{Graph, Op, ValueId};
use residua_resnet::{BlockSpan, Family};
use residua_train::TrainError;
use serde::{Deserialize, Serialize};

use crate::StudyError;
use crate::section::mean;

/// Samples that go through the network together; does not change the result.
const SAMPLES_AT_ONCE: usize = 4;
/// A unit is changed if it differs by more than this from the input, over the input's root mean square.
const CHANGED: f64 = 1e-3;

/// What [`identity`] measures on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdentityOptions {
    /// Part of the data.
    pub split: Split,
    /// The most samples, from the first.
    pub num_samples: usize,
}

/// How near the blocks of a network are to passing their input on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    /// The network.
    pub model: String,
    /// What it was measured on; none where only the weights were looked at.
    pub data: Option<MeasuredOn>,
    /// In order.
    pub blocks: Vec<BlockIdentity>,
    /// In order, from the stem; empty without data.
    pub responses: Vec<Response>,
}

/// Samples that a network was measured on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MeasuredOn {
    /// The dataset.
    pub dataset: String,
    /// Part of it.
    pub split: String,
    /// How many, from the first.
    pub num_samples: usize,
}

/// How near a block is to passing its input on. Measures are means over samples, and none without data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BlockIdentity {
    /// The block, `layer1.0`.
    pub block: String,
    /// `‖F(x)‖ / ‖x‖`, where `F(x)` is what the branch puts out and `x` what is added to it; in a plain
    /// network the output before the last ReLU, and the input. None where these differ in shape.
    pub ratio: Option<f64>,
    /// Share of the outputs, from 0 to 1, that differ from the input at the same position by more than a
    /// thousandth of the input's root mean square. None where shapes differ.
    pub share_changed: Option<f64>,
    /// Cosine of the angle between input and output. None where shapes differ.
    pub cosine: Option<f64>,
    /// Of the branch, in order.
    pub norms: Vec<TensorNorm>,
}

/// The Euclidean norm of a tensor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TensorNorm {
    /// Its name in the block, `conv1.weight`.
    pub tensor: String,
    /// Its norm.
    pub norm: f64,
}

/// How far what a layer puts out is spread: after the batch norm that follows it, before ReLU and
/// addition (He et al. 2015, figure 7).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Response {
    /// The layer, `layer1.0.conv1`.
    pub layer: String,
    /// Standard deviation over samples, positions and channels.
    pub std: f64,
}

/// The parts of [`identity`] that need no data: norms of weights and biases.
///
/// # Errors
/// Weights that are not finite.
pub fn identity_of_weights(model: &Model) -> Result<Identity, StudyError> {
    let graph = model.architecture.to_graph()?;
    expect_finite(model)?;
    let block = |span: &BlockSpan| BlockIdentity {
        norms: norms(&graph, span, model),
        block: span.name.clone(),
        ratio: None,
        share_changed: None,
        cosine: None,
    };
    Ok(Identity {
        model: model.architecture.name().to_owned(),
        data: None,
        blocks: model.architecture.blocks().iter().map(block).collect(),
        responses: Vec::new(),
    })
}

/// Measures on data how near each block is to passing its input on, in f32 and with the running
/// statistics. Runs on the threads of the pool it is called in; the result is the same with any number.
///
/// # Errors
/// Samples that the model can't take, weights or outputs that are not finite.
pub fn identity(
    model: &Model,
    dataset: &Arc<Dataset>,
    options: &IdentityOptions,
) -> Result<Identity, StudyError> {
    let mut found = identity_of_weights(model)?;
    let graph = model.architecture.to_graph()?;
    let input = first_samples(dataset, &model.preprocessing, options)?;
    let spans = model.architecture.blocks();
    let layers = layers(&graph, model.architecture.family());
    let isa = Isa::best().map_err(PlanError::from)?;
    let tensors = Tensors::new(&model.weights).by_kernels(isa);
    let samples = measure(&graph, &tensors, &spans, &layers, &input);
    if samples.iter().any(|sample| !sample.is_finite) {
        let num_weights = model.num_non_finite();
        return Err(TrainError::NotFiniteOutput { num_weights }.into());
    }
    for (i, block) in found.blocks.iter_mut().enumerate() {
        let over_samples = |measure: fn(&OfBlock) -> Option<f64>| {
            let values: Vec<f64> =
                samples.iter().filter_map(|sample| measure(&sample.blocks[i])).collect();
            (!values.is_empty()).then(|| mean(&values))
        };
        block.ratio = over_samples(|of| of.ratio);
        block.share_changed = over_samples(|of| of.share_changed);
        block.cosine = over_samples(|of| of.cosine);
    }
    let response = |(i, (layer, _)): (usize, &(String, ValueId))| {
        let moments = samples.iter().map(|sample| sample.responses[i]);
        let moments = moments.reduce(Moments::merge).unwrap_or_default();
        Response { layer: layer.clone(), std: moments.std() }
    };
    found.responses = layers.iter().enumerate().map(response).collect();
    found.data = Some(MeasuredOn {
        dataset: dataset.name().to_owned(),
        split: options.split.to_string(),
        num_samples: samples.len(),
    });
    Ok(found)
}

fn expect_finite(model: &Model) -> Result<(), StudyError> {
    match model.num_non_finite() {
        0 => Ok(()),
        number => Err(StudyError::Unsuitable {
            subject: model.architecture.name().to_owned(),
            got: format!("{number} weights are NaN or infinite"),
            expected: "numbers".to_owned(),
        }),
    }
}

/// Norms of what the branch of a block has.
fn norms(graph: &Graph, span: &BlockSpan, model: &Model) -> Vec<TensorNorm> {
    let shortcut = format!("{}.downsample", span.name);
    let nodes = graph.nodes()[span.nodes.clone()].iter();
    let branch = nodes.filter(|node| !node.name.starts_with(&shortcut));
    let norm = |param: residua_graph::ParamId| {
        let spec = &graph.params()[param.index()];
        let name = spec.name.strip_prefix(&span.name).unwrap_or(&spec.name);
        TensorNorm {
            tensor: name.trim_start_matches('.').to_owned(),
            norm: norm(&model.weights.params[spec.range()]),
        }
    };
    branch.flat_map(|node| node.op.params().map(norm)).collect()
}

/// The samples as the network gets them, NHWC.
fn first_samples(
    dataset: &Arc<Dataset>,
    preprocessing: &Preprocessing,
    options: &IdentityOptions,
) -> Result<Vec<f32>, StudyError> {
    let &IdentityOptions { split, num_samples } = options;
    if num_samples == 0 {
        return Err(StudyError::Unsuitable {
            subject: "samples".to_owned(),
            got: "0".to_owned(),
            expected: "at least 1".to_owned(),
        });
    }
    let (batch_size, workers) = (num_samples.min(64), default_workers());
    let mut loader = EvalLoader::new(dataset, split, batch_size, workers, Some(preprocessing))?;
    let input_len = num_samples * preprocessing.input_len();
    let mut input = Vec::new();
    while input.len() < input_len
        && let Some(batch) = loader.next()?
    {
        input.extend_from_slice(&batch.input);
        loader.recycle(batch);
    }
    input.truncate(input_len);
    Ok(input)
}

/// Names of the layers with weights, but for those of shortcuts and the last one, and what they put out.
fn layers(graph: &Graph, family: Family) -> Vec<(String, ValueId)> {
    let is_layer = |op: &Op| matches!(op, Op::Conv2d { .. } | Op::Linear { .. });
    let is_norm = |op: &Op| matches!(op, Op::BatchNorm(_));
    let nodes = graph.nodes().iter().filter(|node| is_layer(&node.op));
    let nodes = nodes.filter(|node| node.name != "fc" && !node.name.contains("downsample"));
    let layer = |node: &residua_graph::Node| {
        // Batch norms of the pre-activation family belong to the layer behind them.
        let norm = graph.nodes().iter().find(|next| {
            family != Family::Preact && is_norm(&next.op) && next.inputs[0] == node.output
        });
        (node.name.clone(), norm.map_or(node.output, |norm| norm.output))
    };
    nodes.map(layer).collect()
}

/// What was measured on one sample.
struct OfSample {
    blocks: Vec<OfBlock>,
    responses: Vec<Moments>,
    is_finite: bool,
}

struct OfBlock {
    ratio: Option<f64>,
    share_changed: Option<f64>,
    cosine: Option<f64>,
}

/// Samples in their order; they don't influence each other.
fn measure(
    graph: &Graph,
    tensors: &Tensors<f32>,
    spans: &[BlockSpan],
    layers: &[(String, ValueId)],
    input: &[f32],
) -> Vec<OfSample> {
    let sample_len = graph.shape(graph.input()).len();
    let chunks = input.par_chunks(SAMPLES_AT_ONCE * sample_len).map(|input| {
        let trace = reference::forward_eval(graph, tensors, input);
        let of_sample = |sample| {
            let values = OneSample { graph, trace: &trace, sample };
            OfSample {
                blocks: spans.iter().map(|span| values.block(span)).collect(),
                responses: layers.iter().map(|(_, id)| Moments::new(values.get(*id))).collect(),
                is_finite: values.get(graph.output()).iter().all(|logit| logit.is_finite()),
            }
        };
        (0..input.len() / sample_len).map(of_sample).collect::<Vec<_>>()
    });
    chunks.collect::<Vec<_>>().into_iter().flatten().collect()
}

/// One sample of a trace.
struct OneSample<'a> {
    graph: &'a Graph,
    trace: &'a Trace<f32>,
    sample: usize,
}

impl OneSample<'_> {
    fn get(&self, id: ValueId) -> &[f32] {
        let len = self.graph.shape(id).len();
        &self.trace.value(id)[self.sample * len..][..len]
    }

    fn block(&self, span: &BlockSpan) -> OfBlock {
        let same_shape = |id| self.graph.shape(id) == self.graph.shape(span.input);
        let added = match span.shortcut {
            Some(shortcut) => Some(shortcut),
            None => same_shape(span.branch).then_some(span.input),
        };
        let ends = same_shape(span.output).then(|| (self.get(span.input), self.get(span.output)));
        OfBlock {
            ratio: added.and_then(|added| ratio(self.get(span.branch), self.get(added))),
            share_changed: ends.map(|(input, output)| share_changed(input, output)),
            cosine: ends.and_then(|(input, output)| cosine(input, output)),
        }
    }
}

pub(crate) fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

pub(crate) fn norm(values: &[f32]) -> f64 {
    dot(values, values).sqrt()
}

/// None over zeros.
fn ratio(branch: &[f32], added: &[f32]) -> Option<f64> {
    let norm_added = norm(added);
    (norm_added > 0.0).then(|| norm(branch) / norm_added)
}

fn share_changed(input: &[f32], output: &[f32]) -> f64 {
    let root_mean_square = norm(input) / (input.len() as f64).sqrt();
    let is_changed =
        |(&x, &y): (&f32, &f32)| (f64::from(x) - f64::from(y)).abs() > CHANGED * root_mean_square;
    let num_changed = input.iter().zip(output).filter(|&pair| is_changed(pair)).count();
    num_changed as f64 / input.len() as f64
}

/// None of zeros, which have no direction.
pub(crate) fn cosine(a: &[f32], b: &[f32]) -> Option<f64> {
    let norms = norm(a) * norm(b);
    (norms > 0.0).then(|| (dot(a, b) / norms).clamp(-1.0, 1.0))
}

/// Count, mean and sum of squared deviations.
#[derive(Debug, Clone, Copy, Default)]
struct Moments {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Moments {
    fn new(values: &[f32]) -> Self {
        let count = values.len() as f64;
        let mean = values.iter().map(|&value| f64::from(value)).sum::<f64>() / count;
        let squares = values.iter().map(|&value| (f64::from(value) - mean).powi(2)).sum();
        Self { count, mean, squares }
    }

    /// Those of all values (Chan, Golub & LeVeque 1983).
    fn merge(self, other: Self) -> Self {
        let count = self.count + other.count;
        let shift = other.mean - self.mean;
        Self {
            count,
            mean: self.mean + shift * other.count / count,
            squares: self.squares
                + other.squares
                + shift * shift * self.count * other.count / count,
        }
    }

    fn std(self) -> f64 {
        (self.squares / self.count).sqrt()
    }
}
