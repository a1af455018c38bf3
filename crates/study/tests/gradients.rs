//! Gradients over depth and between neighbouring inputs.

mod untrained;

use std::sync::Mutex;

use residua_data::Progress;
use residua_engine::ThreadPool;
use residua_engine::reference::{self, Tensors};
use residua_format::Model;
use residua_graph::{Graph, GraphBuilder, Shape, ValueId, Weights};
use residua_resnet::{Insertion, insert_blocks};
use residua_study::{GradientOptions, GradientStudy, GradientSubject, gradients};

use crate::untrained::{open, untrained};

const SHAPES: &str = "synthetic:shapes?train=40&dev=5&test=5";
const SPIRALS: &str = "synthetic:spirals?train=60&dev=9&test=9";
const OPTIONS: GradientOptions = GradientOptions { batch_size: 6, num_points: 17, num_seeds: 2 };

fn initial(name: &str, source: &str) -> GradientSubject {
    GradientSubject::Initial(untrained(name, source).architecture)
}

fn trained(model: Model) -> GradientSubject {
    GradientSubject::Trained { name: "it".to_owned(), model: Box::new(model) }
}

/// A residual block of width 3 on `input` and a head.
fn tail(builder: &mut GraphBuilder, input: ValueId) -> ValueId {
    let x = builder.linear("one", input, 3).unwrap();
    let x = builder.batch_norm("norm", x).unwrap();
    let x = builder.relu("relu", x);
    let x = builder.linear("two", x, 3).unwrap();
    let x = builder.add("add", x, input).unwrap();
    builder.linear("head", x, 2).unwrap()
}

/// That block behind a layer, and what the block reads; and the block alone.
fn graphs() -> (Graph, ValueId, Graph) {
    let mut whole = GraphBuilder::new(Shape::vector(4));
    let value = whole.linear("stem", whole.input(), 3).unwrap();
    let output = tail(&mut whole, value);
    let mut alone = GraphBuilder::new(Shape::vector(3));
    let input = alone.input();
    let alone_output = tail(&mut alone, input);
    (whole.finish(output), value, alone.finish(alone_output))
}

/// Numbers without a pattern, between -1 and 1.
fn numbers(len: usize, start: usize) -> Vec<f64> {
    (start..start + len).map(|i| (i as f64 * 12.9898).sin()).collect()
}

#[test]
fn gradients_at_values_match_differences() {
    const STEP: f64 = 1e-5;
    let (whole, value, alone) = graphs();
    let mut weights = Weights::zeros(&whole);
    let start = numbers(weights.params.len(), 7);
    weights.params.iter_mut().zip(start).for_each(|(param, number)| *param = number as f32);
    let mut tensors = Tensors::<f64>::new(&weights);
    let trace = reference::forward_train(&whole, &mut tensors, &numbers(5 * 4, 100));
    let cotangent = numbers(5 * 2, 300);
    let grads = reference::backward(&whole, &tensors, &trace, &cotangent);
    assert_eq!(grads.value(whole.input()), grads.input);
    assert_eq!(grads.value(whole.output()), cotangent);

    let mut alone_weights = Weights::zeros(&alone);
    for spec in alone.params() {
        let values = weights.get(&whole, &spec.name).unwrap();
        alone_weights.params[spec.range()].copy_from_slice(values);
    }
    let projected = |input: &[f64]| -> f64 {
        let mut tensors = Tensors::<f64>::new(&alone_weights);
        let trace = reference::forward_train(&alone, &mut tensors, input);
        trace.output().iter().zip(&cotangent).map(|(a, b)| a * b).sum()
    };
    let at = trace.value(value);
    for (i, &grad) in grads.value(value).iter().enumerate() {
        let moved = |by: f64| {
            let mut input = at.to_vec();
            input[i] += by;
            projected(&input)
        };
        let difference = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
        assert!((grad - difference).abs() < 1e-7, "{i}: {grad} and {difference}");
        assert!((0.9 * grad - difference).abs() > 1e-5, "{i}: a wrong one is accepted");
    }
}

#[test]
fn gradients_pass_blocks_that_are_the_identity() {
    let model = untrained("resnet8-w4", SHAPES);
    let deeper = insert_blocks(&model.architecture, &model.weights, &Insertion::new(2, 3)).unwrap();
    let deeper = Model { architecture: deeper.architecture, weights: deeper.weights, ..model };
    let found = gradients(&[trained(deeper)], &open(SHAPES), &OPTIONS, &|_| {}).unwrap();
    let [network] = &found.networks[..] else { panic!("one network") };
    assert!(network.trained);
    assert_eq!(network.blocks[1..5], ["layer2.0", "layer2.1", "layer2.2", "layer2.3"]);
    for run in &network.runs {
        assert_eq!(run.norms.len(), 6);
        assert!(run.norms[2] > 0.0 && run.norms[2..5].iter().all(|norm| *norm == run.norms[2]));
        assert!(run.norms[0] != run.norms[1] && run.norms[1] != run.norms[2]);
    }
    assert!(network.runs[0].norms != network.runs[1].norms, "seeds are other samples");
}

#[test]
fn gradients_of_a_linear_network_are_the_same_everywhere() {
    let mut model = untrained("dense-resnet4-w4-no-norm", SPIRALS);
    let graph = model.architecture.to_graph().unwrap();
    // Every ReLU lets everything through.
    for name in ["fc1.bias", "layer1.0.fc1.bias"] {
        model.weights.get_mut(&graph, name).unwrap().fill(100.0);
    }
    model.weights.get_mut(&graph, "layer1.0.fc1.weight").unwrap().fill(0.0);
    model.weights.get_mut(&graph, "layer1.0.fc2.weight").unwrap().fill(0.0);
    let found = gradients(&[trained(model)], &open(SPIRALS), &OPTIONS, &|_| {}).unwrap();
    assert_eq!(found.networks[0].runs[0].autocorrelation, [None; 16]);
    assert!(found.section().findings[1].contains("lag 1: none in it"));
}

fn of_three(threads: usize) -> GradientStudy {
    let subjects = ["resnet8-w4", "plain8-w4", "plain8-w4-no-norm"];
    let subjects = subjects.map(|name| initial(name, SHAPES));
    let pool = ThreadPool::new(Some(threads)).unwrap();
    let last = Mutex::new((0, 0));
    let on_progress = |Progress { done, total }: Progress| {
        let mut last = last.lock().unwrap();
        *last = (done.max(last.0), total);
    };
    let found = pool.install(|| gradients(&subjects, &open(SHAPES), &OPTIONS, &on_progress));
    // Both measures of three networks with each seed.
    let total = 2 * 3 * OPTIONS.num_seeds as usize;
    assert_eq!(last.into_inner().unwrap(), (total, total));
    found.unwrap()
}

#[test]
fn networks_are_compared_and_threads_change_nothing() {
    let found = of_three(1);
    assert_eq!(found, of_three(3));
    for network in &found.networks {
        assert_eq!(network.runs.len(), 2);
        for run in &network.runs {
            assert!(run.norms.iter().all(|norm| *norm > 0.0), "{}", network.network);
            let first = run.autocorrelation[0].unwrap();
            assert!(first > run.autocorrelation[15].unwrap(), "{}: {first}", network.network);
        }
    }
    let section = found.section();
    let findings = section.findings.join("\n");
    assert!(!findings.contains("they vanish"), "{findings}");
    assert_eq!(section.tables[0].rows.len(), 9);
    assert_eq!(section.charts[1].lines.lines[2].points.len(), 16);
}

#[test]
fn vanishing_gradients_are_called_so_where_they_are() {
    let mut found = of_three(1);
    let runs = &mut found.networks[0].runs;
    runs.iter_mut().for_each(|run| run.norms[0] = 0.9e-3 * run.norms[2]);
    let findings = found.section().findings;
    assert!(findings[0].contains("they vanish") && !findings[1].contains("they vanish"));
    let runs = &mut found.networks[0].runs;
    runs.iter_mut().for_each(|run| run.norms[0] = 1.1e3 * run.norms[2]);
    assert!(found.section().findings[0].contains("they explode"));
}

#[test]
fn what_can_not_be_measured_is_refused() {
    let dataset = open(SHAPES);
    let error = |subject: GradientSubject, options: &GradientOptions| {
        gradients(&[subject], &dataset, options, &|_| {}).unwrap_err().to_string()
    };
    let small = |options| error(initial("resnet8-w4", SHAPES), &options);
    let few = GradientOptions { batch_size: 1, ..OPTIONS };
    assert_eq!(small(few), "batch size: 1, expected at least 2");
    let few = GradientOptions { num_points: 16, ..OPTIONS };
    assert_eq!(small(few), "points on the line: 16, expected at least 17");
    let of_spirals = error(initial("dense-resnet4-w4", SPIRALS), &OPTIONS);
    assert_eq!(of_spirals, "dense-resnet4-w4: 3 classes, expected the 10 of the data");
    let mut model = untrained("resnet8-w4", SHAPES);
    model.preprocessing.mean[0] += 0.1;
    assert!(error(trained(model.clone()), &OPTIONS).contains("other preprocessing"));
    model.classes[0] = "none".to_owned();
    assert!(error(trained(model), &OPTIONS).contains("its classes are not the model's"));
}
