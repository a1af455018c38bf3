//! Gradient of the weight: `k` runs over positions, so the input is wanted with channels as rows, and
//! the output gradient in pairs of positions.
//!
//! The input is padded and, with a stride, split into phases; its positions are then counted through
//! all rows and samples. A tap of the kernel is an offset in these, the output pixel at row `y` and
//! column `x` is position `y · pitch + x`, and positions that are no output pixel meet zeros.

use super::block::{Acc, BlockCall, STEP, TILE, block, max_row_tiles};
use super::interleave::put_row;
use super::transpose::transpose;
use crate::amx::Amx;
use crate::conv2d::direct::input_padding;
use crate::conv2d::grid::split;
use crate::conv2d::padding::Padding;
use crate::{Conv2dProblem, scratch};
use half::bf16;

/// Elements of working memory aimed at: with the gradient they should stay in the second-level cache.
const WORKING_LEN: usize = 3 << 17;
/// Positions of a 1×1 convolution that are taken as one sample.
const PIECE: usize = 512;

/// Positions, phases and taps.
#[derive(Debug)]
struct Layout<'a> {
    p: &'a Conv2dProblem,
    padding: Padding,
    /// Positions from one row of a phase to the next, and of one sample.
    pitch: usize,
    sample_len: usize,
    /// Samples that are taken together, and steps over their positions.
    few: usize,
    steps: usize,
    /// Elements of a channel's row.
    row_len: usize,
    ic_tiles: usize,
    oc_tiles: usize,
}

impl<'a> Layout<'a> {
    fn new(p: &'a Conv2dProblem) -> Self {
        let padding = input_padding(p);
        let pitch = padding.padded_w.div_ceil(p.sw);
        let sample_len = padding.padded_h.div_ceil(p.sh) * pitch;
        let (ic_tiles, oc_tiles) = (p.ic.div_ceil(TILE), p.oc.div_ceil(TILE));
        let phases = p.sh.min(p.kh) * p.sw.min(p.kw);
        let sample_memory = padding.len() + sample_len * TILE * (phases * ic_tiles + oc_tiles);
        let few = (WORKING_LEN / sample_memory).clamp(1, p.n.max(1));
        let steps = (few * sample_len).div_ceil(STEP);
        let last_offset = (p.kh - 1) / p.sh * pitch + (p.kw - 1) / p.sw;
        // The last row of a phase is written in whole steps.
        let row_len = (steps + 1) * STEP + last_offset.next_multiple_of(STEP);
        Self { p, padding, pitch, sample_len, few, steps, row_len, ic_tiles, oc_tiles }
    }

    fn num_phases(&self) -> usize {
        self.p.sh.min(self.p.kh) * self.p.sw.min(self.p.kw)
    }

    /// Elements of all channels of a phase.
    fn phase_len(&self) -> usize {
        self.ic_tiles * TILE * self.row_len
    }

    /// Elements of the output gradient in pairs.
    fn pairs_len(&self) -> usize {
        self.steps * STEP * self.oc_tiles * TILE
    }

    /// Elements of padded samples, in whole cache lines.
    fn padded_len(&self) -> usize {
        (self.few * self.padding.len()).next_multiple_of(STEP)
    }

    fn scratch_len(&self) -> usize {
        self.padded_len() + self.num_phases() * self.phase_len() + self.pairs_len()
    }

    /// Tiles of rows: a tile of channels for each tap.
    fn row_tiles(&self) -> usize {
        self.p.kh * self.p.kw * self.ic_tiles
    }

    /// Where the first A tile of a tile of rows starts among the phases.
    fn first_of(&self, row_tile: usize) -> usize {
        let (tap, ic_tile) = (row_tile / self.ic_tiles, row_tile % self.ic_tiles);
        let (row, col) = (tap / self.p.kw, tap % self.p.kw);
        let phase = row % self.p.sh * self.p.sw.min(self.p.kw) + col % self.p.sw;
        let offset = row / self.p.sh * self.pitch + col / self.p.sw;
        phase * self.phase_len() + ic_tile * TILE * self.row_len + offset
    }
}

/// A 1×1 convolution over a line of pixels is cut into pieces.
fn piece(p: &Conv2dProblem) -> Conv2dProblem {
    let pointwise = (p.kh, p.kw, p.sh, p.sw, p.ph, p.pw, p.ih) == (1, 1, 1, 1, 0, 0, 1);
    if pointwise && p.n == 1 { Conv2dProblem { iw: p.iw.min(PIECE), ..*p } } else { *p }
}

pub(super) fn scratch_len(p: &Conv2dProblem) -> usize {
    scratch::len_of::<bf16>(Layout::new(&piece(p)).scratch_len())
}

/// Tiles `[oc tile][tap][ic tile][ic][oc]`.
pub(super) fn packed_len(p: &Conv2dProblem) -> usize {
    p.kh * p.kw * p.ic.div_ceil(TILE) * p.oc.div_ceil(TILE) * TILE * TILE
}

/// Calls `element(tap · ic + ic_i, oc_i, value)` for all that exist.
pub(super) fn unpack(
    p: &Conv2dProblem,
    packed_grad: &[f32],
    mut element: impl FnMut(usize, usize, f32),
) {
    assert_eq!(packed_grad.len(), packed_len(p));
    let (ic_tiles, taps) = (p.ic.div_ceil(TILE), p.kh * p.kw);
    for (i, tile) in packed_grad.chunks_exact(TILE * TILE).enumerate() {
        let (ic_tile, tap, oc_tile) = (i % ic_tiles, i / ic_tiles % taps, i / ic_tiles / taps);
        for (row, values) in tile.chunks_exact(TILE).take(p.ic - ic_tile * TILE).enumerate() {
            for (col, value) in values.iter().take(p.oc - oc_tile * TILE).enumerate() {
                let ic_i = ic_tile * TILE + row;
                element(tap * p.ic + ic_i, oc_tile * TILE + col, *value);
            }
        }
    }
}

/// Adds the gradient over all samples to `packed_grad`.
pub(super) fn run(
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
    let amx = Amx::start();
    scratch::with_operands(layout.scratch_len(), |memory| {
        let (padded, memory) = memory.split_at_mut(layout.padded_len());
        let (rows, pairs) = memory.split_at_mut(layout.num_phases() * layout.phase_len());
        for (input, grad_output) in inputs.zip(grad_output.chunks(layout.few * output_len)) {
            fill_rows(&layout, input, padded, rows);
            fill_pairs(&layout, grad_output, pairs);
            multiply(&amx, &layout, rows, pairs, packed_grad);
        }
    });
}

/// Pads some samples and turns each phase.
fn fill_rows(layout: &Layout<'_>, input: &[bf16], padded: &mut [bf16], rows: &mut [bf16]) {
    let Layout { p, padding, row_len, pitch, .. } = *layout;
    let input: &[bf16] = match padding.is_none() {
        true => input,
        false => padding.pad(input, padded),
    };
    let num_pixels = input.len() / p.ic;
    if (p.sh, p.sw) == (1, 1) {
        transpose(input, p.ic, num_pixels, p.ic, rows, row_len);
        let written = num_pixels.next_multiple_of(STEP);
        rows.chunks_exact_mut(row_len).for_each(|row| row[written..].fill(bf16::ZERO));
        return;
    }
    rows.fill(bf16::ZERO);
    let phases = rows.chunks_exact_mut(layout.phase_len()).enumerate();
    for (phase, rows) in phases {
        let num_cols = p.sw.min(p.kw);
        let (first_row, first_col) = (phase / num_cols, phase % num_cols);
        for (i, row) in input.chunks_exact(padding.padded_w * p.ic).enumerate() {
            let (sample, y) = (i / padding.padded_h, i % padding.padded_h);
            if y % p.sh == first_row && first_col < padding.padded_w {
                let len = (padding.padded_w - first_col).div_ceil(p.sw);
                let position = sample * layout.sample_len + y / p.sh * pitch;
                let from = &row[first_col * p.ic..];
                transpose(from, p.sw * p.ic, len, p.ic, &mut rows[position..], row_len);
            }
        }
    }
}

/// Spreads the output gradient over the positions.
fn fill_pairs(layout: &Layout<'_>, grad_output: &[bf16], pairs: &mut [bf16]) {
    let p = layout.p;
    pairs.fill(bf16::ZERO);
    for (i, row) in grad_output.chunks_exact(p.ow() * p.oc).enumerate() {
        let (sample, y) = (i / p.oh(), i % p.oh());
        put_row(row, p.oc, sample * layout.sample_len + y * layout.pitch, pairs);
    }
}

fn multiply(
    amx: &Amx,
    layout: &Layout<'_>,
    rows: &[bf16],
    pairs: &[bf16],
    packed_grad: &mut [f32],
) {
    let num_row_tiles = layout.row_tiles();
    let mut acc = Acc::new();
    for first_col in (0..layout.oc_tiles).step_by(2) {
        let col_tiles = (layout.oc_tiles - first_col).min(2);
        for (first, row_tiles) in split(num_row_tiles, max_row_tiles(col_tiles)) {
            let mut call = BlockCall {
                x: [rows.as_ptr(); 4],
                steps: layout.steps,
                run_stride: 0,
                w_col_stride: 64,
                runs: 1,
                x_stride: 2 * layout.row_len,
                w: pairs[first_col * 2 * TILE..].as_ptr(),
                w_stride: 4 * layout.oc_tiles * TILE,
                w_step: 4 * layout.oc_tiles * TILE * TILE,
            };
            for (m, x) in call.x[..row_tiles].iter_mut().enumerate() {
                *x = rows[layout.first_of(first + m)..].as_ptr();
            }
            // SAFETY: rows hold `steps` steps after the largest offset of a tap, and whole tiles of
            // channels; the pairs hold as many steps, and whole tiles of channels too.
            unsafe { block(row_tiles, col_tiles)(amx, &call, &mut acc) }
            for (i, sums) in acc.0.chunks_exact(TILE * TILE).take(row_tiles * col_tiles).enumerate()
            {
                let (row_tile, col_tile) = (first + i / col_tiles, first_col + i % col_tiles);
                let tile = (col_tile * num_row_tiles + row_tile) * TILE * TILE;
                for (grad, sum) in packed_grad[tile..][..TILE * TILE].iter_mut().zip(sums) {
                    *grad += sum;
                }
            }
        }
    }
}
