//! Copies one sample into working memory with zeros around it, so that the loops over it have no
//! edges.

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

    /// Elements of working memory it takes.
    pub(super) fn scratch_len(&self) -> usize {
        if self.is_none() { 0 } else { self.len() }
    }

    /// Overwrites `padded` with the sample and the zeros around it.
    pub(super) fn copy(&self, sample: &[f32], padded: &mut [f32]) {
        assert_eq!(sample.len(), self.h * self.w * self.c);
        assert_eq!(padded.len(), self.len());
        let (rows, cols) =
            (kept(self.h, self.padded_h, self.top), kept(self.w, self.padded_w, self.left));
        let len = cols.len() * self.c;
        for (y, out) in padded.chunks_exact_mut(self.padded_w * self.c).enumerate() {
            if !rows.contains(&y) || len == 0 {
                out.fill(0.0);
                continue;
            }
            let (row, col) =
                (y.wrapping_add_signed(-self.top), cols.start.wrapping_add_signed(-self.left));
            let start = cols.start * self.c;
            out[..start].fill(0.0);
            out[start..start + len]
                .copy_from_slice(&sample[(row * self.w + col) * self.c..][..len]);
            out[start + len..].fill(0.0);
        }
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
        let mut padded = vec![f32::NAN; padding.len()];
        padding.copy(&[1.0, 2.0, 3.0, 4.0], &mut padded);
        let mut expected = [0.0; 24];
        expected[10..14].copy_from_slice(&[1.0, 2.0, 3.0, 4.0]);
        assert_eq!(padded, expected);
    }

    #[test]
    fn a_sample_beyond_the_padded_one_leaves_zeros() {
        let padding = Padding { c: 2, h: 1, w: 2, padded_h: 1, padded_w: 1, top: 0, left: 3 };
        let mut padded = [f32::NAN; 2];
        padding.copy(&[1.0, 2.0, 3.0, 4.0], &mut padded);
        assert_eq!(padded, [0.0; 2]);
    }

    #[test]
    fn negative_padding_crops() {
        let padding = Padding { c: 1, h: 3, w: 3, padded_h: 1, padded_w: 1, top: -1, left: -1 };
        let mut padded = [f32::NAN];
        padding.copy(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0], &mut padded);
        assert_eq!(padded, [5.0]);
    }
}
