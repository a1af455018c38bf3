//! Where the operands of a gradient of a weight lie: positions, phases and taps.

use super::interleave::PAIR;
use super::{B_TILE, STEP, TILE};
use crate::Conv2dProblem;
use crate::conv2d::geometry::{grad_output_padding, input_padding};
use crate::conv2d::grid::split;
use crate::padding::Padding;

/// Elements of rows and pairs aimed at: they should mostly stay in the second-level cache, and the more
/// there are, the less often a gradient that doesn't is read and written.
const WORKING_LEN: usize = 1 << 19;

/// Columns of the kernel that are taps of their own: one, where a position has what a row of a window sees
/// in the place of a pixel, because that takes so many fewer tiles that the copy pays: a 7×7 kernel over 3
/// channels, not a 3×3 one.
pub(super) fn tap_columns(p: &Conv2dProblem) -> usize {
    let folded = (p.kw * p.ic).div_ceil(TILE);
    if 3 * folded < p.kw * p.ic.div_ceil(TILE) { 1 } else { p.kw }
}

/// Channels of a position.
pub(super) fn channels(p: &Conv2dProblem) -> usize {
    p.kw / tap_columns(p) * p.ic
}

/// Taps of the kernel.
pub(super) fn taps(p: &Conv2dProblem) -> usize {
    p.kh * tap_columns(p)
}

/// Positions, phases and taps.
#[derive(Debug)]
pub(super) struct Layout<'a> {
    pub(super) p: &'a Conv2dProblem,
    pub(super) channels: usize,
    pub(super) tap_columns: usize,
    pub(super) x: Padding,
    pub(super) grad: Padding,
    pub(super) num_samples: usize,
    /// Positions from one row of a phase to the next, and rows of a sample.
    pub(super) pitch: usize,
    pub(super) num_rows: usize,
    /// The furthest that a tap is from a pixel's position.
    pub(super) last_offset: usize,
    /// Positions that are taken at once: whole rows where zeros are around these.
    pub(super) at_once: usize,
    /// Pairs of a tile of channels, with those that a tap reaches after the last step.
    pub(super) num_pairs: usize,
    /// Pairings: one if all taps are at even offsets.
    pub(super) copies: usize,
    pub(super) ic_tiles: usize,
    pub(super) oc_tiles: usize,
}

impl<'a> Layout<'a> {
    pub(super) fn new(p: &'a Conv2dProblem, num_samples: usize) -> Self {
        let most = Self::at_most(p, num_samples);
        let unit = most.unit();
        let (num_units, at_once) = (most.num_positions().div_ceil(unit), most.at_once / unit);
        let (_, longest) = split(num_units, at_once).next().expect("one piece");
        most.with_at_once(longest * unit)
    }

    /// With as many positions at once as are taken of any number of samples up to this one.
    pub(super) fn at_most(p: &'a Conv2dProblem, num_samples: usize) -> Self {
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
        let unit = layout.unit();
        let at_once =
            layout.num_positions().min(most.next_multiple_of(unit)).next_multiple_of(unit);
        layout.with_at_once(at_once.max(unit))
    }

    /// With all positions at once.
    pub(super) fn whole(p: &'a Conv2dProblem, num_samples: usize) -> Self {
        let most = Self::at_most(p, num_samples);
        let num_positions = most.num_positions().max(1);
        most.with_at_once(num_positions)
    }

    pub(super) fn with_at_once(self, at_once: usize) -> Self {
        let num_pairs = at_once.next_multiple_of(STEP) / 2 + self.last_offset / 2 + 1;
        Self { at_once, num_pairs, ..self }
    }

    /// Positions that are only taken together: a row, or a step where nothing is around the rows.
    pub(super) fn unit(&self) -> usize {
        if self.x.is_none() { STEP } else { self.pitch }
    }

    /// Whether pairs can be made of a few rows at a time: the position behind these is no pixel's.
    pub(super) fn is_made_of_rows(&self) -> bool {
        self.has_one_phase() && !self.x.crops() && (self.copies == 1 || self.x.left > 0)
    }

    /// Positions of all samples.
    pub(super) fn num_positions(&self) -> usize {
        self.num_samples * self.num_rows * self.pitch
    }

    pub(super) fn num_phases(&self) -> usize {
        self.p.sh.min(self.p.kh) * self.p.sw.min(self.tap_columns)
    }

    /// Whether the padded input is its one phase.
    pub(super) fn has_one_phase(&self) -> bool {
        (self.p.sh, self.p.sw, self.tap_columns) == (1, 1, self.p.kw)
    }

    /// Whether the padded output gradient has its pixels at their positions, from its first on.
    pub(super) fn is_spread(&self) -> bool {
        (self.grad.padded_h, self.grad.padded_w) == (self.num_rows, self.pitch)
    }

    /// Positions up to the last that may be an output pixel.
    pub(super) fn num_grad_positions(&self) -> usize {
        let Padding { c, .. } = self.grad;
        let all = match self.is_spread() {
            true => (self.grad.total_len(self.num_samples) - self.grad.first()) / c,
            false => self.num_positions(),
        };
        all.min(self.num_positions())
    }

    /// Elements of the phases, unless the padded input is the only one.
    pub(super) fn phases_len(&self) -> usize {
        let len = self.num_phases() * self.num_positions() * self.channels;
        if self.has_one_phase() { 0 } else { len }
    }

    /// Elements of the output gradient at its positions, unless it is there already.
    pub(super) fn spread_len(&self) -> usize {
        if self.is_spread() { 0 } else { self.num_positions() * self.p.oc }
    }

    /// Elements of all channels of a phase in pairs, in one copy.
    pub(super) fn pairs_len(&self) -> usize {
        self.ic_tiles * self.num_pairs * PAIR
    }

    /// Elements of all pairs: of every copy of every phase.
    pub(super) fn all_pairs_len(&self) -> usize {
        self.num_phases() * self.copies * self.pairs_len()
    }

    /// Elements of the output gradient in tiles of rows.
    pub(super) fn rows_len(&self) -> usize {
        self.oc_tiles * self.at_once.div_ceil(STEP) * B_TILE
    }

    /// Columns of tiles: the taps of each tile of input channels.
    pub(super) fn num_cols(&self) -> usize {
        self.ic_tiles * taps(self.p)
    }

    /// The copy of the pairs that a tap reads, counted through all phases, and its offset there in pairs.
    pub(super) fn place_of(&self, tap: usize) -> (usize, usize) {
        let (row, col) = (tap / self.tap_columns, tap % self.tap_columns);
        let phase = row % self.p.sh * self.p.sw.min(self.tap_columns) + col % self.p.sw;
        let offset = row / self.p.sh * self.pitch + col / self.p.sw;
        (phase * self.copies + offset % 2, offset / 2)
    }

    /// The order in which columns are multiplied: the taps of one copy after another, so that what one of a block
    /// has loaded is in the first-level cache for the next. Of larger kernels as they come.
    pub(super) fn columns(&self) -> Columns {
        let taps = taps(self.p);
        let mut order = [Tap { index: 0, first: 0 }; MAX_ORDERED];
        let ordered = &mut order[..taps.min(MAX_ORDERED)];
        ordered.iter_mut().enumerate().for_each(|(i, tap)| *tap = self.tap(i));
        if taps <= MAX_ORDERED {
            ordered.sort_unstable_by_key(|tap| tap.first);
        }
        Columns { taps, of_tile: self.num_pairs * PAIR, order }
    }

    fn tap(&self, index: usize) -> Tap {
        let (copy, offset) = self.place_of(index);
        Tap { index, first: copy * self.pairs_len() + offset * PAIR }
    }
}

/// Columns of tiles in the order in which they are multiplied, with what takes divisions made once.
#[derive(Debug)]
pub(super) struct Columns {
    taps: usize,
    /// Elements from the pairs of one tile of channels to those of the next.
    of_tile: usize,
    order: [Tap; MAX_ORDERED],
}

/// A tap, and where the first B tile of the first channels starts among the pairs.
#[derive(Debug, Clone, Copy)]
struct Tap {
    index: usize,
    first: usize,
}

impl Columns {
    /// The column that is multiplied as the `i`-th, and where its first B tile starts among the pairs.
    pub(super) fn get(&self, layout: &Layout<'_>, i: usize) -> (usize, usize) {
        let (tile, tap) = (i / self.taps, i % self.taps);
        let Tap { index, first } = match self.order.get(tap) {
            Some(tap) => *tap,
            None => layout.tap(tap),
        };
        (tile * self.taps + index, tile * self.of_tile + first)
    }
}

/// The most taps that are put in order.
pub(super) const MAX_ORDERED: usize = 64;

/// Whole cache lines.
pub(super) fn lines(len: usize) -> usize {
    len.next_multiple_of(STEP)
}
