use residua_graph::{Graph, Node, Op, Weights};

use super::{SurgeryError, check_weights, split_name};
use crate::{Architecture, Family};

/// Weights with which a layer of a plain network puts out its input: kernels that put out one channel each
/// (as [`Init::Dirac`](crate::Init::Dirac)), no bias, and, where a batch norm follows, one that takes away
/// what its running statistics do. Its input is not negative, so that the ReLU behind it changes nothing.
/// Exact in evaluation but for rounding in the batch norm, and in sums of Winograd's convolutions; running
/// statistics stay.
///
/// # Errors
/// A layer there is not, or outside of blocks; one whose output has another shape than its input; networks
/// with shortcuts or with the ReLU before the layer; weights of another network.
pub fn pass_through(
    architecture: &Architecture,
    weights: &Weights,
    layer: &str,
) -> Result<Weights, SurgeryError> {
    let graph = architecture.to_graph()?;
    check_weights(architecture, &graph, weights)?;
    let name = || architecture.name().to_owned();
    let Some(position) = position(&graph, layer) else {
        return Err(SurgeryError::NoSuchLayer { architecture: name(), layer: layer.to_owned() });
    };
    if let Some(reason) = obstacle(architecture, &graph, &graph.nodes()[position]) {
        let layer = layer.to_owned();
        return Err(SurgeryError::NotPassable { architecture: name(), layer, reason });
    }
    let mut changed = weights.clone();
    let [node, next] = [position, position + 1].map(|i| &graph.nodes()[i]);
    let channels = graph.shape(node.output).c;
    let mut params = node.op.params().map(|param| graph.params()[param.index()].range());
    let weight = &mut changed.params[params.next().expect("a layer has a weight")];
    put_out_input(weight, channels);
    params.for_each(|bias| changed.params[bias].fill(0.0));
    if let Op::BatchNorm(norm) = &next.op {
        let buffer = |id: residua_graph::BufferId| graph.buffers()[id.index()].range();
        let means = &weights.buffers[buffer(norm.running_mean)];
        let vars = weights.buffers[buffer(norm.running_var)].iter();
        let roots = vars.map(|&var| (f64::from(var) + f64::from(norm.eps)).sqrt() as f32);
        let [weight, bias] = [norm.weight, norm.bias].map(|id| graph.params()[id.index()].range());
        changed.params[bias].copy_from_slice(means);
        changed.params[weight].iter_mut().zip(roots).for_each(|(value, root)| *value = root);
    }
    Ok(changed)
}

/// The layers in the blocks of a plain network by name, each with what hinders [`pass_through`], if
/// anything does.
pub fn layers_in_blocks(architecture: &Architecture) -> Vec<(String, Option<&'static str>)> {
    let graph = architecture.to_graph().expect("checked when it was made");
    let layers = graph.nodes().iter().filter(|node| is_layer_in_block(node));
    layers.map(|node| (node.name.clone(), obstacle(architecture, &graph, node))).collect()
}

/// The index of a layer's node.
pub(super) fn position(graph: &Graph, layer: &str) -> Option<usize> {
    graph.nodes().iter().position(|node| node.name == layer && is_layer_in_block(node))
}

pub(super) fn is_layer_in_block(node: &Node) -> bool {
    let is_layer = matches!(node.op, Op::Conv2d { .. } | Op::Linear { .. });
    is_layer && split_name(&node.name).is_some()
}

fn obstacle(architecture: &Architecture, graph: &Graph, node: &Node) -> Option<&'static str> {
    match architecture.family() {
        Family::Residual => Some("a network with shortcuts is taken apart by blocks"),
        Family::Preact => Some("its input may be negative, and the ReLU before it takes that away"),
        Family::Plain if graph.shape(node.inputs[0]) != graph.shape(node.output) => {
            Some("its output has another shape than its input")
        }
        Family::Plain => None,
    }
}

/// A `1` in the middle of the kernel from each channel to itself.
fn put_out_input(weight: &mut [f32], channels: usize) {
    let kernel_len = weight.len() / (channels * channels);
    weight.fill(0.0);
    let kernels = weight.chunks_exact_mut(kernel_len).step_by(channels + 1);
    kernels.for_each(|kernel| kernel[kernel_len / 2] = 1.0);
}
