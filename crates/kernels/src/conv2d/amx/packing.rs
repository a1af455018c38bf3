//! Weights as B tiles.

use crate::conv2d::grid::Grid;
use crate::conv2d::multiply::{Rows, WindowWeight};
use crate::conv2d::pairs::columns::PairColumns;
use crate::conv2d::pairs::{B_TILE, STEP, TILE};
use half::bf16;

/// The layout `[col block][window row][step][k/2][col][k%2]`; rows of the window are filled up with
/// zeros to whole steps, columns to whole tiles.
///
/// Where there are 16 columns, two neighbouring pixels may be taken as one: their windows are one, wider
/// window, their columns two blocks, with zeros where one of the windows doesn't reach. That halves the
/// rows of `x` that are loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TilePacking {
    /// Of a pixel.
    pixel: WindowWeight,
    /// As multiplied.
    pub(super) weight: WindowWeight,
    /// Elements by which the second pixel's window begins later, if pixels are taken in pairs.
    pub(super) pair: Option<usize>,
}

impl TilePacking {
    pub(super) fn new(pixel: &WindowWeight) -> Self {
        let pixel = *pixel;
        let WindowWeight { window_len, num_cols, next, .. } = pixel;
        let free = |next: &usize| (window_len + next).div_ceil(STEP) == window_len.div_ceil(STEP);
        match next.filter(|next| num_cols == TILE && free(next)) {
            Some(next) => {
                let (window_len, num_cols) = (window_len + next, 2 * num_cols);
                let weight = WindowWeight { window_len, num_cols, ..pixel };
                Self { pixel, weight, pair: Some(next) }
            }
            None => Self { pixel, weight: pixel, pair: None },
        }
    }

    /// The grid of what is taken as one pixel.
    pub(super) fn grid(&self, grid: &Grid) -> Grid {
        match self.pair {
            Some(_) => Grid {
                num_cols: grid.num_cols / 2,
                x_col_stride: 2 * grid.x_col_stride,
                out_col_stride: 2 * grid.out_col_stride,
                window_len: self.weight.window_len,
                ..*grid
            },
            None => *grid,
        }
    }

    /// Steps of one window row.
    pub(super) fn steps(&self) -> usize {
        self.weight.window_len.div_ceil(STEP)
    }

    /// Elements of one column block.
    pub(super) fn block_len(&self) -> usize {
        self.weight.window_rows * self.steps() * B_TILE
    }

    pub(super) fn num_blocks(&self) -> usize {
        self.weight.num_cols.div_ceil(TILE)
    }

    pub(super) fn len(&self) -> usize {
        self.num_blocks() * self.block_len()
    }

    /// Fills `packed`.
    pub(super) fn pack(&self, packed: &mut [bf16], from: &Rows<&[f32], impl Fn(usize) -> usize>) {
        assert_eq!(packed.len(), self.len());
        crate::Isa::Avx512Bf16.assert_supported();
        if packed.is_empty() {
            return;
        }
        let (tiles, _) = packed.as_chunks_mut::<B_TILE>();
        let WindowWeight { window_rows, window_len, taps, num_cols, .. } = self.pixel;
        // A step of one tap's rows, which are at a constant distance.
        let even = self.pair.is_none() && (window_len / taps).is_multiple_of(STEP);
        let row_stride = even.then(|| (from.first_of)(1) - (from.first_of)(0));
        for [block, row, step] in self.tile_order(row_stride.is_some_and(|r| from.col_stride < r)) {
            // A pair has the same columns twice.
            let (first_col, window_start) = match self.pair {
                Some(next) => (0, block * next),
                None => (block * TILE, 0),
            };
            let columns = PairColumns {
                values: from.values,
                stride: from.col_stride,
                num: TILE.min(num_cols - first_col),
            };
            let first = |k: usize| {
                let k = k.checked_sub(window_start).filter(|k| *k < window_len)?;
                Some((from.first_of)(row * window_len + k) + first_col * from.col_stride)
            };
            let tile = &mut tiles[(block * window_rows + row) * self.steps() + step];
            if let (Some(row_stride), Some(first)) = (row_stride, first(step * STEP)) {
                // SAFETY: the machine has AVX512-BF16.
                unsafe { columns.tile(first, row_stride, tile) };
                continue;
            }
            let (pairs, _) = tile.as_chunks_mut::<{ 2 * TILE }>();
            for (k, pair) in (step * STEP..).step_by(2).zip(pairs) {
                // SAFETY: as above.
                unsafe { columns.pair(first(k), first(k + 1), pair) }
            }
        }
    }

    /// The block, window row and step of each tile, in the order of memory as far as PyTorch's layout allows:
    /// all taps one after another, and blocks before steps if columns are closer together than rows.
    fn tile_order(&self, columns_are_closer: bool) -> impl Iterator<Item = [usize; 3]> {
        let (num_blocks, WindowWeight { window_rows, taps, .. }) = (self.num_blocks(), self.weight);
        let taps = if self.steps().is_multiple_of(taps) { taps } else { 1 };
        let steps = self.steps() / taps;
        (0..num_blocks * steps).flat_map(move |i| {
            let (block, step) = if columns_are_closer {
                (i % num_blocks, i / num_blocks)
            } else {
                (i / steps, i % steps)
            };
            let of_row = move |row| (0..taps).map(move |tap| [block, row, tap * steps + step]);
            (0..window_rows).flat_map(of_row)
        })
    }
}
