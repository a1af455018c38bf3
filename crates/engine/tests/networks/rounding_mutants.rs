//! Negative controls of [`Truth::check`]: what is nearly right has to be rejected.

use crate::architectures::{all, edited, named, with_conv};
use crate::case::{Case, Outcome};
use crate::rounding::Truth;
use residua_graph::{Graph, Role};
use residua_testkit::{Check, assert_rejected};

fn graph(name: &str) -> Graph {
    named(name).to_graph().expect("a valid architecture has a graph")
}

/// What the f32 interpreter makes of a changed case, judged by the truth of the unchanged one.
fn check_changed_case(name: &str, change: impl Fn(&mut Case)) -> Check {
    let case = Case::away_from_kinks(&graph(name), 6, 9);
    let mut changed = case.clone();
    change(&mut changed);
    Truth::of(&case).check(&changed.interpret::<f32>())
}

/// A changed outcome, judged by the truth of the unchanged one.
fn check_changed_outcome(name: &str, change: impl Fn(&Case, &mut Outcome)) -> Check {
    let case = Case::away_from_kinks(&graph(name), 6, 9);
    let mut outcome = case.interpret::<f32>();
    change(&case, &mut outcome);
    Truth::of(&case).check(&outcome)
}

#[test]
fn the_interpreter_in_f32_is_accepted() -> Check {
    residua_testkit::all(all().iter().map(|architecture| {
        check_changed_case(architecture.name(), |_| {})
            .map_err(|failure| failure.of(architecture.name()))
    }))
}

#[test]
fn wrong_inputs_are_rejected() {
    for name in ["zero-pad", "bottleneck-projection", "preact-zero-pad", "dense-zero-pad"] {
        let reject = |mutant: &str, change: &dyn Fn(&mut Case)| {
            assert_rejected(&format!("{name}: {mutant}"), check_changed_case(name, change));
        };
        reject("one weight off by a thousandth", &|case| case.weights.params[5] *= 1.001);
        reject("the last bias off by a thousandth", &|case| {
            *case.weights.params.last_mut().expect("fc has a bias") *= 1.001;
        });
        reject("weights in bf16", &|case| {
            for x in &mut case.weights.params {
                *x = f32::from_bits((x.to_bits() + 0x8000) & 0xffff_0000);
            }
        });
        reject("eps of 1e-3 in evaluation", &|case| {
            for spec in case.graph.buffers().iter().filter(|spec| spec.role == Role::RunningVar) {
                case.weights.buffers[spec.range()].iter_mut().for_each(|var| *var += 1e-3 - 1e-5);
            }
        });
        reject("input shifted by one pixel or feature", &|case| {
            let pixel = case.graph.shape(case.graph.input());
            case.input.rotate_left(if pixel.num_pixels() == 1 { 1 } else { pixel.c });
        });
        reject("two channels of the input swapped", &|case| {
            let c = case.graph.shape(case.graph.input()).c;
            case.input.chunks_exact_mut(c).for_each(|pixel| pixel.swap(0, 1));
        });
        reject("the last sample left out backward", &|case| {
            let start = case.grad_logits.len() / 6 * 5;
            case.grad_logits[start..].fill(0.0);
        });
    }
}

#[test]
fn wrong_networks_are_rejected() {
    let without_shortcuts = |case: &mut Case| {
        let twin = named("zero-pad").plain_twin();
        case.graph = twin.to_graph().expect("a valid architecture has a graph");
    };
    assert_rejected("no shortcuts", check_changed_case("zero-pad", without_shortcuts));
    let stride_first = |case: &mut Case| {
        case.graph = edited(&case.graph, |node| {
            with_conv(node, |conv| match node.name.as_str() {
                "layer2.0.conv1" => conv.stride(2),
                "layer2.0.conv2" => conv.stride(1),
                _ => conv,
            })
        })
        .expect("the shapes still fit");
    };
    assert_rejected("v1 stride", check_changed_case("bottleneck-projection", stride_first));
    let same = |case: &mut Case| {
        case.graph = edited(&case.graph, |node| node.op.clone()).expect("nothing changes");
    };
    assert_eq!(check_changed_case("bottleneck-projection", same), Ok(()));
}

#[test]
fn wrong_results_are_rejected() {
    for name in ["zero-pad", "preact-projection", "dense-zero-pad"] {
        let reject = |mutant: &str, change: &dyn Fn(&Case, &mut Outcome)| {
            assert_rejected(&format!("{name}: {mutant}"), check_changed_outcome(name, change));
        };
        let first_weight = format!("grad.{}", graph(name).params()[0].name);
        let stem_norm = graph(name).buffers()[0].name.replace("running_mean", "");
        let running_var = format!("running.{stem_norm}running_var");
        let running_mean = format!("running.{stem_norm}running_mean");
        let stem = graph(name).nodes()[0].output;
        let count = 6 * graph(name).shape(stem).num_pixels();
        let initial = |case: &Case, statistic: &str| -> Vec<f64> {
            let name = format!("{stem_norm}{statistic}");
            let values = case.weights.get(&case.graph, &name).expect("the stem's batch norm");
            residua_testkit::widen(values)
        };
        let scale = |outcome: &mut Outcome, prefix: &str, factor: f64| {
            for (_, values) in outcome.iter_mut().filter(|(name, _)| name.starts_with(prefix)) {
                values.iter_mut().for_each(|x| *x *= factor);
            }
        };
        reject("biased running variance", &|case, outcome| {
            let before = initial(case, "running_var");
            let n = count as f64;
            for (var, before) in outcome.get_mut(&running_var).unwrap().iter_mut().zip(before) {
                *var = 0.9 * before + (*var - 0.9 * before) * (n - 1.0) / n;
            }
        });
        reject("momentum the other way round", &|case, outcome| {
            let before = initial(case, "running_mean");
            for (mean, before) in outcome.get_mut(&running_mean).unwrap().iter_mut().zip(before) {
                *mean = 0.1 * before + 0.9 * (*mean - 0.9 * before) / 0.1;
            }
        });
        reject("running mean not updated", &|case, outcome| {
            outcome.insert(running_mean.clone(), initial(case, "running_mean"));
        });
        reject("evaluation by the batch's statistics", &|_, outcome| {
            outcome.insert("eval_logits".to_owned(), outcome["logits"].clone());
        });
        reject("two samples swapped", &|_, outcome| {
            outcome.get_mut("logits").unwrap().rotate_left(7);
        });
        reject("gradients added to the old ones", &|_, outcome| scale(outcome, "grad.", 2.0));
        reject("sum instead of mean", &|_, outcome| scale(outcome, "grad.", 6.0));
        reject("a gradient negated", &|_, outcome| scale(outcome, &first_weight, -1.0));
        reject("a gradient off by 1e-4", &|_, outcome| scale(outcome, &first_weight, 1.0001));
        reject("two channels' gradients swapped", &|case, outcome| {
            let len = case.graph.params()[0].len() / case.graph.params()[0].shape[0];
            outcome.get_mut(&first_weight).unwrap()[..2 * len].rotate_left(len);
        });
        reject("one NaN", &|_, outcome| outcome.get_mut(&first_weight).unwrap()[3] = f64::NAN);
        reject("a tensor missing", &|_, outcome| {
            outcome.remove(&first_weight);
        });
        reject("a tensor too short", &|_, outcome| {
            outcome.get_mut(&first_weight).unwrap().pop();
        });
    }
}
