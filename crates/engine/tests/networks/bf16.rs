//! Plans in bf16 against the interpreter in f64, up to the error of rounding what they store.

use crate::architectures;
use crate::case::Case;
use crate::rounding::Truth;
use residua_engine::{Isa, Mode, Plan, PlanError, PlanOptions, Precision, ThreadPool};
use residua_graph::{Conv2d, Graph, GraphBuilder, GraphError, Shape};
use residua_testkit::Check;

#[test]
fn every_network_stays_within_the_error_of_its_roundings() -> Check {
    residua_testkit::all(architectures::all().into_iter().flat_map(|architecture| {
        let graph = architecture.to_graph().expect("a valid architecture has a graph");
        // Many samples, for a ReLU that takes the other side of its kink changes a whole term.
        let case = Case::random(&graph, 64, 1);
        let truth = Truth::of_bf16(&case);
        Isa::supported().map(move |isa| {
            let subject = format!("{}, {isa}", architecture.name());
            let got = case.plan_in(Precision::Bf16, isa).expect("a plan");
            println!("{subject}: {:?} of the bound", truth.worst(&got));
            truth.check(&got).map_err(|failure| failure.of(&subject))
        })
    }))
}

/// Layers whose weights are larger than what they read, with fewer blocks of output channels than groups.
fn wide() -> Result<Graph, GraphError> {
    let mut b = GraphBuilder::new(Shape::image(3, 4, 4));
    let mut x = b.input();
    for (i, stride) in [1, 2, 1].into_iter().enumerate() {
        let conv = Conv2d::square(80, 3).stride(stride).padding(1).bias(i == 2);
        x = b.conv2d(&format!("conv{i}"), x, conv)?;
        x = b.batch_norm(&format!("bn{i}"), x)?;
        x = b.relu(&format!("relu{i}"), x);
    }
    let pooled = b.global_avg_pool("avgpool", x);
    let logits = b.linear("fc", pooled, 40)?;
    Ok(b.finish(logits))
}

#[test]
fn gradients_of_kept_operands_are_those_of_the_whole_batch() -> Check {
    let graph = wide().expect("a valid graph");
    for isa in Isa::supported() {
        let options =
            PlanOptions { batch_size: 14, mode: Mode::Train, precision: Precision::Bf16, isa };
        let mut plan = Plan::new(&graph, &options).expect("a plan");
        let parts = plan.report().into_iter().flat_map(|step| step.parts);
        let kept: Vec<_> = parts.filter(|part| part.ends_with("of what is kept)")).collect();
        let layers = if isa >= Isa::Avx512Bf16 { 3 } else { 0 };
        assert_eq!(kept.len(), layers, "{isa}: {kept:?}");
        let case = Case::random(&graph, options.batch_size, 1);
        let mut gradient = || {
            let mut weights = case.weights.clone();
            let mut logits = vec![f32::NAN; case.grad_logits.len()];
            let mut grads = vec![f32::NAN; weights.params.len()];
            plan.forward_train(&mut weights, &case.input, &mut logits);
            plan.backward(&weights, &case.grad_logits, &mut grads);
            grads
        };
        assert_eq!(gradient(), gradient(), "{isa}: the second batch adds to the first");
        let outcome = |threads| {
            let pool = ThreadPool::new(Some(threads)).expect("threads");
            pool.install(|| case.plan_in(Precision::Bf16, isa)).expect("a plan")
        };
        let got = outcome(1);
        assert!([2, 7].into_iter().all(|threads| outcome(threads) == got), "{isa}");
        let truth = Truth::of_bf16(&case);
        println!("{isa}: {:?} of the bound", truth.worst(&got));
        truth.check(&got).map_err(|failure| failure.of(&isa.to_string()))?;
    }
    Ok(())
}

#[test]
fn operands_of_a_shorter_group_may_take_more_room() -> Result<(), Box<dyn std::error::Error>> {
    let mut b = GraphBuilder::new(Shape::image(4, 8, 8));
    let x = b.conv2d("conv0", b.input(), Conv2d::square(256, 1))?;
    let x = b.batch_norm("bn0", x)?;
    // 16 samples are laid out as 6, 6 and 4, in 8 steps of 32 positions, 15 as 5, 5 and 5, in 9.
    let x = b.conv2d("conv1", x, Conv2d::square(512, 1).stride(2))?;
    let x = b.batch_norm("bn1", x)?;
    let pooled = b.global_avg_pool("avgpool", x);
    let logits = b.linear("fc", pooled, 10)?;
    let graph = b.finish(logits);
    for (isa, batch_size) in Isa::supported().flat_map(|isa| [(isa, 64), (isa, 63)]) {
        let options =
            PlanOptions { batch_size, mode: Mode::Train, precision: Precision::Bf16, isa };
        let mut plan = Plan::new(&graph, &options)?;
        let is_kept = |part: &String| part == "gradient of conv1 (weight, of what is kept)";
        let kept = plan.report().iter().flat_map(|step| &step.parts).any(is_kept);
        assert_eq!(kept, isa >= Isa::Avx512Bf16, "{isa}");
        let Case { mut weights, input, grad_logits, .. } = Case::random(&graph, batch_size, 1);
        let mut logits = vec![f32::NAN; grad_logits.len()];
        let mut grads = vec![f32::NAN; weights.params.len()];
        plan.forward_train(&mut weights, &input, &mut logits);
        plan.backward(&weights, &grad_logits, &mut grads);
        assert!(grads.iter().all(|grad| grad.is_finite()), "{isa}, batch {batch_size}");
    }
    Ok(())
}

#[test]
fn a_batch_that_no_machine_has_room_for_is_refused_at_once() {
    let graph = wide().expect("a valid graph");
    let options = PlanOptions {
        batch_size: 1 << 40,
        precision: Precision::Bf16,
        ..PlanOptions::train(1).expect("a level")
    };
    assert!(matches!(Plan::new(&graph, &options), Err(PlanError::TooLarge { .. })));
}
