//! Weights in bf16, in pairs of rows: what products of pairs and tiles read.

use half::bf16;
use std::arch::x86_64::*;

/// Columns of a vector of pairs.
pub(in crate::conv2d) const COLUMNS: usize = 16;

/// Up to [`COLUMNS`] columns of rows of a weight, at a constant distance.
pub(in crate::conv2d) struct PairColumns<'a> {
    pub(in crate::conv2d) values: &'a [f32],
    /// From one column to the next.
    pub(in crate::conv2d) stride: usize,
    /// How many there are.
    pub(in crate::conv2d) num: usize,
}

impl PairColumns<'_> {
    /// Writes `[col][2]` of two rows, given by the places of their first columns.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    pub(in crate::conv2d) fn pair(
        &self,
        left: Option<usize>,
        right: Option<usize>,
        out: &mut [bf16; 2 * COLUMNS],
    ) {
        let (left, right) = (self.gather(left), self.gather(right));
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
    fn gather(&self, first: Option<usize>) -> __m512 {
        let Some(first) = first else { return _mm512_setzero_ps() };
        let values = &self.values[first..];
        assert!((self.num - 1) * self.stride < values.len() && self.stride < 1 << 27);
        let lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        let places = _mm512_mullo_epi32(lanes, _mm512_set1_epi32(self.stride as i32));
        let mask = ((1u32 << self.num) - 1) as __mmask16;
        // SAFETY: the last place in the mask exists, as asserted above, and fits 32 bits.
        unsafe {
            _mm512_mask_i32gather_ps::<4>(_mm512_setzero_ps(), mask, places, values.as_ptr().cast())
        }
    }
}
