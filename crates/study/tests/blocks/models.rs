//! Networks with random weights, and data for them.

use std::sync::Arc;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use residua_data::{Dataset, OpenOptions};
use residua_format::{Model, Provenance};
use residua_graph::{Graph, Role, Weights};
use residua_resnet::{Architecture, ChangedNetwork, InitOptions, Shape, init_weights};

/// Small images in ten classes.
pub(crate) fn shapes() -> Arc<Dataset> {
    let source = "synthetic:shapes?train=20&dev=30&test=20";
    Arc::new(residua_data::open(source, &OpenOptions::default()).unwrap())
}

/// An untrained network for them, with batch norms as after some training.
pub(crate) fn untrained(name: &str, dataset: &Dataset) -> Model {
    let architecture = Architecture::named(name, Shape::image(3, 32, 32), 10).unwrap();
    Model {
        weights: weights(&architecture),
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

/// Initial ones, but for random batch norms and biases.
pub(crate) fn weights(architecture: &Architecture) -> Weights {
    let graph = architecture.to_graph().unwrap();
    let mut weights = init_weights(architecture, &graph, &InitOptions::default());
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for spec in graph.params().iter().chain(graph.buffers()) {
        let range = match spec.role {
            Role::NormWeight | Role::RunningVar => 0.5..1.5,
            Role::NormBias | Role::RunningMean | Role::Bias => -0.5..0.5,
            _ => continue,
        };
        let values = weights.get_mut(&graph, &spec.name).unwrap();
        values.iter_mut().for_each(|value| *value = rng.random_range(range.clone()));
    }
    weights
}

pub(crate) fn changed(model: &Model, to: ChangedNetwork) -> Model {
    Model { architecture: to.architecture, weights: to.weights, ..model.clone() }
}

pub(crate) fn graph(architecture: &Architecture) -> Graph {
    architecture.to_graph().unwrap()
}
