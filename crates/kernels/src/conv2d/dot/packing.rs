//! Weights in pairs of consecutive rows.

use crate::conv2d::multiply::{Rows, WindowWeight};
use crate::conv2d::packing::{ColumnBlock, Packing};
use half::bf16;

/// A [`Packing`] whose elements are pairs: those of two consecutive `k` of a window row, in the place
/// of one f32. The last pair of a row of odd length has a zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PairPacking(pub(super) WindowWeight);

impl PairPacking {
    fn pairs(&self) -> Packing {
        let WindowWeight { window_rows, window_len, num_cols, .. } = self.0;
        Packing { lanes: 16, num_rows: window_rows * window_len.div_ceil(2), num_cols }
    }

    /// Length in f32.
    pub(super) fn len(&self) -> usize {
        self.pairs().len()
    }

    pub(super) fn blocks(&self) -> impl Iterator<Item = ColumnBlock> {
        self.pairs().blocks()
    }

    /// Fills `packed`.
    pub(super) fn pack(&self, packed: &mut [f32], from: &Rows<'_, impl Fn(usize) -> usize>) {
        assert_eq!(packed.len(), self.len());
        packed.fill(0.0);
        let pairs = self.pairs();
        let WindowWeight { window_rows, window_len, .. } = self.0;
        for block in pairs.blocks() {
            let width = block.num_vectors * pairs.lanes;
            let packed = &mut packed[block.offset..][..pairs.num_rows * width];
            let packed: &mut [bf16] = bytemuck::cast_slice_mut(packed);
            for row in 0..window_rows * window_len {
                let (window_row, k) = (row / window_len, row % window_len);
                let pair = window_row * window_len.div_ceil(2) + k / 2;
                let out = packed[2 * pair * width + k % 2..].iter_mut().step_by(2);
                let columns = from.columns(row, block.col).take(block.num_cols);
                out.zip(columns).for_each(|(out, value)| *out = bf16::from_f32(value));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_of_one_window_row() {
        for (window_rows, window_len, num_cols) in [(1, 1, 1), (3, 5, 17), (2, 4, 33), (2, 7, 48)] {
            let packing =
                PairPacking(WindowWeight { window_rows, window_len, num_cols, next: None });
            let values: Vec<f32> = (0..window_rows * window_len * 50).map(|i| i as f32).collect();
            let rows = Rows { values: &values, first_of: |row: usize| row * 50, col_stride: 1 };
            let mut packed = vec![f32::NAN; packing.len()];
            packing.pack(&mut packed, &rows);
            packing.pairs().unpack(&packed, |row, first_col, pairs| {
                let (window_row, k) =
                    (row / window_len.div_ceil(2), row % window_len.div_ceil(2) * 2);
                for (col, pair) in (first_col..).zip(pairs) {
                    let value = |k: usize| match k < window_len {
                        true => bf16::from_f32(((window_row * window_len + k) * 50 + col) as f32),
                        false => bf16::ZERO,
                    };
                    assert_eq!(bytemuck::cast::<f32, [bf16; 2]>(*pair), [value(k), value(k + 1)]);
                }
            });
            let columns_that_exist = packing.pairs().num_rows * num_cols;
            assert!(packed.iter().filter(|pair| pair.to_bits() != 0).count() <= columns_that_exist);
        }
    }
}
