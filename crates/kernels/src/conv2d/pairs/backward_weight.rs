//! Gradient of the weight: `k` runs over positions, so the output gradient is wanted with channels
//! as rows, and the input in pairs of positions.
//!
//! Positions are those of the padded input, counted through all rows and samples; with a stride, it is
//! split into phases. A tap of the kernel is an offset in these, the output pixel at row `y` and
//! column `x` is position `y · pitch + x`, and positions that are no output pixel meet zeros. An
//! offset of whole pairs leaves rows of B where they are, at the start of a cache line; for odd
//! offsets there is a second copy that is paired the other way.
//!
//! Tiles of a few channels would be mostly empty. There the columns of the kernel become channels: a pixel
//! is what a row of its window sees, as in im2col along rows.

use super::grad_blocks::{Block, GradBlocks, GradCall};
use super::input::{self, Input};
use super::kept;
use super::layout::{Columns, Layout, channels, lines, tap_columns, taps};
use super::pixels::Pixels;
use super::transpose::transpose;
use super::unpack::{unpack, unpack_folded};
use super::{B_TILE, STEP, TILE};
use crate::conv2d::ahead::Ahead;
use crate::conv2d::grid::split;
use crate::conv2d::multiply::{GradOperands, MultiplyGrads};
use crate::conv2d::tile::Start;
use crate::padding::Padding;
use crate::{Conv2dProblem, Isa};
use bytemuck::Zeroable;
use half::bf16;
use std::marker::PhantomData;
use std::ops::Range;

/// The most elements of padded samples at once: 384 KiB, so that they, what is made of them and what is fetched for
/// the next stay in the second-level cache.
const MAX_PADDED_LEN: usize = 3 << 16;

/// Cache lines that are fetched in each step: the step's own tiles come from the second-level cache, too, and
/// with twice as many they wait.
const LINES_BESIDE_GRADS: usize = 4;

/// Gradients of weights, multiplied by `B`.
pub(in crate::conv2d) struct PairGrads<B> {
    isa: Isa,
    blocks: PhantomData<B>,
}

impl<B> PairGrads<B> {
    pub(in crate::conv2d) fn new(isa: Isa) -> Self {
        Self { isa, blocks: PhantomData }
    }
}

impl<B: GradBlocks> MultiplyGrads<bf16, bf16> for PairGrads<B> {
    /// Samples that a backward lays out at once: more, where a gradient that is larger than they are would be
    /// read and written for them.
    fn samples_at_once(&self, p: &Conv2dProblem, x: &Padding, grad: &Padding) -> usize {
        (MAX_PADDED_LEN.max(p.weight_len()) / (x.len() + grad.len())).max(1)
    }

    fn slack(&self, _p: &Conv2dProblem) -> usize {
        0
    }

    fn memory_len(&self, p: &Conv2dProblem, num_samples: usize, _x: &Padding) -> usize {
        let layout = Layout::at_most(p, num_samples);
        let made = lines(layout.rows_len()) + lines(layout.all_pairs_len()) + layout.spread_len();
        input::memory_len(&layout) + made
    }

    /// Tiles `[oc tile][tile of channels][tap][oc][channel]`.
    fn packed_len(&self, p: &Conv2dProblem) -> usize {
        taps(p) * channels(p).div_ceil(TILE) * p.oc.div_ceil(TILE) * TILE * TILE
    }

    /// The gradient over all samples, into `packed_grad`.
    fn run(
        &self,
        p: &Conv2dProblem,
        operands: GradOperands<'_, bf16, bf16>,
        start: Start,
        memory: &mut [bf16],
        packed_grad: &mut [f32],
        ahead: &mut Ahead,
    ) {
        assert_eq!(packed_grad.len(), self.packed_len(p));
        let (blocks, layout) = (B::start(), Layout::new(p, operands.num_samples));
        let (input, memory) = memory.split_at_mut(input::memory_len(&layout));
        let (rows, memory) = memory.split_at_mut(lines(layout.rows_len()));
        let (pairs, spread) = memory.split_at_mut(lines(layout.all_pairs_len()));
        let grad = grad_at_positions(&layout, &operands, spread);
        let GradOperands { before, x, .. } = operands;
        let mut input = Input::new(self.isa, &layout, x, before, input);
        let (columns, grad_len) = (layout.columns(), grad.len());
        for first in (0..layout.num_positions()).step_by(layout.at_once) {
            let grad = &grad[(first * p.oc).min(grad_len)..grad_len];
            let grad = &grad[..grad.len().min(layout.at_once * p.oc)];
            let num_positions = grad.len() / p.oc;
            let num_steps = num_positions.div_ceil(STEP);
            if num_steps == 0 {
                break;
            }
            transpose(grad, p.oc, &mut rows[..layout.oc_tiles * num_steps * B_TILE]);
            input.pair(&layout, first, pairs);
            let start = if first == 0 { start } else { Start::Output };
            let window = first..first + num_positions;
            let pixels = Pixels::within(p, layout.pitch, layout.num_rows, window);
            let operands = (&*rows, &*pairs);
            multiply(
                &blocks,
                (&layout, &columns),
                (num_steps, start, pixels),
                operands,
                packed_grad,
                ahead,
            );
        }
    }

    /// Writes a packed gradient in the weight's layout, `[oc][ic][tap]`.
    fn unpack(&self, p: &Conv2dProblem, packed_grad: &[f32], grad_weight: &mut [f32]) {
        assert_eq!(packed_grad.len(), self.packed_len(p));
        if tap_columns(p) == p.kw {
            unpack(p, packed_grad, grad_weight);
        } else {
            unpack_folded(p, packed_grad, grad_weight);
        }
    }

    fn kept_len(&self, p: &Conv2dProblem, num_samples: usize) -> Option<usize> {
        Some(kept::len(&Layout::whole(p, num_samples)))
    }

    fn keep(
        &self,
        p: &Conv2dProblem,
        operands: GradOperands<'_, bf16, bf16>,
        memory: &mut [bf16],
        kept: &mut [bf16],
    ) {
        kept::keep(self.isa, &Layout::whole(p, operands.num_samples), operands, memory, kept);
    }

    fn run_kept<'a>(
        &self,
        p: &Conv2dProblem,
        oc: Range<usize>,
        kept: impl Iterator<Item = (&'a Conv2dProblem, &'a [bf16])> + Clone,
        packed_grad: &mut [f32],
    ) {
        assert_eq!(packed_grad.len(), self.packed_len(&Conv2dProblem { oc: oc.len(), ..*p }));
        kept::multiply(&B::start(), p, oc, kept, packed_grad);
    }
}

/// The output gradient at the input's positions.
pub(super) fn grad_at_positions<'a>(
    layout: &Layout<'_>,
    operands: &GradOperands<'a, bf16, bf16>,
    spread: &'a mut [bf16],
) -> &'a [bf16] {
    let grad = match layout.is_spread() {
        true => &operands.grad[layout.grad.first()..],
        false => spread_grad(layout, operands.grad, &mut spread[..layout.spread_len()]),
    };
    &grad[..layout.num_grad_positions() * layout.p.oc]
}

/// The output gradient with its pixels at their positions and zeros between.
fn spread_grad<'a>(layout: &Layout<'_>, grad: &[bf16], spread: &'a mut [bf16]) -> &'a [bf16] {
    let (p, padding) = (layout.p, &layout.grad);
    for (i, row) in spread.chunks_exact_mut(layout.pitch * p.oc).enumerate() {
        let (sample, y) = (i / layout.num_rows, i % layout.num_rows);
        let len = if y < p.oh() { p.ow() * p.oc } else { 0 };
        let (row, beyond) = row.split_at_mut(len);
        let from = sample * padding.len() + padding.first() + y * padding.row_pitch();
        row.copy_from_slice(if len == 0 { &[] } else { &grad[from..][..len] });
        beyond.fill(bf16::zeroed());
    }
    spread
}

fn multiply<B: GradBlocks>(
    blocks: &B,
    (layout, columns): (&Layout<'_>, &Columns),
    (num_steps, start, pixels): (usize, Start, Pixels),
    (rows, pairs): (&[bf16], &[bf16]),
    packed_grad: &mut [f32],
    ahead: &mut Ahead,
) {
    let num_cols = layout.num_cols();
    assert_eq!(packed_grad.len(), layout.oc_tiles * num_cols * TILE * TILE);
    for first_row in (0..layout.oc_tiles).step_by(2) {
        let rows_of_tiles = first_row..layout.oc_tiles.min(first_row + 2);
        let num_rows = rows_of_tiles.len();
        for (first_col, block_cols) in split(num_cols, B::max_cols(num_rows)) {
            let block = Block {
                layout,
                columns,
                rows: rows_of_tiles.clone(),
                cols: first_col..first_col + block_cols,
            };
            let mut call = GradCall::new(start);
            block.read(num_steps, (rows, 0), pairs, &mut call);
            block.write_to(packed_grad, &mut call);
            call.fetch = ahead.fetch(LINES_BESIDE_GRADS, num_steps);
            // SAFETY: all tiles lie in the slices that the pointers are taken of.
            unsafe { blocks.multiply(num_rows, block_cols, &mut call, &pixels) }
        }
    }
}
