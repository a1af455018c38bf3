use std::collections::HashSet;

use crate::{
    BatchNorm, BufferId, Conv2d, Graph, GraphError, MaxPool, Node, Op, ParamId, Role, Shape,
    TensorSpec, ValueId, ZeroPad,
};

/// Adds operations one after another and resolves their shapes.
///
/// A residual block that halves the picture and doubles the channels:
///
/// ```
/// use residua_graph::{Conv2d, GraphBuilder, Shape};
///
/// let mut b = GraphBuilder::new(Shape::image(16, 32, 32));
/// let x = b.input();
/// let f = b.conv2d("conv1", x, Conv2d::square(32, 3).stride(2).padding(1))?;
/// let f = b.batch_norm("bn1", f)?;
/// let f = b.relu("relu1", f);
/// let f = b.conv2d("conv2", f, Conv2d::square(32, 3).padding(1))?;
/// let f = b.batch_norm("bn2", f)?;
/// let shortcut = b.zero_pad("downsample", x, 32, 2)?;
/// let sum = b.add("add", f, shortcut)?;
/// let output = b.relu("relu2", sum);
/// assert_eq!(b.shape(output), Shape::image(32, 16, 16));
///
/// let wrong = b.add("wrong", x, output).unwrap_err();
/// assert_eq!(
///     wrong.to_string(),
///     "wrong: operands have shapes 16x32x32 and 32x16x16, expected the same"
/// );
/// # Ok::<(), residua_graph::GraphError>(())
/// ```
#[derive(Debug)]
pub struct GraphBuilder {
    graph: Graph,
    /// Names of the parameters so far; very deep networks have thousands.
    taken: HashSet<String>,
}

impl GraphBuilder {
    /// A graph whose samples have this shape.
    pub fn new(input: Shape) -> Self {
        Self {
            graph: Graph {
                shapes: vec![input],
                nodes: Vec::new(),
                params: Vec::new(),
                buffers: Vec::new(),
                output: ValueId(0),
            },
            taken: HashSet::new(),
        }
    }

    /// The value that is fed in.
    pub fn input(&self) -> ValueId {
        self.graph.input()
    }

    /// Shape of one sample of a value.
    pub fn shape(&self, value: ValueId) -> Shape {
        self.graph.shape(value)
    }

    /// Number of operations so far.
    pub fn num_nodes(&self) -> usize {
        self.graph.nodes.len()
    }

    /// Adds a convolution with parameters `{name}.weight` and, if asked for, `{name}.bias`.
    ///
    /// # Errors
    /// A zero hyper-parameter, an empty input, a kernel larger than its padded input, or a name that is taken.
    pub fn conv2d(
        &mut self,
        name: &str,
        input: ValueId,
        conv: Conv2d,
    ) -> Result<ValueId, GraphError> {
        let shape = self.shape(input);
        let [kh, kw] = conv.kernel_size;
        nonzero(name, "in_channels", shape.c)?;
        nonzero(name, "out_channels", conv.out_channels)?;
        let h = window_count(name, shape, conv.kernel_size, conv.stride, conv.padding, 0)?;
        let w = window_count(name, shape, conv.kernel_size, conv.stride, conv.padding, 1)?;
        let weight_shape = vec![conv.out_channels, shape.c, kh, kw];
        let weight = self.param(name, "weight", weight_shape, Role::ConvWeight)?;
        let bias = match conv.bias {
            true => Some(self.param(name, "bias", vec![conv.out_channels], Role::Bias)?),
            false => None,
        };
        let op = Op::Conv2d { conv, weight, bias };
        Ok(self.push(name, op, vec![input], Shape::image(conv.out_channels, h, w)))
    }

    /// Adds `y = x Wᵀ + b` with parameters `{name}.weight` and `{name}.bias`.
    ///
    /// # Errors
    /// An input that is not a vector or has no features, no output at all, or a name that is taken.
    pub fn linear(
        &mut self,
        name: &str,
        input: ValueId,
        out_features: usize,
    ) -> Result<ValueId, GraphError> {
        self.push_linear(name, input, out_features, true)
    }

    /// Adds `y = x Wᵀ` with the parameter `{name}.weight`: a learned shortcut, or a layer in front
    /// of a batch norm, which would take a bias away again.
    ///
    /// # Errors
    /// As [`linear`](Self::linear).
    pub fn linear_without_bias(
        &mut self,
        name: &str,
        input: ValueId,
        out_features: usize,
    ) -> Result<ValueId, GraphError> {
        self.push_linear(name, input, out_features, false)
    }

    fn push_linear(
        &mut self,
        name: &str,
        input: ValueId,
        out_features: usize,
        bias: bool,
    ) -> Result<ValueId, GraphError> {
        let shape = self.shape(input);
        nonzero(name, "in_features", shape.c)?;
        nonzero(name, "out_features", out_features)?;
        if shape.num_pixels() != 1 {
            return Err(GraphError::NotAVector { node: name.to_owned(), input: shape });
        }
        let weight = self.param(name, "weight", vec![out_features, shape.c], Role::LinearWeight)?;
        let bias = match bias {
            true => Some(self.param(name, "bias", vec![out_features], Role::Bias)?),
            false => None,
        };
        let op = Op::Linear { in_features: shape.c, out_features, weight, bias };
        Ok(self.push(name, op, vec![input], Shape::vector(out_features)))
    }

    /// Adds a batch norm with PyTorch's `eps` of 1e-5 and `momentum` of 0.1.
    ///
    /// # Errors
    /// A name that is taken.
    pub fn batch_norm(&mut self, name: &str, input: ValueId) -> Result<ValueId, GraphError> {
        let shape = self.shape(input);
        let channels = vec![shape.c];
        let weight = self.param(name, "weight", channels.clone(), Role::NormWeight)?;
        let bias = self.param(name, "bias", channels.clone(), Role::NormBias)?;
        let running_mean = self.buffer(name, "running_mean", channels.clone(), Role::RunningMean);
        let running_var = self.buffer(name, "running_var", channels, Role::RunningVar);
        let op = Op::BatchNorm(BatchNorm {
            eps: 1e-5,
            momentum: 0.1,
            weight,
            bias,
            running_mean,
            running_var,
        });
        Ok(self.push(name, op, vec![input], shape))
    }

    /// Adds `max(x, 0)`.
    pub fn relu(&mut self, name: &str, input: ValueId) -> ValueId {
        self.push(name, Op::Relu, vec![input], self.shape(input))
    }

    /// Adds the sum of two values.
    ///
    /// # Errors
    /// Operands of different shapes.
    pub fn add(
        &mut self,
        name: &str,
        left: ValueId,
        right: ValueId,
    ) -> Result<ValueId, GraphError> {
        let (l, r) = (self.shape(left), self.shape(right));
        if l != r {
            return Err(GraphError::ShapeMismatch { node: name.to_owned(), left: l, right: r });
        }
        Ok(self.push(name, Op::Add, vec![left, right], l))
    }

    /// Adds a max pool.
    ///
    /// # Errors
    /// A zero hyper-parameter, a window larger than its padded input, or padding of more than half
    /// the window.
    pub fn max_pool(
        &mut self,
        name: &str,
        input: ValueId,
        pool: MaxPool,
    ) -> Result<ValueId, GraphError> {
        let shape = self.shape(input);
        let (kernel, padding) = ([pool.kernel_size; 2], [pool.padding; 2]);
        let h = window_count(name, shape, kernel, [pool.stride; 2], padding, 0)?;
        let w = window_count(name, shape, kernel, [pool.stride; 2], padding, 1)?;
        if pool.padding > pool.kernel_size / 2 {
            return Err(GraphError::TooMuchPadding {
                node: name.to_owned(),
                padding: pool.padding,
                kernel_size: pool.kernel_size,
            });
        }
        Ok(self.push(name, Op::MaxPool(pool), vec![input], Shape::image(shape.c, h, w)))
    }

    /// Adds the mean over all positions.
    pub fn global_avg_pool(&mut self, name: &str, input: ValueId) -> ValueId {
        self.push(name, Op::GlobalAvgPool, vec![input], Shape::vector(self.shape(input).c))
    }

    /// Adds the zero-padding shortcut to `channels`, the input's channels in the middle: half of
    /// the new ones (rounded down) before them, the rest after.
    ///
    /// # Errors
    /// A zero stride, or fewer output than input channels.
    pub fn zero_pad(
        &mut self,
        name: &str,
        input: ValueId,
        channels: usize,
        stride: usize,
    ) -> Result<ValueId, GraphError> {
        let shape = self.shape(input);
        nonzero(name, "stride", stride)?;
        let Some(added) = channels.checked_sub(shape.c) else {
            return Err(GraphError::TooManyChannels {
                node: name.to_owned(),
                got: shape.c,
                expected: channels,
            });
        };
        let pad = ZeroPad { stride, pad_before: added / 2, pad_after: added - added / 2 };
        let output = Shape::image(channels, shape.h.div_ceil(stride), shape.w.div_ceil(stride));
        Ok(self.push(name, Op::ZeroPad(pad), vec![input], output))
    }

    /// The finished graph, with this value as its output.
    pub fn finish(mut self, output: ValueId) -> Graph {
        self.graph.output = output;
        self.graph
    }

    fn push(&mut self, name: &str, op: Op, inputs: Vec<ValueId>, shape: Shape) -> ValueId {
        let output = ValueId(self.graph.shapes.len());
        self.graph.shapes.push(shape);
        self.graph.nodes.push(Node { name: name.to_owned(), op, inputs, output });
        output
    }

    fn param(
        &mut self,
        node: &str,
        tensor: &str,
        shape: Vec<usize>,
        role: Role,
    ) -> Result<ParamId, GraphError> {
        let name = format!("{node}.{tensor}");
        if !self.taken.insert(name.clone()) {
            return Err(GraphError::DuplicateName { node: node.to_owned() });
        }
        let offset = self.graph.num_parameters();
        self.graph.params.push(TensorSpec { name, shape, role, offset });
        Ok(ParamId(self.graph.params.len() - 1))
    }

    fn buffer(&mut self, node: &str, tensor: &str, shape: Vec<usize>, role: Role) -> BufferId {
        let offset = self.graph.num_buffer_elements();
        let name = format!("{node}.{tensor}");
        self.graph.buffers.push(TensorSpec { name, shape, role, offset });
        BufferId(self.graph.buffers.len() - 1)
    }
}

fn nonzero(node: &str, what: &'static str, value: usize) -> Result<(), GraphError> {
    match value {
        0 => Err(GraphError::Zero { node: node.to_owned(), what }),
        _ => Ok(()),
    }
}

fn kernel_too_large(
    node: &str,
    input: Shape,
    kernel_size: [usize; 2],
    padding: [usize; 2],
) -> GraphError {
    GraphError::KernelTooLarge { node: node.to_owned(), input, kernel_size, padding }
}

/// How many windows fit along one axis: `(size + 2·padding − kernel) / stride + 1`.
fn window_count(
    node: &str,
    input: Shape,
    kernel_size: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
    axis: usize,
) -> Result<usize, GraphError> {
    nonzero(node, ["input height", "input width"][axis], [input.h, input.w][axis])?;
    nonzero(node, "kernel_size", kernel_size[axis])?;
    nonzero(node, "stride", stride[axis])?;
    let padded =
        padding[axis].checked_mul(2).and_then(|both| both.checked_add([input.h, input.w][axis]));
    match padded.and_then(|padded| padded.checked_sub(kernel_size[axis])) {
        Some(room) => Ok(room / stride[axis] + 1),
        None => Err(kernel_too_large(node, input, kernel_size, padding)),
    }
}
