use residua_graph::{Graph, Weights};

use super::{BlockIndex, SurgeryError, check_weights, span};
use crate::{Architecture, BlockSpan};

/// Weights with which the branch of a block puts out zeros, so that only its shortcut is left: the last
/// batch norm of the branch has weight and bias 0, or, where the branch ends in a layer, this one has. Where
/// the shortcut is the identity the outputs are those of [`remove_blocks`](super::remove_blocks) bit for bit.
///
/// # Errors
/// A network without shortcuts; a block there is not; weights of another network.
pub fn silence_block(
    architecture: &Architecture,
    weights: &Weights,
    block: BlockIndex,
) -> Result<Weights, SurgeryError> {
    let graph = architecture.to_graph()?;
    check_weights(architecture, &graph, weights)?;
    let span = span(architecture, block)?;
    if span.shortcut.is_none() {
        let architecture = architecture.name().to_owned();
        return Err(SurgeryError::NoShortcuts { architecture });
    }
    let mut silenced = weights.clone();
    silence(&graph, &span, &mut silenced);
    Ok(silenced)
}

/// The branch puts out zeros.
pub(super) fn silence(graph: &Graph, span: &BlockSpan, weights: &mut Weights) {
    let mut nodes = graph.nodes()[span.nodes.clone()].iter();
    let last = nodes.find(|node| node.output == span.branch).expect("a branch has a last node");
    for param in last.op.params() {
        weights.params[graph.params()[param.index()].range()].fill(0.0);
    }
}
