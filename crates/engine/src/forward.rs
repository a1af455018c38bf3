//! From a graph to forward steps.

use crate::conv::Conv;
use crate::norm::{Norm, NormTensors};
use crate::step::{Input, Residual, Slot, Step};
use crate::{Mode, PlanError, PlanOptions};
use residua_graph::{Graph, Node, Op, Shape, ValueId};
use residua_kernels::conv2d::{self, ConvElement};
use residua_kernels::{Aligned, Conv2dProblem, MaxPoolProblem, ZeroPadProblem};

/// What a graph's forward needs.
#[derive(Debug)]
pub(crate) struct Forward<E: 'static> {
    pub(crate) steps: Vec<Step>,
    pub(crate) convs: Vec<Conv<E>>,
    pub(crate) norms: Vec<Norm>,
    /// Sizes for one sample.
    pub(crate) pools: Vec<MaxPoolProblem>,
    pub(crate) input: Slot,
    pub(crate) output: Slot,
}

/// Compiles a graph, a buffer for each value that is made.
pub(crate) fn compile<E: ConvElement>(
    graph: &Graph,
    options: &PlanOptions,
) -> Result<Forward<E>, PlanError> {
    let mut compiler = Compiler::new(graph, options);
    for (i, node) in graph.nodes().iter().enumerate() {
        compiler.node(i, node)?;
    }
    let input = compiler.slot(graph.input());
    let output = compiler.slot(graph.output());
    let Compiler { steps, convs, norms, pools, .. } = compiler;
    Ok(Forward { steps, convs, norms, pools, input, output })
}

/// Nodes that one [`Step::Normalise`] does: a batch norm, then perhaps an addition, then perhaps a
/// ReLU.
#[derive(Debug, Clone, Copy)]
struct Chain {
    residual: Option<ValueId>,
    relu: bool,
    /// The node at whose place the step is emitted.
    last: usize,
    /// What it makes.
    output: ValueId,
}

struct Compiler<'a, E: 'static> {
    graph: &'a Graph,
    options: &'a PlanOptions,
    /// The nodes that read each value.
    readers: Vec<Vec<usize>>,
    /// For each node at whose place a fused step is emitted, that step.
    emit_at: Vec<Option<Step>>,
    /// Whether a node is part of an earlier node's step.
    fused: Vec<bool>,
    steps: Vec<Step>,
    convs: Vec<Conv<E>>,
    norms: Vec<Norm>,
    pools: Vec<MaxPoolProblem>,
}

impl<'a, E: ConvElement> Compiler<'a, E> {
    fn new(graph: &'a Graph, options: &'a PlanOptions) -> Self {
        let mut readers = vec![Vec::new(); graph.num_values()];
        for (i, node) in graph.nodes().iter().enumerate() {
            for input in &node.inputs {
                readers[input.index()].push(i);
            }
        }
        let num_nodes = graph.nodes().len();
        Self {
            graph,
            options,
            readers,
            emit_at: vec![None; num_nodes],
            fused: vec![false; num_nodes],
            steps: Vec::new(),
            convs: Vec::new(),
            norms: Vec::new(),
            pools: Vec::new(),
        }
    }

    fn slot(&self, value: ValueId) -> Slot {
        Slot { buffer: value.index(), len: self.graph.shape(value).len() }
    }

    fn node(&mut self, i: usize, node: &Node) -> Result<(), PlanError> {
        if let Some(step) = self.emit_at[i] {
            self.steps.push(step);
            return Ok(());
        }
        if self.fused[i] {
            return Ok(());
        }
        let shape = self.graph.shape(node.inputs[0]);
        let (input, output) = (self.slot(node.inputs[0]), self.slot(node.output));
        let step = match &node.op {
            Op::Conv2d { .. } | Op::Linear { .. } => {
                let conv = self.conv(node, shape)?;
                Step::Conv { conv, input: Input::Stored(input), output, moments: None }
            }
            Op::BatchNorm(_) => return self.norm(i, node, input),
            Op::Relu => Step::Relu { input, output },
            Op::Add => {
                let right = self.slot(node.inputs[1]);
                let relu = self.sole_reader(node.output, &Op::Relu);
                let output = relu.map_or(node.output, |relu| self.fuse(relu));
                let output = self.slot(output);
                Step::Add { left: input, right, relu: relu.is_some(), output }
            }
            Op::MaxPool(pool) => {
                if pool.kernel_size > 15 {
                    return Err(PlanError::Unsupported {
                        node: node.name.clone(),
                        reason: format!("window is {}, expected at most 15", pool.kernel_size),
                    });
                }
                self.pools.push(MaxPoolProblem {
                    n: 1,
                    c: shape.c,
                    ih: shape.h,
                    iw: shape.w,
                    k: pool.kernel_size,
                    s: pool.stride,
                    p: pool.padding,
                });
                Step::MaxPool { pool: self.pools.len() - 1, input: Input::Stored(input), output }
            }
            Op::GlobalAvgPool => {
                Step::GlobalAvgPool { num_pixels: shape.num_pixels(), c: shape.c, input, output }
            }
            Op::ZeroPad(pad) => {
                let problem = ZeroPadProblem {
                    n: 1,
                    ic: shape.c,
                    ih: shape.h,
                    iw: shape.w,
                    stride: pad.stride,
                    pad_before: pad.pad_before,
                    pad_after: pad.pad_after,
                };
                Step::ZeroPad { problem, input, output }
            }
            op => {
                return Err(PlanError::Unsupported {
                    node: node.name.clone(),
                    reason: format!("no kernel for {op:?}"),
                });
            }
        };
        self.steps.push(step);
        Ok(())
    }

    fn conv(&mut self, node: &Node, input: Shape) -> Result<usize, PlanError> {
        let output = self.graph.shape(node.output);
        let (weight, bias, [kh, kw], [sh, sw], [ph, pw]) = match &node.op {
            Op::Conv2d { conv, weight, bias } => {
                (weight, bias, conv.kernel_size, conv.stride, conv.padding)
            }
            Op::Linear { weight, bias, .. } => (weight, bias, [1; 2], [1; 2], [0; 2]),
            op => unreachable!("{op:?} has no weight to convolve with"),
        };
        let (ih, iw) = (input.h, input.w);
        let problem =
            Conv2dProblem { n: 1, ic: input.c, ih, iw, oc: output.c, kh, kw, sh, sw, ph, pw };
        let kernel = conv2d::choose(&problem, self.options.isa);
        let weight = self.graph.params()[weight.index()].range();
        let bias = bias.map(|bias| self.graph.params()[bias.index()].range());
        let train = self.options.mode == Mode::Train;
        let input_has_grad = train && node.inputs[0] != self.graph.input();
        let zeros = |needed: bool, len: usize| Aligned::zeroed(if needed { len } else { 0 });
        self.convs.push(Conv {
            name: node.name.clone(),
            problem,
            kernel,
            weight,
            packed: zeros(true, kernel.packed_weight_len(&problem)),
            packed_bias: bias.as_ref().map(|bias| vec![0.0; bias.len()]),
            bias,
            packed_backward: zeros(input_has_grad, kernel.packed_weight_backward_len(&problem)),
            in_parts: false,
        });
        Ok(self.convs.len() - 1)
    }

    fn norm(&mut self, i: usize, node: &Node, input: Slot) -> Result<(), PlanError> {
        let Op::BatchNorm(op) = &node.op else { unreachable!("{node:?} is no batch norm") };
        let num_pixels = self.graph.shape(node.output).num_pixels();
        if self.options.mode == Mode::Train && self.options.batch_size * num_pixels < 2 {
            return Err(PlanError::SingleValue { node: node.name.clone() });
        }
        let (params, buffers) = (self.graph.params(), self.graph.buffers());
        let tensors = NormTensors {
            weight: params[op.weight.index()].range(),
            bias: params[op.bias.index()].range(),
            running_mean: buffers[op.running_mean.index()].range(),
            running_var: buffers[op.running_var.index()].range(),
        };
        let (name, constants) = (node.name.clone(), (op.eps, op.momentum));
        self.norms.push(Norm::new(name, constants, num_pixels, tensors));
        let norm = self.norms.len() - 1;
        if self.options.mode == Mode::Train {
            self.steps.push(Step::Moments { norm, input });
        }
        let chain = self.chain(i, node);
        let step = Step::Normalise {
            norm,
            input,
            residual: chain.residual.map(|value| Residual::Stored(self.slot(value))),
            relu: chain.relu,
            output: self.slot(chain.output),
        };
        if chain.last == i {
            self.steps.push(step);
        } else {
            self.emit_at[chain.last] = Some(step);
        }
        Ok(())
    }

    /// The addition and ReLU that follow a batch norm, if nothing else reads what is between.
    fn chain(&mut self, i: usize, node: &Node) -> Chain {
        let mut chain = Chain { residual: None, relu: false, last: i, output: node.output };
        if let Some(add) = self.sole_reader(chain.output, &Op::Add) {
            let inputs = &self.graph.nodes()[add].inputs;
            let other = if inputs[0] == chain.output { inputs[1] } else { inputs[0] };
            chain = Chain { residual: Some(other), last: add, output: self.fuse(add), ..chain };
        }
        if let Some(relu) = self.sole_reader(chain.output, &Op::Relu) {
            chain = Chain { relu: true, last: relu, output: self.fuse(relu), ..chain };
        }
        chain
    }

    /// The one node that reads a value, if it does this operation, is not part of another step and
    /// the value is not the network's output.
    fn sole_reader(&self, value: ValueId, op: &Op) -> Option<usize> {
        match self.readers[value.index()][..] {
            [reader]
                if self.graph.nodes()[reader].op == *op
                    && !self.fused[reader]
                    && value != self.graph.output() =>
            {
                Some(reader)
            }
            _ => None,
        }
    }

    /// Makes a node part of the current step.
    fn fuse(&mut self, node: usize) -> ValueId {
        self.fused[node] = true;
        self.graph.nodes()[node].output
    }
}

/// Lets values that are not needed at the same time share a buffer, for evaluation.
pub(crate) fn share_buffers<E>(forward: &mut Forward<E>) {
    let mut last_use = std::collections::HashMap::new();
    last_use.insert(forward.input.buffer, 0);
    for (i, step) in forward.steps.iter().enumerate() {
        for slot in step.slots() {
            last_use.insert(slot.buffer, i);
        }
    }
    last_use.insert(forward.output.buffer, forward.steps.len());
    let mut free: Vec<usize> = Vec::new();
    let mut assigned = std::collections::HashMap::from([(forward.input.buffer, 0)]);
    let mut num_buffers = 1;
    for (i, step) in forward.steps.iter_mut().enumerate() {
        let mut before: Vec<usize> = step.slots().iter().map(|slot| slot.buffer).collect();
        // A value that is read twice is freed once.
        before.sort_unstable();
        before.dedup();
        let assign = |slot: &mut Slot| {
            slot.buffer = *assigned.entry(slot.buffer).or_insert_with(|| {
                free.pop().unwrap_or_else(|| {
                    num_buffers += 1;
                    num_buffers - 1
                })
            });
        };
        step.visit(assign, |_| ());
        free.extend(before.iter().filter(|value| last_use[value] == i).map(|v| assigned[v]));
    }
    forward.input.buffer = 0;
    forward.output.buffer = assigned[&forward.output.buffer];
}
