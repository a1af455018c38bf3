//! Weights as B tiles.

use super::block::{B_TILE, STEP, TILE};
use crate::conv2d::grid::Grid;
use crate::conv2d::multiply::{Rows, WindowWeight};
use half::bf16;
use std::arch::x86_64::*;

/// The layout `[col block][window row][step][k/2][col][k%2]`; rows of the window are filled up with
/// zeros to whole steps, columns to whole tiles.
///
/// Where there are 16 columns, two neighbouring pixels may be taken as one: their windows are one, wider
/// window, their columns two blocks, with zeros where one of the windows doesn't reach. That halves the
/// rows of `x` that are loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TilePacking {
    /// Of a pixel.
    pixel: WindowWeight,
    /// As multiplied.
    pub(super) weight: WindowWeight,
    /// Elements by which the second pixel's window begins later, if pixels are taken in pairs.
    pub(super) pair: Option<usize>,
}

impl TilePacking {
    pub(super) fn new(pixel: &WindowWeight) -> Self {
        let pixel = *pixel;
        let WindowWeight { window_len, num_cols, next, .. } = pixel;
        let free = |next: &usize| (window_len + next).div_ceil(STEP) == window_len.div_ceil(STEP);
        match next.filter(|next| num_cols == TILE && free(next)) {
            Some(next) => {
                let (window_len, num_cols) = (window_len + next, 2 * num_cols);
                let weight = WindowWeight { window_len, num_cols, ..pixel };
                Self { pixel, weight, pair: Some(next) }
            }
            None => Self { pixel, weight: pixel, pair: None },
        }
    }

    /// The grid of what is taken as one pixel.
    pub(super) fn grid(&self, grid: &Grid) -> Grid {
        match self.pair {
            Some(_) => Grid {
                num_cols: grid.num_cols / 2,
                x_col_stride: 2 * grid.x_col_stride,
                out_col_stride: 2 * grid.out_col_stride,
                window_len: self.weight.window_len,
                ..*grid
            },
            None => *grid,
        }
    }

    /// Steps of one window row.
    pub(super) fn steps(&self) -> usize {
        self.weight.window_len.div_ceil(STEP)
    }

    /// Elements of one column block.
    pub(super) fn block_len(&self) -> usize {
        self.weight.window_rows * self.steps() * B_TILE
    }

    pub(super) fn num_blocks(&self) -> usize {
        self.weight.num_cols.div_ceil(TILE)
    }

    pub(super) fn len(&self) -> usize {
        self.num_blocks() * self.block_len()
    }

    /// Fills `packed`.
    pub(super) fn pack(&self, packed: &mut [bf16], from: &Rows<'_, impl Fn(usize) -> usize>) {
        assert_eq!(packed.len(), self.len());
        assert!(crate::Isa::Avx512Bf16.is_supported());
        let WindowWeight { window_rows, window_len, num_cols, .. } = self.pixel;
        for (tile_i, tile) in packed.chunks_exact_mut(B_TILE).enumerate() {
            let (step, row) = (tile_i % self.steps(), tile_i / self.steps() % window_rows);
            let block = tile_i / self.steps() / window_rows;
            // A pair has the same columns twice.
            let (first_col, window_start) = match self.pair {
                Some(next) => (0, block * next),
                None => (block * TILE, 0),
            };
            let columns = Columns {
                values: from.values,
                stride: from.col_stride,
                num: TILE.min(num_cols - first_col),
            };
            let (pairs, _) = tile.as_chunks_mut::<{ 2 * TILE }>();
            for (k, pair) in (step * STEP..).step_by(2).zip(pairs) {
                let first = |k: usize| {
                    let k = k.checked_sub(window_start).filter(|k| *k < window_len)?;
                    Some((from.first_of)(row * window_len + k) + first_col * from.col_stride)
                };
                // SAFETY: the machine has AVX512-BF16.
                unsafe { columns.pair(first(k), first(k + 1), pair) }
            }
        }
    }
}

/// Up to 16 columns of rows of a weight, at a constant distance.
struct Columns<'a> {
    values: &'a [f32],
    stride: usize,
    num: usize,
}

impl Columns<'_> {
    /// Writes `[col][2]` of two rows, given by the places of their first columns.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    fn pair(&self, left: Option<usize>, right: Option<usize>, out: &mut [bf16; 2 * TILE]) {
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
