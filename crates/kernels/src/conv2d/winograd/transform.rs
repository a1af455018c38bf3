//! The transforms of F(2×2, 3×3), channels as lanes (Lavin & Gray 2016, section 4.1):
//! `Y = Aᵀ [Σ (G g Gᵀ) ⊙ (Bᵀ d B)] A`, where `d` is a patch of 4×4 pixels and `Y` the 2×2 outputs that it
//! holds the windows of.
//!
//! ```text
//! Bᵀ = 1  0 −1  0     G = 1    0   0      Aᵀ = 1  1  1  0
//!      0  1  1  0         1/2  1/2 1/2         0  1 −1 −1
//!      0 −1  1  0         1/2 −1/2 1/2
//!      0  1  0 −1         0    0   1
//! ```
//!
//! Transformed patches are `[point][tile][channel]`, 16 points, each [`point_len`] elements from the next.

use crate::simd::{Simd, simd_fn};
use std::ops::Range;

/// Points of a transformed patch.
pub(super) const POINTS: usize = 16;

/// Elements from one point to the next: a cache line more than there are, so that the same tile's 16 places
/// don't all lie in the same set of the first-level cache.
pub(super) fn point_len(num_tiles: usize, channels: usize) -> usize {
    num_tiles * channels + 16
}

/// Where the patches of some samples lie: those of a sample in rows, each two pixels from the next.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patches {
    pub(super) channels: usize,
    /// Patches of a sample.
    pub(super) rows: usize,
    pub(super) cols: usize,
    /// Elements of a padded sample, and of a row of it.
    pub(super) sample_len: usize,
    pub(super) row_len: usize,
    /// The first patch.
    pub(super) first: usize,
}

impl Patches {
    pub(super) fn per_sample(&self) -> usize {
        self.rows * self.cols
    }

    /// Sample, row and column.
    fn position(&self, tile: usize) -> (usize, usize, usize) {
        (tile / self.per_sample(), tile / self.cols % self.rows, tile % self.cols)
    }

    /// The first element of a patch.
    fn place(&self, tile: usize) -> usize {
        let (sample, row, col) = self.position(tile);
        self.first + sample * self.sample_len + 2 * row * self.row_len + 2 * col * self.channels
    }
}

/// `Bᵀ d`
#[inline(always)]
fn b_t<S: Simd>(simd: S, [d0, d1, d2, d3]: [S::F32; 4]) -> [S::F32; 4] {
    [simd.sub(d0, d2), simd.add(d1, d2), simd.sub(d2, d1), simd.sub(d1, d3)]
}

/// `Aᵀ m`
#[inline(always)]
fn a_t<S: Simd>(simd: S, [m0, m1, m2, m3]: [S::F32; 4]) -> [S::F32; 2] {
    [simd.add(simd.add(m0, m1), m2), simd.sub(simd.sub(m1, m2), m3)]
}

/// `A y`
#[inline(always)]
fn a<S: Simd>(simd: S, [y0, y1]: [S::F32; 2]) -> [S::F32; 4] {
    [y0, simd.add(y0, y1), simd.sub(y0, y1), simd.sub(simd.splat(0.0), y1)]
}

/// Writes four vectors, each `stride` elements after the one before.
///
/// # Safety
/// Those elements exist.
#[inline(always)]
unsafe fn store_points<S: Simd>(
    simd: S,
    out: &mut [f32],
    first: usize,
    stride: usize,
    points: [S::F32; 4],
) {
    for (i, point) in points.into_iter().enumerate() {
        // SAFETY: the caller's promise.
        unsafe { simd.store_at(out, first + i * stride, point) }
    }
}

#[inline(always)]
fn column<V: Copy, const N: usize>(rows: &[[V; N]; 4], col: usize) -> [V; 4] {
    [rows[0][col], rows[1][col], rows[2][col], rows[3][col]]
}

simd_fn! {
    /// `Bᵀ d B` of some patches of the padded input.
    ///
    /// # Panics
    /// The channels are no whole vectors, or a patch or a result lies outside.
    pub(super) fn input<S>(simd, patches: &Patches, x: &[f32], tiles: Range<usize>, out: &mut [f32]) {
        let Patches { channels, row_len, .. } = *patches;
        let point_len = point_len(tiles.len(), channels);
        assert!(out.len() == POINTS * point_len && channels.is_multiple_of(S::LANES));
        for (i, tile) in tiles.enumerate() {
            let place = patches.place(tile);
            assert!(place + 3 * row_len + 4 * channels <= x.len());
            for channel in (0..channels).step_by(S::LANES) {
                let mut d = [[simd.splat(0.0); 4]; 4];
                for (row, d) in d.iter_mut().enumerate() {
                    for (col, d) in d.iter_mut().enumerate() {
                        let at = place + row * row_len + col * channels + channel;
                        // SAFETY: the patch lies inside, and has whole vectors.
                        *d = unsafe { simd.load_at(x, at) };
                    }
                }
                for d in &mut d {
                    *d = b_t(simd, *d);
                }
                for col in 0..4 {
                    let points = b_t(simd, column(&d, col));
                    let at = col * point_len + i * channels + channel;
                    // SAFETY: there is a vector for each point of each patch.
                    unsafe { store_points(simd, out, at, 4 * point_len, points) }
                }
            }
        }
    }
}

simd_fn! {
    /// `A y Aᵀ` of 2×2 gradients each: the adjoint of [`output`].
    ///
    /// # Panics
    /// As [`input`].
    pub(super) fn grad_output<S>(
        simd,
        patches: &Patches,
        grad: &[f32],
        tiles: Range<usize>,
        out: &mut [f32],
    ) {
        let Patches { channels, row_len, .. } = *patches;
        let point_len = point_len(tiles.len(), channels);
        assert!(out.len() == POINTS * point_len && channels.is_multiple_of(S::LANES));
        for (i, tile) in tiles.enumerate() {
            let place = patches.place(tile);
            assert!(place + row_len + 2 * channels <= grad.len());
            for channel in (0..channels).step_by(S::LANES) {
                let mut rows = [[simd.splat(0.0); 4]; 2];
                for (row, out) in rows.iter_mut().enumerate() {
                    let at = place + row * row_len + channel;
                    // SAFETY: the gradients lie inside, and have whole vectors.
                    let y = unsafe { [simd.load_at(grad, at), simd.load_at(grad, at + channels)] };
                    *out = a(simd, y);
                }
                let [top, bottom] = rows;
                for (col, y) in top.into_iter().zip(bottom).enumerate() {
                    let points = a(simd, [y.0, y.1]);
                    let at = col * point_len + i * channels + channel;
                    // SAFETY: there is a vector for each point of each patch.
                    unsafe { store_points(simd, out, at, 4 * point_len, points) }
                }
            }
        }
    }
}

simd_fn! {
    /// `Aᵀ m A` into pictures of `h×w` pixels, or added to them; of the last tiles only what exists.
    ///
    /// # Panics
    /// As [`input`].
    pub(super) fn output<S>(
        simd,
        patches: &Patches,
        m: &[f32],
        tiles: Range<usize>,
        size: (usize, usize),
        add: bool,
        out: &mut [f32],
    ) {
        let (channels, (h, w)) = (patches.channels, size);
        let point_len = point_len(tiles.len(), channels);
        assert!(m.len() == POINTS * point_len && channels.is_multiple_of(S::LANES));
        assert!(h.div_ceil(2) == patches.rows && w.div_ceil(2) == patches.cols);
        assert!(out.len() >= tiles.end.div_ceil(patches.per_sample()) * h * w * channels);
        for (i, tile) in tiles.enumerate() {
            let (sample, row, col) = patches.position(tile);
            let (num_rows, num_cols) = ((h - 2 * row).min(2), (w - 2 * col).min(2));
            let place = ((sample * h + 2 * row) * w + 2 * col) * channels;
            for channel in (0..channels).step_by(S::LANES) {
                let mut rows = [[simd.splat(0.0); 2]; 4];
                for (row, out) in rows.iter_mut().enumerate() {
                    let mut m4 = [simd.splat(0.0); 4];
                    for (col, value) in m4.iter_mut().enumerate() {
                        let at = (4 * row + col) * point_len + i * channels + channel;
                        // SAFETY: there is a vector for each point of each patch.
                        *value = unsafe { simd.load_at(m, at) };
                    }
                    *out = a_t(simd, m4);
                }
                for col in 0..num_cols {
                    let pixels = a_t(simd, column(&rows, col));
                    for (row, value) in pixels.into_iter().enumerate().take(num_rows) {
                        let at = place + (row * w + col) * channels + channel;
                        // SAFETY: the pixel is one of a picture's.
                        unsafe {
                            let value =
                                if add { simd.add(simd.load_at(out, at), value) } else { value };
                            simd.store_at(out, at, value);
                        }
                    }
                }
            }
        }
    }
}
