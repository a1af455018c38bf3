//! Plans in bf16 against the interpreter in f64, up to the error of rounding what they store.

use crate::architectures;
use crate::case::Case;
use crate::rounding::Truth;
use residua_engine::{Isa, Precision};
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
