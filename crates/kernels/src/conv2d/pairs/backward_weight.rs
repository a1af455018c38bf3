//! Gradient of the weight: `k` runs over positions, so the output gradient is wanted with channels
//! as rows, and the input in pairs of positions.
//!
//! Positions are those of the padded input, counted through all rows and samples; with a stride, it is
//! split into phases. A tap of the kernel is an offset in these, the output pixel at row `y` and
//! column `x` is position `y · pitch + x`, and positions that are no output pixel meet zeros. An
//! offset of whole pairs leaves rows of B where they are, at the start of a cache line; for odd
//! offsets there is a second copy that is paired the other way.
//!
//! Tiles of a few channels would be mostly empty. There the columns of the kernel become channels: a pixel
//! is what a row of its window sees, as in im2col along rows.

use super::grad_blocks::{GradBlocks, GradCall, MAX_COLS};
use super::interleave::{PAIR, interleave};
use super::pixels::Pixels;
use super::transpose::transpose;
use super::{B_TILE, STEP, TILE};
use crate::Conv2dProblem;
use crate::conv2d::ahead::Ahead;
use crate::conv2d::geometry::{grad_output_padding, input_padding};
use crate::conv2d::grid::split;
use crate::conv2d::multiply::{GradOperands, MultiplyGrads};
use crate::conv2d::tile::Start;
use crate::padding::Padding;
use bytemuck::Zeroable;
use half::bf16;
use std::marker::PhantomData;

/// Elements of rows and pairs aimed at: they should mostly stay in the second-level cache, and the more
/// there are, the less often a gradient that doesn't is read and written.
const WORKING_LEN: usize = 1 << 19;

/// The most elements of padded samples at once: a quarter of a megabyte, so that they, what is made of them
/// and what is fetched for the next stay in the second-level cache.
const MAX_PADDED_LEN: usize = 1 << 17;

/// Cache lines that are fetched in each step: the step's own tiles come from the second-level cache, too, and
/// with twice as many they wait.
const LINES_BESIDE_GRADS: usize = 4;

/// Gradients of weights, multiplied by `B`.
pub(in crate::conv2d) struct PairGrads<B>(PhantomData<B>);

impl<B> PairGrads<B> {
    pub(in crate::conv2d) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<B: GradBlocks> MultiplyGrads<bf16> for PairGrads<B> {
    /// Samples that a backward lays out at once: more, where a gradient that is larger than they are would be
    /// read and written for them.
    fn samples_at_once(&self, p: &Conv2dProblem, x: &Padding, grad: &Padding) -> usize {
        (MAX_PADDED_LEN.max(p.weight_len()) / (x.len() + grad.len())).max(1)
    }

    fn slack(&self, _p: &Conv2dProblem) -> usize {
        0
    }

    fn memory_len(&self, p: &Conv2dProblem, num_samples: usize) -> usize {
        let layout = Layout::at_most(p, num_samples);
        // A cache line more, to start at one.
        STEP + lines(layout.rows_len())
            + lines(layout.num_phases() * layout.copies * layout.pairs_len())
            + lines(layout.phases_len())
            + layout.spread_len()
    }

    /// Tiles `[oc tile][tile of channels][tap][oc][channel]`.
    fn packed_len(&self, p: &Conv2dProblem) -> usize {
        taps(p) * channels(p).div_ceil(TILE) * p.oc.div_ceil(TILE) * TILE * TILE
    }

    /// The gradient over all samples, into `packed_grad`.
    fn run(
        &self,
        p: &Conv2dProblem,
        operands: &GradOperands<'_, bf16>,
        memory: &mut [bf16],
        packed_grad: &mut [f32],
        ahead: &mut Ahead,
    ) {
        assert_eq!(packed_grad.len(), self.packed_len(p));
        let (blocks, layout) = (B::start(), Layout::new(p, operands.num_samples));
        let (phases_len, pairs_len) = (layout.phases_len(), layout.pairs_len());
        let unaligned = memory.as_ptr().align_offset(64);
        let memory = &mut memory[unaligned..];
        let (rows, memory) = memory.split_at_mut(lines(layout.rows_len()));
        let (pairs, memory) =
            memory.split_at_mut(lines(layout.num_phases() * layout.copies * pairs_len));
        let (phases, spread) = memory.split_at_mut(lines(phases_len));
        let phases = match layout.has_one_phase() {
            true => operands.x,
            false => split_into_phases(&layout, operands.x, &mut phases[..phases_len]),
        };
        let grad = match layout.is_spread() {
            true => {
                let end = layout.grad.total_len(operands.num_samples);
                &operands.grad[layout.grad.first()..end]
            }
            false => spread_grad(&layout, operands.grad, &mut spread[..layout.spread_len()]),
        };
        let grad_len = grad.len().min(layout.num_positions() * p.oc);
        let phase_len = phases.len() / layout.num_phases();
        for first in (0..layout.num_positions()).step_by(layout.at_once) {
            let grad = &grad[(first * p.oc).min(grad_len)..grad_len];
            let grad = &grad[..grad.len().min(layout.at_once * p.oc)];
            let num_steps = (grad.len() / p.oc).div_ceil(STEP);
            if num_steps == 0 {
                break;
            }
            transpose(grad, p.oc, &mut rows[..layout.oc_tiles * num_steps * B_TILE]);
            for (phase, pairs) in phases
                .chunks_exact(phase_len)
                .zip(pairs.chunks_exact_mut(layout.copies * pairs_len))
            {
                let (even, odd) = pairs.split_at_mut(pairs_len);
                interleave(&phase[first * layout.channels..], layout.channels, even, odd);
            }
            let start = if first == 0 { operands.start } else { Start::Output };
            let window = first..first + num_steps * STEP;
            let pixels = Pixels::within(p, layout.pitch, layout.num_rows, window);
            multiply(&blocks, &layout, (num_steps, start, pixels), rows, pairs, packed_grad, ahead);
        }
    }

    /// Writes a packed gradient in the weight's layout, `[oc][ic][tap]`.
    fn unpack(&self, p: &Conv2dProblem, packed_grad: &[f32], grad_weight: &mut [f32]) {
        assert_eq!(packed_grad.len(), self.packed_len(p));
        let (channels, taps, tap_columns) = (channels(p), taps(p), tap_columns(p));
        let tiles = channels.div_ceil(TILE);
        for (i, tile) in packed_grad.chunks_exact(TILE * TILE).enumerate() {
            let (tap, first_channel) = (i % taps, i / taps % tiles * TILE);
            let first_oc = i / taps / tiles * TILE;
            let num_channels = TILE.min(channels - first_channel);
            for (oc, grads) in (first_oc..p.oc).zip(tile.chunks_exact(TILE)) {
                let grads = &grads[..num_channels];
                if tap_columns == p.kw {
                    let first = (oc * p.ic + first_channel) * taps + tap;
                    write_strided(grad_weight, first, taps, grads);
                    continue;
                }
                for (channel, grad) in (first_channel..).zip(grads) {
                    let (kw_i, ic_i) = (channel / p.ic, channel % p.ic);
                    grad_weight[((oc * p.ic + ic_i) * p.kh + tap) * p.kw + kw_i] = *grad;
                }
            }
        }
    }
}

/// Columns of the kernel that are taps of their own: one, where a position has what a row of a window sees
/// in the place of a pixel, because that takes so many fewer tiles that the copy pays: a 7×7 kernel over 3
/// channels, not a 3×3 one.
fn tap_columns(p: &Conv2dProblem) -> usize {
    let folded = (p.kw * p.ic).div_ceil(TILE);
    if 3 * folded < p.kw * p.ic.div_ceil(TILE) { 1 } else { p.kw }
}

/// Channels of a position.
fn channels(p: &Conv2dProblem) -> usize {
    p.kw / tap_columns(p) * p.ic
}

/// Taps of the kernel.
fn taps(p: &Conv2dProblem) -> usize {
    p.kh * tap_columns(p)
}

/// Positions, phases and taps.
#[derive(Debug)]
struct Layout<'a> {
    p: &'a Conv2dProblem,
    channels: usize,
    tap_columns: usize,
    x: Padding,
    grad: Padding,
    num_samples: usize,
    /// Positions from one row of a phase to the next, and rows of a sample.
    pitch: usize,
    num_rows: usize,
    /// The furthest that a tap is from a pixel's position.
    last_offset: usize,
    /// Positions that are taken at once, whole steps.
    at_once: usize,
    /// Pairs of a tile of channels, with those that a tap reaches after the last step.
    num_pairs: usize,
    /// Pairings: one if all taps are at even offsets.
    copies: usize,
    ic_tiles: usize,
    oc_tiles: usize,
}

impl<'a> Layout<'a> {
    fn new(p: &'a Conv2dProblem, num_samples: usize) -> Self {
        let most = Self::at_most(p, num_samples);
        let (_, longest) = split(most.num_positions(), most.at_once).next().expect("one piece");
        most.with_at_once(longest.next_multiple_of(STEP))
    }

    /// With as many positions at once as are taken of any number of samples up to this one.
    fn at_most(p: &'a Conv2dProblem, num_samples: usize) -> Self {
        let (x, grad) = (input_padding(p, &(0..p.oh())), grad_output_padding(p));
        let (channels, tap_columns) = (channels(p), tap_columns(p));
        let (pitch, num_rows) = if (p.sh, p.sw) == (1, 1) {
            (x.padded_w, x.padded_h)
        } else {
            // As many as windows reach.
            (p.ow() + (p.kw - 1) / p.sw, p.oh() + (p.kh - 1) / p.sh)
        };
        let (ic_tiles, oc_tiles) = (channels.div_ceil(TILE), p.oc.div_ceil(TILE));
        let last_offset = (p.kh - 1) / p.sh * pitch + (tap_columns - 1) / p.sw;
        let copies = if last_offset == 0 { 1 } else { 2 };
        let layout = Self {
            p,
            channels,
            tap_columns,
            x,
            grad,
            num_samples,
            pitch,
            num_rows,
            last_offset,
            at_once: 0,
            num_pairs: 0,
            copies,
            ic_tiles,
            oc_tiles,
        };
        let tiles = layout.num_phases() * copies * ic_tiles + oc_tiles;
        let most = WORKING_LEN.max(p.weight_len()) / (TILE * tiles);
        let at_once = layout.num_positions().min(most);
        layout.with_at_once(at_once.next_multiple_of(STEP).max(STEP))
    }

    fn with_at_once(self, at_once: usize) -> Self {
        Self { at_once, num_pairs: at_once / 2 + self.last_offset / 2 + 1, ..self }
    }

    /// Positions of all samples.
    fn num_positions(&self) -> usize {
        self.num_samples * self.num_rows * self.pitch
    }

    fn num_phases(&self) -> usize {
        self.p.sh.min(self.p.kh) * self.p.sw.min(self.tap_columns)
    }

    /// Whether the padded input is its one phase.
    fn has_one_phase(&self) -> bool {
        (self.p.sh, self.p.sw, self.tap_columns) == (1, 1, self.p.kw)
    }

    /// Whether the padded output gradient has its pixels at their positions, from its first on.
    fn is_spread(&self) -> bool {
        (self.grad.padded_h, self.grad.padded_w) == (self.num_rows, self.pitch)
    }

    /// Elements of the phases, unless the padded input is the only one.
    fn phases_len(&self) -> usize {
        let len = self.num_phases() * self.num_positions() * self.channels;
        if self.has_one_phase() { 0 } else { len }
    }

    /// Elements of the output gradient at its positions, unless it is there already.
    fn spread_len(&self) -> usize {
        if self.is_spread() { 0 } else { self.num_positions() * self.p.oc }
    }

    /// Elements of all channels of a phase in pairs, in one copy.
    fn pairs_len(&self) -> usize {
        self.ic_tiles * self.num_pairs * PAIR
    }

    /// Elements of the output gradient in tiles of rows.
    fn rows_len(&self) -> usize {
        self.oc_tiles * self.at_once / STEP * B_TILE
    }

    /// Columns of tiles: the taps of each tile of input channels.
    fn num_cols(&self) -> usize {
        self.ic_tiles * taps(self.p)
    }

    /// The copy of the pairs that a tap reads, counted through all phases, and its offset there in pairs.
    fn place_of(&self, tap: usize) -> (usize, usize) {
        let (row, col) = (tap / self.tap_columns, tap % self.tap_columns);
        let phase = row % self.p.sh * self.p.sw.min(self.tap_columns) + col % self.p.sw;
        let offset = row / self.p.sh * self.pitch + col / self.p.sw;
        (phase * self.copies + offset % 2, offset / 2)
    }

    /// Where the first B tile of a column starts among the pairs.
    fn first_of(&self, col: usize) -> usize {
        let taps = taps(self.p);
        let (ic_tile, (copy, offset)) = (col / taps, self.place_of(col % taps));
        copy * self.pairs_len() + (ic_tile * self.num_pairs + offset) * PAIR
    }

    /// The taps in the order in which they are multiplied: those of one copy after another, so that what one
    /// of a block has loaded is in the first-level cache for the next. Of larger kernels as they come.
    fn tap_order(&self) -> [usize; MAX_ORDERED] {
        let mut order = std::array::from_fn(|tap| tap);
        let taps = taps(self.p);
        if taps <= MAX_ORDERED {
            order[..taps].sort_unstable_by_key(|tap| self.place_of(*tap));
        }
        order
    }
}

/// The most taps that are put in order.
const MAX_ORDERED: usize = 64;

/// Whole cache lines.
fn lines(len: usize) -> usize {
    len.next_multiple_of(STEP)
}

/// Writes values at places `stride` apart, from `first` on.
fn write_strided(out: &mut [f32], first: usize, stride: usize, values: &[f32]) {
    let Some(last) = values.len().checked_sub(1) else { return };
    let out = &mut out[first..=first + last * stride];
    for (out, value) in out.iter_mut().step_by(stride).zip(values) {
        *out = *value;
    }
}

/// Every `sh`-th row and column of the padded input, from each first one on that a tap has; a position has
/// a pixel's channels, or those of as many pixels as a row of the window.
fn split_into_phases<'a>(layout: &Layout<'_>, x: &[bf16], phases: &'a mut [bf16]) -> &'a [bf16] {
    let &Layout { p, x: padding, channels, pitch, num_rows, tap_columns, .. } = layout;
    let phases_w = p.sw.min(tap_columns);
    // What windows reach; rows and columns after that are no tap's.
    let (reach_h, reach_w) = ((p.oh() - 1) * p.sh + p.kh, (p.ow() - 1) * p.sw + tap_columns);
    let phase_len = layout.num_positions() * channels;
    for (phase, line) in phases.chunks_exact_mut(phase_len).enumerate() {
        let (first_row, first_col) = (phase / phases_w, phase % phases_w);
        let cols = (reach_w - first_col).div_ceil(p.sw).min(pitch);
        for (i, row) in line.chunks_exact_mut(pitch * channels).enumerate() {
            let (sample, y) = (i / num_rows, i % num_rows * p.sh + first_row);
            if y >= reach_h {
                row.fill(bf16::zeroed());
                continue;
            }
            let from = sample * padding.len() + y * padding.row_pitch() + first_col * p.ic;
            let (row, beyond) = row.split_at_mut(cols * channels);
            copy_every(&x[from..], p.sw * p.ic, channels, row);
            beyond.fill(bf16::zeroed());
        }
    }
    phases
}

/// Copies the first `len` elements of every `stride` of `x`, which may overlap.
fn copy_every(x: &[bf16], stride: usize, len: usize, out: &mut [bf16]) {
    /// A move of so many takes one instruction; what it writes too much is written over by the next.
    const WIDE: usize = 32;
    let mut i = 0;
    while len <= WIDE
        && let Some(from) = x.get(i * stride..).and_then(|x| x.first_chunk::<WIDE>())
        && let Some(to) = out[i * len..].first_chunk_mut::<WIDE>()
    {
        *to = *from;
        i += 1;
    }
    for (i, to) in out.chunks_exact_mut(len).enumerate().skip(i) {
        to.copy_from_slice(&x[i * stride..][..len]);
    }
}

/// The output gradient with its pixels at their positions and zeros between.
fn spread_grad<'a>(layout: &Layout<'_>, grad: &[bf16], spread: &'a mut [bf16]) -> &'a [bf16] {
    let (p, padding) = (layout.p, &layout.grad);
    for (i, row) in spread.chunks_exact_mut(layout.pitch * p.oc).enumerate() {
        let (sample, y) = (i / layout.num_rows, i % layout.num_rows);
        let len = if y < p.oh() { p.ow() * p.oc } else { 0 };
        let (row, beyond) = row.split_at_mut(len);
        let from = sample * padding.len() + padding.first() + y * padding.row_pitch();
        row.copy_from_slice(if len == 0 { &[] } else { &grad[from..][..len] });
        beyond.fill(bf16::zeroed());
    }
    spread
}

fn multiply<B: GradBlocks>(
    blocks: &B,
    layout: &Layout<'_>,
    (num_steps, start, pixels): (usize, Start, Pixels),
    rows: &[bf16],
    pairs: &[bf16],
    packed_grad: &mut [f32],
    ahead: &mut Ahead,
) {
    let (num_cols, taps) = (layout.num_cols(), taps(layout.p));
    assert_eq!(packed_grad.len(), layout.oc_tiles * num_cols * TILE * TILE);
    let order = layout.tap_order();
    let column = |i: usize| i / taps * taps + order.get(i % taps).unwrap_or(&(i % taps));
    for first_row in (0..layout.oc_tiles).step_by(2) {
        let num_rows = (layout.oc_tiles - first_row).min(2);
        for (first_col, block_cols) in split(num_cols, B::max_cols(num_rows)) {
            let mut call = GradCall {
                a: [rows.as_ptr(); 2],
                b: [pairs.as_ptr(); MAX_COLS],
                c: [packed_grad.as_mut_ptr(); MAX_COLS],
                steps: num_steps,
                fetch: ahead.fetch(LINES_BESIDE_GRADS, num_steps),
                start,
            };
            for (i, a) in call.a[..num_rows].iter_mut().enumerate() {
                let first = (first_row + i) * num_steps * B_TILE;
                *a = rows[first..][..num_steps * B_TILE].as_ptr();
            }
            for (i, b) in call.b[..block_cols].iter_mut().enumerate() {
                *b = pairs[layout.first_of(column(first_col + i))..][..num_steps * B_TILE].as_ptr();
            }
            for (i, c) in call.c[..num_rows * block_cols].iter_mut().enumerate() {
                let (row, col) = (first_row + i / block_cols, column(first_col + i % block_cols));
                let tile = (row * num_cols + col) * TILE * TILE;
                *c = packed_grad[tile..][..TILE * TILE].as_mut_ptr();
            }
            // SAFETY: all tiles lie in the slices that the pointers are taken of.
            unsafe { blocks.multiply(num_rows, block_cols, &mut call, &pixels) }
        }
    }
}
