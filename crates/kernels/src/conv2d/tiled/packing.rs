//! Weights as B tiles.

use super::block::{B_TILE, STEP, TILE};
use crate::conv2d::multiply::{Rows, WindowWeight};
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

    /// Fills `packed`.
    pub(super) fn pack(&self, packed: &mut [bf16], from: &Rows<'_, impl Fn(usize) -> usize>) {
        assert_eq!(packed.len(), self.len());
        let WindowWeight { window_rows, window_len, num_cols } = self.0;
        packed.fill(bf16::ZERO);
        for (tile_i, tile) in packed.chunks_exact_mut(B_TILE).enumerate() {
            let (step, row) = (tile_i % self.steps(), tile_i / self.steps() % window_rows);
            let first_col = tile_i / self.steps() / window_rows * TILE;
            for (i, k) in (step * STEP..window_len.min((step + 1) * STEP)).enumerate() {
                let out = tile[i / 2 * 2 * TILE + i % 2..].iter_mut().step_by(2);
                let columns = from.columns(row * window_len + k, first_col);
                for (out, value) in out.zip(columns.take(TILE.min(num_cols - first_col))) {
                    *out = bf16::from_f32(value);
                }
            }
        }
    }
}
