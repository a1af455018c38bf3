use crate::Graph;

/// A trainable parameter of a graph: an index into [`Graph::params`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ParamId(pub(crate) usize);

/// A running statistic of a graph: an index into [`Graph::buffers`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BufferId(pub(crate) usize);

impl ParamId {
    /// The index into [`Graph::params`].
    pub const fn index(self) -> usize {
        self.0
    }
}

impl BufferId {
    /// The index into [`Graph::buffers`].
    pub const fn index(self) -> usize {
        self.0
    }
}

/// What a tensor is for; initialisation and weight decay go by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Role {
    /// Weight of a convolution, `[oc, ic, kh, kw]`.
    ConvWeight,
    /// Weight of a linear operation, `[out_features, in_features]`.
    LinearWeight,
    /// Bias of a convolution or a linear operation.
    Bias,
    /// Scale of a batch norm.
    NormWeight,
    /// Shift of a batch norm.
    NormBias,
    /// Running mean of a batch norm.
    RunningMean,
    /// Running variance of a batch norm.
    RunningVar,
}

/// A named tensor and its place in the flat storage of [`Weights`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// State-dict name, `layer1.0.conv1.weight`.
    pub name: String,
    /// Shape, in PyTorch's order.
    pub shape: Vec<usize>,
    /// What it is for.
    pub role: Role,
    /// Where it starts, in elements.
    pub offset: usize,
}

impl TensorSpec {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether the tensor has no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its place in the flat storage.
    pub fn range(&self) -> std::ops::Range<usize> {
        self.offset..self.offset + self.len()
    }
}

/// All tensors of a network, flat, in the order and layout of its graph's specs. One slice for all
/// parameters makes updates, clipping and checkpoints a loop over one slice.
///
/// ```
/// use residua_graph::{GraphBuilder, Shape, Weights};
///
/// let mut b = GraphBuilder::new(Shape::vector(2));
/// let output = b.linear("fc", b.input(), 3)?;
/// let graph = b.finish(output);
/// let mut weights = Weights::zeros(&graph);
/// weights.get_mut(&graph, "fc.bias").expect("it has one").fill(1.0);
/// assert_eq!(weights.params, [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
/// # Ok::<(), residua_graph::GraphError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Weights {
    /// Trainable parameters, as [`Graph::params`] lays them out.
    pub params: Vec<f32>,
    /// Running statistics, as [`Graph::buffers`] lays them out.
    pub buffers: Vec<f32>,
}

impl Weights {
    /// All zeros, of the size `graph` needs; running variances and batch-norm weights too.
    pub fn zeros(graph: &Graph) -> Self {
        Self {
            params: vec![0.0; graph.num_parameters()],
            buffers: vec![0.0; graph.num_buffer_elements()],
        }
    }

    /// The tensor of this name, parameter or running statistic.
    pub fn get(&self, graph: &Graph, name: &str) -> Option<&[f32]> {
        let (tensors, storage) = match find(graph.params(), name) {
            Some(spec) => (spec, &self.params),
            None => (find(graph.buffers(), name)?, &self.buffers),
        };
        storage.get(tensors.range())
    }

    /// The tensor of this name, to change it.
    pub fn get_mut(&mut self, graph: &Graph, name: &str) -> Option<&mut [f32]> {
        let (tensors, storage) = match find(graph.params(), name) {
            Some(spec) => (spec, &mut self.params),
            None => (find(graph.buffers(), name)?, &mut self.buffers),
        };
        storage.get_mut(tensors.range())
    }
}

fn find<'a>(specs: &'a [TensorSpec], name: &str) -> Option<&'a TensorSpec> {
    specs.iter().find(|spec| spec.name == name)
}
