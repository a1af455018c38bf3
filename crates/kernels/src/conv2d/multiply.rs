//! What multiplies windows with packed weights: the part of a direct convolution that depends on the
//! number format and the instruction set.

use super::ahead::Ahead;
use super::grid::Grid;
use super::sums::Sums;
use super::tile::Start;
use crate::padding::Padding;
use crate::{Conv2dProblem, Element, Isa, Source};
use std::fmt::Debug;
use std::ops::Range;

/// The weight of a window of `window_rows` rows of `window_len` elements, for `num_cols` outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WindowWeight {
    pub(super) window_rows: usize,
    pub(super) window_len: usize,
    /// Pixels in a row of a window.
    pub(super) taps: usize,
    pub(super) num_cols: usize,
    /// Elements from a pixel's window to the next pixel's, where each row is of pairs of pixels that lie
    /// side by side in the output.
    pub(super) next: Option<usize>,
}

/// A weight in PyTorch's layout, or its gradient, seen as the rows and columns of a [`WindowWeight`].
pub(super) struct Rows<V, F> {
    pub(super) values: V,
    /// The place of a row's first column, for `window_row · window_len + k`.
    pub(super) first_of: F,
    /// From one column to the next.
    pub(super) col_stride: usize,
}

/// Operands of a gradient of a weight: some samples of the input, which is still to be laid out, and of the
/// padded output gradient, which [`MultiplyGrads::slack`] elements follow.
#[derive(Debug)]
pub(super) struct GradOperands<'a, A, T> {
    pub(super) num_samples: usize,
    /// Samples whose input was laid out in the same memory before these, as [`lay_out`](super::lay_out) means it.
    pub(super) before: usize,
    pub(super) x: Source<'a, A>,
    pub(super) x_padding: Padding,
    pub(super) grad: &'a [T],
    pub(super) grad_padding: Padding,
}

/// A way to multiply. Packed forms are its own; their lengths are in f32.
pub(super) trait Multiply: Debug + Sync {
    /// Activations in memory.
    type Activation: Element;
    /// What padded samples are made of.
    type Operand: Element;

    fn name(&self) -> &'static str;
    fn isa(&self) -> Isa;

    /// Elements from one padded pixel of `c` channels to the next, where windows are single pixels.
    fn pixel_pitch(c: usize) -> usize {
        c
    }
    /// Elements that may be read, but don't matter, after the last padded sample.
    fn slack(&self, grid: &Grid, weight: &WindowWeight) -> usize;

    /// Length of a packed weight.
    fn packed_len(&self, weight: &WindowWeight) -> usize;
    /// Packs a weight.
    fn pack(
        &self,
        weight: &WindowWeight,
        packed: &mut [f32],
        rows: &Rows<&[f32], impl Fn(usize) -> usize>,
    );
    /// Whether [`run`](Self::run) adds up sums; else they take a pass of their own.
    const FUSES_SUMS: bool;
    /// Walks over a grid of output pixels.
    #[allow(clippy::too_many_arguments, reason = "the operands of a product")]
    fn run(
        &self,
        grid: &Grid,
        weight: &WindowWeight,
        start: Start,
        x: &[Self::Operand],
        packed: &[f32],
        out: &mut [Self::Activation],
        sums: Sums<'_, Self::Activation>,
        ahead: &mut Ahead,
    );

    /// How it makes gradients of weights.
    fn grads(&self) -> impl MultiplyGrads<Self::Activation, Self::Operand>;
}

/// A way to make gradients of weights from activations of type `A` and padded output gradients of type `T`.
pub(super) trait MultiplyGrads<A, T> {
    /// Samples that a backward takes at once.
    fn samples_at_once(&self, p: &Conv2dProblem, x: &Padding, grad: &Padding) -> usize;
    /// As [`Multiply::slack`], after the output gradient.
    fn slack(&self, p: &Conv2dProblem) -> usize;
    /// Elements that [`run`](Self::run) and [`keep`](Self::keep) lay out, in memory that starts at a cache line.
    fn memory_len(&self, p: &Conv2dProblem, num_samples: usize, x: &Padding) -> usize;
    /// Length of a packed gradient.
    fn packed_len(&self, p: &Conv2dProblem) -> usize;
    /// The gradient over all samples of `operands`, of which there are some, into `packed_grad`, or added to
    /// what is there.
    fn run(
        &self,
        p: &Conv2dProblem,
        operands: GradOperands<'_, A, T>,
        start: Start,
        memory: &mut [T],
        packed_grad: &mut [f32],
        ahead: &mut Ahead,
    );
    /// Writes a packed gradient in the weight's layout.
    fn unpack(&self, p: &Conv2dProblem, packed_grad: &[f32], grad_weight: &mut [f32]);

    /// Elements of the operands of so many samples, if this way can keep them.
    fn kept_len(&self, _p: &Conv2dProblem, _num_samples: usize) -> Option<usize> {
        None
    }
    /// Lays out the operands that [`run`](Self::run) would multiply.
    fn keep(
        &self,
        p: &Conv2dProblem,
        _operands: GradOperands<'_, A, T>,
        _memory: &mut [T],
        _kept: &mut [T],
    ) {
        unreachable!("{p}: this way to multiply keeps nothing")
    }
    /// The gradient of some output channels over all samples whose operands are given, into `packed_grad`.
    fn run_kept<'a>(
        &self,
        p: &Conv2dProblem,
        _oc: Range<usize>,
        _kept: impl Iterator<Item = (&'a Conv2dProblem, &'a [T])> + Clone,
        _packed_grad: &mut [f32],
    ) where
        T: 'a,
    {
        unreachable!("{p}: this way to multiply keeps nothing")
    }
}
