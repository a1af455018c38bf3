/// Why a plan can't be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// A batch of no samples.
    #[error("batch size is 0, expected at least 1")]
    EmptyBatch,
    /// Batch norm over a single value has no variance.
    #[error(
        "{node}: batch norm sees 1 value per channel in training, expected at least 2 (use a larger batch)"
    )]
    SingleValue {
        /// The batch norm's name.
        node: String,
    },
    /// More memory than the machine has.
    #[error(
        "the network needs {:.1} GiB for {batch_size} samples at once, more than there is: expected \
         smaller batches, or a smaller network",
        *bytes as f64 / (1_u64 << 30) as f64
    )]
    TooLarge {
        /// Bytes of activations and gradients.
        bytes: usize,
        /// Samples of a batch.
        batch_size: usize,
    },
    /// An operation this version has no kernel for.
    #[error("{node}: {reason}")]
    Unsupported {
        /// The node's name.
        node: String,
        /// What is not supported.
        reason: String,
    },
    /// The instruction set asked for is not there.
    #[error("instruction set {isa} is not on this machine")]
    MissingIsa {
        /// The instruction set.
        isa: residua_kernels::Isa,
    },
    /// `RESIDUA_ISA` makes no sense.
    #[error(transparent)]
    Isa(#[from] residua_kernels::IsaError),
    /// The threads could not be started.
    #[error("can't start {threads} threads: {reason}")]
    Threads {
        /// How many were asked for.
        threads: usize,
        /// What the system said.
        reason: String,
    },
}
