//! What a changed model tells of its blocks.

mod untrained;

use residua_format::Model;
use residua_resnet::{Insertion, Place, insert_blocks, remove_blocks};
use residua_study::changed_model;
use untrained::untrained;

fn model() -> Model {
    untrained("resnet8-w8", "synthetic:shapes?train=20&dev=5&test=12")
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
