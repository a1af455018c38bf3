//! Networks with random weights, and data for them.

use std::sync::Arc;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use residua_data::Dataset;
use residua_format::Model;
use residua_graph::{Graph, Role, Weights};
use residua_resnet::{Architecture, ChangedNetwork, InitOptions, init_weights};

use crate::untrained;

const SHAPES: &str = "synthetic:shapes?train=20&dev=30&test=20";

/// Small images in ten classes.
pub(crate) fn shapes() -> Arc<Dataset> {
    untrained::open(SHAPES)
}

/// A network for them, with batch norms as after some training.
pub(crate) fn untrained(name: &str) -> Model {
    let model = untrained::untrained(name, SHAPES);
    Model { weights: weights(&model.architecture), ..model }
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
