use residua_graph::Weights;

use super::{ChangedNetwork, SurgeryError, check_weights, transplant};
use crate::{Architecture, Shortcut};

/// The residual network with the weights of a plain one: parameter-free shortcuts
/// ([`Shortcut::ZeroPad`](crate::Shortcut::ZeroPad)) around its blocks, whose names and shapes stay.
///
/// # Errors
/// A network with shortcuts; a block with fewer output than input channels; weights of another network.
pub fn add_shortcuts(
    architecture: &Architecture,
    weights: &Weights,
) -> Result<ChangedNetwork, SurgeryError> {
    if architecture.shortcut() != Shortcut::None {
        return Err(SurgeryError::NotPlain {
            architecture: architecture.name().to_owned(),
            expected: "they are added to a network without any",
        });
    }
    convert(architecture, weights, architecture.residual_twin()?)
}

/// The plain network with the weights of a residual one; learned shortcuts are dropped.
///
/// # Errors
/// A network without shortcuts; weights of another network.
pub fn strip_shortcuts(
    architecture: &Architecture,
    weights: &Weights,
) -> Result<ChangedNetwork, SurgeryError> {
    if architecture.shortcut() == Shortcut::None {
        let architecture = architecture.name().to_owned();
        return Err(SurgeryError::NoShortcuts { architecture });
    }
    convert(architecture, weights, architecture.plain_twin())
}

fn convert(
    architecture: &Architecture,
    weights: &Weights,
    twin: Architecture,
) -> Result<ChangedNetwork, SurgeryError> {
    let graph = architecture.to_graph()?;
    check_weights(architecture, &graph, weights)?;
    let start = Weights::zeros(&twin.to_graph()?);
    Ok(transplant(twin, start, (&graph, weights), |name| Some(name.to_owned()))?)
}
