//! From tiles of sums to stored results: rounds them, adds what is asked for, and writes the pixels.

use super::epilogue::{Columns, Epilogue, Vector};
use super::walk::Tile;
use crate::conv2d::grid::Grid;
use crate::conv2d::pairs::TILE;
use crate::conv2d::tile::Start;
use crate::fetch::fetch_ahead;
use half::bf16;
use std::arch::x86_64::*;

/// Two column tiles of a pixel at a time.
const WIDE: u8 = 0;
/// The one column tile of two pixels that are neighbours in memory.
const JOINED: u8 = 1;
/// The one column tile of a pixel.
const NARROW: u8 = 2;

/// Where the rows of a tile of C go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Store<'a> {
    pub(super) grid: &'a Grid,
    pub(super) start: Start,
    pub(super) columns: Columns,
    /// Pixels from the start of one row to the start of the next, in the tiles.
    pub(super) pitch: usize,
}

impl Store<'_> {
    /// Rounds the rows of a tile and writes those that are pixels; returns how many.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
    pub(super) fn tile<P: Epilogue>(
        &self,
        sums: &[f32],
        tile: &Tile,
        out: &mut [bf16],
        registers: &mut P::Registers,
    ) -> usize {
        let grid = self.grid;
        let sums = &sums[tile.before * TILE..];
        let (mut row, mut col, mut first, mut written) = (tile.row, tile.col, 0, 0);
        while first < tile.len {
            let len = (self.pitch - col).min(tile.len - first);
            let pixels = len.min(grid.num_cols.saturating_sub(col));
            if pixels > 0 {
                let place = grid.out_first
                    + tile.sample * grid.out_sample_stride
                    + row * grid.out_row_stride
                    + col * grid.out_col_stride
                    + self.columns.first;
                self.row::<P>(&sums[first * TILE..], pixels, place, out, registers);
                written += pixels;
            }
            (row, col, first) = (row + 1, 0, first + len);
        }
        written
    }

    fn shape(&self) -> u8 {
        match self.columns.vector {
            Vector::PairOfTiles => WIDE,
            Vector::PairOfRows => JOINED,
            Vector::Pixel if self.columns.len > TILE => WIDE,
            Vector::Pixel => NARROW,
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
    fn row<P: Epilogue>(
        &self,
        sums: &[f32],
        len: usize,
        place: usize,
        out: &mut [bf16],
        registers: &mut P::Registers,
    ) {
        let row = (sums, len, place);
        match (self.shape(), self.start) {
            (WIDE, Start::Zero) => self.pixels::<P, WIDE, false>(row, out, registers),
            (WIDE, Start::Output) => self.pixels::<P, WIDE, true>(row, out, registers),
            (JOINED, Start::Zero) => self.pixels::<P, JOINED, false>(row, out, registers),
            (JOINED, Start::Output) => self.pixels::<P, JOINED, true>(row, out, registers),
            (_, Start::Zero) => self.pixels::<P, NARROW, false>(row, out, registers),
            (_, Start::Output) => self.pixels::<P, NARROW, true>(row, out, registers),
        }
    }

    /// Writes `len` pixels of a row, perhaps added to what is there.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
    fn pixels<P: Epilogue, const SHAPE: u8, const ADD: bool>(
        &self,
        (sums, len, place): (&[f32], usize, usize),
        out: &mut [bf16],
        registers: &mut P::Registers,
    ) {
        let stride = self.grid.out_col_stride;
        let num_cols = self.columns.pixels() * self.columns.len;
        let tiles = if SHAPE == WIDE { 2 } else { 1 };
        assert!(sums.len() >= (tiles - 1) * TILE * TILE + len * TILE);
        assert!(out.len() >= place + (len - 1) * stride + num_cols && num_cols <= tiles * TILE);
        let mask = ((1u64 << num_cols) - 1) as __mmask32;
        let (pixels_at_once, mask) = if SHAPE == JOINED { (2, u32::MAX) } else { (1, mask) };
        let mut own = *registers;
        for i in (0..len).step_by(pixels_at_once) {
            let alone = SHAPE == JOINED && i + 1 == len;
            let mask = if alone { mask >> TILE } else { mask };
            // SAFETY: both slices are long enough, as asserted above; the mask has as many bits as
            // there are columns, or pixels left.
            unsafe {
                let place = place + i * stride;
                let at = out.as_mut_ptr().add(place);
                let first = sums.as_ptr().add(i * TILE);
                fetch_ahead(at);
                let mut left = _mm512_loadu_ps(first);
                let mut right = match SHAPE {
                    WIDE => _mm512_loadu_ps(first.add(TILE * TILE)),
                    JOINED if !alone => _mm512_loadu_ps(first.add(TILE)),
                    _ => _mm512_setzero_ps(),
                };
                if ADD {
                    let before = _mm512_maskz_loadu_epi16(mask, at.cast());
                    left = _mm512_add_ps(left, widen(_mm512_castsi512_si256(before)));
                    let high = _mm512_extracti64x4_epi64::<1>(before);
                    right = _mm512_add_ps(right, widen(high));
                }
                let rounded: __m512i = std::mem::transmute(_mm512_cvtne2ps_pbh(right, left));
                let rounded = P::take(&mut own, place, rounded, mask);
                _mm512_mask_storeu_epi16(at.cast(), mask, rounded);
            }
        }
        *registers = own;
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn widen(elements: __m256i) -> __m512 {
    _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(elements)))
}
