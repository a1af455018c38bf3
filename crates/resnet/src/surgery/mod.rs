//! Changes to a network that has weights: blocks in, blocks out, blocks silenced or swapped, layers that let
//! their input through, shortcuts on, shortcuts off.
//!
//! ```
//! use residua_resnet::{Architecture, InitOptions, Insertion, Place, Shape, init_weights};
//! use residua_resnet::insert_blocks;
//!
//! let resnet20 = Architecture::named("resnet20", Shape::image(3, 32, 32), 10)?;
//! let weights = init_weights(&resnet20, &resnet20.to_graph()?, &InitOptions::default());
//! let insertion = Insertion { place: Place::End, ..Insertion::new(3, 2) };
//! let deeper = insert_blocks(&resnet20, &weights, &insertion)?;
//! assert_eq!(deeper.architecture.name(), "resnet20-blocks-3-3-5");
//! assert_eq!(deeper.architecture.depth(), 24);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;
mod insert;
mod pass_through;
mod remove;
mod shortcuts;
mod silence;
mod swap;

use std::ops::Range;

use residua_graph::{Graph, TensorSpec, Weights};

pub use error::SurgeryError;
pub use insert::{Insertion, NewBlocks, Place, insert_blocks};
pub use pass_through::{layers_in_blocks, pass_through};
pub use remove::{BlockIndex, remove_blocks};
pub use shortcuts::{add_shortcuts, strip_shortcuts};
pub use silence::silence_block;
pub use swap::{swap_blocks, swap_layers, swappable_blocks, swappable_layers};

use crate::{Architecture, ArchitectureError, BlockSpan};

/// A network that was changed, and its weights.
#[derive(Debug, Clone, PartialEq)]
pub struct ChangedNetwork {
    /// What it is now.
    pub architecture: Architecture,
    /// As its graph lays them out.
    pub weights: Weights,
    /// Parameters that it had before: their place among all parameters then and now. What an
    /// optimiser knows of them can go on.
    pub kept: Vec<(Range<usize>, Range<usize>)>,
}

impl ChangedNetwork {
    /// Blocks that it did not have before.
    pub fn new_blocks(&self) -> Vec<BlockIndex> {
        let is_new = |block: &BlockIndex| {
            let first = first_param(&self.architecture, *block);
            first.is_some_and(|range| self.kept.iter().all(|(_, now)| *now != range))
        };
        block_indices(&self.architecture).filter(is_new).collect()
    }

    /// Where a block of the network `before` is now, if it is there.
    pub fn block_now(&self, before: &Architecture, block: BlockIndex) -> Option<BlockIndex> {
        let then = first_param(before, block)?;
        let (_, now) = self.kept.iter().find(|(kept, _)| *kept == then)?;
        block_indices(&self.architecture)
            .find(|&block| first_param(&self.architecture, block).as_ref() == Some(now))
    }

    /// Values that are laid out like the parameters were before, as these are laid out now; 0 for what is
    /// new.
    pub fn carry(&self, values: &[f32]) -> Vec<f32> {
        let mut carried = vec![0.0; self.weights.params.len()];
        for (then, now) in &self.kept {
            carried[now.clone()].copy_from_slice(&values[then.clone()]);
        }
        carried
    }
}

fn block_indices(architecture: &Architecture) -> impl Iterator<Item = BlockIndex> {
    architecture
        .blocks()
        .into_iter()
        .map(|span| BlockIndex { stage: span.stage, block: span.index })
}

/// The place of a block's first parameter.
fn first_param(architecture: &Architecture, block: BlockIndex) -> Option<Range<usize>> {
    let graph = architecture.to_graph().ok()?;
    let of_block = |spec: &&TensorSpec| split_name(&spec.name).is_some_and(|(of, _)| of == block);
    graph.params().iter().find(of_block).map(TensorSpec::range)
}

/// Weights of `architecture`: those of `before` where `source` gives the name that a tensor had there,
/// else what `start` has.
fn transplant(
    architecture: Architecture,
    start: Weights,
    before: (&Graph, &Weights),
    source: impl Fn(&str) -> Option<String>,
) -> Result<ChangedNetwork, ArchitectureError> {
    let graph = architecture.to_graph()?;
    let (graph_before, before) = before;
    let mut weights = start;
    let find = |specs: &[TensorSpec], spec: &TensorSpec| {
        let name = source(&spec.name)?;
        let found = specs.iter().find(|old| old.name == name && old.shape == spec.shape)?;
        Some((found.range(), spec.range()))
    };
    let pairs = |specs: &[TensorSpec], specs_before: &[TensorSpec]| -> Vec<_> {
        specs.iter().filter_map(|spec| find(specs_before, spec)).collect()
    };
    let kept = pairs(graph.params(), graph_before.params());
    for (from, to) in &kept {
        weights.params[to.clone()].copy_from_slice(&before.params[from.clone()]);
    }
    for (from, to) in pairs(graph.buffers(), graph_before.buffers()) {
        weights.buffers[to].copy_from_slice(&before.buffers[from]);
    }
    Ok(ChangedNetwork { architecture, weights, kept })
}

fn check_weights(
    architecture: &Architecture,
    graph: &Graph,
    weights: &Weights,
) -> Result<(), SurgeryError> {
    let expected = [graph.num_parameters(), graph.num_buffer_elements()];
    let got = [weights.params.len(), weights.buffers.len()];
    match got == expected {
        true => Ok(()),
        false => Err(SurgeryError::OtherWeights {
            architecture: architecture.name().to_owned(),
            got: got.iter().sum(),
            expected: expected.iter().sum(),
        }),
    }
}

/// Where a block is in the graph.
fn span(architecture: &Architecture, block: BlockIndex) -> Result<BlockSpan, SurgeryError> {
    let mut spans = architecture.blocks().into_iter();
    spans.find(|span| span.block() == block).ok_or_else(|| SurgeryError::NoSuchBlock {
        architecture: architecture.name().to_owned(),
        block,
    })
}

/// `layer2.3.conv1.weight` as stage 1, block 3 and `conv1.weight`; nothing outside of blocks.
fn split_name(name: &str) -> Option<(BlockIndex, &str)> {
    let (stage, rest) = name.strip_prefix("layer")?.split_once('.')?;
    let (block, rest) = rest.split_once('.')?;
    let stage: usize = stage.parse().ok()?;
    Some((BlockIndex { stage: stage.checked_sub(1)?, block: block.parse().ok()? }, rest))
}
