use crate::{ArchitectureError, BlockIndex};

/// Why a network can't be changed so.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SurgeryError {
    /// A stage outside of 1 to the number there is.
    #[error("{architecture} has no stage {stage}, expected 1 to {num_stages}")]
    NoSuchStage {
        /// The architecture's name.
        architecture: String,
        /// The stage asked for, from 1.
        stage: usize,
        /// How many it has.
        num_stages: usize,
    },
    /// A block outside of the stage.
    #[error("{architecture} has no block {block}")]
    NoSuchBlock {
        /// The architecture's name.
        architecture: String,
        /// The block asked for.
        block: BlockIndex,
    },
    /// New blocks could not be the identity.
    #[error("{architecture}: no block can be inserted without changing the outputs: {reason}")]
    NoIdentity {
        /// The architecture's name.
        architecture: String,
        /// Why.
        reason: &'static str,
    },
    /// A way to start new blocks that is for other networks.
    #[error("{architecture} has shortcuts: {expected}")]
    NotPlain {
        /// The architecture's name.
        architecture: String,
        /// What to do instead.
        expected: &'static str,
    },
    /// A block that the network can't do without.
    #[error("{architecture}: block {block} can't be removed: {reason}")]
    NotRemovable {
        /// The architecture's name.
        architecture: String,
        /// The block.
        block: BlockIndex,
        /// Why.
        reason: &'static str,
    },
    /// A change that leaves nothing but shortcuts, where there are none; or shortcuts off, likewise.
    #[error("{architecture} has no shortcuts, expected a network with shortcuts")]
    NoShortcuts {
        /// The architecture's name.
        architecture: String,
    },
    /// Blocks or layers that can't stand for each other.
    #[error("{architecture}: tensors of {a} have other shapes than those of {b}")]
    NotAlike {
        /// The architecture's name.
        architecture: String,
        /// A block or layer.
        a: String,
        /// The other.
        b: String,
    },
    /// A layer outside of blocks, or none.
    #[error("{architecture} has no layer {layer} in its blocks")]
    NoSuchLayer {
        /// The architecture's name.
        architecture: String,
        /// The layer asked for.
        layer: String,
    },
    /// A layer that can't put out its input.
    #[error("{architecture}: layer {layer} can't let its input through: {reason}")]
    NotPassable {
        /// The architecture's name.
        architecture: String,
        /// The layer.
        layer: String,
        /// Why.
        reason: &'static str,
    },
    /// Weights of another network.
    #[error(
        "{architecture} has {expected} parameters and running statistics, the weights have {got}"
    )]
    OtherWeights {
        /// The architecture's name.
        architecture: String,
        /// Elements of the weights.
        got: usize,
        /// Elements that it has.
        expected: usize,
    },
    /// There is no such architecture.
    #[error(transparent)]
    Architecture(#[from] ArchitectureError),
}
