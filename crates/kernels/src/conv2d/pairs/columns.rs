//! Weights in bf16, in pairs of rows: what products of pairs and tiles read.

use super::{B_TILE, TILE};
use half::bf16;
use std::arch::x86_64::*;

/// Columns of a vector of pairs.
pub(super) const COLUMNS: usize = TILE;

/// Up to [`COLUMNS`] columns of rows of a weight, at a constant distance.
pub(super) struct PairColumns<'a> {
    pub(super) values: &'a [f32],
    /// From one column to the next.
    pub(super) stride: usize,
    /// How many there are.
    pub(super) num: usize,
}

impl PairColumns<'_> {
    /// Writes `[row/2][col][row%2]` of 32 rows at a constant distance, given by the place of the first one's
    /// first column.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    pub(super) fn tile(&self, first: usize, row_stride: usize, out: &mut [bf16; B_TILE]) {
        if row_stride < self.stride {
            return self.turned_tile(first, row_stride, out);
        }
        let (pairs, _) = out.as_chunks_mut::<{ 2 * COLUMNS }>();
        for (i, pair) in pairs.iter_mut().enumerate() {
            let left = first + 2 * i * row_stride;
            self.pair(Some(left), Some(left + row_stride), pair);
        }
    }

    /// Takes the rows of a column at once, so that each cache line is read once.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    fn turned_tile(&self, first: usize, row_stride: usize, out: &mut [bf16; B_TILE]) {
        let mut columns = [_mm512_setzero_si512(); COLUMNS];
        for (i, column) in columns.iter_mut().enumerate().take(self.num) {
            let first = first + i * self.stride;
            let rows = |half: usize| {
                let values = &self.values[first + half * TILE * row_stride..];
                strided(values, row_stride, TILE)
            };
            let both = _mm512_cvtne2ps_pbh(rows(1), rows(0));
            // SAFETY: vectors of 32 numbers of bf16 are vectors of bits.
            *column = unsafe { std::mem::transmute::<__m512bh, __m512i>(both) };
        }
        let (pairs, _) = out.as_chunks_mut::<{ 2 * COLUMNS }>();
        for (row, pair) in turn(&columns).into_iter().zip(pairs) {
            // SAFETY: `pair` has 64 bytes.
            unsafe { _mm512_storeu_si512(pair.as_mut_ptr().cast(), row) }
        }
    }

    /// Writes `[col][2]` of two rows, given by the places of their first columns.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    pub(super) fn pair(
        &self,
        left: Option<usize>,
        right: Option<usize>,
        out: &mut [bf16; 2 * COLUMNS],
    ) {
        let (left, right) = (self.row(left), self.row(right));
        // SAFETY: vectors of 32 numbers of bf16 are vectors of bits.
        let both: __m512i = unsafe { std::mem::transmute(_mm512_cvtne2ps_pbh(right, left)) };
        let left = _mm512_cvtepu16_epi32(_mm512_castsi512_si256(both));
        let right = _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64::<1>(both));
        let pairs = _mm512_or_si512(left, _mm512_slli_epi32::<16>(right));
        // SAFETY: `out` has 64 bytes.
        unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), pairs) }
    }

    /// The columns of a row that exist, the others 0.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn row(&self, first: Option<usize>) -> __m512 {
        let Some(first) = first else { return _mm512_setzero_ps() };
        strided(&self.values[first..], self.stride, self.num)
    }
}

/// `num` values of at most 16 that are `stride` apart, the others 0.
#[inline]
#[target_feature(enable = "avx512f")]
fn strided(values: &[f32], stride: usize, num: usize) -> __m512 {
    assert!(num <= TILE && (num - 1) * stride < values.len() && stride < 1 << 27);
    let mask = ((1u32 << num) - 1) as __mmask16;
    let lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    // SAFETY: the last place in the mask exists, as asserted above, and fits 32 bits.
    unsafe {
        if stride == 1 {
            return _mm512_maskz_loadu_ps(mask, values.as_ptr());
        }
        let places = _mm512_mullo_epi32(lanes, _mm512_set1_epi32(stride as i32));
        _mm512_mask_i32gather_ps::<4>(_mm512_setzero_ps(), mask, places, values.as_ptr().cast())
    }
}

/// Transposes 16×16 elements of 32 bits.
#[inline]
#[target_feature(enable = "avx512f")]
fn turn(r: &[__m512i; 16]) -> [__m512i; 16] {
    let mut t = *r;
    // Pairs of rows, then fours, then the lanes of 128 bits.
    for i in (0..16).step_by(2) {
        t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    let mut u = t;
    for i in (0..16).step_by(4) {
        u[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        u[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        u[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        u[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    let mut v = u;
    for i in 0..4 {
        v[i] = _mm512_shuffle_i32x4::<0x88>(u[i], u[i + 4]);
        v[i + 4] = _mm512_shuffle_i32x4::<0xdd>(u[i], u[i + 4]);
        v[i + 8] = _mm512_shuffle_i32x4::<0x88>(u[i + 8], u[i + 12]);
        v[i + 12] = _mm512_shuffle_i32x4::<0xdd>(u[i + 8], u[i + 12]);
    }
    let mut w = v;
    for i in 0..8 {
        let (low, high) = (v[i], v[i + 8]);
        w[i] = _mm512_shuffle_i32x4::<0x88>(low, high);
        w[i + 8] = _mm512_shuffle_i32x4::<0xdd>(low, high);
    }
    w
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tile_is_the_same_along_rows_and_along_columns() {
        if !crate::Isa::Avx512Bf16.is_supported() {
            return;
        }
        let values: Vec<f32> = (0..40_000).map(|i| ((i * 7919) % 8191) as f32 * 0.37).collect();
        // Rows apart, columns apart, columns.
        let cases = [
            (1, 64, 16),
            (1, 40, 5),
            (9, 1_170, 16),
            (9, 297, 1),
            (64, 1, 16),
            (64, 1, 7),
            (1_152, 9, 16),
            (1_152, 9, 3),
        ];
        for (row_stride, stride, num) in cases {
            let columns = PairColumns { values: &values, stride, num };
            let mut tile = [bf16::NAN; B_TILE];
            // SAFETY: the machine has AVX512-BF16.
            unsafe { columns.tile(5, row_stride, &mut tile) };
            for (i, value) in tile.iter().enumerate() {
                let (row, col) = (i / (2 * COLUMNS) * 2 + i % 2, i / 2 % COLUMNS);
                let want = match col < num {
                    true => bf16::from_f32(values[5 + row * row_stride + col * stride]),
                    false => bf16::ZERO,
                };
                assert_eq!(value.to_bits(), want.to_bits(), "{stride} {num} row {row} col {col}");
            }
        }
    }
}
