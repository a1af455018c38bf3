use std::ops::Range;

use residua_graph::{Graph, Op, Weights};

use super::silence::silence;
use super::{ChangedNetwork, SurgeryError, check_weights, split_name, transplant};
use crate::{Architecture, BlockSpan, Init, InitOptions, Shortcut, init_weights};

/// Where in its stage a new block stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// After half of the blocks, the larger half where their number is odd.
    Middle,
    /// After the last one.
    End,
}

/// How new blocks start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NewBlocks {
    /// As the identity, bit for bit; only where there are shortcuts. The last batch norm of the branch has
    /// weight and bias 0, or, where the branch ends in a layer, this one has; all else is as by
    /// [`init_weights`], so that gradients flow from the second step on.
    Identity,
    /// As by [`init_weights`]; only without shortcuts.
    Random,
    /// Kernels that put out their input ([`Init::Dirac`], and unit matrices), with batch norms that let it
    /// through in evaluation but for rounding; only without shortcuts. In training batch norms take the
    /// batch's own statistics, and what is put out is another thing.
    Dirac,
}

/// Blocks to be put into a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Insertion {
    /// The stage, from 1 as in `layer1`.
    pub stage: usize,
    /// How many.
    pub num_blocks: usize,
    /// Where.
    pub place: Place,
    /// How they start.
    pub start: NewBlocks,
    /// Decides the random numbers in them.
    pub seed: u64,
}

impl Insertion {
    /// At the end of the stage, as the identity.
    pub fn new(stage: usize, num_blocks: usize) -> Self {
        Self { stage, num_blocks, place: Place::End, start: NewBlocks::Identity, seed: 0 }
    }
}

/// Puts blocks into a stage. With [`NewBlocks::Identity`] the outputs stay the same bit for bit, in any
/// precision and at any batch size: `relu(x + 0) = x`, as what comes out of a block before is not
/// negative, and `x + 0 = x` in the pre-activation family (He et al. 2015, section 3.1; Chen et al. 2016,
/// "Net2Net", arXiv 1511.05641, for growing with the function kept).
///
/// # Errors
/// A stage there is not; a network in which no new block is the identity; ways to start that are only for
/// networks without shortcuts; more blocks than an architecture may have; weights of another network.
pub fn insert_blocks(
    architecture: &Architecture,
    weights: &Weights,
    insertion: &Insertion,
) -> Result<ChangedNetwork, SurgeryError> {
    let graph = architecture.to_graph()?;
    check_weights(architecture, &graph, weights)?;
    check_start(architecture, insertion.start)?;
    let &Insertion { stage, num_blocks, place, start, seed } = insertion;
    let num_stages = architecture.stages().len();
    if !(1..=num_stages).contains(&stage) {
        let architecture = architecture.name().to_owned();
        return Err(SurgeryError::NoSuchStage { architecture, stage, num_stages });
    }
    let stage = stage - 1;
    let num_before = architecture.stages()[stage].blocks;
    let first = match place {
        Place::Middle => num_before.div_ceil(2),
        Place::End => num_before,
    };
    let mut blocks: Vec<usize> = architecture.stages().iter().map(|stage| stage.blocks).collect();
    blocks[stage] = num_before.saturating_add(num_blocks);
    let deeper = architecture.with_blocks(&blocks)?;

    let deeper_graph = deeper.to_graph()?;
    let init = if start == NewBlocks::Dirac { Init::Dirac } else { Init::default() };
    let options = InitOptions { init, seed, ..InitOptions::default() };
    let mut fresh = init_weights(&deeper, &deeper_graph, &options);
    for span in new_blocks(&deeper, stage, first..first + num_blocks) {
        match start {
            NewBlocks::Identity => silence(&deeper_graph, &span, &mut fresh),
            NewBlocks::Random => {}
            NewBlocks::Dirac => let_through(&deeper_graph, &span, &mut fresh),
        }
    }
    let source = |name: &str| match split_name(name) {
        Some((index, _)) if index.stage != stage || index.block < first => Some(name.to_owned()),
        Some((index, rest)) => {
            let block = index.block.checked_sub(num_blocks).filter(|&block| block >= first)?;
            Some(format!("layer{}.{block}.{rest}", stage + 1))
        }
        None => Some(name.to_owned()),
    };
    Ok(transplant(deeper, fresh, (&graph, weights), source)?)
}

fn check_start(architecture: &Architecture, start: NewBlocks) -> Result<(), SurgeryError> {
    let no_identity = |reason| {
        Err(SurgeryError::NoIdentity { architecture: architecture.name().to_owned(), reason })
    };
    match (start, architecture.shortcut()) {
        (NewBlocks::Identity, Shortcut::None) => {
            no_identity("without shortcuts a block has nothing but its layers to pass its input on")
        }
        (NewBlocks::Identity, Shortcut::ProjectionAll) => {
            no_identity("around every block is a learned layer, which is no identity")
        }
        (NewBlocks::Identity, _) | (_, Shortcut::None) => Ok(()),
        _ => Err(SurgeryError::NotPlain {
            architecture: architecture.name().to_owned(),
            expected: "its new blocks start as the identity",
        }),
    }
}

fn new_blocks(
    architecture: &Architecture,
    stage: usize,
    blocks: Range<usize>,
) -> impl Iterator<Item = BlockSpan> {
    let spans = architecture.blocks().into_iter();
    spans.filter(move |span| span.stage == stage && blocks.contains(&span.index))
}

/// Linear layers are unit matrices, batch norms multiply by 1 in evaluation.
fn let_through(graph: &Graph, span: &BlockSpan, weights: &mut Weights) {
    for node in &graph.nodes()[span.nodes.clone()] {
        match &node.op {
            Op::Linear { weight, in_features, .. } => {
                let values = &mut weights.params[graph.params()[weight.index()].range()];
                values.fill(0.0);
                values.iter_mut().step_by(in_features + 1).for_each(|value| *value = 1.0);
            }
            // Running variances are 1.
            Op::BatchNorm(norm) => {
                let range = graph.params()[norm.weight.index()].range();
                weights.params[range].fill((1.0 + norm.eps).sqrt());
            }
            _ => {}
        }
    }
}
