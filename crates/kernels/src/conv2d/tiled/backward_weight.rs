//! Gradient of the weight: `k` runs over positions, so the output gradient is wanted with channels
//! as rows, and the input in pairs of positions.
//!
//! The input is padded and, with a stride, split into phases; its positions are then counted through
//! all rows and samples. A tap of the kernel is an offset in these, the output pixel at row `y` and
//! column `x` is position `y · pitch + x`, and positions that are no output pixel meet zeros. An
//! offset of whole pairs leaves rows of B where they are, at the start of a cache line; for odd
//! offsets there is a second copy that is paired the other way.

use super::block::{B_TILE, STEP, TILE};
pub(in crate::conv2d) use super::grad_block::GradCall;
use super::interleave::{PAIR, interleave};
use super::transpose::transpose;
use crate::conv2d::direct::input_padding;
use crate::conv2d::grid::split;
use crate::conv2d::padding::Padding;
use crate::{Conv2dProblem, scratch};
use bytemuck::Zeroable;
use half::bf16;
use std::ops::Range;

/// Elements of working memory aimed at: they should mostly stay in the second-level cache, and
/// the more there are, the less often a gradient that doesn't is read and written.
const WORKING_LEN: usize = 3 << 18;
/// Positions of a 1×1 convolution that are taken as one sample.
const PIECE: usize = 512;
/// Positions, phases and taps.
#[derive(Debug)]
struct Layout<'a> {
    p: &'a Conv2dProblem,
    /// Positions from one row of a phase to the next, and rows of a sample.
    pitch: usize,
    num_rows: usize,
    /// Samples that are taken together, and steps over their positions.
    few: usize,
    steps: usize,
    /// Pairs of a tile of channels, with those that a tap reaches after the last step.
    num_pairs: usize,
    /// Pairings: one if all taps are at even offsets.
    copies: usize,
    ic_tiles: usize,
    oc_tiles: usize,
}

impl<'a> Layout<'a> {
    fn new(p: &'a Conv2dProblem) -> Self {
        let Padding { padded_h, padded_w, .. } = input_padding(p);
        let pitch = positions(p.iw, padded_w, p.pw, p.sw);
        let num_rows = positions(p.ih, padded_h, p.ph, p.sh);
        let (ic_tiles, oc_tiles) = (p.ic.div_ceil(TILE), p.oc.div_ceil(TILE));
        let phases = p.sh.min(p.kh) * p.sw.min(p.kw);
        let last_offset = (p.kh - 1) / p.sh * pitch + (p.kw - 1) / p.sw;
        let copies = if last_offset == 0 { 1 } else { 2 };
        let tiles = phases * copies * ic_tiles + oc_tiles;
        let sample_memory = num_rows * pitch * (p.ic.max(p.oc) + tiles * TILE);
        let few = (WORKING_LEN / sample_memory).clamp(1, p.n.max(1));
        let steps = (few * num_rows * pitch).div_ceil(STEP);
        let num_pairs = steps * STEP / 2 + last_offset / 2 + 1;
        Self { p, pitch, num_rows, few, steps, num_pairs, copies, ic_tiles, oc_tiles }
    }

    /// Positions of a sample.
    fn sample_len(&self) -> usize {
        self.num_rows * self.pitch
    }

    fn num_phases(&self) -> usize {
        self.p.sh.min(self.p.kh) * self.p.sw.min(self.p.kw)
    }

    /// The output gradient of a few samples with zeros between its rows.
    fn spread(&self) -> Padding {
        let p = self.p;
        Padding {
            c: p.oc,
            h: p.oh(),
            w: p.ow(),
            padded_h: self.num_rows,
            padded_w: self.pitch,
            top: 0,
            left: 0,
        }
    }

    /// Elements of a few samples of a phase or of the output gradient, in whole cache lines.
    fn line_len(&self) -> usize {
        (self.few * self.sample_len() * self.p.ic.max(self.p.oc)).next_multiple_of(STEP)
    }

    /// Elements of all channels of a phase in pairs, in one copy.
    fn pairs_len(&self) -> usize {
        self.ic_tiles * self.num_pairs * PAIR
    }

    /// Elements of the output gradient in tiles of rows.
    fn rows_len(&self) -> usize {
        self.oc_tiles * self.steps * B_TILE
    }

    fn scratch_len(&self) -> usize {
        self.line_len() + self.num_phases() * self.copies * self.pairs_len() + self.rows_len()
    }

    /// Columns of tiles: the taps of each tile of input channels.
    fn num_cols(&self) -> usize {
        self.ic_tiles * self.p.kh * self.p.kw
    }

    /// Where the first B tile of a column starts among the pairs.
    fn first_of(&self, col: usize) -> usize {
        let taps = self.p.kh * self.p.kw;
        let (ic_tile, tap) = (col / taps, col % taps);
        let (row, col) = (tap / self.p.kw, tap % self.p.kw);
        let phase = row % self.p.sh * self.p.sw.min(self.p.kw) + col % self.p.sw;
        let offset = row / self.p.sh * self.pitch + col / self.p.sw;
        (phase * self.copies + offset % 2) * self.pairs_len()
            + (ic_tile * self.num_pairs + offset / 2) * PAIR
    }
}

/// Positions of one padded axis. Without a stride the zeros after one row are those before the next.
fn positions(size: usize, padded: usize, before: usize, stride: usize) -> usize {
    let after = padded.saturating_sub(before + size);
    if stride == 1 { padded - before.min(after) } else { padded.div_ceil(stride) }
}

/// A 1×1 convolution over a line of pixels is cut into pieces.
fn piece(p: &Conv2dProblem) -> Conv2dProblem {
    let pointwise = (p.kh, p.kw, p.sh, p.sw, p.ph, p.pw, p.ih) == (1, 1, 1, 1, 0, 0, 1);
    if pointwise && p.n == 1 { Conv2dProblem { iw: p.iw.min(PIECE), ..*p } } else { *p }
}

pub(in crate::conv2d) fn scratch_len(p: &Conv2dProblem) -> usize {
    scratch::len_of::<bf16>(Layout::new(&piece(p)).scratch_len())
}

/// Tiles `[oc tile][ic tile][tap][oc][ic]`.
pub(in crate::conv2d) fn packed_len(p: &Conv2dProblem) -> usize {
    p.kh * p.kw * p.ic.div_ceil(TILE) * p.oc.div_ceil(TILE) * TILE * TILE
}

/// Calls `element(tap · ic + ic_i, oc_i, value)` for all that exist.
pub(in crate::conv2d) fn unpack(
    p: &Conv2dProblem,
    packed_grad: &[f32],
    mut element: impl FnMut(usize, usize, f32),
) {
    assert_eq!(packed_grad.len(), packed_len(p));
    let (ic_tiles, taps) = (p.ic.div_ceil(TILE), p.kh * p.kw);
    for (i, tile) in packed_grad.chunks_exact(TILE * TILE).enumerate() {
        let (tap, ic_tile, oc_tile) = (i % taps, i / taps % ic_tiles, i / taps / ic_tiles);
        for (row, values) in tile.chunks_exact(TILE).take(p.oc - oc_tile * TILE).enumerate() {
            for (col, value) in values.iter().take(p.ic - ic_tile * TILE).enumerate() {
                let ic_i = ic_tile * TILE + col;
                element(tap * p.ic + ic_i, oc_tile * TILE + row, *value);
            }
        }
    }
}

/// What multiplies blocks of tiles: AMX, or products of pairs, which want the same operands.
pub(in crate::conv2d) trait GradBlocks {
    /// The most columns of tiles beside this many rows of them (1 or 2).
    fn max_cols(num_rows: usize) -> usize;
    /// Adds the products to `num_rows · num_cols` tiles of C.
    ///
    /// # Safety
    /// `steps` tiles can be read from each `a` and `b` that the block has, and a tile written to each
    /// `c`; `steps` is not 0.
    unsafe fn multiply(&self, num_rows: usize, num_cols: usize, call: &GradCall);
}

/// Adds the gradient over all samples to `packed_grad`.
pub(in crate::conv2d) fn run<B: GradBlocks>(
    blocks: &B,
    p: &Conv2dProblem,
    input: &[bf16],
    grad_output: &[bf16],
    packed_grad: &mut [f32],
) {
    assert_eq!(packed_grad.len(), packed_len(p));
    let piece = piece(p);
    let layout = Layout::new(&piece);
    let (input_len, output_len) =
        (piece.ih * piece.iw * piece.ic, piece.oh() * piece.ow() * piece.oc);
    let inputs = input.chunks(layout.few * input_len);
    scratch::with_operands(layout.scratch_len(), |memory| {
        let (line, memory) = memory.split_at_mut(layout.line_len());
        let (rows, pairs) = memory.split_at_mut(layout.rows_len());
        for (input, grad_output) in inputs.zip(grad_output.chunks(layout.few * output_len)) {
            let num_steps = fill_rows(&layout, grad_output, line, rows);
            fill_pairs(&layout, input, line, pairs);
            multiply(blocks, &layout, num_steps, rows, pairs, packed_grad);
        }
    });
}

/// Spreads the output gradient over the positions and turns it; returns the steps it takes.
fn fill_rows(
    layout: &Layout<'_>,
    grad_output: &[bf16],
    line: &mut [bf16],
    rows: &mut [bf16],
) -> usize {
    let spread = layout.spread();
    let line = if spread.is_none() { grad_output } else { spread.pad(grad_output, line) };
    let num_steps = (line.len() / layout.p.oc).div_ceil(STEP);
    transpose(line, layout.p.oc, &mut rows[..layout.oc_tiles * num_steps * B_TILE]);
    num_steps
}

/// Pads some samples and pairs the positions of each phase.
fn fill_pairs(layout: &Layout<'_>, input: &[bf16], line: &mut [bf16], pairs: &mut [bf16]) {
    let p = layout.p;
    let in_place = (p.sh, p.sw) == (1, 1) && input_padding(p).is_none();
    let phases = pairs.chunks_exact_mut(layout.copies * layout.pairs_len());
    for (phase, pairs) in phases.enumerate() {
        let (even, odd) = pairs.split_at_mut(layout.pairs_len());
        let line = if in_place { input } else { fill_line(layout, phase, input, line) };
        interleave(line, p.ic, even, odd);
    }
}

/// The positions of a phase of some samples.
fn fill_line<'a>(
    layout: &Layout<'_>,
    phase: usize,
    input: &[bf16],
    line: &'a mut [bf16],
) -> &'a [bf16] {
    let p = layout.p;
    let phases_w = p.sw.min(p.kw);
    let (first_row, first_col) = (phase / phases_w, phase % phases_w);
    let cols = inside(p.iw, layout.pitch, first_col, p.pw, p.sw);
    let rows = inside(p.ih, layout.num_rows, first_row, p.ph, p.sh);
    let samples = input.chunks_exact(p.ih * p.iw * p.ic);
    let line = &mut line[..samples.len() * layout.sample_len() * p.ic];
    for (sample, line) in samples.zip(line.chunks_exact_mut(layout.sample_len() * p.ic)) {
        // What lies between two rows of data is zeroed at once.
        let mut done = 0;
        for y in rows.clone() {
            let start = (y * layout.pitch + cols.start) * p.ic;
            line[done..start].fill(bf16::zeroed());
            done = start + cols.len() * p.ic;
            let out = &mut line[start..done];
            if out.is_empty() {
                continue;
            }
            let (y, x) = (y * p.sh + first_row - p.ph, cols.start * p.sw + first_col - p.pw);
            let from = &sample[(y * p.iw + x) * p.ic..(y + 1) * p.iw * p.ic];
            if p.sw == 1 {
                out.copy_from_slice(&from[..out.len()]);
            } else {
                let pixels = from.chunks(p.sw * p.ic);
                for (from, out) in pixels.zip(out.chunks_exact_mut(p.ic)) {
                    out.copy_from_slice(&from[..p.ic]);
                }
            }
        }
        line[done..].fill(bf16::zeroed());
    }
    line
}

/// The positions `i < len` with `i · stride + first − before` in `0..size`.
fn inside(size: usize, len: usize, first: usize, before: usize, stride: usize) -> Range<usize> {
    let start = before.saturating_sub(first).div_ceil(stride).min(len);
    let end = (size + before).saturating_sub(first).div_ceil(stride).min(len);
    start..end.max(start)
}

fn multiply<B: GradBlocks>(
    blocks: &B,
    layout: &Layout<'_>,
    num_steps: usize,
    rows: &[bf16],
    pairs: &[bf16],
    packed_grad: &mut [f32],
) {
    let num_cols = layout.num_cols();
    assert_eq!(packed_grad.len(), layout.oc_tiles * num_cols * TILE * TILE);
    for first_row in (0..layout.oc_tiles).step_by(2) {
        let num_rows = (layout.oc_tiles - first_row).min(2);
        for (first_col, block_cols) in split(num_cols, B::max_cols(num_rows)) {
            let mut call = GradCall {
                a: [rows.as_ptr(); 2],
                b: [pairs.as_ptr(); 5],
                c: [packed_grad.as_mut_ptr(); 5],
                steps: num_steps,
            };
            for (i, a) in call.a[..num_rows].iter_mut().enumerate() {
                let first = (first_row + i) * num_steps * B_TILE;
                *a = rows[first..][..num_steps * B_TILE].as_ptr();
            }
            for (i, b) in call.b[..block_cols].iter_mut().enumerate() {
                *b = pairs[layout.first_of(first_col + i)..][..num_steps * B_TILE].as_ptr();
            }
            for (i, c) in call.c[..num_rows * block_cols].iter_mut().enumerate() {
                let (row, col) = (first_row + i / block_cols, first_col + i % block_cols);
                let tile = (row * num_cols + col) * TILE * TILE;
                *c = packed_grad[tile..][..TILE * TILE].as_mut_ptr();
            }
            // SAFETY: all tiles lie in the slices that the pointers are taken of.
            unsafe { blocks.multiply(num_rows, block_cols, &call) }
        }
    }
}
