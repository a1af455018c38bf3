//! Walks a grid of output pixels with tiles: what forward and every stride phase of backward data
//! are, once the input is padded and the weight packed.

use super::packing::Packing;
use super::tile::{Run, Start, TileCall, TileElement};
use crate::Isa;

/// Rows and columns of output pixels at constant strides, each the product of a window of `x` with
/// the packed weight. Strides and offsets are in elements.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grid {
    pub(super) num_samples: usize,
    /// The first window and the first pixel.
    pub(super) x_first: usize,
    pub(super) out_first: usize,
    pub(super) x_sample_stride: usize,
    pub(super) out_sample_stride: usize,
    pub(super) num_rows: usize,
    pub(super) num_cols: usize,
    pub(super) x_row_stride: usize,
    pub(super) x_col_stride: usize,
    pub(super) out_row_stride: usize,
    pub(super) out_col_stride: usize,
    /// Rows of the window, and elements of each, which are contiguous.
    pub(super) window_rows: usize,
    pub(super) window_len: usize,
    /// Distance of the window's rows in `x`.
    pub(super) window_stride: usize,
}

/// Window rows of one tile call; taller windows take several, each adding to the output.
const MAX_RUNS: usize = 128;

impl Grid {
    /// `out[sample, row, col, :] = start + Σ_k window(sample, row, col)[k] · w[k, :]`
    ///
    /// Columns of the weight go outermost: what does not fit the cache is read once for all samples.
    pub(super) fn run<E: TileElement>(
        &self,
        isa: Isa,
        packing: &Packing,
        start: Start,
        x: &[f32],
        w: &[f32],
        out: &mut [E],
    ) {
        if self.num_samples == 0 || self.num_rows == 0 || self.num_cols == 0 {
            return;
        }
        isa.assert_supported();
        self.check(x.len(), packing.num_cols, out.len());
        assert_eq!(self.window_rows * self.window_len, packing.num_rows);
        assert_eq!(w.len(), packing.len());
        let tiles = E::tiles_along_k(isa);
        let mut runs = [Run { x: 0, w: 0, len: self.window_len }; MAX_RUNS];
        for block in packing.blocks() {
            let width = block.num_vectors * packing.lanes;
            for (row, run) in runs.iter_mut().enumerate() {
                run.x = row * self.window_stride;
                run.w = row * self.window_len * width;
            }
            let rows = (0..self.num_samples).flat_map(|sample| {
                (0..self.num_rows).map(move |row| {
                    (
                        self.x_first + sample * self.x_sample_stride + row * self.x_row_stride,
                        self.out_first
                            + sample * self.out_sample_stride
                            + row * self.out_row_stride,
                    )
                })
            });
            for (x_row, out_row) in rows {
                let parts = split(self.window_rows, MAX_RUNS).flat_map(|part| {
                    let cols = split(self.num_cols, tiles.max_rows(block.num_vectors));
                    cols.map(move |col| (part, col))
                });
                for ((window_row, num_runs), (col, len)) in parts {
                    let window = window_row * self.window_stride + col * self.x_col_stride;
                    let out_first = out_row + col * self.out_col_stride + block.col;
                    let call = TileCall {
                        runs: &runs[..num_runs],
                        x: x[x_row + window..].as_ptr(),
                        x_stride: self.x_col_stride,
                        w: w[block.offset + window_row * self.window_len * width..].as_ptr(),
                        w_stride: width,
                        out: out[out_first..].as_mut_ptr(),
                        out_stride: self.out_col_stride,
                        num_cols: block.num_cols,
                        start: if window_row == 0 { start } else { Start::Output },
                    };
                    // SAFETY: `check` has shown that the last window, the last row of the packed
                    // weight and the last output pixel lie within their slices; all others lie
                    // before them. The tile is one of the instruction set asked for, which the
                    // machine has.
                    unsafe { tiles.get(len, block.num_vectors)(&call) }
                }
            }
        }
    }

    /// Panics unless everything the tiles touch is inside the slices.
    pub(super) fn check(&self, x_len: usize, out_cols: usize, out_len: usize) {
        let (row, col) = (self.num_rows - 1, self.num_cols - 1);
        let sample = self.num_samples - 1;
        if self.window_rows * self.window_len > 0 {
            let last_window = self.x_first
                + sample * self.x_sample_stride
                + row * self.x_row_stride
                + col * self.x_col_stride;
            let window_end = (self.window_rows - 1) * self.window_stride + self.window_len;
            assert!(last_window + window_end <= x_len);
        }
        let last_pixel = self.out_first
            + sample * self.out_sample_stride
            + row * self.out_row_stride
            + col * self.out_col_stride;
        assert!(last_pixel + out_cols <= out_len);
    }
}

/// Cuts `len` into the fewest pieces of at most `max`, as even as can be: `(first, length)`.
pub(super) fn split(len: usize, max: usize) -> impl Iterator<Item = (usize, usize)> {
    let pieces = len.div_ceil(max).max(1);
    let (short, longer) = (len / pieces, len % pieces);
    (0..pieces).map(move |i| {
        let first = i * short + i.min(longer);
        (first, short + usize::from(i < longer))
    })
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn pieces_are_even_and_cover_everything_once() {
        for len in 1..80 {
            for max in 1..20 {
                let pieces: Vec<_> = split(len, max).collect();
                let mut next = 0;
                for &(first, length) in &pieces {
                    assert_eq!(first, next);
                    assert!(length >= 1 && length <= max);
                    assert!(pieces[0].1 - length <= 1);
                    next += length;
                }
                assert_eq!(next, len);
                assert_eq!(pieces.len(), len.div_ceil(max));
            }
        }
    }
}
