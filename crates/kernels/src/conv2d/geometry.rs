//! Which windows of what padded samples the passes of a direct convolution multiply.

use super::grid::{Grid, split};
use super::multiply::WindowWeight;
use crate::Conv2dProblem;
use crate::padding::Padding;
use std::ops::Range;

/// Elements of the input or the output of a 1×1 convolution that are taken at once, whichever has more: a
/// quarter of a megabyte in bf16, so that both stay in the second-level cache.
const PART_LEN: usize = 1 << 17;

/// Whether rows and samples don't matter: a 1×1 convolution without stride or padding.
pub(super) fn is_pointwise(p: &Conv2dProblem) -> bool {
    p.n > 0 && (p.kh, p.kw, p.sh, p.sw, p.ph, p.pw) == (1, 1, 1, 1, 0, 0)
}

/// Pixels of a pointwise convolution that are taken at once: more, if the weight is larger than they are.
fn pixels_at_once(p: &Conv2dProblem) -> usize {
    (PART_LEN.max(p.weight_len()) / p.ic.max(p.oc)).next_multiple_of(64)
}

/// What is done one after another: some pixels at a time where rows and samples don't matter, else all.
pub(super) fn parts(p: &Conv2dProblem) -> impl Iterator<Item = Conv2dProblem> {
    let p = *p;
    let pointwise = is_pointwise(&p);
    let num_pixels = if pointwise { p.n * p.ih * p.iw } else { 1 };
    let at_once = if pointwise { pixels_at_once(&p) } else { 1 };
    split(num_pixels, at_once).map(move |(_, len)| {
        if pointwise { Conv2dProblem { n: 1, ih: 1, iw: len, ..p } } else { p }
    })
}

/// The largest of the [`parts`] of this many samples or fewer, and how many there are.
pub(super) fn longest_part(p: &Conv2dProblem) -> (Conv2dProblem, usize) {
    if is_pointwise(p) {
        let (num_pixels, at_once) = (p.n * p.ih * p.iw, pixels_at_once(p));
        let part = Conv2dProblem { n: 1, ih: 1, iw: num_pixels.min(at_once), ..*p };
        (part, num_pixels.div_ceil(at_once))
    } else {
        (*p, 1)
    }
}

/// Padded rows have a multiple of so many pixels: two of 16 channels are a cache line of bf16, so that
/// the windows of pairs of pixels begin at one.
fn row_multiple(p: &Conv2dProblem) -> usize {
    let half_lines = |channels| channels % 32 == 16;
    let walks = (p.sw, p.kw > 1) == (1, true);
    if walks && (half_lines(p.ic) || half_lines(p.oc)) { 2 } else { 1 }
}

/// The padded input: as many rows and columns as the windows of the output rows `oh` reach.
pub(super) fn input_padding(p: &Conv2dProblem, oh: &Range<usize>) -> Padding {
    let axis = |size, padding: usize, windows: &Range<usize>, kernel, stride| Axis {
        size,
        before: padding as isize - (windows.start * stride) as isize,
        padded: (windows.len() - 1) * stride + kernel,
        windows: windows.len(),
        stride,
    };
    let rows = axis(p.ih, p.ph, oh, p.kh, p.sh);
    padding(p.ic, row_multiple(p), rows, axis(p.iw, p.pw, &(0..p.ow()), p.kw, p.sw))
}

/// The padded output gradient: as far as windows of backward data reach.
pub(super) fn grad_output_padding(p: &Conv2dProblem) -> Padding {
    let axis = |axis: PhaseAxis| Axis {
        size: axis.output,
        before: axis.before() as isize,
        padded: axis.padded(),
        windows: axis.input,
        stride: axis.stride,
    };
    let (rows, cols) = (axis(PhaseAxis::vertical(p)), axis(PhaseAxis::horizontal(p)));
    padding(p.oc, row_multiple(p), rows, cols)
}

/// One axis of padded samples.
#[derive(Debug, Clone, Copy)]
struct Axis {
    size: usize,
    /// Zeros before the first position, or, below zero, positions that are left out.
    before: isize,
    /// Positions with all zeros.
    padded: usize,
    /// Windows over them.
    windows: usize,
    stride: usize,
}

impl Axis {
    /// Positions from one row or sample to the next. Without a stride the zeros after one are those
    /// before the next, as long as each window has a place of its own.
    fn pitch(&self) -> usize {
        if self.stride > 1 {
            return self.padded;
        }
        let before = self.before.max(0) as usize;
        let after = self.padded.saturating_sub(self.size.saturating_add_signed(self.before));
        self.padded - before.min(after).min(self.padded - self.windows)
    }
}

fn padding(c: usize, row_multiple: usize, rows: Axis, cols: Axis) -> Padding {
    let (padded_h, padded_w) = (rows.pitch(), cols.pitch().next_multiple_of(row_multiple));
    // The last window ends with the last row that it reaches.
    let end = (rows.padded - 1) * padded_w + cols.padded;
    Padding {
        c,
        pitch: c,
        h: rows.size,
        w: cols.size,
        padded_h,
        padded_w,
        top: rows.before,
        left: cols.before,
        tail: end.saturating_sub(padded_h * padded_w),
    }
}

/// One axis of one stride phase of backward data: input positions `first, first + s, …`, each the
/// product of `taps` consecutive positions of the padded output gradient from `x0` on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Phase {
    pub(super) first: usize,
    pub(super) count: usize,
    pub(super) taps: usize,
    pub(super) x0: usize,
    /// The kernel position that meets the first of those: `last_tap, last_tap − s, …`
    pub(super) last_tap: usize,
}

/// The output gradient along one axis.
#[derive(Debug, Clone, Copy)]
struct PhaseAxis {
    input: usize,
    output: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
}

impl PhaseAxis {
    fn vertical(p: &Conv2dProblem) -> Self {
        Self { input: p.ih, output: p.oh(), kernel: p.kh, stride: p.sh, padding: p.ph }
    }

    fn horizontal(p: &Conv2dProblem) -> Self {
        Self { input: p.iw, output: p.ow(), kernel: p.kw, stride: p.sw, padding: p.pw }
    }

    /// Input position `i` meets output `q, q − 1, …` at kernel positions `r, r + s, …`, where
    /// `i + padding = q·s + r`: the first `i` of a residue, its `q`, and how many taps.
    fn residue(&self, residue: usize) -> (usize, usize, usize) {
        let s = self.stride;
        let first = (residue + s - self.padding % s) % s;
        (first, (first + self.padding) / s, self.kernel.saturating_sub(residue).div_ceil(s))
    }

    /// Zeros before the output gradient that windows reach.
    fn before(&self) -> usize {
        let reach = (0..self.stride.min(self.kernel)).map(|residue| {
            let (_, q, taps) = self.residue(residue);
            (taps - 1).saturating_sub(q)
        });
        reach.max().unwrap_or(0)
    }

    /// Positions of the padded output gradient: up to the last `q`.
    fn padded(&self) -> usize {
        let last = (self.input - 1 + self.padding) / self.stride;
        self.before() + self.output.max(last + 1)
    }

    fn phase(&self, residue: usize) -> Phase {
        let (first, q, taps) = self.residue(residue);
        let x0 = q + self.before() + 1 - taps.max(1);
        Phase {
            first,
            count: self.input.saturating_sub(first).div_ceil(self.stride),
            taps,
            x0,
            last_tap: residue + taps.saturating_sub(1) * self.stride,
        }
    }
}

/// The vertical and horizontal phases, in the order in which they are packed.
pub(super) fn phases(p: &Conv2dProblem) -> impl Iterator<Item = (Phase, Phase)> {
    let (vertical, horizontal) = (PhaseAxis::vertical(p), PhaseAxis::horizontal(p));
    (0..p.sh).flat_map(move |y| {
        (0..horizontal.stride).map(move |x| (vertical.phase(y), horizontal.phase(x)))
    })
}

pub(super) fn forward_weight(p: &Conv2dProblem) -> WindowWeight {
    let (window_rows, window_len, num_cols) = (p.kh, p.kw * p.ic, p.oc);
    let next = (p.kw > 1 && p.ow().is_multiple_of(2)).then_some(p.sw * p.ic);
    WindowWeight { window_rows, window_len, taps: p.kw, num_cols, next }
}

pub(super) fn phase_weight(p: &Conv2dProblem, (y, x): (Phase, Phase)) -> WindowWeight {
    let (window_rows, window_len, num_cols) = (y.taps, x.taps * p.oc, p.ic);
    let next = (p.sw == 1 && p.kw > 1 && p.iw.is_multiple_of(2)).then_some(p.oc);
    WindowWeight { window_rows, window_len, taps: x.taps, num_cols, next }
}

/// The output pixels of the rows `oh` of one sample.
pub(super) fn forward_grid(p: &Conv2dProblem, oh: &Range<usize>, padding: &Padding) -> Grid {
    Grid {
        num_samples: 1,
        x_first: 0,
        out_first: 0,
        x_sample_stride: padding.len(),
        out_sample_stride: oh.len() * p.ow() * p.oc,
        num_rows: oh.len(),
        num_cols: p.ow(),
        x_row_stride: p.sh * padding.row_pitch(),
        x_col_stride: p.sw * padding.pitch,
        out_row_stride: p.ow() * p.oc,
        out_col_stride: p.oc,
        window_rows: p.kh,
        window_len: p.kw * p.ic,
        window_stride: padding.row_pitch(),
    }
}

/// The input pixels of a phase of one sample.
pub(super) fn phase_grid(p: &Conv2dProblem, (y, x): (Phase, Phase), padding: &Padding) -> Grid {
    Grid {
        num_samples: 1,
        x_first: y.x0 * padding.row_pitch() + x.x0 * padding.pitch,
        out_first: (y.first * p.iw + x.first) * p.ic,
        x_sample_stride: padding.len(),
        out_sample_stride: p.ih * p.iw * p.ic,
        num_rows: y.count,
        num_cols: x.count,
        x_row_stride: padding.row_pitch(),
        x_col_stride: padding.pitch,
        out_row_stride: p.sh * p.iw * p.ic,
        out_col_stride: p.sw * p.ic,
        window_rows: y.taps,
        window_len: x.taps * p.oc,
        window_stride: padding.row_pitch(),
    }
}
