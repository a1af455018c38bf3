//! Packed weights: columns cut into vectors, two vectors to a block, the last block one if their
//! number is odd. A block holds its rows one after another, columns that don't exist as zeros:
//!
//! ```text
//! block 0: row 0 [col 0 … 2·lanes−1] row 1 […] … | block 1: … | last: row 0 [one vector] …
//! ```
//!
//! So a tile reads its `w` front to back.

use super::multiply::Rows;

/// A packed matrix of `num_rows × num_cols`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Packing {
    pub(super) lanes: usize,
    pub(super) num_rows: usize,
    pub(super) num_cols: usize,
}

/// One or two vectors of columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ColumnBlock {
    /// Its first column.
    pub(super) col: usize,
    /// Columns that exist.
    pub(super) num_cols: usize,
    /// Vectors: 1 or 2.
    pub(super) num_vectors: usize,
    /// Where it starts in the packed matrix.
    pub(super) offset: usize,
}

impl Packing {
    pub(super) fn len(&self) -> usize {
        self.num_rows * self.num_cols.next_multiple_of(self.lanes)
    }

    pub(super) fn blocks(self) -> impl Iterator<Item = ColumnBlock> {
        (0..self.num_cols).step_by(2 * self.lanes).map(move |col| {
            let num_cols = (self.num_cols - col).min(2 * self.lanes);
            ColumnBlock {
                col,
                num_cols,
                num_vectors: num_cols.div_ceil(self.lanes),
                offset: col * self.num_rows,
            }
        })
    }

    /// Fills `packed`.
    pub(super) fn pack(&self, packed: &mut [f32], from: &Rows<'_, impl Fn(usize) -> usize>) {
        assert_eq!(packed.len(), self.len());
        for block in self.blocks() {
            let width = block.num_vectors * self.lanes;
            let rows = packed[block.offset..][..self.num_rows * width].chunks_exact_mut(width);
            for (row, out) in rows.enumerate() {
                let (cols, padding) = out.split_at_mut(block.num_cols);
                for (out, value) in cols.iter_mut().zip(from.columns(row, block.col)) {
                    *out = value;
                }
                padding.fill(0.0);
            }
        }
    }

    /// Calls `columns(row, first_col, values)` for all columns of each row, a block at a time.
    pub(super) fn unpack(&self, packed: &[f32], mut columns: impl FnMut(usize, usize, &[f32])) {
        assert_eq!(packed.len(), self.len());
        for block in self.blocks() {
            let width = block.num_vectors * self.lanes;
            let rows = packed[block.offset..][..self.num_rows * width].chunks_exact(width);
            for (row, cols) in rows.enumerate() {
                columns(row, block.col, &cols[..block.num_cols]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_round_trips_at_block_edges() {
        for lanes in [8, 16] {
            for num_cols in [1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 48, 65] {
                let packing = Packing { lanes, num_rows: 5, num_cols };
                let mut packed = vec![f32::NAN; packing.len()];
                let values: Vec<f32> = (0..500).map(|i| i as f32).collect();
                let first_of = |row: usize| row * 100;
                packing.pack(&mut packed, &Rows { values: &values, first_of, col_stride: 1 });
                let mut seen = vec![0; 5 * num_cols];
                packing.unpack(&packed, |row, first_col, values| {
                    for (col, value) in (first_col..).zip(values) {
                        assert_eq!(*value, (row * 100 + col) as f32);
                        seen[row * num_cols + col] += 1;
                    }
                });
                assert!(seen.iter().all(|&count| count == 1), "{packing:?}");
                assert!(packed.iter().all(|x| !x.is_nan()), "{packing:?}");
            }
        }
    }
}
