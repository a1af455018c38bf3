use residua_graph::{Graph, Op, ParamId, Weights};
use residua_resnet::{Architecture, BlockSpan};
use serde::{Deserialize, Serialize};

/// Euclidean norms of the parameters that a block's branch ends with. Where all but `weight` are 0, or
/// where `weight` and `bias` are in a branch that ends in a layer, the block is its shortcut.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BranchNorms {
    /// Of the last layer's weight, `W[l+2]`.
    pub weight: f64,
    /// Of the last batch norm's weight, if one follows that layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub norm_weight: Option<f64>,
    /// Of the last bias: that of this batch norm, or of the layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bias: Option<f64>,
}

/// The norms of each block, in order. `graph` is the one of the architecture.
pub fn branch_norms(
    architecture: &Architecture,
    graph: &Graph,
    weights: &Weights,
) -> Vec<BranchNorms> {
    let norm = |id: ParamId| {
        let values = &weights.params[graph.params()[id.index()].range()];
        values.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt()
    };
    let of_block = |block: &BlockSpan| {
        let mut norms = BranchNorms { weight: 0.0, norm_weight: None, bias: None };
        for node in &graph.nodes()[block.nodes.clone()] {
            match &node.op {
                Op::Conv2d { weight, bias, .. } | Op::Linear { weight, bias, .. } => {
                    let (weight, bias) = (norm(*weight), bias.map(norm));
                    norms = BranchNorms { weight, norm_weight: None, bias };
                }
                Op::BatchNorm(batch_norm) => {
                    norms.norm_weight = Some(norm(batch_norm.weight));
                    norms.bias = Some(norm(batch_norm.bias));
                }
                _ => {}
            }
            if node.output == block.branch {
                break;
            }
        }
        norms
    };
    architecture.blocks().iter().map(of_block).collect()
}
