use residua_graph::{Graph, TensorSpec, Weights};

use super::{BlockIndex, SurgeryError, check_weights, span, split_name};
use crate::Architecture;

/// Weights with those of two blocks exchanged, parameters and running statistics.
///
/// # Errors
/// A block there is not; blocks whose tensors have other shapes; weights of another network.
pub fn swap_blocks(
    architecture: &Architecture,
    weights: &Weights,
    a: BlockIndex,
    b: BlockIndex,
) -> Result<Weights, SurgeryError> {
    let graph = architecture.to_graph()?;
    check_weights(architecture, &graph, weights)?;
    span(architecture, a)?;
    span(architecture, b)?;
    if !are_alike(&graph, a, b) {
        let architecture = architecture.name().to_owned();
        return Err(SurgeryError::NotAlike { architecture, a, b });
    }
    let mut swapped = weights.clone();
    let params = |block| tensors(graph.params(), block).map(|(_, spec)| spec.range());
    let buffers = |block| tensors(graph.buffers(), block).map(|(_, spec)| spec.range());
    for (a, b) in params(a).zip(params(b)) {
        swapped.params[a.clone()].copy_from_slice(&weights.params[b.clone()]);
        swapped.params[b].copy_from_slice(&weights.params[a]);
    }
    for (a, b) in buffers(a).zip(buffers(b)) {
        swapped.buffers[a.clone()].copy_from_slice(&weights.buffers[b.clone()]);
        swapped.buffers[b].copy_from_slice(&weights.buffers[a]);
    }
    Ok(swapped)
}

/// Blocks of a stage that stand one behind the other and that [`swap_blocks`] takes.
pub fn swappable_neighbours(architecture: &Architecture) -> Vec<[BlockIndex; 2]> {
    let graph = architecture.to_graph().expect("checked when it was made");
    let spans = architecture.blocks();
    let pairs = spans.windows(2).map(|pair| [pair[0].block(), pair[1].block()]);
    pairs.filter(|[a, b]| a.stage == b.stage && are_alike(&graph, *a, *b)).collect()
}

/// Whether the tensors of two blocks have the same names and shapes.
fn are_alike(graph: &Graph, a: BlockIndex, b: BlockIndex) -> bool {
    let params =
        |block| tensors(graph.params(), block).map(|(name, spec)| (name, spec.shape.clone()));
    params(a).eq(params(b))
}

/// The tensors of a block, with their names in it.
fn tensors(specs: &[TensorSpec], block: BlockIndex) -> impl Iterator<Item = (&str, &TensorSpec)> {
    specs.iter().filter_map(move |spec| {
        let (index, rest) = split_name(&spec.name)?;
        (index == block).then_some((rest, spec))
    })
}
