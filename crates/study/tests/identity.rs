//! How near blocks are to passing their input on.

mod untrained;

use residua_data::Split;
use residua_engine::ThreadPool;
use residua_format::Model;
use residua_resnet::{Insertion, NewBlocks, insert_blocks};
use residua_study::{
    BlockIdentity, Identity, IdentityOptions, Record, Study, identity, identity_of_weights,
};

use crate::untrained::untrained;

const SHAPES: &str = "synthetic:shapes?train=20&dev=7&test=5";
const SPIRALS: &str = "synthetic:spirals?train=30&dev=9&test=9";
const OPTIONS: IdentityOptions = IdentityOptions { split: Split::Dev, num_samples: 256 };

fn measured(model: &Model, source: &str) -> Identity {
    identity(model, &untrained::open(source), &OPTIONS).unwrap()
}

/// A network of one dense block of width 4 whose input is 1, 2, 3, 4 whatever is fed in, and whose branch
/// multiplies it by a half.
fn halving(name: &str) -> Model {
    let mut model = untrained(name, SPIRALS);
    let graph = model.architecture.to_graph().unwrap();
    let mut set = |name: &str, values: &[f32]| {
        model.weights.get_mut(&graph, name).unwrap().copy_from_slice(values);
    };
    let scaled = |scale: f32| -> Vec<f32> {
        (0..16).map(|i| if i % 5 == 0 { scale } else { 0.0 }).collect()
    };
    set("fc1.weight", &[0.0; 8]);
    set("fc1.bias", &[1.0, 2.0, 3.0, 4.0]);
    set("layer1.0.fc1.weight", &scaled(1.0));
    set("layer1.0.fc2.weight", &scaled(0.5));
    model
}

fn block<'a>(found: &'a Identity, name: &str) -> &'a BlockIdentity {
    found.blocks.iter().find(|block| block.block == name).unwrap()
}

#[test]
fn a_known_scaling_gives_a_known_ratio() {
    for name in ["dense-resnet4-w4-no-norm", "dense-plain4-w4-no-norm"] {
        let found = measured(&halving(name), SPIRALS);
        assert_eq!(found.data.as_ref().unwrap().num_samples, 9);
        let [block] = &found.blocks[..] else { panic!("{name}: one block") };
        assert_eq!((block.ratio, block.share_changed), (Some(0.5), Some(1.0)), "{name}");
        assert!((block.cosine.unwrap() - 1.0).abs() < 1e-12, "{name}");
        let norms: Vec<(&str, f64)> =
            block.norms.iter().map(|norm| (norm.tensor.as_str(), norm.norm)).collect();
        let expected =
            [("fc1.weight", 2.0), ("fc1.bias", 0.0), ("fc2.weight", 1.0), ("fc2.bias", 0.0)];
        assert_eq!(norms, expected, "{name}");
        let std = 1.25_f64.sqrt();
        for (response, expected) in found.responses.iter().zip([std, std, std / 2.0]) {
            assert!((response.std - expected).abs() < 1e-12, "{name}: {response:?}");
        }
        assert_eq!(found.responses.len(), 3, "{name}");
    }
}

#[test]
fn changes_below_a_thousandth_are_none() {
    let mut model = halving("dense-resnet4-w4-no-norm");
    let graph = model.architecture.to_graph().unwrap();
    // The root mean square of 1, 2, 3, 4 is sqrt(7.5), so that 0.0027 is too little and 0.0028 is not.
    let weight = model.weights.get_mut(&graph, "layer1.0.fc2.weight").unwrap();
    weight.fill(0.0);
    let bias = model.weights.get_mut(&graph, "layer1.0.fc2.bias").unwrap();
    bias.copy_from_slice(&[0.0027, 0.0028, -0.0027, -0.0028]);
    assert_eq!(measured(&model, SPIRALS).blocks[0].share_changed, Some(0.5));
}

#[test]
fn a_silenced_branch_is_the_identity() {
    for name in ["resnet8-w4", "preact-resnet8-w4", "resnet8-w4-no-norm"] {
        let model = untrained(name, SHAPES);
        let insertion = Insertion::new(2, 1);
        let deeper = insert_blocks(&model.architecture, &model.weights, &insertion).unwrap();
        let deeper =
            Model { architecture: deeper.architecture, weights: deeper.weights, ..model.clone() };
        let found = measured(&deeper, SHAPES);
        let new = block(&found, "layer2.1");
        assert_eq!((new.ratio, new.share_changed), (Some(0.0), Some(0.0)), "{name}");
        assert!((new.cosine.unwrap() - 1.0).abs() < 1e-12, "{name}");
        let old = block(&found, "layer1.0");
        assert!(old.ratio.unwrap() > 0.01 && old.share_changed.unwrap() > 0.1, "{name}: {old:?}");
        let findings = found.section().findings;
        assert!(findings[0].contains("Nearest to the identity by ‖F(x)‖/‖x‖: layer2.1 (0.000)"));
        // The shape changes here: the zero-padded input is what is added.
        let first = block(&found, "layer2.0");
        assert!(first.ratio.is_some() && first.cosine.is_none() && first.share_changed.is_none());
    }
}

#[test]
fn random_blocks_of_a_plain_network_are_no_identity() {
    let model = untrained("plain8-w4", SHAPES);
    let insertion = Insertion { start: NewBlocks::Random, ..Insertion::new(2, 1) };
    let deeper = insert_blocks(&model.architecture, &model.weights, &insertion).unwrap();
    let deeper = Model { architecture: deeper.architecture, weights: deeper.weights, ..model };
    let found = measured(&deeper, SHAPES);
    let new = block(&found, "layer2.1");
    assert!(new.ratio.unwrap() > 0.1 && new.cosine.unwrap() < 0.9, "{new:?}");
    assert!(new.share_changed.unwrap() > 0.2, "{new:?}");
    assert_eq!(block(&found, "layer2.0").ratio, None, "the shapes differ and nothing is added");
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let model = untrained("resnet8-w4", SHAPES);
    let on = |threads| ThreadPool::new(Some(threads)).unwrap().install(|| measured(&model, SHAPES));
    assert_eq!(on(1), on(3));
}

#[test]
fn without_data_norms_are_left() {
    let model = untrained("resnet8-w4", SHAPES);
    let (found, whole) = (identity_of_weights(&model).unwrap(), measured(&model, SHAPES));
    assert!(found.data.is_none() && found.responses.is_empty());
    for (block, of_whole) in found.blocks.iter().zip(&whole.blocks) {
        assert_eq!((block.ratio, &block.norms), (None, &of_whole.norms));
    }
    assert!(found.section().charts.is_empty() && found.section().tables.len() == 1);
}

#[test]
fn a_record_is_what_was_found() {
    let folder = tempfile::tempdir().unwrap();
    let record = Record::new(
        "residua inspect",
        Study::Identity(measured(&halving("dense-resnet4-w4-no-norm"), SPIRALS)),
    );
    record.save(folder.path()).unwrap();
    assert_eq!(Record::load(folder.path()).unwrap(), record);
    for chart in record.section().charts {
        assert!(folder.path().join(format!("{}.svg", chart.name)).exists(), "{}", chart.name);
    }
}

#[test]
fn what_can_not_be_measured_is_refused() {
    let mut model = untrained("resnet8-w4", SHAPES);
    let none = IdentityOptions { num_samples: 0, ..OPTIONS };
    let error = identity(&model, &untrained::open(SHAPES), &none).unwrap_err();
    assert_eq!(error.to_string(), "samples: 0, expected at least 1");
    assert!(identity(&model, &untrained::open(SPIRALS), &OPTIONS).is_err());
    model.weights.params[3] = f32::NAN;
    let error = identity_of_weights(&model).unwrap_err();
    assert_eq!(error.to_string(), "resnet8-w4: 1 weights are NaN or infinite, expected numbers");
}
