//! Copies samples into working memory with zeros around it, so that the loops over it have no
//! edges.

use crate::{Element, convert};

/// The most elements of padded samples at once: 1 MiB, half a core's second-level cache.
const MAX_PADDED_LEN: usize = 1 << 18;

/// Where a sample of `h×w` pixels of `c` channels lies in a padded one of `padded_h×padded_w`.
/// `top` and `left` may be negative: then the first rows or columns are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Padding {
    pub(super) c: usize,
    pub(super) h: usize,
    pub(super) w: usize,
    pub(super) padded_h: usize,
    pub(super) padded_w: usize,
    pub(super) top: isize,
    pub(super) left: isize,
}

impl Padding {
    /// Whether the padded sample is the sample itself.
    pub(super) fn is_none(&self) -> bool {
        (self.h, self.w) == (self.padded_h, self.padded_w) && (self.top, self.left) == (0, 0)
    }

    /// Elements of the padded sample.
    pub(super) fn len(&self) -> usize {
        self.padded_h * self.padded_w * self.c
    }

    /// How many samples are padded at once beside a weight of `weight_len` elements: as many as
    /// are as large as the weight, so that a large one is not read anew for each sample.
    pub(super) fn samples_at_once(&self, weight_len: usize) -> usize {
        (weight_len.min(MAX_PADDED_LEN) / self.len().max(1)).max(1)
    }

    /// Writes the samples with zeros around them to the front of `padded`, and returns that part.
    pub(super) fn pad<'a, A: Element, B: Element>(
        &self,
        samples: &[A],
        padded: &'a mut [B],
    ) -> &'a [B] {
        let sample_len = self.h * self.w * self.c;
        let num_samples = samples.len() / sample_len;
        let padded = &mut padded[..num_samples * self.len()];
        for (sample, padded) in
            samples.chunks_exact(sample_len).zip(padded.chunks_exact_mut(self.len()))
        {
            self.copy(sample, padded);
        }
        padded
    }

    fn copy<A: Element, B: Element>(&self, sample: &[A], padded: &mut [B]) {
        let (rows, cols) =
            (kept(self.h, self.padded_h, self.top), kept(self.w, self.padded_w, self.left));
        let len = cols.len() * self.c;
        // What lies between two rows of data is zeroed at once.
        let mut done = 0;
        for y in rows {
            let (row, col) =
                (y.wrapping_add_signed(-self.top), cols.start.wrapping_add_signed(-self.left));
            let start = (y * self.padded_w + cols.start) * self.c;
            padded[done..start].fill(B::zeroed());
            done = start + len;
            let from = if len == 0 { &[] } else { &sample[(row * self.w + col) * self.c..][..len] };
            convert(from, &mut padded[start..done]);
        }
        padded[done..].fill(B::zeroed());
    }
}

/// The padded positions that hold data.
fn kept(size: usize, padded: usize, before: isize) -> std::ops::Range<usize> {
    let start = before.max(0) as usize;
    let end = (size as isize + before).clamp(0, padded as isize) as usize;
    start.min(end)..end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_surround_the_sample() {
        let padding = Padding { c: 2, h: 1, w: 2, padded_h: 3, padded_w: 4, top: 1, left: 1 };
        let mut scratch = vec![f32::NAN; 2 * padding.len()];
        let padded: &[f32] =
            padding.pad(&[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0], &mut scratch);
        let mut expected = [0.0; 48];
        expected[10..14].copy_from_slice(&[1.0, 2.0, 3.0, 4.0]);
        expected[34..38].copy_from_slice(&[5.0, 6.0, 7.0, 8.0]);
        assert_eq!(padded, expected);
    }

    #[test]
    fn a_sample_beyond_the_padded_one_leaves_zeros() {
        let padding = Padding { c: 2, h: 1, w: 2, padded_h: 1, padded_w: 1, top: 0, left: 3 };
        let mut padded = [f32::NAN; 2];
        padding.copy(&[1.0f32, 2.0, 3.0, 4.0], &mut padded);
        assert_eq!(padded, [0.0; 2]);
    }

    #[test]
    fn negative_padding_crops() {
        let padding = Padding { c: 1, h: 3, w: 3, padded_h: 1, padded_w: 1, top: -1, left: -1 };
        let mut scratch = [f32::NAN];
        let sample = [1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0];
        assert_eq!(padding.pad(&sample, &mut scratch), [5.0]);
    }
}
