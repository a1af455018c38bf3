//! The positions of a gradient of a weight that are output pixels.

use crate::Conv2dProblem;
use std::ops::Range;

/// Positions that are output pixels, in runs without others between: an iterator over the pairs of each run,
/// counted from the first position that is asked for. No pair is in two runs.
#[derive(Debug, Clone)]
pub(in crate::conv2d) struct Pixels {
    /// Positions of a run, from one run of a sample to the next, and of all runs of a sample.
    len: usize,
    distance: usize,
    sample_len: usize,
    /// From one sample to the next.
    sample_distance: usize,
    /// Positions that are asked for: the first, a whole pair's, and the one after the last.
    first: usize,
    end: usize,
    /// Where the next run, and its sample, start.
    next: usize,
    sample: usize,
}

impl Pixels {
    /// Those of a gradient of a weight that are among `asked_for`, where positions go on from row to row
    /// after `pitch` and from sample to sample after `num_rows` rows.
    pub(super) fn within(
        p: &Conv2dProblem,
        pitch: usize,
        num_rows: usize,
        asked_for: Range<usize>,
    ) -> Self {
        let (oh, ow) = (p.oh(), p.ow());
        let Range { start: first, end } = asked_for;
        let rows_distance = num_rows * pitch;
        let (len, distance, sample_len, sample_distance) = match (pitch == ow, num_rows == oh) {
            (true, true) => (end, end, end, end),
            (true, false) => (oh * ow, oh * ow, oh * ow, rows_distance),
            (false, _) => (ow, pitch, oh * pitch, rows_distance),
        };
        let sample = first / sample_distance * sample_distance;
        Self { len, distance, sample_len, sample_distance, first, end, next: sample, sample }
    }
}

impl Iterator for Pixels {
    type Item = Range<usize>;

    #[inline]
    fn next(&mut self) -> Option<Range<usize>> {
        loop {
            let start = self.next;
            if start >= self.end {
                return None;
            }
            self.next += self.distance;
            if self.next - self.sample >= self.sample_len {
                self.sample += self.sample_distance;
                self.next = self.sample;
            }
            let (from, to) = (start.max(self.first), (start + self.len).min(self.end));
            if from < to {
                return Some((from - self.first) / 2..(to - self.first).div_ceil(2));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pair_with_a_pixel_is_there_once_and_no_other() {
        for (kernel, size, stride) in
            [(3, 7, 1), (3, 8, 1), (1, 5, 1), (1, 6, 2), (3, 9, 2), (7, 6, 1)]
        {
            let (n, ic, oc) = (3, 4, 4);
            let (ih, iw, kh, kw, sh, sw) = (size, size + 1, kernel, kernel, stride, stride);
            let (ph, pw) = (kernel / 2, kernel / 2);
            let p = Conv2dProblem { n, ic, ih, iw, oc, kh, kw, sh, sw, ph, pw };
            for extra_rows in [0, 2] {
                let (pitch, num_rows) = (p.ow() + (kernel - 1) / stride, p.oh() + extra_rows);
                let num_positions = p.n * num_rows * pitch;
                let is_pixel = |i: usize| {
                    i < num_positions && i % pitch < p.ow() && i / pitch % num_rows < p.oh()
                };
                for asked_for in [0..32, 32..64, 0..num_positions.next_multiple_of(32)] {
                    let first = asked_for.start;
                    // What follows the last sample does not matter.
                    let pairs: Vec<usize> = Pixels::within(&p, pitch, num_rows, asked_for.clone())
                        .flatten()
                        .take_while(|pair| first + 2 * pair < num_positions)
                        .collect();
                    let expected: Vec<usize> = (0..asked_for.len() / 2)
                        .filter(|pair| [0, 1].iter().any(|i| is_pixel(first + 2 * pair + i)))
                        .collect();
                    assert_eq!(pairs, expected, "{p:?}, {pitch}, {num_rows}, {asked_for:?}");
                }
            }
        }
    }
}
