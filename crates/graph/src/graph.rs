use crate::{Op, Shape, TensorSpec};

/// A value that flows through a graph: its input, or the output of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub(crate) usize);

impl ValueId {
    /// The index of the value, below [`Graph::num_values`].
    pub const fn index(self) -> usize {
        self.0
    }
}

/// An operation with its name, inputs and output.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Module name, `layer1.0.conv1`; its parameters' names start with it.
    pub name: String,
    /// What it computes.
    pub op: Op,
    /// What it reads: one value, or two for [`Op::Add`].
    pub inputs: Vec<ValueId>,
    /// What it makes.
    pub output: ValueId,
}

/// Operations in execution order, with shapes and tensors. Made by
/// [`GraphBuilder`](crate::GraphBuilder).
#[derive(Debug, Clone, PartialEq)]
pub struct Graph {
    pub(crate) shapes: Vec<Shape>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) params: Vec<TensorSpec>,
    pub(crate) buffers: Vec<TensorSpec>,
    pub(crate) output: ValueId,
}

impl Graph {
    /// The value that is fed in.
    pub fn input(&self) -> ValueId {
        ValueId(0)
    }

    /// The value that comes out: the logits.
    pub fn output(&self) -> ValueId {
        self.output
    }

    /// Shape of one sample of a value.
    pub fn shape(&self, value: ValueId) -> Shape {
        self.shapes[value.0]
    }

    /// Number of values, the input included.
    pub fn num_values(&self) -> usize {
        self.shapes.len()
    }

    /// The operations, in execution order.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The trainable parameters, in state-dict order.
    pub fn params(&self) -> &[TensorSpec] {
        &self.params
    }

    /// The running statistics, in state-dict order.
    pub fn buffers(&self) -> &[TensorSpec] {
        &self.buffers
    }

    /// Number of trainable parameters, in elements.
    pub fn num_parameters(&self) -> usize {
        self.params.last().map_or(0, |spec| spec.range().end)
    }

    /// Number of elements of all running statistics.
    pub fn num_buffer_elements(&self) -> usize {
        self.buffers.last().map_or(0, |spec| spec.range().end)
    }

    /// Multiply-adds of a node for one sample; convolutions and linear operations count, all else
    /// is 0, as in He et al. 2015.
    pub fn macs(&self, node: &Node) -> u64 {
        let input = self.shape(node.inputs[0]);
        let output = self.shape(node.output);
        match &node.op {
            Op::Conv2d { conv, .. } => {
                let [kh, kw] = conv.kernel_size;
                (output.len() * input.c * kh * kw) as u64
            }
            Op::Linear { in_features, out_features, .. } => (in_features * out_features) as u64,
            _ => 0,
        }
    }

    /// Multiply-adds of the whole network for one sample.
    pub fn total_macs(&self) -> u64 {
        self.nodes.iter().fold(0, |total, node| total.saturating_add(self.macs(node)))
    }
}
