//! The micro-kernel: a block of up to 14 rows by two vectors of 16 columns, or 16 by one, of
//! `C = Σ_k x[:, k] · w[k, :]` in registers, bf16 products summed in f32.
//!
//! For two `k` at once it loads the vectors of `w`, `[k/2][col][k%2]` in tiles of 16 columns, and of each row two
//! consecutive elements of `x`, where they lie, into all lanes.
//!
//! Floor: the products, see [`super`]. 14 rows by two vectors are 28 of them and 16 loads.

use crate::conv2d::tile::Start;
use half::bf16;
use std::arch::x86_64::*;

/// Columns of a vector.
const LANES: usize = 16;

/// Operands of one block. Strides are in elements.
#[derive(Debug, Clone, Copy)]
pub(super) struct BlockCall {
    /// The first row's window.
    pub(super) x: *const bf16,
    /// From one row's window to the next.
    pub(super) x_stride: usize,
    /// Rows of a window, elements of each, and their distance.
    pub(super) window_rows: usize,
    pub(super) window_len: usize,
    pub(super) window_stride: usize,
    /// Tiles, and from those of one row of the window and of one vector of columns to the next.
    pub(super) w: *const bf16,
    pub(super) w_row_stride: usize,
    pub(super) w_col_stride: usize,
    pub(super) out: *mut bf16,
    pub(super) out_stride: usize,
    /// Columns that exist.
    pub(super) num_cols: usize,
    pub(super) start: Start,
}

/// A block of a fixed size.
///
/// # Safety
/// The machine has AVX512-BF16. All windows and the packed weight of as many vectors of columns as the
/// block has are readable, and `num_cols` elements of each output row are writable; there is a column
/// in each vector.
pub(super) type BlockFn = unsafe fn(&BlockCall);

/// # Safety
/// As [`BlockFn`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn multiply<const MR: usize, const NV: usize>(call: &BlockCall) {
    let mut sums = [[_mm512_setzero_ps(); NV]; MR];
    // SAFETY: all addresses are those the caller promises to be valid.
    unsafe {
        for window_row in 0..call.window_rows {
            let mut x = call.x.add(window_row * call.window_stride);
            let mut w = call.w.add(window_row * call.w_row_stride);
            for _ in 0..call.window_len / 2 {
                let two = |m| x.add(m * call.x_stride).cast::<i32>().read_unaligned();
                add_products(&mut sums, w, call.w_col_stride, two);
                (x, w) = (x.add(2), w.add(2 * LANES));
            }
            if call.window_len % 2 == 1 {
                // What lies behind the window may be no number: it is not read.
                let one = |m| i32::from(x.add(m * call.x_stride).cast::<u16>().read());
                add_products(&mut sums, w, call.w_col_stride, one);
            }
        }
        for (m, sums) in sums.iter().enumerate() {
            store(sums, call, call.out.add(m * call.out_stride));
        }
    }
}

/// Adds the products of each row's `pair` with the vectors at `w`, `w_col_stride` elements apart.
///
/// # Safety
/// These are readable.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn add_products<const MR: usize, const NV: usize>(
    sums: &mut [[__m512; NV]; MR],
    w: *const bf16,
    w_col_stride: usize,
    pair: impl Fn(usize) -> i32,
) {
    // SAFETY: the caller's promise; any bits are pairs.
    unsafe {
        let w: [__m512bh; NV] = std::array::from_fn(|v| {
            std::mem::transmute(_mm512_loadu_si512(w.add(v * w_col_stride).cast()))
        });
        for (m, sums) in sums.iter_mut().enumerate() {
            let x: __m512bh = std::mem::transmute(_mm512_set1_epi32(pair(m)));
            for (sum, w) in sums.iter_mut().zip(w) {
                // The last operand alone may be a number in memory for all lanes, which saves an
                // instruction that takes as long as a product; where two products want it, one does.
                *sum = match NV {
                    1 => _mm512_dpbf16_ps(*sum, w, x),
                    _ => _mm512_dpbf16_ps(*sum, x, w),
                };
            }
        }
    }
}

/// Rounds a row and writes the columns that exist, perhaps added to what is there.
///
/// # Safety
/// `call.num_cols` elements at `out` are writable.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn store<const NV: usize>(sums: &[__m512; NV], call: &BlockCall, out: *mut bf16) {
    for (v, sum) in sums.iter().enumerate() {
        let cols = (call.num_cols - v * LANES).min(LANES);
        let mask = ((1u32 << cols) - 1) as __mmask16;
        // SAFETY: the columns in the mask exist.
        unsafe {
            let out = out.add(v * LANES).cast();
            let sum = match call.start {
                Start::Zero => *sum,
                Start::Output => {
                    let before = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, out));
                    _mm512_add_ps(*sum, _mm512_castsi512_ps(_mm512_slli_epi32::<16>(before)))
                }
            };
            let rounded: __m256i = std::mem::transmute(_mm512_cvtneps_pbh(sum));
            _mm256_mask_storeu_epi16(out.cast(), mask, rounded);
        }
    }
}

macro_rules! blocks {
    ($nv:literal: $($mr:literal)*) => { [$(multiply::<$mr, $nv>),*] };
}

static ONE: [BlockFn; 16] = blocks!(1: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16);
static TWO: [BlockFn; 14] = blocks!(2: 1 2 3 4 5 6 7 8 9 10 11 12 13 14);

/// The most rows of a block with this many vectors of columns (1 or 2).
pub(super) fn max_rows(num_vectors: usize) -> usize {
    if num_vectors == 1 { ONE.len() } else { TWO.len() }
}

/// The micro-kernel for this many rows and vectors of columns.
pub(super) fn block(num_rows: usize, num_vectors: usize) -> BlockFn {
    if num_vectors == 1 { ONE[num_rows - 1] } else { TWO[num_rows - 1] }
}
