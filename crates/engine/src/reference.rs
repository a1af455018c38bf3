//! An interpreter of graphs on the reference kernels, in `f32` or `f64`: the oracle that plans are
//! tested against, and the plainest statement of what a network computes.
//!
//! It runs one operation at a time over the whole batch and keeps every value. It shares no code
//! with plans, unless [`Tensors::by_kernels`] lends it their kernels.
//!
//! ```
//! use residua_engine::reference::{self, Tensors};
//! use residua_graph::{GraphBuilder, Shape, Weights};
//!
//! let mut b = GraphBuilder::new(Shape::vector(2));
//! let x = b.linear("fc", b.input(), 1)?;
//! let x = b.relu("relu", x);
//! let graph = b.finish(x);
//! let mut weights = Weights::zeros(&graph);
//! weights.params.copy_from_slice(&[3.0, -4.0, 0.5]);
//!
//! let tensors: Tensors<f64> = Tensors::new(&weights);
//! let trace = reference::forward_eval(&graph, &tensors, &[2.0, 1.0, 0.0, 1.0]);
//! assert_eq!(trace.output(), [2.5, 0.0]);
//! # Ok::<(), residua_graph::GraphError>(())
//! ```

use std::sync::Arc;

use residua_graph::{BatchNorm, BufferId, Graph, MaxPool, Node, Op, ParamId, ValueId, Weights};
use residua_graph::{Conv2d, ZeroPad};
use residua_kernels::reference::batch_norm::{Params, Statistics};
use residua_kernels::reference::{
    Real, batch_norm, conv2d, global_avg_pool, linear, max_pool, relu, zero_pad,
};
use residua_kernels::{Conv2dProblem, Isa, MaxPoolProblem, ZeroPadProblem};

use crate::convolve::{ByDefinition, ByKernels, Convolve};

/// All tensors of a network, as [`Weights`] lays them out, in the precision of the computation.
#[derive(Debug, Clone)]
pub struct Tensors<T> {
    /// Trainable parameters.
    pub params: Vec<T>,
    /// Running statistics.
    pub buffers: Vec<T>,
    /// How activations, their gradients and the weights they meet are rounded.
    round: fn(T) -> T,
    convolve: Arc<dyn Convolve<T>>,
}

impl Tensors<f32> {
    /// Computes convolutions with the kernels that plans choose: many times faster, for measuring
    /// what plans don't keep. Each call runs on one thread.
    pub fn by_kernels(self, isa: Isa) -> Self {
        Self { convolve: Arc::new(ByKernels(isa)), ..self }
    }
}

impl<T: Real> Tensors<T> {
    /// The same values in another precision.
    pub fn new(weights: &Weights) -> Self {
        let convert = |values: &[f32]| values.iter().map(|&x| T::from_f64(x.into())).collect();
        let (params, buffers) = (convert(&weights.params), convert(&weights.buffers));
        Self { params, buffers, round: |x| x, convolve: Arc::new(ByDefinition) }
    }

    /// Rounds all activations, their gradients and the weights of convolutions and linear operations,
    /// as a plan of another precision stores them.
    pub fn rounded(self, round: fn(T) -> T) -> Self {
        Self { round, ..self }
    }

    fn rounded_param(&self, graph: &Graph, id: ParamId) -> Vec<T> {
        self.param(graph, id).iter().map(|x| (self.round)(*x)).collect()
    }

    fn param(&self, graph: &Graph, id: ParamId) -> &[T] {
        &self.params[graph.params()[id.index()].range()]
    }

    fn buffer(&self, graph: &Graph, id: BufferId) -> &[T] {
        &self.buffers[graph.buffers()[id.index()].range()]
    }

    fn norm_params(&self, graph: &Graph, norm: &BatchNorm) -> Params<'_, T> {
        Params {
            weight: self.param(graph, norm.weight),
            bias: self.param(graph, norm.bias),
            eps: T::from_f64(norm.eps.into()),
        }
    }

    fn running(&self, graph: &Graph, norm: &BatchNorm) -> Statistics<T> {
        Statistics {
            mean: self.buffer(graph, norm.running_mean).to_vec(),
            var: self.buffer(graph, norm.running_var).to_vec(),
        }
    }
}

/// Every value that a forward pass made, and what its backward pass needs beside them.
#[derive(Debug, Clone)]
pub struct Trace<T> {
    output: ValueId,
    /// By value: all samples, NHWC.
    values: Vec<Vec<T>>,
    /// By value: what the operation that made it keeps.
    kept: Vec<Kept<T>>,
}

#[derive(Debug, Clone)]
enum Kept<T> {
    Nothing,
    /// The batch's own, in training.
    Statistics(Statistics<T>),
    /// The place of each window's winner.
    Winners(Vec<u8>),
}

impl<T> Trace<T> {
    /// The output of the graph: the logits, `[n, classes]`.
    pub fn output(&self) -> &[T] {
        self.value(self.output)
    }

    /// Any value, all samples, NHWC.
    pub fn value(&self, id: ValueId) -> &[T] {
        &self.values[id.index()]
    }
}

/// Gradients of everything that was fed in, and of every value on the way.
#[derive(Debug, Clone, PartialEq)]
pub struct Gradients<T> {
    /// Of the trainable parameters, as [`Tensors::params`] lays them out.
    pub params: Vec<T>,
    /// Of the input, all samples, NHWC.
    pub input: Vec<T>,
    /// By value: all samples, NHWC.
    values: Vec<Vec<T>>,
}

impl<T> Gradients<T> {
    /// Of any value, all samples, NHWC: the sum over all that reads it.
    pub fn value(&self, id: ValueId) -> &[T] {
        &self.values[id.index()]
    }
}

/// Runs the graph with the running statistics. `input` is NHWC, any number of samples.
///
/// # Panics
/// `input` is no whole number of samples.
pub fn forward_eval<T: Real>(graph: &Graph, tensors: &Tensors<T>, input: &[T]) -> Trace<T> {
    let normalise = |norm: &BatchNorm, input: &[T], output: &mut [T]| {
        let running = tensors.running(graph, norm);
        batch_norm::forward_eval(tensors.norm_params(graph, norm), &running, input, output);
        Kept::Nothing
    };
    forward(graph, tensors, input, normalise)
}

/// Runs the graph with the batch's statistics and updates the running ones.
///
/// # Panics
/// `input` is no whole number of samples, or a batch norm sees a single value a channel.
pub fn forward_train<T: Real>(graph: &Graph, tensors: &mut Tensors<T>, input: &[T]) -> Trace<T> {
    let mut updates = Vec::new();
    let normalise = |norm: &BatchNorm, input: &[T], output: &mut [T]| {
        let params = tensors.norm_params(graph, norm);
        let count = input.len() / params.weight.len();
        let batch = batch_norm::forward_train(params, input, output);
        let mut running = tensors.running(graph, norm);
        running.update_running(&batch, count, T::from_f64(norm.momentum.into()));
        updates.push((norm.running_mean, running.mean));
        updates.push((norm.running_var, running.var));
        Kept::Statistics(batch)
    };
    let trace = forward(graph, tensors, input, normalise);
    for (id, values) in updates {
        tensors.buffers[graph.buffers()[id.index()].range()].copy_from_slice(&values);
    }
    trace
}

fn forward<T: Real>(
    graph: &Graph,
    tensors: &Tensors<T>,
    input: &[T],
    mut normalise: impl FnMut(&BatchNorm, &[T], &mut [T]) -> Kept<T>,
) -> Trace<T> {
    let n = num_samples(graph, input.len());
    let mut values = vec![Vec::new(); graph.num_values()];
    let mut kept: Vec<_> = (0..graph.num_values()).map(|_| Kept::Nothing).collect();
    let round = |values: &mut [T]| values.iter_mut().for_each(|x| *x = (tensors.round)(*x));
    values[graph.input().index()] = input.to_vec();
    round(&mut values[graph.input().index()]);
    for node in graph.nodes() {
        let input = &values[node.inputs[0].index()];
        let param = |id: ParamId| tensors.param(graph, id);
        let mut output = vec![T::ZERO; n * graph.shape(node.output).len()];
        let mut keep = Kept::Nothing;
        match &node.op {
            Op::Conv2d { conv, weight, bias } => {
                let p = conv_problem(graph, node, conv, n);
                let weight = tensors.rounded_param(graph, *weight);
                tensors.convolve.forward(&p, input, &weight, bias.map(param), &mut output);
            }
            Op::Linear { in_features, weight, bias, .. } => {
                let (weight, bias) = (tensors.rounded_param(graph, *weight), bias.map(param));
                linear::forward(*in_features, input, &weight, bias, &mut output);
            }
            Op::BatchNorm(norm) => keep = normalise(norm, input, &mut output),
            Op::Relu => relu::forward(input, &mut output),
            Op::Add => {
                let right = &values[node.inputs[1].index()];
                for ((output, &left), &right) in output.iter_mut().zip(input).zip(right) {
                    *output = left + right;
                }
            }
            Op::MaxPool(pool) => {
                let mut winners = vec![0; output.len()];
                let p = max_pool_problem(graph, node, pool, n);
                max_pool::forward(&p, input, &mut output, &mut winners);
                keep = Kept::Winners(winners);
            }
            Op::GlobalAvgPool => {
                let shape = graph.shape(node.inputs[0]);
                global_avg_pool::forward(shape.num_pixels(), shape.c, input, &mut output);
            }
            Op::ZeroPad(pad) => {
                zero_pad::forward(&zero_pad_problem(graph, node, pad, n), input, &mut output);
            }
            op => panic!("{}: the interpreter has no rule for {op:?}", node.name),
        }
        round(&mut output);
        values[node.output.index()] = output;
        kept[node.output.index()] = keep;
    }
    Trace { output: graph.output(), values, kept }
}

/// Gradients of `Σ grad_output · output` with respect to all parameters, the input and every value.
///
/// `trace` is that of [`forward_train`] with the same `tensors` (the running statistics do not
/// matter here).
///
/// # Panics
/// `grad_output` has another length than the output, or `trace` is that of [`forward_eval`].
pub fn backward<T: Real>(
    graph: &Graph,
    tensors: &Tensors<T>,
    trace: &Trace<T>,
    grad_output: &[T],
) -> Gradients<T> {
    let n = num_samples(graph, trace.value(graph.input()).len());
    assert_eq!(grad_output.len(), trace.output().len(), "grad_output length");
    let mut grads: Vec<Vec<T>> =
        trace.values.iter().map(|value| vec![T::ZERO; value.len()]).collect();
    grads[graph.output().index()].copy_from_slice(grad_output);
    let mut params = vec![T::ZERO; tensors.params.len()];

    for node in graph.nodes().iter().rev() {
        let input = trace.value(node.inputs[0]);
        let output = trace.value(node.output);
        let mut grad_output = std::mem::take(&mut grads[node.output.index()]);
        grad_output.iter_mut().for_each(|x| *x = (tensors.round)(*x));
        let mut grad_input = vec![T::ZERO; input.len()];
        let place = |id: ParamId| graph.params()[id.index()].range();
        match &node.op {
            Op::Conv2d { conv, weight, bias } => {
                let p = conv_problem(graph, node, conv, n);
                let rounded = tensors.rounded_param(graph, *weight);
                let (convolve, grad_weight) = (&tensors.convolve, &mut params[place(*weight)]);
                convolve.backward_data(&p, &grad_output, &rounded, &mut grad_input);
                convolve.backward_weight(&p, input, &grad_output, grad_weight);
                if let Some(bias) = bias {
                    conv2d::backward_bias(&p, &grad_output, &mut params[place(*bias)]);
                }
            }
            Op::Linear { in_features, weight, bias, .. } => {
                let grad_weight = &mut params[place(*weight)];
                linear::backward_weight(*in_features, input, &grad_output, grad_weight);
                let rounded = tensors.rounded_param(graph, *weight);
                linear::backward_data(*in_features, &grad_output, &rounded, &mut grad_input);
                if let Some(bias) = bias {
                    linear::backward_bias(&grad_output, &mut params[place(*bias)]);
                }
            }
            Op::BatchNorm(norm) => {
                let Kept::Statistics(batch) = &trace.kept[node.output.index()] else {
                    panic!("{}: the trace is of an evaluation", node.name)
                };
                let c = batch.mean.len();
                let (mut grad_weight, mut grad_bias) = (vec![T::ZERO; c], vec![T::ZERO; c]);
                batch_norm::backward(
                    tensors.norm_params(graph, norm),
                    batch,
                    input,
                    &grad_output,
                    &mut grad_input,
                    &mut grad_weight,
                    &mut grad_bias,
                );
                params[place(norm.weight)].copy_from_slice(&grad_weight);
                params[place(norm.bias)].copy_from_slice(&grad_bias);
            }
            Op::Relu => relu::backward(output, &grad_output, &mut grad_input),
            Op::Add => {
                accumulate(&mut grads[node.inputs[1].index()], &grad_output);
                grad_input.copy_from_slice(&grad_output);
            }
            Op::MaxPool(pool) => {
                let Kept::Winners(winners) = &trace.kept[node.output.index()] else {
                    unreachable!("forward keeps the winners of every max pool")
                };
                let p = max_pool_problem(graph, node, pool, n);
                max_pool::backward(&p, &grad_output, winners, &mut grad_input);
            }
            Op::GlobalAvgPool => {
                let shape = graph.shape(node.inputs[0]);
                let num_pixels = shape.num_pixels();
                global_avg_pool::backward(num_pixels, shape.c, &grad_output, &mut grad_input);
            }
            Op::ZeroPad(pad) => {
                let p = zero_pad_problem(graph, node, pad, n);
                zero_pad::backward(&p, &grad_output, &mut grad_input);
            }
            op => panic!("{}: the interpreter has no rule for {op:?}", node.name),
        }
        accumulate(&mut grads[node.inputs[0].index()], &grad_input);
        grads[node.output.index()] = grad_output;
    }
    Gradients { params, input: grads[graph.input().index()].clone(), values: grads }
}

fn num_samples(graph: &Graph, input_len: usize) -> usize {
    let sample_len = graph.shape(graph.input()).len();
    assert_eq!(input_len % sample_len, 0, "input length, with samples of {sample_len}");
    input_len / sample_len
}

fn accumulate<T: Real>(grad: &mut [T], more: &[T]) {
    grad.iter_mut().zip(more).for_each(|(grad, &more)| *grad += more);
}

fn conv_problem(graph: &Graph, node: &Node, conv: &Conv2d, n: usize) -> Conv2dProblem {
    let input = graph.shape(node.inputs[0]);
    let ([kh, kw], [sh, sw], [ph, pw]) = (conv.kernel_size, conv.stride, conv.padding);
    let oc = conv.out_channels;
    Conv2dProblem { n, ic: input.c, ih: input.h, iw: input.w, oc, kh, kw, sh, sw, ph, pw }
}

fn max_pool_problem(graph: &Graph, node: &Node, pool: &MaxPool, n: usize) -> MaxPoolProblem {
    let input = graph.shape(node.inputs[0]);
    let (k, s, p) = (pool.kernel_size, pool.stride, pool.padding);
    MaxPoolProblem { n, c: input.c, ih: input.h, iw: input.w, k, s, p }
}

fn zero_pad_problem(graph: &Graph, node: &Node, pad: &ZeroPad, n: usize) -> ZeroPadProblem {
    let input = graph.shape(node.inputs[0]);
    let ZeroPad { stride, pad_before, pad_after } = *pad;
    ZeroPadProblem { n, ic: input.c, ih: input.h, iw: input.w, stride, pad_before, pad_after }
}
