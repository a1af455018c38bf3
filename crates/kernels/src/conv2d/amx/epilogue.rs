//! Sums over results, taken while they go from tiles to memory.
//!
//! 32 rounded results are looked at as 16 at even and 16 at odd places: each half is widened by one
//! instruction. What belongs to a channel is laid out the same way.

use crate::batch_norm::{MASK_NORMALISED, MASK_OUTPUT, Mask, merge_moments};
use crate::conv2d::pairs::TILE;
use crate::conv2d::sums::{Moments, NormGradSums};
use crate::fetch::fetch_ahead;
use half::bf16;
use std::arch::x86_64::*;
use std::ops::Range;

/// The columns of the weight that a block of tiles has, and how 32 results lie in a vector.
#[derive(Debug, Clone, Copy)]
pub(super) struct Columns {
    pub(super) first: usize,
    /// At most 32.
    pub(super) len: usize,
    pub(super) vector: Vector,
}

/// What a vector of 32 results is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Vector {
    /// Up to 32 columns of a pixel: a row of one tile or of two.
    Pixel,
    /// 16 columns of two neighbouring pixels: two rows of a tile.
    PairOfRows,
    /// 16 columns of two neighbouring pixels that are taken as one: a row of two tiles.
    PairOfTiles,
}

impl Columns {
    /// Pixels in a row of tiles.
    pub(super) fn pixels(&self) -> usize {
        if self.vector == Vector::PairOfTiles { 2 } else { 1 }
    }

    /// One value for each column, at the even and at the odd places of a vector.
    #[target_feature(enable = "avx512f")]
    fn spread(&self, values: &[f32; MAX_COLUMNS]) -> [__m512; 2] {
        let (low, high) = values.split_at(TILE);
        let high = if self.vector == Vector::Pixel { high } else { low };
        let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
        let odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
        // SAFETY: both are 16 numbers.
        let (low, high) =
            unsafe { (_mm512_loadu_ps(low.as_ptr()), _mm512_loadu_ps(high.as_ptr())) };
        [even, odd].map(|places| _mm512_permutex2var_ps(low, places, high))
    }

    /// The sum of each column's values: of one place, or of the same column of two pixels.
    #[target_feature(enable = "avx512f,avx512dq")]
    fn gather(&self, sums: [__m512; 2]) -> [f64; MAX_COLUMNS] {
        let places = at_places(sums);
        let (low, high) = places.split_at(TILE);
        let mut totals = places.map(f64::from);
        if self.vector != Vector::Pixel {
            for (total, (low, high)) in totals.iter_mut().zip(low.iter().zip(high)) {
                *total = f64::from(*low) + f64::from(*high);
            }
        }
        totals
    }

    /// The channels that they are.
    fn channels(&self) -> Range<usize> {
        self.first..self.first + self.len
    }
}

/// The most columns of two tiles.
const MAX_COLUMNS: usize = 2 * TILE;

/// The values at even and at odd places, in the order of places.
#[target_feature(enable = "avx512f")]
fn at_places([even, odd]: [__m512; 2]) -> [f32; MAX_COLUMNS] {
    let low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    let high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
    let mut places = [0.0; MAX_COLUMNS];
    // SAFETY: each half is 16 numbers.
    unsafe {
        let (first, second) = places.split_at_mut(TILE);
        _mm512_storeu_ps(first.as_mut_ptr(), _mm512_permutex2var_ps(even, low, odd));
        _mm512_storeu_ps(second.as_mut_ptr(), _mm512_permutex2var_ps(even, high, odd));
    }
    places
}

/// Some values, and zeros behind them.
#[inline(always)]
fn filled(values: impl Iterator<Item = f32>) -> [f32; MAX_COLUMNS] {
    let mut filled = [0.0; MAX_COLUMNS];
    filled.iter_mut().zip(values).for_each(|(to, from)| *to = from);
    filled
}

/// What is done to results on their way to memory.
pub(super) trait Epilogue {
    /// What is read and changed for each vector of some columns: a copy of its own, so that it stays in
    /// registers.
    type Registers: Copy;

    /// Starts with some columns, of which `seen` pixels were taken before; `first` has one pixel's, by their
    /// place among these columns.
    ///
    /// # Safety
    /// The machine has AVX-512.
    unsafe fn begin(
        &self,
        columns: &Columns,
        seen: usize,
        first: impl Fn(usize) -> f32,
    ) -> Self::Registers;
    /// Takes the results that go to `place`; returns what is stored there.
    ///
    /// # Safety
    /// The machine has AVX-512, and what is as long as the output has those elements of the 32 from
    /// `place` on that are in the mask.
    unsafe fn take(
        registers: &mut Self::Registers,
        place: usize,
        packed: __m512i,
        mask: __mmask32,
    ) -> __m512i;
    /// Adds up what was taken of `num_pixels` since it began.
    ///
    /// # Safety
    /// The machine has AVX-512.
    unsafe fn end(
        &mut self,
        columns: &Columns,
        registers: &Self::Registers,
        seen: usize,
        num_pixels: usize,
    );
}

/// Nothing.
pub(super) struct NoSums;

impl Epilogue for NoSums {
    type Registers = ();

    unsafe fn begin(&self, _columns: &Columns, _seen: usize, _first: impl Fn(usize) -> f32) {}

    #[inline(always)]
    unsafe fn take((): &mut (), _place: usize, packed: __m512i, _mask: __mmask32) -> __m512i {
        packed
    }

    unsafe fn end(&mut self, _columns: &Columns, (): &(), _seen: usize, _num_pixels: usize) {}
}

/// The results at even and at odd places, widened.
#[inline(always)]
fn widen(packed: __m512i) -> [__m512; 2] {
    // SAFETY: only called where there is AVX-512.
    unsafe {
        let high = _mm512_set1_epi32(0xffff_0000_u32 as i32);
        let (even, odd) = (_mm512_slli_epi32::<16>(packed), _mm512_and_si512(packed, high));
        [_mm512_castsi512_ps(even), _mm512_castsi512_ps(odd)]
    }
}

fn zeros() -> [__m512; 2] {
    // SAFETY: zero bits are numbers.
    unsafe { std::mem::zeroed() }
}

/// `Σ (x − shift)` and `Σ (x − shift)²`, from a shift that is close to the mean.
pub(super) struct TileMoments<'a>(pub(super) Moments<'a>);

#[derive(Clone, Copy)]
pub(super) struct MomentSums {
    shift: [__m512; 2],
    sum: [__m512; 2],
    squares: [__m512; 2],
}

impl Epilogue for TileMoments<'_> {
    type Registers = MomentSums;

    #[target_feature(enable = "avx512f")]
    unsafe fn begin(
        &self,
        columns: &Columns,
        seen: usize,
        first: impl Fn(usize) -> f32,
    ) -> MomentSums {
        let shift = match self.0.count + seen {
            0 => filled((0..columns.len).map(|i| bf16::from_f32(first(i)).to_f32())),
            _ => filled(self.0.mean[columns.channels()].iter().map(|mean| *mean as f32)),
        };
        MomentSums { shift: columns.spread(&shift), sum: zeros(), squares: zeros() }
    }

    #[inline(always)]
    unsafe fn take(
        registers: &mut MomentSums,
        _place: usize,
        packed: __m512i,
        mask: __mmask32,
    ) -> __m512i {
        // Lanes of columns that don't exist hold 0 and are not gathered, but those of a pixel that
        // doesn't are.
        let lanes = if mask == 0xffff { 0x00ff } else { 0xffff };
        let MomentSums { shift, sum, squares } = registers;
        let x = widen(packed);
        for i in 0..2 {
            // SAFETY: the caller's promise.
            unsafe {
                let deviation = _mm512_maskz_sub_ps(lanes, x[i], shift[i]);
                sum[i] = _mm512_add_ps(sum[i], deviation);
                squares[i] = _mm512_fmadd_ps(deviation, deviation, squares[i]);
            }
        }
        packed
    }

    #[target_feature(enable = "avx512f,avx512dq")]
    unsafe fn end(
        &mut self,
        columns: &Columns,
        registers: &MomentSums,
        seen: usize,
        num_pixels: usize,
    ) {
        if num_pixels == 0 {
            return;
        }
        let Moments { count, mean, m2 } = &mut self.0;
        let MomentSums { shift, sum, squares } = *registers;
        let (n, shift) = (num_pixels as f64, at_places(shift).map(f64::from));
        let (sum, squares) = (columns.gather(sum), columns.gather(squares));
        let (mut added_mean, mut added_m2) = (shift, squares);
        for i in 0..MAX_COLUMNS {
            let off = sum[i] / n;
            added_mean[i] += off;
            added_m2[i] -= off * sum[i];
        }
        let channels = columns.channels();
        let (mean, m2) = (&mut mean[channels.clone()], &mut m2[channels]);
        merge_moments(
            *count + seen,
            mean,
            m2,
            num_pixels,
            &added_mean[..columns.len],
            &added_m2[..columns.len],
        );
    }
}

/// Masks a gradient; `Σ grad` and `Σ grad · (input − mean)`. `MASK` is the kind of mask.
pub(super) struct TileGradSums<'a, const MASK: u8>(NormGradSums<'a, bf16>);

#[derive(Clone, Copy)]
pub(super) struct GradSums {
    input: *const bf16,
    output: *const bf16,
    mean: [__m512; 2],
    scale: [__m512; 2],
    shift: [__m512; 2],
    sum: [__m512; 2],
    centred: [__m512; 2],
}

impl<'a, const MASK: u8> TileGradSums<'a, MASK> {
    /// # Panics
    /// The operands have fewer elements than the gradient.
    pub(super) fn new(sums: NormGradSums<'a, bf16>, grad_len: usize) -> Self {
        assert!(sums.input.len() >= grad_len);
        if let Mask::Output(of_relu) = sums.mask {
            assert!(of_relu.len() >= grad_len);
        }
        Self(sums)
    }
}

impl<const MASK: u8> Epilogue for TileGradSums<'_, MASK> {
    type Registers = GradSums;

    #[target_feature(enable = "avx512f")]
    unsafe fn begin(
        &self,
        columns: &Columns,
        _seen: usize,
        _first: impl Fn(usize) -> f32,
    ) -> GradSums {
        let NormGradSums { mask, input, mean, .. } = &self.0;
        let spread =
            |values: &[f32]| columns.spread(&filled(values[columns.channels()].iter().copied()));
        let mut registers = GradSums {
            input: input.as_ptr(),
            output: std::ptr::null(),
            mean: spread(mean),
            scale: zeros(),
            shift: zeros(),
            sum: zeros(),
            centred: zeros(),
        };
        match mask {
            Mask::None => {}
            Mask::Output(of_relu) => registers.output = of_relu.as_ptr(),
            Mask::Normalised { scale, shift } => {
                (registers.scale, registers.shift) = (spread(scale), spread(shift));
            }
        }
        registers
    }

    #[inline(always)]
    unsafe fn take(
        registers: &mut GradSums,
        place: usize,
        packed: __m512i,
        mask: __mmask32,
    ) -> __m512i {
        let GradSums { input, output, mean, scale, shift, sum, centred } = registers;
        // SAFETY: the caller's promise, and the lengths checked in `new`.
        unsafe {
            fetch_ahead(input.wrapping_add(place));
            if MASK == MASK_OUTPUT {
                fetch_ahead(output.wrapping_add(place));
            }
            let x = widen(_mm512_maskz_loadu_epi16(mask, input.add(place).cast()));
            let mut packed = _mm512_maskz_mov_epi16(mask, packed);
            let mut grad = widen(packed);
            if MASK == MASK_OUTPUT {
                let output = _mm512_maskz_loadu_epi16(mask, output.add(place).cast());
                // As integers, what is above 0 in bf16 is above 0; as unsigned ones, negative NaN is
                // above negative infinity.
                let open = _mm512_cmpgt_epi16_mask(output, _mm512_setzero_si512())
                    | _mm512_cmpgt_epu16_mask(output, _mm512_set1_epi16(0xff80_u16 as i16));
                packed = _mm512_maskz_mov_epi16(open, packed);
                grad = widen(packed);
            }
            if MASK == MASK_NORMALISED {
                for i in 0..2 {
                    let output = _mm512_fmadd_ps(x[i], scale[i], shift[i]);
                    let open = _mm512_cmp_ps_mask::<_CMP_NLE_UQ>(output, _mm512_setzero_ps());
                    grad[i] = _mm512_maskz_mov_ps(open, grad[i]);
                }
                let (even, odd) = (_mm512_castps_si512(grad[0]), _mm512_castps_si512(grad[1]));
                packed = _mm512_or_si512(_mm512_srli_epi32::<16>(even), odd);
            }
            for i in 0..2 {
                let deviation = _mm512_sub_ps(x[i], mean[i]);
                sum[i] = _mm512_add_ps(sum[i], grad[i]);
                centred[i] = _mm512_fmadd_ps(grad[i], deviation, centred[i]);
            }
            packed
        }
    }

    #[target_feature(enable = "avx512f,avx512dq")]
    unsafe fn end(
        &mut self,
        columns: &Columns,
        registers: &GradSums,
        _seen: usize,
        _num_pixels: usize,
    ) {
        let NormGradSums { sum_grad, sum_grad_centred, .. } = &mut self.0;
        let GradSums { sum, centred, .. } = *registers;
        for (totals, sums) in [(sum_grad, sum), (sum_grad_centred, centred)] {
            let totals = &mut totals[columns.channels()];
            totals.iter_mut().zip(columns.gather(sums)).for_each(|(total, sum)| *total += sum);
        }
    }
}
