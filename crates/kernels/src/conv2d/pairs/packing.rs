//! Weights as B tiles: what tiles multiply by, and what products of pairs read a vector of columns at a time.

use super::columns::PairColumns;
use super::{B_TILE, STEP, TILE};
use crate::conv2d::grid::Grid;
use crate::conv2d::multiply::{Rows, WindowWeight};
use half::bf16;

/// The layout `[col block][window row][step][k/2][col][k%2]`; rows of the window are filled up with
/// zeros to whole steps, columns to whole tiles.
///
/// Where there are 16 columns, two neighbouring pixels may be taken as one: their windows are one, wider
/// window, their columns two blocks, with zeros where one of the windows doesn't reach. That halves the
/// rows of `x` that are loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::conv2d) struct TilePacking {
    /// Of a pixel.
    pixel: WindowWeight,
    /// As multiplied.
    pub(in crate::conv2d) weight: WindowWeight,
    /// Elements by which the second pixel's window begins later, if pixels are taken in pairs.
    pub(in crate::conv2d) pair: Option<usize>,
}

impl TilePacking {
    /// Every pixel by itself.
    pub(in crate::conv2d) fn of_pixels(pixel: &WindowWeight) -> Self {
        Self { pixel: *pixel, weight: *pixel, pair: None }
    }

    /// Pixels in pairs, where these take no more steps than one.
    pub(in crate::conv2d) fn of_pairs(pixel: &WindowWeight) -> Self {
        let pixel = *pixel;
        let WindowWeight { window_len, num_cols, next, .. } = pixel;
        let free = |next: &usize| (window_len + next).div_ceil(STEP) == window_len.div_ceil(STEP);
        match next.filter(|next| num_cols == TILE && free(next)) {
            Some(next) => {
                let (window_len, num_cols) = (window_len + next, 2 * num_cols);
                let weight = WindowWeight { window_len, num_cols, ..pixel };
                Self { pixel, weight, pair: Some(next) }
            }
            None => Self::of_pixels(&pixel),
        }
    }

    /// The grid of what is taken as one pixel.
    pub(in crate::conv2d) fn grid(&self, grid: &Grid) -> Grid {
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
    pub(in crate::conv2d) fn steps(&self) -> usize {
        self.weight.window_len.div_ceil(STEP)
    }

    /// Elements of one column block.
    pub(in crate::conv2d) fn block_len(&self) -> usize {
        self.weight.window_rows * self.steps() * B_TILE
    }

    pub(in crate::conv2d) fn num_blocks(&self) -> usize {
        self.weight.num_cols.div_ceil(TILE)
    }

    pub(in crate::conv2d) fn len(&self) -> usize {
        self.num_blocks() * self.block_len()
    }

    /// Fills `packed`.
    pub(in crate::conv2d) fn pack(
        &self,
        packed: &mut [bf16],
        from: &Rows<&[f32], impl Fn(usize) -> usize>,
    ) {
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
        (0..num_blocks * steps * window_rows * taps).map(move |i| {
            let (tap, row, i) = (i % taps, i / taps % window_rows, i / taps / window_rows);
            let (block, step) = match columns_are_closer {
                true => (i % num_blocks, i / num_blocks),
                false => (i / steps, i % steps),
            };
            [block, row, tap * steps + step]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_weight_is_in_its_place() {
        if !crate::Isa::Avx512Bf16.is_supported() {
            return;
        }
        for (ic, oc, kh, kw) in [
            (1, 1, 1, 1),
            (5, 17, 3, 1),
            (3, 64, 7, 7),
            (32, 33, 3, 3),
            (64, 48, 1, 1),
            (16, 16, 3, 3),
        ] {
            let pixel = WindowWeight {
                window_rows: kh,
                window_len: kw * ic,
                taps: kw,
                num_cols: oc,
                next: Some(ic),
            };
            let number = |i: usize| ((i * 7919) % 251) as f32 - 125.0;
            let values: Vec<_> = (0..oc * ic * kh * kw).map(number).collect();
            // `[oc, ic, kh, kw]`, and the same with columns next to each other.
            let along_rows = |row: usize| row % ic * kh * kw + row / ic;
            let along_columns = |row: usize| along_rows(row) * oc;
            for packing in [TilePacking::of_pixels(&pixel), TilePacking::of_pairs(&pixel)] {
                let mut by_rows = vec![bf16::NAN; packing.len()];
                let mut by_columns = by_rows.clone();
                let col_stride = ic * kh * kw;
                let rows = Rows { values: &values[..], first_of: along_rows, col_stride };
                packing.pack(&mut by_rows, &rows);
                let rows = Rows { values: &values[..], first_of: along_columns, col_stride: 1 };
                packing.pack(&mut by_columns, &rows);
                for (i, (by_row, by_column)) in by_rows.iter().zip(&by_columns).enumerate() {
                    let (tile, in_tile) = (i / B_TILE, i % B_TILE);
                    let (step, row) = (tile % packing.steps(), tile / packing.steps() % kh);
                    let (block, col) = (tile / packing.steps() / kh, in_tile / 2 % TILE);
                    let k = step * STEP + in_tile / (2 * TILE) * 2 + in_tile % 2;
                    let (k, col) = match packing.pair {
                        Some(next) => (k.checked_sub(block * next), col),
                        None => (Some(k), block * TILE + col),
                    };
                    let k = k.filter(|k| *k < pixel.window_len && col < oc);
                    let row = k.map(|k| row * pixel.window_len + k);
                    let value = |place: Option<usize>| place.map_or(0.0, |place| values[place]);
                    let in_rows = value(row.map(|row| along_rows(row) + col * col_stride));
                    let in_columns = value(row.map(|row| along_columns(row) + col));
                    assert_eq!(by_row.to_f32(), in_rows, "{packing:?} {i}");
                    assert_eq!(by_column.to_f32(), in_columns, "{packing:?} {i}");
                }
            }
        }
    }
}
