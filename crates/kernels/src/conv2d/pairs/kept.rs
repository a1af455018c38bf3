//! Operands that are kept: rows of the output gradient and pairs of the input over all positions of some samples,
//! and the gradient that is made of all of them.

use super::backward_weight::grad_at_positions;
use super::grad_blocks::{Block, GradBlocks, GradCall};
use super::input::{self, Input};
use super::layout::Layout;
use super::pixels::Pixels;
use super::transpose::transpose;
use super::{B_TILE, STEP, TILE};
use crate::conv2d::grid::split;
use crate::conv2d::multiply::GradOperands;
use crate::conv2d::tile::Start;
use crate::{Conv2dProblem, Isa};
use half::bf16;
use std::ops::Range;

/// Elements that are kept.
pub(super) fn len(layout: &Layout<'_>) -> usize {
    kept_rows_len(layout) + layout.all_pairs_len()
}

fn num_steps(layout: &Layout<'_>) -> usize {
    layout.num_grad_positions().div_ceil(STEP)
}

fn kept_rows_len(layout: &Layout<'_>) -> usize {
    layout.oc_tiles * num_steps(layout) * B_TILE
}

/// Lays them out.
pub(super) fn keep(
    isa: Isa,
    layout: &Layout<'_>,
    operands: GradOperands<'_, bf16, bf16>,
    memory: &mut [bf16],
    kept: &mut [bf16],
) {
    let (input, spread) = memory.split_at_mut(input::memory_len(layout));
    let (rows, pairs) = kept.split_at_mut(kept_rows_len(layout));
    transpose(grad_at_positions(layout, &operands, spread), layout.p.oc, rows);
    let GradOperands { before, x, .. } = operands;
    Input::new(isa, layout, x, before, input).pair(layout, 0, pairs);
}

/// The gradient of some output channels, which begin with a tile. Columns go outermost: the pairs of one tile of
/// channels stay in the second-level cache for all rows, and so do the rows of a part.
pub(super) fn multiply<'a, B: GradBlocks>(
    blocks: &B,
    p: &Conv2dProblem,
    oc: Range<usize>,
    kept: impl Iterator<Item = (&'a Conv2dProblem, &'a [bf16])> + Clone,
    packed_grad: &mut [f32],
) {
    if kept.clone().next().is_none() {
        return packed_grad.fill(0.0);
    }
    // Most pieces are alike.
    let mut layout = Layout::whole(p, 1);
    let (mut columns, num_cols) = (layout.columns(), layout.num_cols());
    let (first_tile, num_tiles) = (oc.start / TILE, oc.len().div_ceil(TILE));
    for (first_col, block_cols) in split(num_cols, B::max_cols(2)) {
        for first_row in (0..num_tiles).step_by(2) {
            let rows = first_row..num_tiles.min(first_row + 2);
            let (num_rows, cols) = (rows.len(), first_col..first_col + block_cols);
            let mut call = GradCall::new(Start::Zero);
            for (piece, operands) in kept.clone() {
                if *layout.p != *piece || layout.num_samples != piece.n {
                    layout = Layout::whole(piece, piece.n);
                    columns = layout.columns();
                }
                let (rows, cols) = (rows.clone(), cols.clone());
                let block = Block { layout: &layout, columns: &columns, rows, cols };
                let num_steps = num_steps(&layout);
                let (rows, pairs) = operands.split_at(kept_rows_len(&layout));
                block.read(num_steps, (rows, first_tile), pairs, &mut call);
                block.write_to(packed_grad, &mut call);
                let pixels =
                    Pixels::within(piece, layout.pitch, layout.num_rows, 0..num_steps * STEP);
                // SAFETY: all tiles lie in the slices that the pointers are taken of.
                unsafe { blocks.multiply(num_rows, block_cols, &mut call, &pixels) }
                call.start = Start::Output;
            }
        }
    }
}
