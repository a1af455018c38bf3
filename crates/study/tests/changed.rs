//! What a changed model tells of its blocks.

use std::sync::Arc;

use residua_data::{Dataset, OpenOptions};
use residua_format::{Model, Provenance};
use residua_graph::Shape;
use residua_resnet::{
    Architecture, InitOptions, Insertion, Place, init_weights, insert_blocks, remove_blocks,
};
use residua_study::changed_model;

fn model() -> Model {
    let source = "synthetic:shapes?train=20&dev=5&test=12";
    let dataset: Arc<Dataset> =
        Arc::new(residua_data::open(source, &OpenOptions::default()).unwrap());
    let architecture = Architecture::named("resnet8-w8", Shape::image(3, 32, 32), 10).unwrap();
    let graph = architecture.to_graph().unwrap();
    Model {
        weights: init_weights(&architecture, &graph, &InitOptions::default()),
        architecture,
        classes: dataset.classes().to_vec(),
        preprocessing: dataset.preprocessing().clone(),
        provenance: Provenance {
            dataset: dataset.name().to_owned(),
            dataset_fingerprint: dataset.fingerprint().to_owned(),
            seed: 0,
            steps: 0,
            precision: "f32".to_owned(),
            residua_version: "0".to_owned(),
            inserted_blocks: Vec::new(),
        },
    }
}

#[test]
fn new_blocks_are_followed_through_later_changes() {
    let deepen = |model: &Model, stage, num_blocks, place| {
        let insertion = Insertion { place, ..Insertion::new(stage, num_blocks) };
        let changed = insert_blocks(&model.architecture, &model.weights, &insertion).unwrap();
        changed_model(model, &changed)
    };
    let deeper = deepen(&model(), 2, 2, Place::End);
    assert_eq!(deeper.provenance.inserted_blocks, ["layer2.1", "layer2.2"]);
    let deepest = deepen(&deeper, 2, 1, Place::Middle);
    // After half of the three, the larger half: before the last.
    assert_eq!(deepest.provenance.inserted_blocks, ["layer2.1", "layer2.2", "layer2.3"]);
    let remove = |model: &Model, blocks: &[&str]| {
        let blocks: Vec<_> = blocks.iter().map(|name| name.parse().unwrap()).collect();
        let changed = remove_blocks(&model.architecture, &model.weights, &blocks).unwrap();
        changed_model(model, &changed)
    };
    let less = remove(&deepest, &["layer2.1"]);
    assert_eq!(less.provenance.inserted_blocks, ["layer2.1", "layer2.2"]);
    assert_eq!(remove(&deepest, &["layer2.1", "layer2.2", "layer2.3"]), model());
}
