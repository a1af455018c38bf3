//! One training batch through one network, and everything that comes out of it.

use std::collections::BTreeMap;

use crate::architectures::random_weights;
use residua_engine::reference::{self, Tensors, Trace};
use residua_engine::{Isa, Mode, Plan, PlanError, PlanOptions, Precision};
use residua_graph::{Graph, MaxPool, Op, Shape, Weights};
use residua_kernels::reference::Real;
use residua_testkit::{Generator, widen};

/// What goes in.
#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) graph: Graph,
    pub(crate) weights: Weights,
    pub(crate) num_samples: usize,
    /// NHWC.
    pub(crate) input: Vec<f32>,
    /// The cotangent: random, for the gradient of a sum says little.
    pub(crate) grad_logits: Vec<f32>,
}

/// What comes out, by name: `eval_logits` (before training), `logits`, `grad.{parameter}`,
/// `running.{statistic}` (after training).
pub(crate) type Outcome = BTreeMap<String, Vec<f64>>;

impl Case {
    /// Random weights and data.
    pub(crate) fn random(graph: &Graph, num_samples: usize, seed: u64) -> Self {
        let mut generator = Generator::new(seed);
        Self {
            weights: random_weights(graph, &mut generator),
            input: generator.signed(num_samples * graph.shape(graph.input()).len()),
            grad_logits: generator.signed(num_samples * graph.shape(graph.output()).len()),
            graph: graph.clone(),
            num_samples,
        }
    }

    /// The first random case from this seed on in which f32 and f64 take the same side of every
    /// kink with room to spare. Elsewhere they may differ by a whole term, and both be right.
    pub(crate) fn away_from_kinks(graph: &Graph, num_samples: usize, seed: u64) -> Self {
        (0..100)
            .map(|i| Self::random(graph, num_samples, seed + 1000 * i))
            .find(Self::is_away_from_kinks)
            .expect("one of 100 seeds is away from all kinks")
    }

    fn is_away_from_kinks(&self) -> bool {
        let mut narrow = Tensors::<f32>::new(&self.weights);
        let mut wide = Tensors::<f64>::new(&self.weights);
        let narrow = reference::forward_train(&self.graph, &mut narrow, &self.input);
        let wide = reference::forward_train(&self.graph, &mut wide, &widen(&self.input));
        self.graph.nodes().iter().all(|node| {
            let (narrow, wide) = (narrow.value(node.inputs[0]), wide.value(node.inputs[0]));
            let shape = self.graph.shape(node.inputs[0]);
            // By channel: a batch norm over nearly equal values amplifies the errors of its own.
            let mut margins = vec![0.0_f64; shape.c];
            for (i, (narrow, wide)) in narrow.iter().zip(wide).enumerate() {
                let error = (f64::from(*narrow) - wide).abs();
                margins[i % shape.c] = margins[i % shape.c].max(16.0 * error);
            }
            match node.op {
                Op::Relu => wide.iter().enumerate().all(|(i, x)| x.abs() > margins[i % shape.c]),
                Op::MaxPool(pool) => {
                    let mut windows = windows(shape, &pool, wide);
                    windows.iter_mut().enumerate().all(|(i, window)| {
                        window.sort_by(f64::total_cmp);
                        // Values that a ReLU made 0 tie, but pass no gradient.
                        let [.., second, first] = window[..] else { return true };
                        first == 0.0 || first - second > margins[i % shape.c]
                    })
                }
                _ => true,
            }
        })
    }

    /// By the interpreter, in either precision.
    pub(crate) fn interpret<T: Real>(&self) -> Outcome {
        self.interpret_rounded::<T>(|x| x)
    }

    /// As [`interpret`](Self::interpret), with all that a plan stores rounded.
    pub(crate) fn interpret_rounded<T: Real>(&self, round: fn(T) -> T) -> Outcome {
        let convert =
            |values: &[f32]| -> Vec<T> { values.iter().map(|&x| T::from_f64(x.into())).collect() };
        let (graph, input) = (&self.graph, convert(&self.input));
        let mut tensors = Tensors::<T>::new(&self.weights).rounded(round);
        let eval: Trace<T> = reference::forward_eval(graph, &tensors, &input);
        let trace = reference::forward_train(graph, &mut tensors, &input);
        let grads = reference::backward(graph, &tensors, &trace, &convert(&self.grad_logits));
        let widen = |values: &[T]| values.iter().map(|x| x.to_f64()).collect();
        self.outcome(eval.output(), trace.output(), &grads.params, &tensors.buffers, widen)
    }

    /// By plans for training and for evaluation.
    pub(crate) fn plan(&self, isa: Isa) -> Result<Outcome, PlanError> {
        self.plan_in(Precision::F32, isa)
    }

    /// As [`plan`](Self::plan), in any precision.
    pub(crate) fn plan_in(&self, precision: Precision, isa: Isa) -> Result<Outcome, PlanError> {
        let (graph, mut weights) = (&self.graph, self.weights.clone());
        let options = |mode| PlanOptions { batch_size: self.num_samples, mode, precision, isa };
        // Poison: everything has to be overwritten.
        let mut eval_logits = vec![f32::NAN; self.grad_logits.len()];
        let (mut logits, mut grads) = (eval_logits.clone(), vec![f32::NAN; weights.params.len()]);

        let mut eval = Plan::new(graph, &options(Mode::Eval))?;
        eval.load(&weights);
        eval.forward(&self.input, &mut eval_logits);
        let mut train = Plan::new(graph, &options(Mode::Train))?;
        train.forward_train(&mut weights, &self.input, &mut logits);
        train.backward(&weights, &self.grad_logits, &mut grads);
        Ok(self.outcome(&eval_logits, &logits, &grads, &weights.buffers, widen))
    }

    fn outcome<T>(
        &self,
        eval_logits: &[T],
        logits: &[T],
        grads: &[T],
        buffers: &[T],
        widen: impl Fn(&[T]) -> Vec<f64>,
    ) -> Outcome {
        let mut outcome = Outcome::new();
        outcome.insert("eval_logits".to_owned(), widen(eval_logits));
        outcome.insert("logits".to_owned(), widen(logits));
        for spec in self.graph.params() {
            outcome.insert(format!("grad.{}", spec.name), widen(&grads[spec.range()]));
        }
        for spec in self.graph.buffers() {
            outcome.insert(format!("running.{}", spec.name), widen(&buffers[spec.range()]));
        }
        outcome
    }
}

/// The values that each output of a max pool is the maximum of.
fn windows(shape: Shape, pool: &MaxPool, values: &[f64]) -> Vec<Vec<f64>> {
    let Shape { c, h, w } = shape;
    let size = |size: usize| (size + 2 * pool.padding - pool.kernel_size) / pool.stride + 1;
    let mut windows = Vec::new();
    for (sample, oh_i, ow_i, c_i) in values.chunks_exact(shape.len()).flat_map(|sample| {
        (0..size(h) * size(w) * c).map(move |i| (sample, i / c / size(w), i / c % size(w), i % c))
    }) {
        let inside = |at: usize, size: usize| {
            let start = at * pool.stride;
            start.saturating_sub(pool.padding)..(start + pool.kernel_size - pool.padding).min(size)
        };
        let rows = inside(oh_i, h).flat_map(|ih_i| inside(ow_i, w).map(move |iw_i| (ih_i, iw_i)));
        windows.push(rows.map(|(ih_i, iw_i)| sample[(ih_i * w + iw_i) * c + c_i]).collect());
    }
    windows
}
