//! Weights in pairs of consecutive rows.

use crate::conv2d::multiply::{Rows, WindowWeight};
use crate::conv2d::packing::{ColumnBlock, Packing};
use crate::conv2d::pairs::columns::{COLUMNS, PairColumns};
use half::bf16;

/// A [`Packing`] whose elements are pairs: those of two consecutive `k` of a window row, in the place
/// of one f32. The last pair of a row of odd length has a zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PairPacking(pub(super) WindowWeight);

impl PairPacking {
    fn pairs(&self) -> Packing {
        let WindowWeight { window_rows, window_len, num_cols, .. } = self.0;
        Packing { lanes: COLUMNS, num_rows: window_rows * window_len.div_ceil(2), num_cols }
    }

    /// Length in f32.
    pub(super) fn len(&self) -> usize {
        self.pairs().len()
    }

    pub(super) fn blocks(&self) -> impl Iterator<Item = ColumnBlock> {
        self.pairs().blocks()
    }

    /// Fills `packed`.
    pub(super) fn pack(&self, packed: &mut [f32], from: &Rows<&[f32], impl Fn(usize) -> usize>) {
        assert_eq!(packed.len(), self.len());
        crate::Isa::Avx512Bf16.assert_supported();
        let (pairs, WindowWeight { window_len, num_cols, .. }) = (self.pairs(), self.0);
        let pairs_of_row = window_len.div_ceil(2);
        let packed: &mut [bf16] = bytemuck::cast_slice_mut(packed);
        let (mut vectors, _) = packed.as_chunks_mut::<{ 2 * COLUMNS }>();
        for block in pairs.blocks() {
            for row in 0..pairs.num_rows {
                let (window_row, k) = (row / pairs_of_row, row % pairs_of_row * 2);
                let (of_row, rest) = vectors.split_at_mut(block.num_vectors);
                vectors = rest;
                for (first_col, vector) in (block.col..).step_by(COLUMNS).zip(of_row) {
                    let columns = PairColumns {
                        values: from.values,
                        stride: from.col_stride,
                        num: COLUMNS.min(num_cols - first_col),
                    };
                    let first = |k: usize| {
                        let row = (k < window_len).then(|| window_row * window_len + k)?;
                        Some((from.first_of)(row) + first_col * from.col_stride)
                    };
                    // SAFETY: the machine has AVX512-BF16.
                    unsafe { columns.pair(first(k), first(k + 1), vector) }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_of_one_window_row() {
        if !crate::Isa::Avx512Bf16.is_supported() {
            return;
        }
        for (window_rows, window_len, num_cols) in [(1, 1, 1), (3, 5, 17), (2, 4, 33), (2, 7, 48)] {
            let taps = 1;
            let packing =
                PairPacking(WindowWeight { window_rows, window_len, taps, num_cols, next: None });
            let values: Vec<f32> = (0..window_rows * window_len * 50).map(|i| i as f32).collect();
            let rows = Rows { values: &values[..], first_of: |row: usize| row * 50, col_stride: 1 };
            let mut packed = vec![f32::NAN; packing.len()];
            packing.pack(&mut packed, &rows);
            let pairs = packing.pairs();
            let mut unpacked = vec![f32::NAN; pairs.num_rows * num_cols];
            let first_of = |row: usize| row * num_cols;
            pairs.unpack(&packed, Rows { values: &mut unpacked[..], first_of, col_stride: 1 });
            for (i, pair) in unpacked.iter().enumerate() {
                let (row, col) = (i / num_cols, i % num_cols);
                let (window_row, k) =
                    (row / window_len.div_ceil(2), row % window_len.div_ceil(2) * 2);
                let value = |k: usize| match k < window_len {
                    true => bf16::from_f32(((window_row * window_len + k) * 50 + col) as f32),
                    false => bf16::ZERO,
                };
                assert_eq!(bytemuck::cast::<f32, [bf16; 2]>(*pair), [value(k), value(k + 1)]);
            }
            let columns_that_exist = packing.pairs().num_rows * num_cols;
            assert!(packed.iter().filter(|pair| pair.to_bits() != 0).count() <= columns_that_exist);
        }
    }
}
