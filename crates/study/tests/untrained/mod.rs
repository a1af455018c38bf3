//! Networks as they are before training.

use std::sync::Arc;

use residua_data::{Dataset, OpenOptions};
use residua_format::{Model, Provenance};
use residua_resnet::{Architecture, InitOptions, Shape, init_weights};

pub(crate) fn open(source: &str) -> Arc<Dataset> {
    Arc::new(residua_data::open(source, &OpenOptions::default()).unwrap())
}

/// A network for a dataset.
pub(crate) fn untrained(name: &str, source: &str) -> Model {
    let dataset = open(source);
    let [c, h, w] = dataset.sample_shape();
    let (input, classes) = (Shape::image(c, h, w), dataset.classes().len());
    let architecture = Architecture::named(name, input, classes).unwrap();
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
