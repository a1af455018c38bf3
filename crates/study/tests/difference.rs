//! Whether two models put out the same.

mod untrained;

use std::sync::Arc;

use residua_data::{Dataset, Split};
use residua_format::Model;
use residua_resnet::{Insertion, NewBlocks, insert_blocks};
use residua_study::difference;
use residua_train::{EvalOptions, outputs};

fn untrained(name: &str) -> (Model, Arc<Dataset>) {
    let source = "synthetic:shapes?train=20&dev=5&test=12";
    (untrained::untrained(name, source), untrained::open(source))
}

fn deeper(model: &Model, start: NewBlocks) -> Model {
    let insertion = Insertion { start, ..Insertion::new(2, 2) };
    let deeper = insert_blocks(&model.architecture, &model.weights, &insertion).unwrap();
    Model { architecture: deeper.architecture, weights: deeper.weights, ..model.clone() }
}

#[test]
fn a_deeper_residual_network_puts_out_the_same() {
    let (model, dataset) = untrained("resnet8-w8");
    let deeper = deeper(&model, NewBlocks::Identity);
    let found =
        difference(&model, &deeper, &dataset, Split::Test, &EvalOptions::new(5), &|_| ()).unwrap();
    assert!(found.is_none());
    assert_eq!((found.num_samples, found.num_different, found.max_abs), (12, 0, 0.0));
    assert_eq!(found.top1_error_before, found.top1_error_after);
}

#[test]
fn other_outputs_are_counted_and_measured() {
    let (model, dataset) = untrained("resnet8-w8");
    let mut other = model.clone();
    let graph = model.architecture.to_graph().unwrap();
    let bias = other.weights.get_mut(&graph, "fc.bias").unwrap();
    bias[3] += 0.5;
    bias[7] += 100.0;
    let found =
        difference(&model, &other, &dataset, Split::Test, &EvalOptions::new(5), &|_| ()).unwrap();
    assert!(!found.is_none());
    assert_eq!(found.num_different, 2 * 12);
    assert!((found.max_abs - 100.0).abs() < 1e-4, "{}", found.max_abs);
    // All are taken for class 7 now.
    let found_outputs =
        outputs(&model, &dataset, Split::Test, &EvalOptions::new(5), &|_| ()).unwrap();
    let wrong = found_outputs.labels.iter().filter(|&&label| label != 7).count();
    assert_eq!(found.top1_error_after, wrong as f64 / 12.0 * 100.0);

    let (plain, dataset) = untrained("plain8-w8");
    let random = deeper(&plain, NewBlocks::Random);
    let found =
        difference(&plain, &random, &dataset, Split::Test, &EvalOptions::new(5), &|_| ()).unwrap();
    assert!(found.num_different > 100 && found.max_abs > 1e-2, "{found:?}");
}
