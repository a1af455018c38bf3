//! Weights as B tiles.

use super::block::{B_TILE, STEP, TILE};
use crate::conv2d::multiply::WindowWeight;
use half::bf16;

/// The layout `[col block][window row][step][k/2][col][k%2]`; rows of the window are filled up with
/// zeros to whole steps, columns to whole tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TilePacking(pub(super) WindowWeight);

impl TilePacking {
    /// Steps of one window row.
    pub(super) fn steps(&self) -> usize {
        self.0.window_len.div_ceil(STEP)
    }

    /// Elements of one column block.
    pub(super) fn block_len(&self) -> usize {
        self.0.window_rows * self.steps() * B_TILE
    }

    pub(super) fn num_blocks(&self) -> usize {
        self.0.num_cols.div_ceil(TILE)
    }

    pub(super) fn len(&self) -> usize {
        self.num_blocks() * self.block_len()
    }

    /// Fills `packed` with `element(window_row · window_len + k, col)`.
    pub(super) fn pack(&self, packed: &mut [bf16], element: impl Fn(usize, usize) -> f32) {
        assert_eq!(packed.len(), self.len());
        let WindowWeight { window_rows, window_len, num_cols } = self.0;
        for (tile_i, tile) in packed.chunks_exact_mut(B_TILE).enumerate() {
            let (step, row) = (tile_i % self.steps(), tile_i / self.steps() % window_rows);
            let first_col = tile_i / self.steps() / window_rows * TILE;
            for (i, out) in tile.iter_mut().enumerate() {
                let k = step * STEP + i / (2 * TILE) * 2 + i % 2;
                let col = first_col + i / 2 % TILE;
                let exists = k < window_len && col < num_cols;
                let value = if exists { element(row * window_len + k, col) } else { 0.0 };
                *out = bf16::from_f32(value);
            }
        }
    }
}
