//! The one micro-kernel under every convolution pass: a block of `MR` rows by `NV` vectors of the
//! product `C[m, :] += Σ_k x[m, k] · w[k, :]`, held in registers.
//!
//! For each `k` it loads `NV` vectors of `w`, broadcasts `MR` scalars of `x` and does `MR·NV` FMAs.
//! Only `x`'s strides tell the passes apart: forward and backward data walk `k` along contiguous
//! channels with a pixel stride between rows; backward weight walks `k` over pixels with contiguous
//! channels as rows.
//!
//! Floor: `MR·NV` FMAs at two a cycle. Loads: `NV + MR` a `k` at two a cycle, so with `NV = 1` the
//! two are level, and with `NV = 2` the FMAs decide. At least eight accumulators hide the FMA's
//! latency of four cycles.

#[cfg(target_arch = "x86_64")]
use crate::simd::{Avx2, Avx512};
use crate::simd::{MAX_LANES, Portable, Simd};
use crate::{Element, Isa};
use half::bf16;

/// A stretch of `len` steps of `k` at constant strides, starting at these offsets in elements.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    pub(super) x: usize,
    pub(super) w: usize,
    pub(super) len: usize,
}

/// What the accumulators start from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// Zero: the output is overwritten.
    Zero,
    /// The output: the product is added to it.
    Output,
}

impl Start {
    /// What a product that accumulates or not starts from.
    pub(super) fn accumulating(accumulate: bool) -> Self {
        if accumulate { Self::Output } else { Self::Zero }
    }
}

/// Operands of one tile. All strides and offsets are in elements.
#[derive(Debug, Clone, Copy)]
pub(super) struct TileCall<'a, E> {
    pub(super) runs: &'a [Run],
    pub(super) x: *const f32,
    /// Stride of the one axis of `x` that is not contiguous.
    pub(super) x_stride: usize,
    pub(super) w: *const f32,
    pub(super) w_stride: usize,
    pub(super) out: *mut E,
    pub(super) out_stride: usize,
    /// Columns that exist, at most `NV · LANES`.
    pub(super) num_cols: usize,
    pub(super) start: Start,
}

/// Which axis of `x` is contiguous.
const ALONG_K: bool = true;
/// As [`ALONG_K`].
const ALONG_M: bool = false;

/// A tile of fixed size for one instruction set.
///
/// # Safety
/// The machine has the instruction set. For every `m < MR` and every step of every run, `x` and
/// `NV · LANES` elements of `w` are readable, and `num_cols` elements of each output row are
/// writable.
pub(super) type TileFn<E> = unsafe fn(&TileCall<'_, E>);

/// # Safety
/// As [`TileFn`].
#[inline(always)]
unsafe fn tile<S: Simd, E: Element, const MR: usize, const NV: usize, const ALONG: bool>(
    simd: S,
    call: &TileCall<'_, E>,
) {
    let lanes = S::LANES;
    let whole = call.num_cols == NV * lanes;
    let mut acc = [[simd.splat(0.0); NV]; MR];
    // SAFETY: all addresses are those the caller promises to be valid.
    unsafe {
        if call.start == Start::Output && whole {
            for (m, row) in acc.iter_mut().enumerate() {
                for (v, acc) in row.iter_mut().enumerate() {
                    *acc = E::load(simd, call.out.add(m * call.out_stride + v * lanes));
                }
            }
        }
        let (x_m, x_k) = if ALONG == ALONG_K { (call.x_stride, 1) } else { (1, call.x_stride) };
        for run in call.runs {
            let mut x = call.x.add(run.x);
            let mut w = call.w.add(run.w);
            for _ in 0..run.len {
                let mut wv = [simd.splat(0.0); NV];
                for (v, wv) in wv.iter_mut().enumerate() {
                    *wv = simd.load_ptr(w.add(v * lanes));
                }
                for (m, row) in acc.iter_mut().enumerate() {
                    let xv = simd.splat(*x.add(m * x_m));
                    for (acc, wv) in row.iter_mut().zip(wv) {
                        *acc = simd.fma(xv, wv, *acc);
                    }
                }
                // The last ones, which nothing is read from, may be outside of what `x` and `w` point into.
                x = x.wrapping_add(x_k);
                w = w.wrapping_add(call.w_stride);
            }
        }
        for (m, row) in acc.iter().enumerate() {
            let out = call.out.add(m * call.out_stride);
            if whole {
                for (v, acc) in row.iter().enumerate() {
                    E::store(simd, out.add(v * lanes), *acc);
                }
            } else {
                store_cols(simd, row, out, call.num_cols, call.start);
            }
        }
    }
}

/// Stores the first `num_cols` columns of a row, one by one.
///
/// # Safety
/// `num_cols` elements at `out` are writable.
#[inline(always)]
unsafe fn store_cols<S: Simd, E: Element, const NV: usize>(
    simd: S,
    row: &[S::F32; NV],
    out: *mut E,
    num_cols: usize,
    start: Start,
) {
    let mut cols = [0.0f32; 2 * MAX_LANES];
    for (v, acc) in row.iter().enumerate() {
        simd.store(&mut cols[v * S::LANES..], *acc);
    }
    for (i, col) in cols[..num_cols].iter().enumerate() {
        // SAFETY: `i < num_cols`.
        unsafe {
            let out = out.add(i);
            let before = if start == Start::Output { (*out).to_f32() } else { 0.0 };
            *out = E::from_f32(before + col);
        }
    }
}

/// # Safety
/// As [`TileFn`].
unsafe fn portable<E: Element, const MR: usize, const NV: usize, const ALONG: bool>(
    call: &TileCall<'_, E>,
) {
    // SAFETY: the caller's promise.
    unsafe { tile::<Portable, E, MR, NV, ALONG>(Portable, call) }
}

/// # Safety
/// As [`TileFn`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2<E: Element, const MR: usize, const NV: usize, const ALONG: bool>(
    call: &TileCall<'_, E>,
) {
    // SAFETY: the caller's promise; it includes the instruction set.
    unsafe { tile::<Avx2, E, MR, NV, ALONG>(Avx2::assume(), call) }
}

/// # Safety
/// As [`TileFn`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn avx512<E: Element, const MR: usize, const NV: usize, const ALONG: bool>(
    call: &TileCall<'_, E>,
) {
    // SAFETY: the caller's promise; it includes the instruction set.
    unsafe { tile::<Avx512<false>, E, MR, NV, ALONG>(Avx512::assume(), call) }
}

/// The tiles of one instruction set and one direction: `one[mr − 1]` and `two[mr − 1]` have one
/// and two vectors of columns.
#[derive(Debug)]
pub(super) struct Tiles<E: 'static> {
    pub(super) lanes: usize,
    one: &'static [TileFn<E>],
    two: &'static [TileFn<E>],
}

impl<E> Tiles<E> {
    /// The tile for `num_rows` rows and `num_vectors` vectors of columns.
    pub(super) fn get(&self, num_rows: usize, num_vectors: usize) -> TileFn<E> {
        match num_vectors {
            1 => self.one[num_rows - 1],
            _ => self.two[num_rows - 1],
        }
    }

    /// The most rows a tile has with this many vectors of columns.
    pub(super) fn max_rows(&self, num_vectors: usize) -> usize {
        match num_vectors {
            1 => self.one.len(),
            _ => self.two.len(),
        }
    }
}

/// Elements that tiles can write.
pub(super) trait TileElement: Element {
    /// The tiles of an instruction set with `x` contiguous along `k`.
    fn tiles_along_k(isa: Isa) -> &'static Tiles<Self>;
}

impl TileElement for f32 {
    fn tiles_along_k(isa: Isa) -> &'static Tiles<Self> {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => &AVX512_K_F32,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => &AVX2_K_F32,
            _ => &PORTABLE_K_F32,
        }
    }
}

impl TileElement for bf16 {
    fn tiles_along_k(isa: Isa) -> &'static Tiles<Self> {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => &AVX512_K_BF16,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => &AVX2_K_BF16,
            _ => &PORTABLE_K_BF16,
        }
    }
}

/// The tiles of an instruction set with `x` contiguous along rows, for gradients of weights.
pub(super) fn tiles_along_m(isa: Isa) -> &'static Tiles<f32> {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => &AVX512_M,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => &AVX2_M,
        _ => &PORTABLE_M,
    }
}

macro_rules! tiles {
    ($name:ident, $f:ident, $lanes:expr, $along:ident, $E:ident,
     one: [$($one:literal)*], two: [$($two:literal)*]) => {
        static $name: Tiles<$E> = Tiles {
            lanes: $lanes,
            one: &[$($f::<$E, $one, 1, $along>),*],
            two: &[$($f::<$E, $two, 2, $along>),*],
        };
    };
}

// 16 registers of 4 lanes on the x86-64 baseline, 16 of 8 with AVX2, 32 of 16 with AVX-512.
macro_rules! portable_tiles {
    ($name:ident, $along:ident, $E:ident) => {
        tiles!($name, portable, 8, $along, $E, one: [1 2 3 4 5 6], two: [1 2 3]);
    };
}

macro_rules! avx2_tiles {
    ($name:ident, $along:ident, $E:ident) => {
        #[cfg(target_arch = "x86_64")]
        tiles!($name, avx2, 8, $along, $E,
            one: [1 2 3 4 5 6 7 8 9 10 11 12], two: [1 2 3 4 5 6]);
    };
}

macro_rules! avx512_tiles {
    ($name:ident, $along:ident, $E:ident) => {
        #[cfg(target_arch = "x86_64")]
        tiles!($name, avx512, 16, $along, $E,
            one: [1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16],
            two: [1 2 3 4 5 6 7 8 9 10 11 12 13 14]);
    };
}

portable_tiles!(PORTABLE_K_F32, ALONG_K, f32);
portable_tiles!(PORTABLE_K_BF16, ALONG_K, bf16);
portable_tiles!(PORTABLE_M, ALONG_M, f32);
avx2_tiles!(AVX2_K_F32, ALONG_K, f32);
avx2_tiles!(AVX2_K_BF16, ALONG_K, bf16);
avx2_tiles!(AVX2_M, ALONG_M, f32);
avx512_tiles!(AVX512_K_F32, ALONG_K, f32);
avx512_tiles!(AVX512_K_BF16, ALONG_K, bf16);
avx512_tiles!(AVX512_M, ALONG_M, f32);
