//! Packed weights: columns cut into vectors, two vectors to a block, the last block one if their
//! number is odd. A block holds its rows one after another, columns that don't exist as zeros:
//!
//! ```text
//! block 0: row 0 [col 0 … 2·lanes−1] row 1 […] … | block 1: … | last: row 0 [one vector] …
//! ```
//!
//! So a tile reads its `w` front to back.

use super::multiply::Rows;

/// Rows that are taken at once where they are closer together than columns: as many as a cache line has
/// numbers, so that none is read or written for one number at a time.
const ROWS: usize = 16;

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
    pub(super) fn pack(&self, packed: &mut [f32], from: &Rows<&[f32], impl Fn(usize) -> usize>) {
        assert_eq!(packed.len(), self.len());
        if !self.num_cols.is_multiple_of(self.lanes) {
            packed.fill(0.0);
        }
        self.places(from, |at, place| packed[at] = from.values[place]);
    }

    /// Takes out what is packed.
    pub(super) fn unpack(&self, packed: &[f32], to: Rows<&mut [f32], impl Fn(usize) -> usize>) {
        assert_eq!(packed.len(), self.len());
        let Rows { values, first_of, col_stride } = to;
        let rows = Rows { values: (), first_of, col_stride };
        self.places(&rows, |at, place| values[place] = packed[at]);
    }

    /// Calls `visit` with each number's place in the packed matrix and in the weight.
    fn places<V>(
        &self,
        rows: &Rows<V, impl Fn(usize) -> usize>,
        mut visit: impl FnMut(usize, usize),
    ) {
        let Rows { first_of, col_stride, .. } = rows;
        let rows_are_closer = self.num_rows > 1 && first_of(1).abs_diff(first_of(0)) < *col_stride;
        for block in self.blocks() {
            let width = block.num_vectors * self.lanes;
            for first_row in (0..self.num_rows).step_by(ROWS) {
                let num_rows = ROWS.min(self.num_rows - first_row);
                let mut firsts = [0; ROWS];
                for (row, first) in (first_row..).zip(&mut firsts[..num_rows]) {
                    *first = first_of(row) + block.col * col_stride;
                }
                let mut visit = |row: usize, col: usize| {
                    visit(
                        block.offset + (first_row + row) * width + col,
                        firsts[row] + col * col_stride,
                    );
                };
                if rows_are_closer {
                    (0..block.num_cols)
                        .for_each(|col| (0..num_rows).for_each(|row| visit(row, col)));
                } else {
                    (0..num_rows)
                        .for_each(|row| (0..block.num_cols).for_each(|col| visit(row, col)));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_round_trips_at_block_edges() {
        for (lanes, num_rows, (row_stride, col_stride)) in
            [(8, 5, (65, 1)), (16, 5, (65, 1)), (8, 35, (1, 35)), (16, 35, (1, 35))]
        {
            for num_cols in [1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 48, 65] {
                let packing = Packing { lanes, num_rows, num_cols };
                let values: Vec<f32> = (1..=num_rows * 65).map(|i| i as f32).collect();
                let first_of = |row: usize| row * row_stride;
                let mut packed = vec![f32::NAN; packing.len()];
                packing.pack(&mut packed, &Rows { values: &values[..], first_of, col_stride });
                for block in packing.blocks() {
                    let width = block.num_vectors * lanes;
                    let rows = packed[block.offset..][..num_rows * width].chunks_exact(width);
                    for (row, cols) in rows.enumerate() {
                        let value = |col| values[row * row_stride + (block.col + col) * col_stride];
                        let expected = (0..width)
                            .map(|col| if col < block.num_cols { value(col) } else { 0.0 });
                        assert!(expected.eq(cols.iter().copied()), "{packing:?}, row {row}");
                    }
                }
                let mut unpacked = vec![0.0; values.len()];
                packing.unpack(&packed, Rows { values: &mut unpacked[..], first_of, col_stride });
                let num_written = unpacked.iter().filter(|value| **value != 0.0).count();
                assert_eq!(num_written, num_rows * num_cols, "{packing:?}");
                assert!(unpacked.iter().zip(&values).all(|(a, b)| *a == 0.0 || a == b));
            }
        }
    }
}
