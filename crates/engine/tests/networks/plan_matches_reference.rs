//! Plans against the interpreter: every kind of network, every instruction set of the machine,
//! every batch size up to more than there are groups.

use crate::architectures::{NUM_CLASSES, all, named};
use crate::case::Case;
use crate::hand_built;
use crate::random_graphs::random;
use crate::rounding::Truth;
use residua_engine::{Isa, Mode, Plan, PlanError, PlanOptions};
use residua_graph::{Conv2d, Graph, GraphBuilder, Shape};
use residua_testkit::{Check, Failure};
use std::error::Error;

/// Logits in both modes, the gradient of every parameter, and the running statistics.
fn check(name: &str, graph: &Graph, num_samples: usize, seed: u64) -> Check {
    let case = Case::away_from_kinks(graph, num_samples, seed);
    let truth = Truth::of(&case);
    residua_testkit::all(Isa::supported().map(|isa| {
        let subject = format!("{name}, {num_samples} samples, {isa}, seed {seed}");
        let failure = |error: PlanError| Failure::new(format!("{subject}: {error}"));
        let got = case.plan(isa).map_err(failure)?;
        println!("{subject}: {:?} of the bound", truth.worst(&got));
        truth.check(&got).map_err(|failure| failure.of(&subject))
    }))
}

#[test]
fn every_architecture_matches() -> Check {
    let architectures = all();
    residua_testkit::all(architectures.iter().enumerate().flat_map(|(i, architecture)| {
        let graph = architecture.to_graph().expect("a valid architecture has a graph");
        // Two or more samples, which vectors need for their statistics.
        [2 + i % 3, 5 + i % 7, 12 + i % 8]
            .map(|num_samples| check(architecture.name(), &graph, num_samples, 1 + i as u64))
    }))
}

#[test]
fn hand_built_graphs_match() -> Result<(), Box<dyn Error>> {
    let graphs = hand_built::all()?;
    let checks = graphs
        .iter()
        .flat_map(|(name, graph)| [2, 7].map(|num_samples| check(name, graph, num_samples, 11)));
    Ok(residua_testkit::all(checks)?)
}

#[test]
fn random_graphs_match() -> Result<(), Box<dyn Error>> {
    let graphs = (0..150).map(|seed| random(seed, 4 + seed as usize % 9));
    let graphs = graphs.collect::<Result<Vec<_>, _>>()?;
    let checks = graphs.iter().enumerate().map(|(seed, graph)| {
        let name = format!("random graph {seed}");
        check(&name, graph, 5, seed as u64)
    });
    Ok(residua_testkit::all(checks)?)
}

#[test]
fn every_batch_size_matches() -> Check {
    let graph = named("zero-pad").to_graph().expect("a valid architecture has a graph");
    residua_testkit::all((1..=19).map(|num_samples| check("zero-pad", &graph, num_samples, 77)))
}

#[test]
fn single_vectors_match_without_norm() -> Check {
    let name = "dense-projection-all-no-norm";
    let graph = named(name).to_graph().expect("a valid architecture has a graph");
    check(name, &graph, 1, 5)
}

/// Buffers that are used again must not show.
#[test]
fn a_second_batch_gets_the_bits_of_a_new_plan() -> Result<(), PlanError> {
    for architecture in all() {
        let graph = architecture.to_graph().expect("a valid architecture has a graph");
        let (first, second) = (Case::random(&graph, 6, 1), Case::random(&graph, 6, 2));
        let run = |plan: &mut Plan, case: &Case| {
            let mut weights = case.weights.clone();
            let mut logits = vec![f32::NAN; case.grad_logits.len()];
            let mut grads = vec![f32::NAN; weights.params.len()];
            plan.forward_train(&mut weights, &case.input, &mut logits);
            plan.backward(&weights, &case.grad_logits, &mut grads);
            [logits, grads, weights.buffers]
                .concat()
                .iter()
                .map(|x| x.to_bits())
                .collect::<Vec<_>>()
        };
        let mut used = Plan::new(&graph, &PlanOptions::train(6)?)?;
        let mut fresh = Plan::new(&graph, &PlanOptions::train(6)?)?;
        run(&mut used, &first);
        assert!(run(&mut used, &second) == run(&mut fresh, &second), "{}", architecture.name());
    }
    Ok(())
}

/// The sums of a backward must not go into the next one's.
#[test]
fn a_second_backward_gives_the_same_gradients() -> Result<(), PlanError> {
    for name in ["zero-pad", "preact-bottleneck", "dense-projection"] {
        let graph = named(name).to_graph().expect("a valid architecture has a graph");
        let Case { mut weights, input, grad_logits, .. } = Case::random(&graph, 6, 1);
        let mut plan = Plan::new(&graph, &PlanOptions::train(6)?)?;
        plan.forward_train(&mut weights, &input, &mut vec![f32::NAN; grad_logits.len()]);
        let [first, second] = [(); 2].map(|()| {
            let mut grads = vec![f32::NAN; weights.params.len()];
            plan.backward(&weights, &grad_logits, &mut grads);
            grads.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
        });
        assert!(first == second, "{name}");
    }
    Ok(())
}

/// What a sample gets does not depend on what is beside it, even if that is no number.
#[test]
fn samples_of_an_evaluation_do_not_influence_each_other() -> Result<(), PlanError> {
    for name in ["zero-pad", "photo", "preact-bottleneck", "dense-zero-pad"] {
        let graph = named(name).to_graph().expect("a valid architecture has a graph");
        for num_samples in [1, 2, 7, 18, 19] {
            let case = Case::random(&graph, num_samples, 3);
            let (input_len, num_classes) = (graph.shape(graph.input()).len(), NUM_CLASSES);
            let mut plan = Plan::new(&graph, &PlanOptions::eval(19)?)?;
            plan.load(&case.weights);
            let mut want = vec![f32::NAN; case.grad_logits.len()];
            plan.forward(&case.input, &mut want);
            for i in 0..num_samples {
                let mut input = vec![f32::NAN; case.input.len()];
                let its = i * input_len..(i + 1) * input_len;
                input[its.clone()].copy_from_slice(&case.input[its]);
                let mut got = vec![0.0; want.len()];
                plan.forward(&input, &mut got);
                let its = i * num_classes..(i + 1) * num_classes;
                assert_eq!(got[its.clone()], want[its.clone()], "{name}, {i} of {num_samples}");
                let (before, after) = (&got[..its.start], &got[its.end..]);
                assert!(before.iter().chain(after).all(|x| x.is_nan()), "{name}: NaN is lost");
            }
        }
    }
    Ok(())
}

#[test]
fn a_batch_norm_over_one_value_is_refused() {
    let graph = named("dense-zero-pad").to_graph().expect("a valid architecture has a graph");
    let options = PlanOptions::train(1).expect("RESIDUA_ISA is fine");
    let error = Plan::new(&graph, &options).expect_err("one value has no variance");
    assert!(matches!(&error, PlanError::SingleValue { node } if node == "bn1"), "{error:?}");
}

#[test]
fn a_network_that_no_memory_holds_is_refused() {
    // More than a process can address, so that no setting of the system lets it through.
    let mut b = GraphBuilder::new(Shape::image(3, 1 << 16, 1 << 16));
    let x = b.conv2d("conv", b.input(), Conv2d::square(1 << 16, 3).padding(1)).unwrap();
    let pooled = b.global_avg_pool("avgpool", x);
    let graph = b.finish(pooled);
    for mode in [Mode::Eval, Mode::Train] {
        let options = PlanOptions { mode, ..PlanOptions::train(2).unwrap() };
        let error = Plan::new(&graph, &options).unwrap_err();
        let PlanError::TooLarge { bytes, batch_size: 2 } = error else { panic!("{error:?}") };
        assert!(bytes >= 1 << 50, "{bytes}");
        assert!(error.to_string().contains("GiB for 2 samples at once"), "{error}");
    }
}
