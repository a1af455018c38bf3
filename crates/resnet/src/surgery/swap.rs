use std::ops::Range;

use residua_graph::{Graph, Op, TensorSpec, Weights};

use super::pass_through::{is_layer_in_block, position};
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
        let [a, b] = [a, b].map(|block| format!("block {block}"));
        return Err(SurgeryError::NotAlike { architecture: architecture.name().to_owned(), a, b });
    }
    let ranges = |specs: &[TensorSpec], block| -> Ranges {
        tensors(specs, block).map(|(_, spec)| spec.range()).collect()
    };
    let of = |block| [ranges(graph.params(), block), ranges(graph.buffers(), block)];
    Ok(exchanged(weights, of(a), of(b)))
}

/// Weights with those of two layers exchanged, of each the convolution or linear operation and the batch norm
/// behind it, if there is one.
///
/// # Errors
/// A layer there is not, or outside of blocks; layers whose tensors have other shapes; weights of another
/// network.
pub fn swap_layers(
    architecture: &Architecture,
    weights: &Weights,
    a: &str,
    b: &str,
) -> Result<Weights, SurgeryError> {
    let graph = architecture.to_graph()?;
    check_weights(architecture, &graph, weights)?;
    let architecture = || architecture.name().to_owned();
    let find = |layer: &str| {
        let missing =
            || SurgeryError::NoSuchLayer { architecture: architecture(), layer: layer.to_owned() };
        position(&graph, layer).map(|i| Layer::new(&graph, i)).ok_or_else(missing)
    };
    let (first, second) = (find(a)?, find(b)?);
    if first.shapes() != second.shapes() {
        let [a, b] = [a, b].map(|layer| format!("layer {layer}"));
        return Err(SurgeryError::NotAlike { architecture: architecture(), a, b });
    }
    Ok(exchanged(weights, first.ranges(), second.ranges()))
}

/// Layers in the blocks of a stage that follow each other and that [`swap_layers`] takes.
pub fn swappable_layers(architecture: &Architecture) -> Vec<[String; 2]> {
    let graph = architecture.to_graph().expect("checked when it was made");
    let nodes = graph.nodes();
    let layers = (0..nodes.len()).filter(|&i| is_layer_in_block(&nodes[i]));
    let layers: Vec<usize> = layers.collect();
    let stage = |i: usize| split_name(&nodes[i].name).map(|(block, _)| block.stage);
    let pairs = layers.windows(2).map(|pair| [pair[0], pair[1]]);
    let alike = pairs.filter(|&[a, b]| {
        stage(a) == stage(b) && Layer::new(&graph, a).shapes() == Layer::new(&graph, b).shapes()
    });
    alike.map(|pair| pair.map(|i| nodes[i].name.clone())).collect()
}

/// Places of tensors among the weights.
type Ranges = Vec<Range<usize>>;

/// Weights with tensors exchanged: parameters, then running statistics.
fn exchanged(weights: &Weights, a: [Ranges; 2], b: [Ranges; 2]) -> Weights {
    let mut swapped = weights.clone();
    let ([a_params, a_buffers], [b_params, b_buffers]) = (a, b);
    let exchange = |to: &mut [f32], from: &[f32], a: Ranges, b: Ranges| {
        for (a, b) in a.into_iter().zip(b) {
            to[a.clone()].copy_from_slice(&from[b.clone()]);
            to[b].copy_from_slice(&from[a]);
        }
    };
    exchange(&mut swapped.params, &weights.params, a_params, b_params);
    exchange(&mut swapped.buffers, &weights.buffers, a_buffers, b_buffers);
    swapped
}

/// The tensors of a layer: parameters, then running statistics.
struct Layer<'a>([Vec<&'a TensorSpec>; 2]);

impl<'a> Layer<'a> {
    /// The layer of this node and the next, if that is its batch norm.
    fn new(graph: &'a Graph, position: usize) -> Self {
        let node = &graph.nodes()[position];
        let norm = graph.nodes().get(position + 1).and_then(|next| match &next.op {
            Op::BatchNorm(norm) if next.inputs == [node.output] => Some(norm),
            _ => None,
        });
        let of_norm = norm.into_iter();
        let params =
            node.op.params().chain(of_norm.clone().flat_map(|norm| [norm.weight, norm.bias]));
        let buffers = of_norm.flat_map(|norm| [norm.running_mean, norm.running_var]);
        Self([
            params.map(|id| &graph.params()[id.index()]).collect(),
            buffers.map(|id| &graph.buffers()[id.index()]).collect(),
        ])
    }

    fn shapes(&self) -> [Vec<&[usize]>; 2] {
        self.0.each_ref().map(|specs| specs.iter().map(|spec| &spec.shape[..]).collect())
    }

    fn ranges(&self) -> [Ranges; 2] {
        self.0.each_ref().map(|specs| specs.iter().map(|spec| spec.range()).collect())
    }
}

/// Blocks of a stage that stand one behind the other and that [`swap_blocks`] takes.
pub fn swappable_blocks(architecture: &Architecture) -> Vec<[BlockIndex; 2]> {
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
