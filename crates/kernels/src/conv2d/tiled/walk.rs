//! Walks a grid of output pixels with blocks of tiles.

use super::block::{Acc, BlockCall, STEP, TILE, block, max_row_tiles};
use super::packing::TilePacking;
use crate::amx::Amx;
use crate::conv2d::grid::Grid;
use crate::conv2d::tile::Start;
use half::bf16;
use std::arch::x86_64::*;

/// A tile of rows: up to 16 output pixels whose windows lie at the grid's column distance in `x`.
#[derive(Debug, Clone, Copy, Default)]
struct Tile {
    /// The first window that it reads, in elements.
    x: usize,
    /// Windows before its first pixel: the last tile of a line begins earlier rather than read beyond
    /// the line.
    before: usize,
    /// Its first pixel.
    sample: usize,
    row: usize,
    col: usize,
    /// Pixels, with those between two rows.
    len: usize,
}

/// The tiles of all samples, each row for itself or, where that takes fewer tiles, through all rows
/// of a sample; then the pixels between two rows are computed for nothing.
#[derive(Debug, Clone, Copy)]
struct Tiles<'a> {
    grid: &'a Grid,
    /// Pixels in a line, and lines in a sample.
    line_len: usize,
    num_lines: usize,
    /// Pixels from the start of one row to the start of the next.
    pitch: usize,
    sample: usize,
    line: usize,
    position: usize,
}

impl<'a> Tiles<'a> {
    fn new(grid: &'a Grid) -> Self {
        let (rows, cols) = (grid.num_rows, grid.num_cols);
        let pitch = grid.x_row_stride / grid.x_col_stride;
        let through = (rows - 1) * pitch + cols;
        let joined = grid.x_row_stride.is_multiple_of(grid.x_col_stride)
            && through.div_ceil(TILE) < rows * cols.div_ceil(TILE);
        let (num_lines, line_len, pitch) =
            if joined { (1, through, pitch) } else { (rows, cols, cols) };
        Self { grid, line_len, num_lines, pitch, sample: 0, line: 0, position: 0 }
    }
}

impl Iterator for Tiles<'_> {
    type Item = Tile;

    fn next(&mut self) -> Option<Tile> {
        let grid = self.grid;
        if self.sample == grid.num_samples {
            return None;
        }
        let (row, col) = match self.num_lines {
            1 => (self.position / self.pitch, self.position % self.pitch),
            _ => (self.line, self.position),
        };
        let len = (self.line_len - self.position).min(TILE);
        let before = if self.line_len >= TILE { TILE - len } else { 0 };
        let tile = Tile {
            x: self.sample * grid.x_sample_stride
                + self.line * grid.x_row_stride
                + (self.position - before) * grid.x_col_stride,
            before,
            sample: self.sample,
            row,
            col,
            len,
        };
        self.position += TILE;
        if self.position >= self.line_len {
            (self.position, self.line) = (0, self.line + 1);
            if self.line == self.num_lines {
                (self.line, self.sample) = (0, self.sample + 1);
            }
        }
        Some(tile)
    }
}

/// Elements that may be read after the last window: the rows that a tile has more than a short line
/// has pixels, and the end of a window row's last step.
pub(super) fn slack(grid: &Grid) -> usize {
    if grid.num_rows == 0 || grid.num_cols == 0 {
        return 0;
    }
    let missing = TILE.saturating_sub(Tiles::new(grid).line_len);
    missing * grid.x_col_stride + grid.window_len.next_multiple_of(STEP) - grid.window_len
}

/// `out[sample, row, col, :] = start + Σ_k window(sample, row, col)[k] · w[k, :]`, rounded once.
///
/// Blocks of columns go outermost: a wide weight is read once for all samples. What lies in `x` after
/// the last window must be finite for [`slack`] elements.
pub(super) fn run(
    grid: &Grid,
    packing: &TilePacking,
    start: Start,
    x: &[bf16],
    w: &[bf16],
    out: &mut [bf16],
) {
    let num_cols = packing.0.num_cols;
    if grid.num_samples == 0 || grid.num_rows == 0 || grid.num_cols == 0 {
        return;
    }
    if packing.block_len() == 0 {
        return fill_without_products(grid, num_cols, start, out);
    }
    grid.check(x.len() - slack(grid), num_cols, out.len());
    assert_eq!((grid.window_rows, grid.window_len), (packing.0.window_rows, packing.0.window_len));
    assert_eq!(w.len(), packing.len());
    let amx = Amx::start();
    let mut acc = Acc::new();
    let all_tiles = Tiles::new(grid);
    let pitch = all_tiles.pitch;
    for first_block in (0..packing.num_blocks()).step_by(2) {
        let col_tiles = (packing.num_blocks() - first_block).min(2);
        let col = first_block * TILE;
        let store = Store { grid, start, num_cols: (num_cols - col).min(2 * TILE), pitch };
        let mut call = BlockCall {
            x: [x.as_ptr(); 4],
            steps: packing.steps(),
            run_stride: 2 * grid.window_stride,
            w_col_stride: 2 * packing.block_len(),
            runs: grid.window_rows,
            x_stride: 2 * grid.x_col_stride,
            w: w[first_block * packing.block_len()..].as_ptr(),
            w_stride: 64,
            w_step: 1024,
        };
        let mut tiles = all_tiles;
        loop {
            let mut group = [Tile::default(); 4];
            let mut row_tiles = 0;
            while row_tiles < max_row_tiles(col_tiles)
                && let Some(tile) = tiles.next()
            {
                call.x[row_tiles] = x[tile.x..].as_ptr();
                group[row_tiles] = tile;
                row_tiles += 1;
            }
            if row_tiles == 0 {
                break;
            }
            // SAFETY: `check` has shown that the last pixel's window ends `slack` before the end of
            // `x`, which is what a tile reads beyond it; all others lie before. The packed weight has
            // whole tiles for each column block.
            unsafe { block(row_tiles, col_tiles)(&amx, &call, &mut acc) }
            for (m, tile) in group[..row_tiles].iter().enumerate() {
                let sums = &acc.0[m * col_tiles * TILE * TILE..][..col_tiles * TILE * TILE];
                // SAFETY: `Amx` exists only where AVX-512 with bf16 does.
                unsafe { store.tile(sums, tile, &mut out[col..]) }
            }
        }
    }
}

/// Where no tap of the kernel meets the phase, the product is zero.
fn fill_without_products(grid: &Grid, num_cols: usize, start: Start, out: &mut [bf16]) {
    if start == Start::Output {
        return;
    }
    for sample in 0..grid.num_samples {
        for pixel in 0..grid.num_rows * grid.num_cols {
            let (row, col) = (pixel / grid.num_cols, pixel % grid.num_cols);
            let first = sample * grid.out_sample_stride
                + row * grid.out_row_stride
                + col * grid.out_col_stride;
            out[first..first + num_cols].fill(bf16::ZERO);
        }
    }
}

/// Where the rows of a tile of C go.
#[derive(Debug, Clone, Copy)]
struct Store<'a> {
    grid: &'a Grid,
    start: Start,
    /// Columns that exist, at most 32.
    num_cols: usize,
    pitch: usize,
}

impl Store<'_> {
    /// Rounds the rows of a tile and writes those that are pixels.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
    fn tile(&self, sums: &[f32], tile: &Tile, out: &mut [bf16]) {
        let grid = self.grid;
        let sums = &sums[tile.before * TILE..];
        let (mut row, mut col, mut first) = (tile.row, tile.col, 0);
        while first < tile.len {
            let len = (self.pitch - col).min(tile.len - first);
            let pixels = len.min(grid.num_cols.saturating_sub(col));
            if pixels > 0 {
                let place = tile.sample * grid.out_sample_stride
                    + row * grid.out_row_stride
                    + col * grid.out_col_stride;
                let (sums, out) = (&sums[first * TILE..], &mut out[place..]);
                match (self.num_cols > TILE, self.start) {
                    (false, Start::Zero) => self.pixels::<1, false>(sums, pixels, out),
                    (false, Start::Output) => self.pixels::<1, true>(sums, pixels, out),
                    (true, Start::Zero) => self.pixels::<2, false>(sums, pixels, out),
                    (true, Start::Output) => self.pixels::<2, true>(sums, pixels, out),
                }
            }
            (row, col, first) = (row + 1, 0, first + len);
        }
    }
    /// Writes `len` pixels whose sums are in `VECTORS` tiles, perhaps added to what is there.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
    fn pixels<const VECTORS: usize, const ADD: bool>(
        &self,
        sums: &[f32],
        len: usize,
        out: &mut [bf16],
    ) {
        let stride = self.grid.out_col_stride;
        assert!(sums.len() >= (VECTORS - 1) * TILE * TILE + len * TILE);
        assert!(out.len() >= (len - 1) * stride + self.num_cols && self.num_cols <= 2 * TILE);
        let mask = ((1u64 << self.num_cols) - 1) as __mmask32;
        for i in 0..len {
            // SAFETY: both slices are long enough, as asserted above; the mask has as many bits as
            // there are columns.
            unsafe {
                let out = out.as_mut_ptr().add(i * stride);
                let sums = sums.as_ptr().add(i * TILE);
                let mut left = _mm512_loadu_ps(sums);
                if VECTORS == 1 {
                    if ADD {
                        let before = _mm256_maskz_loadu_epi16(mask as __mmask16, out.cast());
                        left = _mm512_add_ps(left, widen(before));
                    }
                    let rounded: __m256i = std::mem::transmute(_mm512_cvtneps_pbh(left));
                    _mm256_mask_storeu_epi16(out.cast(), mask as __mmask16, rounded);
                } else {
                    let mut right = _mm512_loadu_ps(sums.add(TILE * TILE));
                    if ADD {
                        let before = _mm512_maskz_loadu_epi16(mask, out.cast());
                        left = _mm512_add_ps(left, widen(_mm512_castsi512_si256(before)));
                        let high = _mm512_extracti64x4_epi64::<1>(before);
                        right = _mm512_add_ps(right, widen(high));
                    }
                    let rounded: __m512i = std::mem::transmute(_mm512_cvtne2ps_pbh(right, left));
                    _mm512_mask_storeu_epi16(out.cast(), mask, rounded);
                }
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn widen(elements: __m256i) -> __m512 {
    _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(elements)))
}
