use std::{fmt, str::FromStr};

use residua_graph::Weights;

use super::{ChangedNetwork, SurgeryError, check_weights, span, split_name, transplant};
use crate::Architecture;

/// A block of an architecture. As text it is `layer2.0`: stages count from 1 there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockIndex {
    /// Its stage, from 0.
    pub stage: usize,
    /// Its place in the stage, from 0.
    pub block: usize,
}

impl fmt::Display for BlockIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "layer{}.{}", self.stage + 1, self.block)
    }
}

impl FromStr for BlockIndex {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match split_name(&format!("{text}.")) {
            Some((index, "")) => Ok(index),
            _ => Err(format!("block is `{text}`, expected one such as layer2.0")),
        }
    }
}

/// Takes blocks out. What comes out of the block before, or of the stem, goes into the block after.
/// Neither weights nor running statistics of the others change.
///
/// # Errors
/// A block there is not; one whose input and output differ in shape; all blocks of a stage; weights of
/// another network.
pub fn remove_blocks(
    architecture: &Architecture,
    weights: &Weights,
    blocks: &[BlockIndex],
) -> Result<ChangedNetwork, SurgeryError> {
    let graph = architecture.to_graph()?;
    check_weights(architecture, &graph, weights)?;
    let mut removed = blocks.to_vec();
    removed.sort_unstable();
    removed.dedup();
    for &block in &removed {
        let name = architecture.name().to_owned();
        let span = span(architecture, block)?;
        let not_removable =
            |reason| Err(SurgeryError::NotRemovable { architecture: name.clone(), block, reason });
        if graph.shape(span.input) != graph.shape(span.output) {
            return not_removable("its output has another shape than its input");
        }
        let in_stage = |index: &&BlockIndex| index.stage == block.stage;
        if removed.iter().filter(in_stage).count() == architecture.stages()[block.stage].blocks {
            return not_removable("a stage keeps at least one block");
        }
    }
    let is_left = |index: &BlockIndex| !removed.contains(index);
    let left: Vec<Vec<usize>> = architecture
        .stages()
        .iter()
        .enumerate()
        .map(|(stage, spec)| {
            (0..spec.blocks).filter(|&block| is_left(&BlockIndex { stage, block })).collect()
        })
        .collect();
    let blocks: Vec<usize> = left.iter().map(Vec::len).collect();
    let shallower = architecture.with_blocks(&blocks)?;
    let start = Weights::zeros(&shallower.to_graph()?);
    let source = |name: &str| match split_name(name) {
        Some((BlockIndex { stage, block }, rest)) => {
            Some(format!("layer{}.{}.{rest}", stage + 1, left[stage][block]))
        }
        None => Some(name.to_owned()),
    };
    Ok(transplant(shallower, start, (&graph, weights), source)?)
}
