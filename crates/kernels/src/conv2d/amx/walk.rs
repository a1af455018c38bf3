//! Walks a grid of output pixels with blocks of tiles.

use super::block::{Acc, BlockCall, block, max_row_tiles};
use super::epilogue::{Columns, Epilogue, NoSums, TileGradSums, TileMoments, Vector};
use super::store::Store;
use crate::amx::Amx;
use crate::batch_norm::{MASK_NORMALISED, MASK_OUTPUT, Mask, NO_MASK};
use crate::conv2d::ahead::{Ahead, Fetch};
use crate::conv2d::grid::{Grid, split};
use crate::conv2d::pairs::packing::TilePacking;
use crate::conv2d::pairs::{STEP, TILE};
use crate::conv2d::sums::Sums;
use crate::conv2d::tile::Start;
use half::bf16;
use std::ops::Range;

/// A tile of rows: up to 16 output pixels whose windows lie at the grid's column distance in `x`.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tile {
    /// The first window that it reads, in elements.
    pub(super) x: usize,
    /// Windows before its first pixel: the last tile of a line begins earlier rather than read beyond
    /// the line.
    pub(super) before: usize,
    /// Its first pixel.
    pub(super) sample: usize,
    pub(super) row: usize,
    pub(super) col: usize,
    /// Pixels, with those between two rows.
    pub(super) len: usize,
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
            x: grid.x_first
                + self.sample * grid.x_sample_stride
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

/// The most cache lines that are fetched in a step: about twice as many as come from the third-level cache in
/// that time, so that products seldom wait. What is left is fetched when it is read.
const MAX_FETCHED: usize = 8;

/// The most pairs of blocks of columns that a pixel's results are made for before the next pixel's.
const MAX_PAIRS: usize = 8;

/// The most elements of the weights of these: a megabyte, so that they stay in the second-level cache.
const MAX_WEIGHT_LEN: usize = 1 << 19;

/// Tiles after which sums in f32 go into f64: their rounding stays that of 1,024 additions a lane, one for
/// each row of a tile (half as many where a vector holds two rows).
const TILES_IN_F32: usize = 64;

/// `out[sample, row, col, :] = start + Σ_k window(sample, row, col)[k] · w[k, :]`, rounded once, and
/// added up; the first pixel is `out[out_first..]`.
///
/// What lies in `x` after the last window must be finite for [`slack`] elements.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    pub(super) grid: &'a Grid,
    pub(super) packing: &'a TilePacking,
    pub(super) start: Start,
    pub(super) x: &'a [bf16],
    pub(super) w: &'a [bf16],
}

impl Walk<'_> {
    pub(super) fn run(&self, out: &mut [bf16], sums: Sums<'_, bf16>, ahead: &mut Ahead) {
        match sums {
            Sums::None => self.run_with(out, &mut NoSums, ahead),
            Sums::Moments(moments) => self.run_with(out, &mut TileMoments(moments), ahead),
            Sums::NormGrad(sums) => {
                let len = out.len();
                match sums.mask {
                    Mask::None => {
                        self.run_with(out, &mut TileGradSums::<NO_MASK>::new(sums, len), ahead);
                    }
                    Mask::Output(_) => {
                        self.run_with(out, &mut TileGradSums::<MASK_OUTPUT>::new(sums, len), ahead);
                    }
                    Mask::Normalised { .. } => {
                        let mut epilogue = TileGradSums::<MASK_NORMALISED>::new(sums, len);
                        self.run_with(out, &mut epilogue, ahead);
                    }
                }
            }
        }
    }

    /// As many columns as have a weight that stays in the second-level cache go outermost: a wide one is read
    /// once for all samples.
    fn run_with<P: Epilogue>(&self, out: &mut [bf16], epilogue: &mut P, ahead: &mut Ahead) {
        let Self { grid, packing, x, w, .. } = *self;
        let num_cols = packing.weight.num_cols;
        if grid.num_samples == 0 || grid.num_rows == 0 || grid.num_cols == 0 {
            return;
        }
        if packing.block_len() == 0 {
            return fill_without_products(grid, num_cols, self.start, out);
        }
        grid.check(x.len() - slack(grid), num_cols, out.len());
        assert_eq!(
            (grid.window_rows, grid.window_len),
            (packing.weight.window_rows, packing.weight.window_len)
        );
        assert_eq!(w.len(), packing.len());
        let amx = Amx::start();
        let lines = ahead.num_lines().div_ceil(self.num_steps()).min(MAX_FETCHED);
        let num_pairs = packing.num_blocks() / 2;
        let at_once = (MAX_WEIGHT_LEN / (2 * packing.block_len())).clamp(1, MAX_PAIRS);
        for (first, len) in split(num_pairs, at_once).filter(|(_, len)| *len > 0) {
            self.run_columns(&amx, 2 * first..2 * (first + len), (ahead, lines), out, epilogue);
        }
        if packing.num_blocks() % 2 == 1 {
            let last = 2 * num_pairs..packing.num_blocks();
            self.run_columns(&amx, last, (ahead, lines), out, epilogue);
        }
    }

    /// Steps of all blocks of tiles.
    fn num_steps(&self) -> usize {
        let Self { grid, packing, .. } = self;
        let tiles = Tiles::new(grid);
        let row_tiles = grid.num_samples * tiles.num_lines * tiles.line_len.div_ceil(TILE);
        let num_blocks = packing.num_blocks();
        let groups = num_blocks / 2 * row_tiles.div_ceil(max_row_tiles(2))
            + num_blocks % 2 * row_tiles.div_ceil(max_row_tiles(1));
        groups * packing.steps() * grid.window_rows
    }

    /// All pixels of some pairs of blocks of columns, or of one block: what some pixels read stays in the
    /// first-level cache for all of these, and they are written in the order of memory.
    fn run_columns<P: Epilogue>(
        &self,
        amx: &Amx,
        blocks: Range<usize>,
        (ahead, lines): (&mut Ahead, usize),
        out: &mut [bf16],
        epilogue: &mut P,
    ) {
        let Self { grid, packing, start, x, w } = *self;
        let col_tiles = blocks.len().min(2);
        let mut tiles = Tiles::new(grid);
        let pitch = tiles.pitch;
        let mut registers = [None; MAX_PAIRS];
        let mut call = BlockCall {
            x: [x.as_ptr(); 4],
            steps: packing.steps(),
            run_stride: 2 * grid.window_stride,
            w_col_stride: 2 * packing.block_len(),
            runs: grid.window_rows,
            x_stride: 2 * grid.x_col_stride,
            w: w.as_ptr(),
            w_step: 1024,
            fetch: Fetch::NONE,
        };
        let mut acc = Acc::new();
        // Pixels added up before, since the epilogue last began, and tiles since then.
        let (mut seen, mut taken, mut num_tiles) = (0, 0, 0);
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
            let mut written = 0;
            for (first_block, registers) in blocks.clone().step_by(2).zip(&mut registers) {
                let columns = self.columns(first_block);
                call.w = w[first_block * packing.block_len()..].as_ptr();
                call.fetch = ahead.fetch(lines, call.steps * call.runs);
                // SAFETY: `check` has shown that the last pixel's window ends `slack` before the end of
                // `x`, which is what a tile reads beyond it; all others lie before. The packed weight has
                // whole tiles for each column block.
                unsafe { block(row_tiles, col_tiles)(amx, &mut call, &mut acc) }
                let registers = registers.get_or_insert_with(|| {
                    let pixel = &acc.0[group[0].before * TILE..];
                    let first = |column| pixel[column / TILE * TILE * TILE + column % TILE];
                    // SAFETY: `Amx` exists only where AVX-512 does.
                    unsafe { epilogue.begin(&columns, seen, first) }
                });
                let store = Store { grid, start, columns, pitch };
                let sums = acc.0.chunks_exact(col_tiles * TILE * TILE);
                written = 0;
                for (tile, sums) in group[..row_tiles].iter().zip(sums) {
                    // SAFETY: `Amx` exists only where AVX-512 with bf16 does.
                    written += unsafe { store.tile::<P>(sums, tile, out, registers) };
                }
                written *= columns.pixels();
            }
            taken += written;
            num_tiles += row_tiles;
            if num_tiles >= TILES_IN_F32 {
                self.end(&blocks, &mut registers, epilogue, (seen, taken));
                (seen, taken, num_tiles) = (seen + taken, 0, 0);
            }
        }
        self.end(&blocks, &mut registers, epilogue, (seen, taken));
    }

    /// Adds up what is in the registers of some blocks of columns, if it has begun.
    fn end<P: Epilogue>(
        &self,
        blocks: &Range<usize>,
        registers: &mut [Option<P::Registers>],
        epilogue: &mut P,
        (seen, taken): (usize, usize),
    ) {
        for (first_block, registers) in blocks.clone().step_by(2).zip(registers) {
            if let Some(registers) = registers.take() {
                // SAFETY: only called where there is AVX-512.
                unsafe { epilogue.end(&self.columns(first_block), &registers, seen, taken) }
            }
        }
    }

    /// Up to two blocks of columns.
    fn columns(&self, first_block: usize) -> Columns {
        let Self { grid, packing, .. } = *self;
        let first = first_block * TILE;
        let len = (packing.weight.num_cols - first).min(2 * TILE);
        match packing.pair {
            Some(_) => Columns { first: 0, len: TILE, vector: Vector::PairOfTiles },
            None if len == TILE && grid.out_col_stride == TILE => {
                Columns { first, len, vector: Vector::PairOfRows }
            }
            None => Columns { first, len, vector: Vector::Pixel },
        }
    }
}

/// Where no tap of the kernel meets the phase, the product is zero; nothing is added up.
fn fill_without_products(grid: &Grid, num_cols: usize, start: Start, out: &mut [bf16]) {
    if start == Start::Output {
        return;
    }
    for sample in 0..grid.num_samples {
        for pixel in 0..grid.num_rows * grid.num_cols {
            let (row, col) = (pixel / grid.num_cols, pixel % grid.num_cols);
            let first = grid.out_first
                + sample * grid.out_sample_stride
                + row * grid.out_row_stride
                + col * grid.out_col_stride;
            out[first..first + num_cols].fill(bf16::ZERO);
        }
    }
}
