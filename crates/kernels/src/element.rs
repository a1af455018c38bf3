//! What activations are stored as: f32 or bf16. Kernels compute in f32 either way.

use crate::simd::{Simd, simd_fn};
use half::bf16;
use std::any::TypeId;

/// A number format of activations and their gradients in memory.
pub trait Element: Copy + PartialEq + std::fmt::Debug + bytemuck::Pod + Send + Sync {
    /// Half the distance of 1 to the next number: the relative error of rounding to this format.
    const ROUNDING: f64;

    /// Rounds to nearest, ties to even.
    fn from_f32(x: f32) -> Self;
    /// The same number.
    fn to_f32(self) -> f32;

    /// The same numbers rounded to this format.
    #[doc(hidden)]
    fn round<S: Simd>(simd: S, x: S::F32) -> S::F32;
    /// The `LANES` elements at `ptr`.
    ///
    /// # Safety
    /// They must be readable.
    #[doc(hidden)]
    unsafe fn load<S: Simd>(simd: S, ptr: *const Self) -> S::F32;
    /// Writes `LANES` elements at `ptr`, rounded.
    ///
    /// # Safety
    /// They must be writable.
    #[doc(hidden)]
    unsafe fn store<S: Simd>(simd: S, ptr: *mut Self, x: S::F32);
    /// Writes `2 · LANES` elements at `ptr`, rounded.
    ///
    /// # Safety
    /// They must be writable.
    #[doc(hidden)]
    unsafe fn store_pair<S: Simd>(simd: S, ptr: *mut Self, pair: [S::F32; 2]);
    /// As [`store`](Self::store), of numbers that this format has.
    ///
    /// # Safety
    /// They must be writable.
    #[doc(hidden)]
    unsafe fn store_exact<S: Simd>(simd: S, ptr: *mut Self, x: S::F32) {
        // SAFETY: the caller's promise.
        unsafe { Self::store(simd, ptr, x) }
    }
}

impl Element for f32 {
    const ROUNDING: f64 = f32::EPSILON as f64 / 2.0;

    #[inline(always)]
    fn from_f32(x: f32) -> Self {
        x
    }

    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }

    #[inline(always)]
    fn round<S: Simd>(_simd: S, x: S::F32) -> S::F32 {
        x
    }

    #[inline(always)]
    unsafe fn load<S: Simd>(simd: S, ptr: *const Self) -> S::F32 {
        // SAFETY: the caller's promise.
        unsafe { simd.load_ptr(ptr) }
    }

    #[inline(always)]
    unsafe fn store<S: Simd>(simd: S, ptr: *mut Self, x: S::F32) {
        // SAFETY: the caller's promise.
        unsafe { simd.store_ptr(ptr, x) }
    }

    #[inline(always)]
    unsafe fn store_pair<S: Simd>(simd: S, ptr: *mut Self, [first, second]: [S::F32; 2]) {
        // SAFETY: the caller's promise.
        unsafe {
            simd.store_ptr(ptr, first);
            simd.store_ptr(ptr.add(S::LANES), second);
        }
    }
}

impl Element for bf16 {
    const ROUNDING: f64 = 1.0 / 256.0;

    #[inline(always)]
    fn from_f32(x: f32) -> Self {
        bf16::from_f32(x)
    }

    #[inline(always)]
    fn to_f32(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }

    #[inline(always)]
    fn round<S: Simd>(simd: S, x: S::F32) -> S::F32 {
        simd.round_bf16(x)
    }

    #[inline(always)]
    unsafe fn load<S: Simd>(simd: S, ptr: *const Self) -> S::F32 {
        // SAFETY: the caller's promise.
        unsafe { simd.load_bf16_ptr(ptr) }
    }

    #[inline(always)]
    unsafe fn store<S: Simd>(simd: S, ptr: *mut Self, x: S::F32) {
        // SAFETY: the caller's promise.
        unsafe { simd.store_bf16_ptr(ptr, x) }
    }

    #[inline(always)]
    unsafe fn store_pair<S: Simd>(simd: S, ptr: *mut Self, pair: [S::F32; 2]) {
        // SAFETY: the caller's promise.
        unsafe { simd.store_bf16_pair(ptr, pair) }
    }

    #[inline(always)]
    unsafe fn store_exact<S: Simd>(simd: S, ptr: *mut Self, x: S::F32) {
        // SAFETY: the caller's promise.
        unsafe { simd.store_exact_bf16_ptr(ptr, x) }
    }
}

/// Rounds, widens or copies every element.
pub fn convert<A: Element, B: Element>(from: &[A], to: &mut [B]) {
    assert_eq!(from.len(), to.len());
    if TypeId::of::<A>() == TypeId::of::<B>() {
        to.copy_from_slice(bytemuck::cast_slice(from));
        return;
    }
    for (from, to) in from.iter().zip(to) {
        *to = B::from_f32(from.to_f32());
    }
}

simd_fn! {
    /// Rounds every element, or copies it, in vectors.
    pub fn round<S, E>(simd, from: &[f32], to: &mut [E]) {
        assert_eq!(from.len(), to.len());
        let whole = from.len() - from.len() % S::LANES;
        for i in (0..whole).step_by(S::LANES) {
            simd.store(&mut to[i..], simd.load(&from[i..]));
        }
        convert(&from[whole..], &mut to[whole..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;

    simd_fn! {
        fn widen<S>(simd, from: &[bf16], to: &mut [f32]) {
            for (from, to) in from.chunks_exact(S::LANES).zip(to.chunks_exact_mut(S::LANES)) {
                simd.store(to, simd.load(from));
            }
        }
    }

    /// Ties, carries into the exponent, overflow, subnormals, infinities and NaN among others.
    fn values() -> Vec<f32> {
        let mut bits: Vec<u32> = (0..1u32 << 16)
            .flat_map(|high| [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff].map(|low| high << 16 | low))
            .collect();
        bits.truncate(bits.len() / 16 * 16);
        bits.into_iter().map(f32::from_bits).collect()
    }

    #[test]
    fn vectors_round_and_widen_as_single_elements_do() {
        let values = values();
        let mut rounded = vec![bf16::ZERO; values.len()];
        let mut widened = vec![0.0; values.len()];
        for isa in Isa::supported() {
            round(isa, &values, &mut rounded);
            for (value, rounded) in values.iter().zip(&rounded) {
                let want = <bf16 as Element>::from_f32(*value);
                // Where an instruction rounds, subnormal numbers may count as 0.
                let flushed = value.is_subnormal() && rounded.to_bits() & 0x7fff == 0;
                let same = rounded.to_bits() == want.to_bits() || flushed && isa >= Isa::Avx512Bf16;
                assert!(same || value.is_nan() && rounded.is_nan(), "{isa} {value:e}: {rounded}");
            }
            widen(isa, &rounded, &mut widened);
            for (wide, narrow) in widened.iter().zip(&rounded) {
                assert_eq!(wide.to_bits() >> 16, u32::from(narrow.to_bits()), "{isa} {narrow}");
            }
        }
    }
}
