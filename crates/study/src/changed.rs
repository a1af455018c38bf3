use residua_format::Model;
use residua_resnet::{BlockIndex, ChangedNetwork};

/// A model whose network was changed: all else stays, and it tells which of its blocks were put in after
/// its training, as they are called now.
pub fn changed_model(model: &Model, changed: &ChangedNetwork) -> Model {
    let earlier = model.provenance.inserted_blocks.iter();
    let earlier =
        earlier.filter_map(|name| changed.block_now(&model.architecture, name.parse().ok()?));
    let mut inserted: Vec<BlockIndex> = earlier.chain(changed.new_blocks()).collect();
    inserted.sort_unstable();
    let mut now = Model {
        architecture: changed.architecture.clone(),
        weights: changed.weights.clone(),
        ..model.clone()
    };
    now.provenance.inserted_blocks = inserted.iter().map(ToString::to_string).collect();
    now
}
