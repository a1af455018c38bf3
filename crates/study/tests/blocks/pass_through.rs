//! Layers of a plain network that put out their input.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use residua_engine::{Plan, PlanOptions};
use residua_graph::Weights;
use residua_resnet::{Architecture, Shape, pass_through, remove_blocks};

use crate::models::{graph, weights};

const NUM_SAMPLES: usize = 6;

fn outputs(architecture: &Architecture, weights: &Weights) -> Vec<f32> {
    let mut plan =
        Plan::new(&graph(architecture), &PlanOptions::eval(NUM_SAMPLES).unwrap()).unwrap();
    plan.load(weights);
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let input_len = NUM_SAMPLES * plan.input_len();
    let input: Vec<f32> = (0..input_len).map(|_| rng.random_range(-1.0..1.0)).collect();
    let mut logits = vec![0.0; NUM_SAMPLES * plan.num_classes()];
    plan.forward(&input, &mut logits);
    logits
}

/// How far the logits may be from those without the block whose two layers put out their input.
///
/// A batch norm multiplies by a scale with two roundings, adds a shift with two, and rounds twice, so that
/// it is off by at most `3 · eps · (x + |mean|)`, for each of the two. The mean over positions and the sum
/// over channels add `eps` for each of their terms in both networks. All of it reaches a logit
/// by the absolute values of the last layer's weights, where `x` is not negative.
fn bounds(architecture: &Architecture, weights: &Weights, last: &str) -> Vec<f64> {
    let graph = graph(architecture);
    let mut absolute = weights.clone();
    let names = ["fc.weight", "fc.bias"];
    let [fc, bias] = names.map(|name| weights.get(&graph, name).unwrap().to_vec());
    absolute.get_mut(&graph, "fc.weight").unwrap().iter_mut().for_each(|w| *w = w.abs());
    absolute.get_mut(&graph, "fc.bias").unwrap().fill(0.0);
    let block = last.parse().unwrap();
    let rest = remove_blocks(architecture, &absolute, &[block]).unwrap();
    let sums = outputs(&rest.architecture, &rest.weights);
    let means = [1, 2].map(|i| format!("{last}.bn{i}.running_mean"));
    let means = means.map(|name| weights.get(&graph, &name).unwrap());
    let channels = means[0].len();
    let num_positions = graph.nodes().iter().rev().find(|node| node.name.starts_with(last));
    let shape = graph.shape(num_positions.unwrap().output);
    let num_terms = (shape.h * shape.w + channels + 2) as f64;
    let bound = |(i, &sum): (usize, &f32)| {
        let class = i % bias.len();
        let row = &fc[class * channels..][..channels];
        let mean = |c: usize| f64::from(means[0][c].abs() + means[1][c].abs());
        let means: f64 = row.iter().enumerate().map(|(c, w)| f64::from(w.abs()) * mean(c)).sum();
        let (sum, bias) = (f64::from(sum), f64::from(bias[class].abs()));
        f64::from(f32::EPSILON) * (3.0 * (2.0 * sum + means) + num_terms * (sum + bias))
    };
    sums.iter().enumerate().map(bound).collect()
}

/// The largest difference, in units of its bound.
fn worst(got: &[f32], want: &[f32], bounds: &[f64]) -> f64 {
    let off = |(got, want): (&f32, &f32)| (f64::from(*got) - f64::from(*want)).abs();
    let all = got.iter().zip(want).map(off).zip(bounds).map(|(off, bound)| off / bound);
    all.fold(0.0, f64::max)
}

#[test]
fn two_layers_that_put_out_their_input_are_a_block_less() {
    let image = Shape::image(3, 32, 32);
    for (name, input, last, layers) in [
        ("plain14-w4", image, "layer3.1", ["conv1", "conv2"]),
        ("dense-plain8-w16", Shape::vector(12), "layer1.2", ["fc1", "fc2"]),
    ] {
        let architecture = Architecture::named(name, input, 10).unwrap();
        let weights = weights(&architecture);
        let block = last.parse().unwrap();
        let rest = remove_blocks(&architecture, &weights, &[block]).unwrap();
        let want = outputs(&rest.architecture, &rest.weights);
        let mut passed = weights.clone();
        for layer in layers {
            passed = pass_through(&architecture, &passed, &format!("{last}.{layer}")).unwrap();
        }
        let bounds = bounds(&architecture, &weights, last);
        let off = worst(&outputs(&architecture, &passed), &want, &bounds);
        assert!(off <= 1.0, "{name}: {off} times the bound");
        // A batch norm that only scales is another thing.
        let mut wrong = passed.clone();
        let bias = format!("{last}.bn2.bias");
        wrong.get_mut(&graph(&architecture), &bias).unwrap()[0] *= 1.0 + 1e-3;
        let off = worst(&outputs(&architecture, &wrong), &want, &bounds);
        assert!(off > 1.0, "{name}: {off} times the bound");
    }
}

#[test]
fn without_batch_norms_nothing_is_rounded() {
    let architecture =
        Architecture::named("dense-plain8-w16-no-norm", Shape::vector(12), 10).unwrap();
    let weights = weights(&architecture);
    let rest = remove_blocks(&architecture, &weights, &["layer1.1".parse().unwrap()]).unwrap();
    let mut passed = weights;
    for layer in ["layer1.1.fc1", "layer1.1.fc2"] {
        passed = pass_through(&architecture, &passed, layer).unwrap();
    }
    assert_eq!(outputs(&architecture, &passed), outputs(&rest.architecture, &rest.weights));
}
