//! Backward passes of whole networks against central differences in f64, over the input and all
//! parameters at once, with random cotangents.

use crate::architectures::{all, edited, named};
use crate::case::Case;
use residua_engine::reference::{self, Tensors};
use residua_graph::{Graph, Op};
use residua_testkit::{Check, Failure, assert_rejected, check_gradient, widen};
use std::cell::RefCell;

/// The differences go this far along the direction, times the checker's own steps: short enough to
/// cross no kink, long enough to keep half the digits.
const REACH: f64 = 1.0 / 1024.0;

/// Checks the interpreter's gradients, which `wrong` may change, of a network at the first seed
/// where the differences cross no kink. The running statistics do not matter: the statistics are
/// the batch's.
fn check(graph: &Graph, wrong: impl Fn(&mut [f64])) -> Check {
    for seed in 0..200 {
        let case = Case::random(graph, 4, seed);
        let start = [widen(&case.weights.params), widen(&case.input)].concat();
        let num_params = graph.num_parameters();
        let run = |x: &[f64]| {
            let at: Vec<f64> = start.iter().zip(x).map(|(start, x)| start + REACH * x).collect();
            let mut tensors = Tensors::<f64>::new(&case.weights);
            tensors.params.copy_from_slice(&at[..num_params]);
            let trace = reference::forward_train(graph, &mut tensors, &at[num_params..]);
            (tensors, trace)
        };
        let origin = vec![0.0; start.len()];
        let (tensors, trace) = run(&origin);
        let sides = sides(graph, &trace);
        let crossed = RefCell::new(false);
        let forward = |x: &[f64]| {
            let (_, trace) = run(x);
            *crossed.borrow_mut() |= self::sides(graph, &trace) != sides;
            trace.output().to_vec()
        };
        let backward = |grad_output: &[f64]| {
            let grads = reference::backward(graph, &tensors, &trace, grad_output);
            let mut grads: Vec<f64> =
                [grads.params, grads.input].concat().iter().map(|grad| REACH * grad).collect();
            wrong(&mut grads);
            grads
        };
        let check = check_gradient(&origin, seed, forward, backward);
        if !crossed.into_inner() {
            return check;
        }
    }
    Err(Failure::new("every seed is near a kink"))
}

/// On which side of its kink each ReLU is, and which input wins each max pool.
fn sides(graph: &Graph, trace: &reference::Trace<f64>) -> Vec<bool> {
    let mut sides = Vec::new();
    for node in graph.nodes() {
        let input = trace.value(node.inputs[0]);
        match node.op {
            Op::Relu => sides.extend(input.iter().map(|x| *x > 0.0)),
            Op::MaxPool(_) => {
                // Whether each winner is each input: a superset of what can change.
                let output = trace.value(node.output);
                sides.extend(input.iter().map(|x| output.contains(x)));
            }
            _ => {}
        }
    }
    sides
}

#[test]
fn gradients_of_every_architecture_match_differences() -> Check {
    residua_testkit::all(all().iter().map(|architecture| {
        let graph = architecture.to_graph().expect("a valid architecture has a graph");
        check(&graph, |_| {}).map_err(|failure| failure.of(architecture.name()))
    }))
}

#[test]
fn wrong_gradients_are_rejected() {
    for name in ["zero-pad", "preact-projection", "dense-zero-pad-no-norm"] {
        let graph = named(name).to_graph().expect("a valid architecture has a graph");
        for spec in graph.params() {
            let scaled = |grads: &mut [f64]| {
                grads[spec.range()].iter_mut().for_each(|grad| *grad *= 1.001);
            };
            assert_rejected(&format!("{name}: {} scaled", spec.name), check(&graph, scaled));
        }
        let input_zeroed = |grads: &mut [f64]| grads[graph.num_parameters()..].fill(0.0);
        assert_rejected(&format!("{name}: no input gradient"), check(&graph, input_zeroed));
        let same = edited(&graph, |node| node.op.clone()).expect("nothing changes");
        assert_eq!(check(&same, |_| {}), Ok(()), "{name}");
    }
}
