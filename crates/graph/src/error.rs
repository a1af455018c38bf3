use crate::Shape;

/// Why an operation can't be added to a graph. Every message names the node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GraphError {
    /// A kernel, with its padding, is larger than its input.
    #[error("{node}: kernel {kernel_size:?} with padding {padding:?} does not fit input {input}")]
    KernelTooLarge {
        /// The node's name.
        node: String,
        /// Shape of the input of one sample.
        input: Shape,
        /// Kernel height and width.
        kernel_size: [usize; 2],
        /// Padding at the top and bottom, and at the left and right.
        padding: [usize; 2],
    },
    /// A pool with windows that could lie in the padding.
    #[error("{node}: padding is {padding}, expected at most half the kernel_size of {kernel_size}")]
    TooMuchPadding {
        /// The node's name.
        node: String,
        /// Positions added on each side.
        padding: usize,
        /// Window height and width.
        kernel_size: usize,
    },
    /// A channel count, kernel size or stride of zero.
    #[error("{node}: {what} is 0, expected at least 1")]
    Zero {
        /// The node's name.
        node: String,
        /// The hyper-parameter that is zero.
        what: &'static str,
    },
    /// A linear operation was given an image.
    #[error("{node}: input has shape {input}, expected a vector")]
    NotAVector {
        /// The node's name.
        node: String,
        /// Shape of the input of one sample.
        input: Shape,
    },
    /// The two operands of an addition differ in shape.
    #[error("{node}: operands have shapes {left} and {right}, expected the same")]
    ShapeMismatch {
        /// The node's name.
        node: String,
        /// First operand.
        left: Shape,
        /// Second operand.
        right: Shape,
    },
    /// A zero-padding shortcut would have to drop channels.
    #[error("{node}: input has {got} channels, expected at most {expected}")]
    TooManyChannels {
        /// The node's name.
        node: String,
        /// Channels of the input.
        got: usize,
        /// Channels of the output.
        expected: usize,
    },
    /// Two nodes with parameters have the same name.
    #[error("{node}: this name is taken")]
    DuplicateName {
        /// The node's name.
        node: String,
    },
}
