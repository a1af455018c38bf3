//! Samples laid out with zeros around them, so that the loops over them have no edges.

use crate::source::Source;
use crate::{Element, Isa};
use bytemuck::Zeroable;

/// The most elements of padded samples at once: 1 MiB, half a core's second-level cache.
const MAX_PADDED_LEN: usize = 1 << 18;

/// Where a sample of `h×w` pixels of `c` channels lies in a padded one of `padded_h×padded_w`.
/// `top` and `left` may be negative: then the first rows or columns are left out.
///
/// Zeros after one row may be those before the next, and zeros below one sample those above the next:
/// then `padded_h` and `padded_w` count them once, and `tail` more pixels follow the last sample.
///
/// Padded pixels are `pitch` elements apart, `c` or more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Padding {
    pub(crate) c: usize,
    pub(crate) pitch: usize,
    pub(crate) h: usize,
    pub(crate) w: usize,
    pub(crate) padded_h: usize,
    pub(crate) padded_w: usize,
    pub(crate) top: isize,
    pub(crate) left: isize,
    pub(crate) tail: usize,
}

impl Padding {
    /// None, around rows of `c` channels.
    pub(crate) fn none(num_pixels: usize, c: usize) -> Self {
        let (h, w) = (1, num_pixels);
        Self { c, pitch: c, h, w, padded_h: h, padded_w: w, top: 0, left: 0, tail: 0 }
    }

    /// Whether the padded sample is the sample itself.
    pub(crate) fn is_none(&self) -> bool {
        (self.h, self.w) == (self.padded_h, self.padded_w)
            && (self.top, self.left, self.tail) == (0, 0, 0)
            && self.pitch == self.c
    }

    /// Whether pixels are left out.
    pub(crate) fn crops(&self) -> bool {
        let (rows, cols) = (self.kept_rows(), self.kept_cols());
        (rows.len(), cols.len()) != (self.h, self.w)
    }

    /// Elements of a sample.
    pub(crate) fn sample_len(&self) -> usize {
        self.h * self.w * self.c
    }

    /// Elements of a padded sample.
    pub(crate) fn len(&self) -> usize {
        self.padded_h * self.row_pitch()
    }

    /// Elements from one padded row to the next.
    pub(crate) fn row_pitch(&self) -> usize {
        self.padded_w * self.pitch
    }

    /// Elements of so many padded samples.
    pub(crate) fn total_len(&self, num_samples: usize) -> usize {
        num_samples * self.len() + self.tail * self.pitch
    }

    /// How many samples are padded at once beside a weight of `weight_len` elements: as many as
    /// are as large as the weight, so that a large one is not read anew for each sample.
    pub(crate) fn samples_at_once(&self, weight_len: usize) -> usize {
        (weight_len.min(MAX_PADDED_LEN) / self.len().max(1)).max(1)
    }

    /// The padded positions that hold data.
    fn kept_rows(&self) -> std::ops::Range<usize> {
        kept(self.h, self.padded_h, self.top)
    }

    fn kept_cols(&self) -> std::ops::Range<usize> {
        kept(self.w, self.padded_w, self.left)
    }

    /// Elements of each of the [`stretches`](Self::stretches).
    pub(crate) fn stretch_len(&self) -> usize {
        self.pixels_at_once() * self.c
    }

    /// Pixels of a row that lie side by side in the padded samples, too.
    fn pixels_at_once(&self) -> usize {
        let kept = self.kept_cols().len();
        if self.pitch == self.c { kept } else { kept.min(1) }
    }

    /// The first element of the padded ones that holds data.
    pub(crate) fn first(&self) -> usize {
        self.kept_rows().start * self.row_pitch() + self.kept_cols().start * self.pitch
    }

    /// Where each stretch that is kept starts in the samples, and where in the padded ones: whole rows,
    /// or single pixels where these are apart.
    pub(crate) fn stretches(&self, num_samples: usize) -> Stretches {
        let Self { c, pitch, w, top, left, .. } = *self;
        let (rows, cols) = (self.kept_rows(), self.kept_cols());
        let (num_rows, in_row) = (rows.len(), cols.len() / self.pixels_at_once().max(1));
        // Back from the last stretch of a row, and from the last row.
        let (cols_back, rows_back) = (in_row.saturating_sub(1), num_rows.saturating_sub(1));
        let step = |col: usize, row: usize, sample: usize| Step {
            col,
            row: row - cols_back * col,
            sample: sample - rows_back * row - cols_back * col,
        };
        // Without stretches there may be no such place.
        let from = rows.start.wrapping_add_signed(-top).wrapping_mul(w);
        let from = from.wrapping_add(cols.start.wrapping_add_signed(-left)).wrapping_mul(c);
        Stretches {
            next: (from, self.first()),
            step_from: step(c, w * c, self.sample_len()),
            step_to: step(pitch, self.row_pitch(), self.len()),
            in_row,
            num_rows,
            cols_left: in_row,
            rows_left: num_rows,
            samples_left: if in_row * num_rows == 0 { 0 } else { num_samples },
        }
    }

    /// Lays out samples at the front of `padded`, and returns that part. The zeros around them are there
    /// already if as many were laid out there `before`.
    pub(crate) fn pad<'a, A: Element, B: Element>(
        &self,
        isa: Isa,
        samples: Source<'_, A>,
        before: usize,
        padded: &'a mut [B],
    ) -> &'a mut [B] {
        let num_samples = samples.len() / self.sample_len();
        let padded = &mut padded[..self.total_len(num_samples)];
        if before != num_samples {
            self.clear_borders(num_samples, padded);
        }
        samples.fill(isa, self, padded);
        padded
    }

    /// Zeros everything but the stretches.
    fn clear_borders<B: Zeroable + Copy>(&self, num_samples: usize, padded: &mut [B]) {
        let len = self.stretch_len();
        let mut done = 0;
        for (_, to) in self.stretches(num_samples) {
            clear(&mut padded[done..to]);
            done = to + len;
        }
        clear(&mut padded[done..]);
    }
}

/// How far the next stretch is: in the same row, from a row's last, and from a sample's last.
#[derive(Debug, Clone, Copy)]
struct Step {
    col: usize,
    row: usize,
    sample: usize,
}

/// Stretches of samples; see [`Padding::stretches`].
// Numbers alone: nested iterators are moved by wide loads of what narrow stores have just written, and such a
// load waits until all stores before it are done, those of the last stretch too.
#[derive(Debug)]
pub(crate) struct Stretches {
    next: (usize, usize),
    step_from: Step,
    step_to: Step,
    in_row: usize,
    num_rows: usize,
    cols_left: usize,
    rows_left: usize,
    samples_left: usize,
}

impl Iterator for Stretches {
    type Item = (usize, usize);

    #[inline(always)]
    fn next(&mut self) -> Option<(usize, usize)> {
        if self.samples_left == 0 {
            return None;
        }
        let (from, to) = self.next;
        let step = |step: Step| match (self.cols_left, self.rows_left) {
            (2.., _) => step.col,
            (_, 2..) => step.row,
            _ => step.sample,
        };
        self.next = (from + step(self.step_from), to + step(self.step_to));
        self.cols_left -= 1;
        if self.cols_left == 0 {
            (self.cols_left, self.rows_left) = (self.in_row, self.rows_left - 1);
            if self.rows_left == 0 {
                (self.rows_left, self.samples_left) = (self.num_rows, self.samples_left - 1);
            }
        }
        Some((from, to))
    }
}

/// Zeros a gap; for the short ones between rows a call would take longer than the stores.
fn clear<B: Zeroable + Copy>(gap: &mut [B]) {
    const CHUNK: usize = 16;
    let zeros = [B::zeroed(); CHUNK];
    match gap.as_chunks_mut::<CHUNK>() {
        ([only], []) => *only = zeros,
        ([first, second], []) => (*first, *second) = (zeros, zeros),
        ([first, second, third, fourth], []) => {
            (*first, *second, *third, *fourth) = (zeros, zeros, zeros, zeros);
        }
        _ => gap.fill(B::zeroed()),
    }
}

/// The padded positions of one axis that hold data.
fn kept(size: usize, padded: usize, before: isize) -> std::ops::Range<usize> {
    let start = before.max(0) as usize;
    let end = (size as isize + before).clamp(0, padded as isize) as usize;
    start.min(end)..end
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pad(padding: &Padding, samples: &[f32]) -> Vec<f32> {
        let mut padded = vec![f32::NAN; padding.total_len(samples.len() / padding.sample_len())];
        let len = padding.pad(Isa::Portable, Source::Stored(samples), 0, &mut padded).len();
        assert_eq!(len, padded.len());
        padded
    }

    #[test]
    fn zeros_surround_the_sample() {
        let padding = Padding { padded_h: 3, padded_w: 4, top: 1, left: 1, ..Padding::none(2, 2) };
        let mut expected = [0.0; 48];
        expected[10..14].copy_from_slice(&[1.0, 2.0, 3.0, 4.0]);
        expected[34..38].copy_from_slice(&[5.0, 6.0, 7.0, 8.0]);
        assert_eq!(pad(&padding, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]), expected);
    }

    #[test]
    fn neighbours_share_zeros() {
        let padding =
            Padding { padded_h: 2, padded_w: 3, top: 1, left: 1, tail: 4, ..Padding::none(2, 1) };
        let expected = [0., 0., 0., 0., 1., 2., 0., 0., 0., 0., 3., 4., 0., 0., 0., 0.];
        assert_eq!(pad(&padding, &[1.0, 2.0, 3.0, 4.0]), expected);
    }

    #[test]
    fn a_sample_beyond_the_padded_one_leaves_zeros() {
        let padding = Padding { padded_w: 1, left: 3, ..Padding::none(2, 2) };
        assert!(padding.crops());
        assert_eq!(pad(&padding, &[1.0, 2.0, 3.0, 4.0]), [0.0; 2]);
    }

    #[test]
    fn pixels_lie_apart() {
        let padding = Padding { pitch: 3, ..Padding::none(2, 2) };
        assert!(!padding.is_none());
        assert_eq!(pad(&padding, &[1.0, 2.0, 3.0, 4.0]), [1.0, 2.0, 0.0, 3.0, 4.0, 0.0]);
        let padding = Padding { h: 2, padded_h: 2, padded_w: 1, left: -1, ..padding };
        let sample = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
        assert_eq!(pad(&padding, &sample), [3.0, 4.0, 0.0, 7.0, 8.0, 0.0]);
    }

    #[test]
    fn zeros_of_as_many_samples_before_stay() {
        let padding =
            Padding { padded_h: 2, padded_w: 3, top: 1, left: 1, tail: 4, ..Padding::none(2, 1) };
        let (first, second, third) = ([1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0], [9.0, 10.0]);
        let mut padded = vec![f32::NAN; padding.total_len(2)];
        let mut laid_out = |samples: &[f32], before: usize| {
            padding.pad(Isa::Portable, Source::Stored(samples), before, &mut padded).to_vec()
        };
        // Nothing was there: what isn't a sample's is left as it was.
        assert!(laid_out(&first, 2).iter().any(|x| x.is_nan()));
        laid_out(&first, 0);
        assert_eq!(laid_out(&second, 2), pad(&padding, &second));
        assert_eq!(laid_out(&third, 2), pad(&padding, &third));
    }

    #[test]
    fn negative_padding_crops() {
        let padding = Padding { h: 3, padded_w: 1, top: -1, left: -1, ..Padding::none(3, 1) };
        let sample = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0];
        assert!(padding.crops());
        assert_eq!(pad(&padding, &sample), [5.0]);
    }
}
