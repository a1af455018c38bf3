//! Which parameters are updated how.

use std::ops::Range;

use residua_graph::{Graph, Role, TensorSpec};

use crate::Recipe;

/// Neighbouring parameters that SGD updates with the same learning rate and weight decay.
#[derive(Debug, Clone, PartialEq)]
pub struct ParameterGroup {
    /// Their place among all parameters.
    pub range: Range<usize>,
    /// What the learning rate is multiplied by for them.
    pub lr_factor: f32,
    /// Their weight decay: that of the recipe over `lr_factor`, whose product with the learning rate is
    /// the same for all.
    pub weight_decay: f32,
}

/// Which parameters SGD updates, which of them decay, and how fast they learn, as the recipe says.
pub fn parameter_groups(graph: &Graph, recipe: &Recipe) -> Vec<ParameterGroup> {
    let mut groups: Vec<ParameterGroup> = Vec::new();
    let matrices = muon_matrices(graph, recipe).into_iter().map(|matrix| matrix.range);
    let others: Vec<_> = matrices.chain(frozen_parameters(graph, recipe)).collect();
    for spec in graph.params() {
        let range = spec.range();
        if others.contains(&range) {
            continue;
        }
        let decays = match spec.role {
            Role::Bias => recipe.decay_bias,
            Role::NormWeight | Role::NormBias => recipe.decay_norm,
            _ => true,
        };
        let lr_factor = if is_head(spec) { recipe.head_lr } else { 1.0 };
        let weight_decay = if decays { recipe.weight_decay / lr_factor } else { 0.0 };
        let group = ParameterGroup {
            range,
            lr_factor: lr_factor as f32,
            weight_decay: weight_decay as f32,
        };
        match groups.last_mut() {
            Some(last) if last.goes_on_with(&group) => last.range.end = group.range.end,
            _ => groups.push(group),
        }
    }
    groups
}

impl ParameterGroup {
    fn goes_on_with(&self, next: &Self) -> bool {
        self.range.end == next.range.start
            && (self.lr_factor, self.weight_decay) == (next.lr_factor, next.weight_decay)
    }
}

/// A weight that Muon updates as a matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct MuonMatrix {
    /// Its place among all parameters.
    pub range: Range<usize>,
    /// A row for each output, and a column for each value that it is computed from.
    pub shape: [usize; 2],
}

/// The weights that Muon updates, if the recipe has it: those of all convolutions and linear operations
/// but the first and the head's.
pub fn muon_matrices(graph: &Graph, recipe: &Recipe) -> Vec<MuonMatrix> {
    let hidden = layer_weights(graph).skip(1).filter(|spec| !is_head(spec));
    let matrix = |spec: &TensorSpec| {
        let rows = spec.shape[0];
        MuonMatrix { range: spec.range(), shape: [rows, spec.len() / rows] }
    };
    recipe.muon.iter().flat_map(|_| hidden.clone().map(matrix)).collect()
}

/// The parameters that stay as they are, if the recipe has such.
pub fn frozen_parameters(graph: &Graph, recipe: &Recipe) -> Option<Range<usize>> {
    layer_weights(graph).next().filter(|_| recipe.freeze_stem).map(TensorSpec::range)
}

/// Weights of convolutions and linear layers, the stem's first.
fn layer_weights(graph: &Graph) -> impl Iterator<Item = &TensorSpec> + Clone {
    graph.params().iter().filter(|spec| matches!(spec.role, Role::ConvWeight | Role::LinearWeight))
}

fn is_head(spec: &TensorSpec) -> bool {
    spec.name.starts_with("fc.")
}
