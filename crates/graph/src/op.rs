use crate::{BufferId, ParamId};

/// One operation of a graph, with the parameters it reads.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Op {
    /// 2-D cross-correlation, as `torch.nn.Conv2d`. Weight `[out_channels, in_channels, kh, kw]`.
    Conv2d {
        /// Its hyper-parameters.
        conv: Conv2d,
        /// Weight.
        weight: ParamId,
        /// Bias `[out_channels]`, absent before a batch norm.
        bias: Option<ParamId>,
    },
    /// `y = x Wᵀ + b`, as `torch.nn.Linear`. Weight `[out_features, in_features]`. The input is
    /// read as one vector in memory order, so only `1×1` inputs are accepted by the builder.
    Linear {
        /// Length of the input.
        in_features: usize,
        /// Length of the output.
        out_features: usize,
        /// Weight.
        weight: ParamId,
        /// Bias `[out_features]`.
        bias: Option<ParamId>,
    },
    /// Batch normalisation over batch and positions, as `torch.nn.BatchNorm2d`/`1d`.
    BatchNorm(BatchNorm),
    /// `max(x, 0)`; NaN propagates.
    Relu,
    /// Sum of two values of the same shape: the end of a residual block.
    Add,
    /// Maximum over windows; padding never wins; NaN propagates.
    MaxPool(MaxPool),
    /// Mean over all positions; the output is a vector.
    GlobalAvgPool,
    /// The parameter-free shortcut (He et al. 2015, option A).
    ZeroPad(ZeroPad),
}

impl Op {
    /// The trainable parameters it reads: weight, then bias.
    pub fn params(&self) -> impl Iterator<Item = ParamId> + use<> {
        let (weight, bias) = match *self {
            Self::Conv2d { weight, bias, .. } | Self::Linear { weight, bias, .. } => {
                (Some(weight), bias)
            }
            Self::BatchNorm(norm) => (Some(norm.weight), Some(norm.bias)),
            Self::Relu | Self::Add | Self::MaxPool(_) | Self::GlobalAvgPool | Self::ZeroPad(_) => {
                (None, None)
            }
        };
        weight.into_iter().chain(bias)
    }
}

/// Hyper-parameters of a 2-D convolution; `[vertical, horizontal]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv2d {
    /// Channels of the output.
    pub out_channels: usize,
    /// Kernel height and width.
    pub kernel_size: [usize; 2],
    /// Steps between windows.
    pub stride: [usize; 2],
    /// Zeros added on each side.
    pub padding: [usize; 2],
    /// Whether a bias is added.
    pub bias: bool,
}

impl Conv2d {
    /// A `size×size` convolution of stride 1 without padding or bias.
    pub const fn square(out_channels: usize, size: usize) -> Self {
        Self { out_channels, kernel_size: [size; 2], stride: [1; 2], padding: [0; 2], bias: false }
    }

    /// The same with another stride in both directions.
    pub const fn stride(self, stride: usize) -> Self {
        Self { stride: [stride; 2], ..self }
    }

    /// The same with other padding in both directions.
    pub const fn padding(self, padding: usize) -> Self {
        Self { padding: [padding; 2], ..self }
    }

    /// The same with or without a bias.
    pub const fn bias(self, bias: bool) -> Self {
        Self { bias, ..self }
    }
}

/// Hyper-parameters and tensors of a batch norm; each tensor is `[channels]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BatchNorm {
    /// Added to the variance, inside the square root.
    pub eps: f32,
    /// Share of the new batch in the running statistics.
    pub momentum: f32,
    /// Scale.
    pub weight: ParamId,
    /// Shift.
    pub bias: ParamId,
    /// Running mean.
    pub running_mean: BufferId,
    /// Running unbiased variance.
    pub running_var: BufferId,
}

/// Hyper-parameters of a square max pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxPool {
    /// Window height and width.
    pub kernel_size: usize,
    /// Steps between windows.
    pub stride: usize,
    /// Positions added on each side, which never win; at most half the window.
    pub padding: usize,
}

/// Takes every `stride`-th row and column and puts zero channels around the input's:
/// `pad_before` before, `pad_after` after. As a matrix on a vector it is `[0; I; 0]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ZeroPad {
    /// Steps between the rows and columns that are kept.
    pub stride: usize,
    /// Zero channels before the input's.
    pub pad_before: usize,
    /// Zero channels after the input's.
    pub pad_after: usize,
}
