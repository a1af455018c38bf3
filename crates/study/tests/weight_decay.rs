//! What weight decay alone makes of a block: the identity of a residual one, nothing of a plain one.

mod untrained;

use residua_data::OpenOptions;
use residua_engine::reference::{self, Tensors};
use residua_engine::{Isa, Sgd, sgd_step};
use residua_format::Model;
use residua_train::{Recipe, parameter_groups};

use crate::untrained::{open, untrained};

const SPIRALS: &str = "synthetic:spirals?train=30&dev=9&test=9";
const LR: f32 = 0.5;
const WEIGHT_DECAY: f32 = 0.02;

fn recipe(model: &Model) -> Recipe {
    let architecture = model.architecture.clone();
    let recipe = Recipe::new(SPIRALS, OpenOptions::default(), &open(SPIRALS), architecture);
    Recipe { weight_decay: f64::from(WEIGHT_DECAY), ..recipe }
}

/// Steps without a gradient of a loss, on what blocks have.
fn decay(model: &mut Model, num_steps: usize) {
    decay_as(&recipe(model), model, num_steps);
}

fn decay_as(recipe: &Recipe, model: &mut Model, num_steps: usize) {
    let graph = model.architecture.to_graph().unwrap();
    let groups = parameter_groups(&graph, recipe);
    for spec in graph.params().iter().filter(|spec| spec.name.starts_with("layer")) {
        let group = groups.iter().find(|group| group.range.contains(&spec.range().start)).unwrap();
        let weight_decay = group.weight_decay;
        let sgd = Sgd { lr: LR, momentum: 0.0, nesterov: false, weight_decay };
        let (grads, mut velocity) = (vec![0.0; spec.len()], vec![0.0; spec.len()]);
        let params = &mut model.weights.params[spec.range()];
        for _ in 0..num_steps {
            sgd_step(Isa::Portable, &sgd, params, &grads, &mut velocity);
        }
    }
}

fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|value| value * value).sum::<f64>().sqrt()
}

/// How far what the block puts out is from its input, and how large it is, both over the input's norm.
fn distance_and_size(model: &Model) -> (f64, f64) {
    let graph = model.architecture.to_graph().unwrap();
    let input: Vec<f64> = (0..20).map(|i| f64::from(i).sin()).collect();
    // With the batch's statistics: fixed ones would let a branch shrink whose batch norms don't decay.
    let mut tensors = Tensors::<f64>::new(&model.weights);
    let trace = reference::forward_train(&graph, &mut tensors, &input);
    let block = model.architecture.blocks().remove(0);
    let (input, output) = (trace.value(block.input), trace.value(block.output));
    let size = norm(input.iter().copied());
    let difference = input.iter().zip(output).map(|(input, output)| output - input);
    (norm(difference) / size, norm(output.iter().copied()) / size)
}

#[test]
fn a_residual_block_becomes_the_identity_and_a_plain_one_zero() {
    let mut residual = untrained("dense-resnet4-w8-no-norm", SPIRALS);
    let mut plain = untrained("dense-plain4-w8-no-norm", SPIRALS);
    let (start, start_size) = (distance_and_size(&residual).0, distance_and_size(&plain).1);
    assert!(start > 0.1 && start_size > 0.1, "{start} and {start_size}");
    decay(&mut residual, 200);
    decay(&mut plain, 200);
    // Two layers with biases of 0: the branch shrinks with the square of what the weights do.
    let factor = f64::from(1.0 - LR * WEIGHT_DECAY).powi(2 * 200);
    let (distance, size) = distance_and_size(&residual);
    assert!(distance < 0.05 && (size - 1.0).abs() < 0.05, "{distance} and {size}");
    let (distance, size) = distance_and_size(&plain);
    assert!((size / start_size / factor - 1.0).abs() < 1e-3, "{size} from {start_size}");
    assert!(distance > 0.95, "{distance}");
    decay(&mut residual, 1000);
    decay(&mut plain, 1000);
    assert!(distance_and_size(&residual).0 < 1e-8, "{:?}", distance_and_size(&residual));
    assert!(distance_and_size(&plain).1 < 1e-8, "{:?}", distance_and_size(&plain));
}

#[test]
fn blocks_with_batch_norms_become_the_identity_where_these_decay() {
    let mut model = untrained("dense-resnet4-w8", SPIRALS);
    let mut norms_stay = model.clone();
    let start = distance_and_size(&model).0;
    assert!(start > 0.1, "{start}");
    decay(&mut model, 1000);
    assert!(distance_and_size(&model).0 < 1e-3 * start, "{:?}", distance_and_size(&model));
    let recipe = Recipe { decay_norm: false, ..recipe(&norms_stay) };
    decay_as(&recipe, &mut norms_stay, 400);
    // Batch norms undo what happens to the weights before them.
    let (distance, _) = distance_and_size(&norms_stay);
    assert!((distance / start - 1.0).abs() < 0.1, "{distance} from {start}");
}

#[test]
fn without_decay_nothing_happens() {
    let model = untrained("dense-resnet4-w8-no-norm", SPIRALS);
    let mut same = model.clone();
    decay(&mut same, 0);
    assert_eq!(distance_and_size(&same), distance_and_size(&model));
}
