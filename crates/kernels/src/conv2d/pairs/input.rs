//! The input of a gradient of a weight, of which pairs of positions are made.
//!
//! Without a stride its positions are those of the padded input. That is laid out a few rows at a time, which are
//! in the first-level cache when pairs are made of them: pairs take as much of the second-level cache as they can.

use super::interleave::interleave;
use super::layout::Layout;
use crate::conv2d::lay_out::lay_out;
use crate::padding::Padding;
use crate::{Isa, Source};
use bytemuck::Zeroable;
use half::bf16;

/// Elements of rows that are laid out at once: a third of the first-level cache, in which pairs go by.
const ROWS_LEN: usize = 1 << 13;

/// Some samples.
pub(super) enum Input<'a> {
    /// The phases of the padded input, all positions of one after all of another.
    Phases(&'a [bf16]),
    /// Not laid out yet, and memory for some rows.
    Rows(Isa, Source<'a, bf16>, &'a mut [bf16]),
}

/// Elements of memory that [`Input::new`] wants: whole cache lines.
pub(super) fn memory_len(layout: &Layout<'_>) -> usize {
    let len = match layout.is_made_of_rows() {
        true => positions_at_once(layout) * layout.channels,
        false => layout.x.total_len(layout.num_samples).next_multiple_of(32) + layout.phases_len(),
    };
    len.next_multiple_of(32)
}

/// Positions that are laid out at once: pixels, or rows where zeros are around these, and so many that the next
/// begin with a pair.
fn positions_at_once(layout: &Layout<'_>) -> usize {
    let unit = if layout.x.is_none() { 1 } else { layout.pitch };
    let most = ROWS_LEN / (unit * layout.channels);
    (most & !1).max(2) * unit
}

impl<'a> Input<'a> {
    /// `before` is as in [`lay_out`].
    pub(super) fn new(
        isa: Isa,
        layout: &Layout<'_>,
        x: Source<'a, bf16>,
        before: usize,
        memory: &'a mut [bf16],
    ) -> Self {
        if layout.is_made_of_rows() {
            return match x {
                Source::Stored(stored) if layout.x.is_none() => Self::Phases(stored),
                x => Self::Rows(isa, x, memory),
            };
        }
        let padded_len = layout.x.total_len(layout.num_samples).next_multiple_of(32);
        let (padded, phases) = memory.split_at_mut(padded_len);
        let x = lay_out(isa, &layout.x, 0, x, before, padded);
        match layout.has_one_phase() {
            true => Self::Phases(x),
            false => Self::Phases(split_into_phases(layout, x, &mut phases[..layout.phases_len()])),
        }
    }

    /// The pairs of all phases from some position on, which begins a row.
    pub(super) fn pair(&mut self, layout: &Layout<'_>, first: usize, pairs: &mut [bf16]) {
        let (pairs_len, num_pairs) = (layout.pairs_len(), layout.num_pairs);
        let phases = match self {
            Self::Phases(phases) => *phases,
            Self::Rows(isa, x, memory) => {
                let (even, odd) = pairs.split_at_mut(pairs_len);
                return pair_rows(*isa, layout, x, first, memory, even, odd);
            }
        };
        let phase_len = phases.len() / layout.num_phases();
        let of_phases = pairs.chunks_exact_mut(layout.copies * pairs_len);
        for (phase, pairs) in phases.chunks_exact(phase_len).zip(of_phases) {
            let (even, odd) = pairs.split_at_mut(pairs_len);
            let line = &phase[first * layout.channels..];
            interleave(line, layout.channels, 0..num_pairs, even, odd);
        }
    }
}

/// As many pairs as are wanted, from a position on.
fn pair_rows(
    isa: Isa,
    layout: &Layout<'_>,
    x: &Source<'_, bf16>,
    first: usize,
    memory: &mut [bf16],
    even: &mut [bf16],
    odd: &mut [bf16],
) {
    let &Layout { channels, pitch, .. } = layout;
    let at_once = positions_at_once(layout);
    memory.fill(bf16::zeroed());
    // The row behind the last that taps reach has nothing but zeros to meet.
    let rows = (layout.at_once + layout.last_offset) / pitch * pitch;
    let wanted = if layout.x.is_none() { layout.at_once } else { rows };
    let end = layout.num_positions().min(first + wanted);
    for position in (first..end).step_by(at_once) {
        let len = at_once.min(end - position);
        let rows = &mut memory[..len * channels];
        lay_out_rows(isa, layout, x, position, rows);
        let first_pair = (position - first) / 2;
        let end_pair = match position + len == end {
            // With zeros for those behind.
            true => layout.num_pairs,
            false => first_pair + len / 2,
        };
        interleave(rows, channels, first_pair..end_pair, even, odd);
    }
}

/// The padded input from some position on, whole rows where zeros are around these. What is before and behind
/// rows is zero already.
fn lay_out_rows(
    isa: Isa,
    layout: &Layout<'_>,
    x: &Source<'_, bf16>,
    first: usize,
    out: &mut [bf16],
) {
    let Padding { c, h, w, padded_h, padded_w, top, .. } = layout.x;
    if layout.x.is_none() {
        let first = first * c;
        return x.part(first..first + out.len()).fill(isa, &Padding::none(out.len() / c, c), out);
    }
    let (top, row_len) = (top as usize, padded_w * c);
    let (mut row, end) = (first / padded_w, first / padded_w + out.len() / row_len);
    let mut rest = out;
    while row < end {
        let (sample, y) = (row / padded_h, row % padded_h);
        let (is_there, until) = match y {
            y if y < top => (false, top),
            y if y < top + h => (true, top + h),
            _ => (false, padded_h),
        };
        let len = (until - y).min(end - row);
        let (rows, behind) = rest.split_at_mut(len * row_len);
        if is_there {
            let first = (sample * h + y - top) * w * c;
            let padding = Padding { h: len, padded_h: len, top: 0, tail: 0, ..layout.x };
            x.part(first..first + len * w * c).fill(isa, &padding, rows);
        } else {
            rows.fill(bf16::zeroed());
        }
        (row, rest) = (row + len, behind);
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

#[cfg(test)]
mod tests {
    use super::super::interleave::PAIR;
    use super::*;
    use crate::{Conv2dProblem, Normalised};

    fn numbers(len: usize) -> Vec<bf16> {
        (0..len).map(|i| bf16::from_f32((i * 37 % 256) as f32 - 99.0)).collect()
    }

    /// Of windows of two rows, made of a few rows at a time and of samples that are laid out as a whole.
    #[test]
    fn pairs_of_rows_are_those_of_padded_samples() {
        if !Isa::Avx512.is_supported() {
            return;
        }
        let isa = Isa::best().expect("the machine's");
        for problem in [
            "n3ic16oc16ih9kh3ph1",
            "n2ic19oc16ih7iw40kh3ph1",
            "n2ic64oc16ih5iw80kh3ph1",
            "n3ic16oc16ih6kh5ph2",
            "n2ic16oc16ih6iw3kh1kw3ph0pw1",
            "n3ic48oc16ih9kh1",
        ] {
            let p: Conv2dProblem = problem.parse().unwrap();
            let layout = Layout::new(&p, p.n);
            let at_once = layout.num_positions().min(2 * layout.unit());
            let layout = layout.with_at_once(at_once);
            assert!(layout.is_made_of_rows(), "{problem}");
            let x = numbers(p.input_len());
            let (scale, shift) = (vec![0.5; p.ic], vec![3.0; p.ic]);
            let made = Normalised {
                input: &x,
                scale: &scale,
                shift: &shift,
                residual: None,
                relu: true,
                output: None,
            };
            for source in [Source::Stored(&x[..]), Source::Normalised(made)] {
                let mut padded = vec![bf16::NAN; layout.x.total_len(p.n)];
                layout.x.pad(isa, source.reread(), 0, &mut padded);
                let mut memory = vec![bf16::NAN; memory_len(&layout)];
                let mut rows = Input::new(isa, &layout, source.reread(), 0, &mut memory);
                for first in (0..layout.num_positions()).step_by(layout.at_once) {
                    let mut got = vec![bf16::NAN; layout.copies * layout.pairs_len()];
                    let mut want = got.clone();
                    rows.pair(&layout, first, &mut got);
                    Input::Phases(&padded).pair(&layout, first, &mut want);
                    // Positions of the rows that are reached from a pixel of the window.
                    let reached =
                        (layout.at_once + layout.last_offset) / layout.unit() * layout.unit();
                    let len = reached.min(layout.num_positions() - first) / 2 * PAIR;
                    let tile_len = layout.num_pairs * PAIR;
                    for (got, want) in got.chunks(tile_len).zip(want.chunks(tile_len)) {
                        assert_eq!(got[..len], want[..len], "{problem} {first}");
                        assert!(got.iter().all(|x| x.is_finite()), "{problem} {first}");
                    }
                }
            }
        }
    }
}
