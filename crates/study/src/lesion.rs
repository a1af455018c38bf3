mod section;

use std::iter::repeat_n;
use std::sync::Arc;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use residua_data::{Dataset, OnProgress, Progress, Split};
use residua_format::Model;
use residua_resnet::{
    Architecture, BlockIndex, Shortcut, SurgeryError, layers_in_blocks, pass_through,
    remove_blocks, silence_block, swap_blocks, swap_layers, swappable_blocks, swappable_layers,
};
use residua_train::EvalOptions;
use serde::{Deserialize, Serialize};

use crate::{Score, StudyError, Subject};

/// What becomes of networks whose blocks are deleted or swapped, without training after it (Veit, Wilber &
/// Belongie 2016, "Residual Networks Behave Like Ensembles of Relatively Shallow Networks", arXiv
/// 1605.06431).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Lesion {
    /// Name of the dataset.
    pub dataset: String,
    /// SHA-256 over the dataset's content.
    pub dataset_fingerprint: String,
    /// What it is measured on.
    pub split: Split,
    /// Samples in it.
    pub num_samples: usize,
    /// Classes of the dataset.
    pub num_classes: usize,
    /// Precision of the computation.
    pub precision: String,
    /// What decided the random sets.
    pub seed: u64,
    /// One after the other, in the order given.
    pub networks: Vec<LesionedNetwork>,
}

/// What becomes of one network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LesionedNetwork {
    /// What it is called.
    pub name: String,
    /// Name of its architecture.
    pub architecture: String,
    /// SHA-256 of its weights.
    pub weights_sha256: String,
    /// With nothing deleted.
    pub intact: Score,
    /// One block deleted at a time.
    pub blocks: Vec<Deleted>,
    /// One layer deleted at a time, of a plain network.
    pub layers: Vec<Deleted>,
    /// What can't be deleted.
    pub left_out: Vec<LeftOut>,
    /// Random sets of blocks deleted.
    pub random: Vec<RandomDeletion>,
    /// Random sets of layers deleted, of a plain network.
    #[serde(default)]
    pub random_layers: Vec<RandomDeletion>,
    /// Neighbouring blocks swapped.
    pub swaps: Vec<Swapped>,
    /// Neighbouring layers swapped, of a plain network.
    #[serde(default)]
    pub layer_swaps: Vec<Swapped>,
}

/// A network without a block or a layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Deleted {
    /// The block, `layer2.0`, or the layer, `layer2.0.conv1`.
    pub name: String,
    /// What is left in its place.
    pub left: Left,
    /// How well the rest does.
    #[serde(flatten)]
    pub score: Score,
}

/// What is left of a deleted block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Left {
    /// Its input goes straight on.
    Input,
    /// The shortcut that subsamples its input and pads it with zero channels.
    ZeroPad,
    /// The learned shortcut.
    Projection,
}

/// A block or layer that can't be deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// The block or layer.
    pub name: String,
    /// Why.
    pub reason: String,
}

/// A network without a random set of blocks or layers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RandomDeletion {
    /// The blocks or layers, in order.
    #[serde(alias = "blocks")]
    pub parts: Vec<String>,
    /// How well the rest does.
    #[serde(flatten)]
    pub score: Score,
}

/// A network with two blocks or layers swapped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Swapped {
    /// The blocks or layers.
    #[serde(alias = "blocks")]
    pub parts: [String; 2],
    /// How well it does.
    #[serde(flatten)]
    pub score: Score,
}

/// What is deleted, and how the rest is measured.
#[derive(Debug, Clone, PartialEq)]
pub struct LesionOptions {
    /// What to measure on.
    pub split: Split,
    /// How.
    pub eval: EvalOptions,
    /// Numbers of blocks, and of a plain network's layers, that are deleted together.
    pub random: Vec<usize>,
    /// Random sets for each of these numbers.
    pub draws: usize,
    /// Whether neighbouring blocks, and a plain network's layers, are swapped.
    pub swaps: bool,
    /// Decides the random sets.
    pub seed: u64,
}

/// Deletes each block of each network in turn and measures the rest. Of a network with shortcuts a block's
/// branch is silenced, so that the shortcut is left; of a plain one blocks are taken out and layers replaced
/// by the identity where input and output have the same shape.
///
/// # Errors
/// More blocks to delete at once than a network has; models that can't be evaluated on the data.
pub fn lesion(
    subjects: &[Subject<'_>],
    dataset: &Arc<Dataset>,
    options: &LesionOptions,
    on_progress: OnProgress<'_>,
) -> Result<Lesion, StudyError> {
    let with_cases = |subject| Ok((subject, cases(subject, options)?));
    let subjects: Vec<_> = subjects.iter().map(with_cases).collect::<Result<_, StudyError>>()?;
    let total = subjects.iter().map(|(_, cases)| cases.len()).sum();
    let mut done = 0;
    let mut networks = Vec::new();
    for (subject, cases) in subjects {
        let mut measured = Vec::new();
        for case in cases {
            let model = case.apply(subject.model)?;
            let score = Score::of(&model, dataset, options.split, &options.eval)?;
            measured.push((case, score));
            done += 1;
            on_progress(Progress { done, total });
        }
        networks.push(LesionedNetwork::new(subject, measured)?);
    }
    Ok(Lesion {
        dataset: dataset.name().to_owned(),
        dataset_fingerprint: dataset.fingerprint().to_owned(),
        split: options.split,
        num_samples: dataset.len(options.split),
        num_classes: dataset.classes().len(),
        precision: options.eval.precision.to_string(),
        seed: options.seed,
        networks,
    })
}

/// A change that is measured.
#[derive(Debug, Clone, PartialEq)]
enum Case {
    Intact,
    Block(BlockIndex),
    Layer(String),
    Random(Vec<BlockIndex>),
    RandomLayers(Vec<String>),
    Swap([BlockIndex; 2]),
    LayerSwap([String; 2]),
}

impl Case {
    fn apply(&self, model: &Model) -> Result<Model, SurgeryError> {
        let Model { architecture, weights, .. } = model;
        let weights = match self {
            Self::Intact => weights.clone(),
            Self::Block(block) => return delete(model, &[*block]),
            Self::Random(blocks) => return delete(model, blocks),
            Self::Layer(layer) => pass_through(architecture, weights, layer)?,
            Self::RandomLayers(layers) => {
                let pass = |weights, layer: &String| pass_through(architecture, &weights, layer);
                layers.iter().try_fold(weights.clone(), pass)?
            }
            Self::Swap([a, b]) => swap_blocks(architecture, weights, *a, *b)?,
            Self::LayerSwap([a, b]) => swap_layers(architecture, weights, a, b)?,
        };
        Ok(Model { weights, ..model.clone() })
    }
}

/// The model without these blocks: silenced where there are shortcuts, else taken out.
fn delete(model: &Model, blocks: &[BlockIndex]) -> Result<Model, SurgeryError> {
    let Model { architecture, weights, .. } = model;
    if architecture.shortcut() == Shortcut::None {
        let rest = remove_blocks(architecture, weights, blocks)?;
        let (architecture, weights) = (rest.architecture, rest.weights);
        return Ok(Model { architecture, weights, ..model.clone() });
    }
    let mut model = model.clone();
    for &block in blocks {
        model.weights = silence_block(&model.architecture, &model.weights, block)?;
    }
    Ok(model)
}

/// All that is measured of a network, the intact one first.
fn cases(subject: &Subject<'_>, options: &LesionOptions) -> Result<Vec<Case>, StudyError> {
    let architecture = &subject.model.architecture;
    let deletable = deletable(architecture);
    let layers = passable_layers(architecture);
    let mut cases = vec![Case::Intact];
    cases.extend(deletable.iter().copied().map(Case::Block));
    cases.extend(layers.iter().cloned().map(Case::Layer));
    let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
    let sizes = || options.random.iter().flat_map(|&size| repeat_n(size, options.draws));
    for size in sizes() {
        let blocks = draw(architecture, &deletable, size, &mut rng);
        if blocks.len() < size {
            return Err(StudyError::Unsuitable {
                subject: subject.name.to_owned(),
                got: format!("{size} blocks to delete at once"),
                expected: format!("at most {}", blocks.len()),
            });
        }
        cases.push(Case::Random(blocks));
    }
    if !layers.is_empty() {
        cases.extend(sizes().map(|size| Case::RandomLayers(draw_layers(&layers, size, &mut rng))));
    }
    if options.swaps {
        cases.extend(swappable_blocks(architecture).into_iter().map(Case::Swap));
        if architecture.shortcut() == Shortcut::None {
            cases.extend(swappable_layers(architecture).into_iter().map(Case::LayerSwap));
        }
    }
    Ok(cases)
}

/// Layers of a plain network that can be deleted, also together.
fn passable_layers(architecture: &Architecture) -> Vec<String> {
    if architecture.shortcut() != Shortcut::None {
        return Vec::new();
    }
    let layers = layers_in_blocks(architecture).into_iter();
    layers.filter(|(_, obstacle)| obstacle.is_none()).map(|(name, _)| name).collect()
}

/// A random set of layers, in order. A plain network has more of them than blocks that can be deleted.
fn draw_layers(layers: &[String], size: usize, rng: &mut ChaCha8Rng) -> Vec<String> {
    let mut drawn = rand::seq::index::sample(rng, layers.len(), size).into_vec();
    drawn.sort_unstable();
    drawn.into_iter().map(|i| layers[i].clone()).collect()
}

/// Blocks that can be deleted one at a time.
fn deletable(architecture: &Architecture) -> Vec<BlockIndex> {
    let blocks = architecture.blocks().into_iter().map(|span| span.block());
    blocks.filter(|block| obstacle(architecture, *block).is_none()).collect()
}

/// Why a block can't be deleted.
fn obstacle(architecture: &Architecture, block: BlockIndex) -> Option<&'static str> {
    if architecture.shortcut() != Shortcut::None {
        return None;
    }
    let graph = architecture.to_graph().expect("checked when it was made");
    let spans = architecture.blocks();
    let span = spans.iter().find(|span| span.block() == block).expect("one of its blocks");
    if graph.shape(span.input) != graph.shape(span.output) {
        return Some("its output has another shape than its input");
    }
    (architecture.stages()[block.stage].blocks == 1).then_some("it is the only one of its stage")
}

/// A random set of blocks that can be deleted together, in order; fewer where there are no more.
fn draw(
    architecture: &Architecture,
    deletable: &[BlockIndex],
    number: usize,
    rng: &mut ChaCha8Rng,
) -> Vec<BlockIndex> {
    let mut shuffled = deletable.to_vec();
    shuffled.shuffle(rng);
    let is_plain = architecture.shortcut() == Shortcut::None;
    let mut left: Vec<usize> = architecture.stages().iter().map(|stage| stage.blocks).collect();
    // A stage of a plain network keeps a block.
    let mut fits = |block: &BlockIndex| {
        let left = &mut left[block.stage];
        let fits = !is_plain || *left > 1;
        *left -= usize::from(fits);
        fits
    };
    let mut drawn: Vec<_> = shuffled.into_iter().filter(|block| fits(block)).take(number).collect();
    drawn.sort_unstable();
    drawn
}

impl LesionedNetwork {
    fn new(subject: &Subject<'_>, measured: Vec<(Case, Score)>) -> Result<Self, StudyError> {
        let architecture = &subject.model.architecture;
        let mut network = Self {
            name: subject.name.to_owned(),
            architecture: architecture.name().to_owned(),
            weights_sha256: subject.model.weights_sha256()?,
            intact: measured[0].1,
            blocks: Vec::new(),
            layers: Vec::new(),
            left_out: left_out(architecture),
            random: Vec::new(),
            random_layers: Vec::new(),
            swaps: Vec::new(),
            layer_swaps: Vec::new(),
        };
        for (case, score) in measured {
            match case {
                Case::Intact => {}
                Case::Block(block) => {
                    let left = left(architecture, block);
                    network.blocks.push(Deleted { name: block.to_string(), left, score });
                }
                Case::Layer(name) => {
                    network.layers.push(Deleted { name, left: Left::Input, score });
                }
                Case::Random(blocks) => {
                    let parts = blocks.iter().map(ToString::to_string).collect();
                    network.random.push(RandomDeletion { parts, score });
                }
                Case::RandomLayers(parts) => {
                    network.random_layers.push(RandomDeletion { parts, score });
                }
                Case::Swap(blocks) => {
                    let parts = blocks.map(|block| block.to_string());
                    network.swaps.push(Swapped { parts, score });
                }
                Case::LayerSwap(parts) => network.layer_swaps.push(Swapped { parts, score }),
            }
        }
        Ok(network)
    }
}

/// What is left of a block that is deleted.
fn left(architecture: &Architecture, block: BlockIndex) -> Left {
    let spans = architecture.blocks();
    let span = spans.iter().find(|span| span.block() == block).expect("one of its blocks");
    match (span.shortcut, architecture.shortcut()) {
        (None, _) => Left::Input,
        _ if span.has_identity_shortcut() => Left::Input,
        (_, Shortcut::ZeroPad) => Left::ZeroPad,
        _ => Left::Projection,
    }
}

/// Blocks and layers of a plain network that can't be deleted.
fn left_out(architecture: &Architecture) -> Vec<LeftOut> {
    if architecture.shortcut() != Shortcut::None {
        return Vec::new();
    }
    let blocks = architecture.blocks().into_iter().map(|span| {
        let reason = obstacle(architecture, span.block());
        (span.name, reason)
    });
    let all = blocks.chain(layers_in_blocks(architecture));
    all.filter_map(|(name, reason)| Some(LeftOut { name, reason: reason?.to_owned() })).collect()
}
