use super::Simd;
use crate::Isa;
use std::arch::x86_64::*;

/// Proof that this machine has AVX-512 F, BW, DQ and VL.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx512(());

impl Avx512 {
    /// # Panics
    /// The machine lacks it.
    #[inline]
    pub(crate) fn detect() -> Self {
        assert!(Isa::Avx512.is_supported(), "this machine has no Avx512");
        Self(())
    }

    /// The token, where a function's own features are the proof.
    ///
    /// # Safety
    /// The machine has the instructions.
    #[inline(always)]
    pub(crate) unsafe fn assume() -> Self {
        Self(())
    }
}

impl Simd for Avx512 {
    const LANES: usize = 16;
    type F32 = __m512;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F32 {
        // SAFETY: the token proves the feature; so it does below.
        unsafe { _mm512_set1_ps(x) }
    }

    #[inline(always)]
    fn add(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        // SAFETY: the token.
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        // SAFETY: the token.
        unsafe { _mm512_sub_ps(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        // SAFETY: the token.
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    fn fma(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32 {
        // SAFETY: the token.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn fma_scalar(self, a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }

    #[inline(always)]
    fn relu(self, a: Self::F32) -> Self::F32 {
        // max(0, a), not max(a, 0): MAXPS returns its second operand when either is NaN.
        // SAFETY: the token.
        unsafe { _mm512_max_ps(_mm512_setzero_ps(), a) }
    }

    #[inline(always)]
    fn relu_mask(self, output: Self::F32, grad: Self::F32) -> Self::F32 {
        // SAFETY: the token.
        unsafe {
            let positive = _mm512_cmp_ps_mask::<_CMP_NLE_UQ>(output, _mm512_setzero_ps());
            _mm512_maskz_mov_ps(positive, grad)
        }
    }

    #[inline(always)]
    unsafe fn load_ptr(self, ptr: *const f32) -> Self::F32 {
        // SAFETY: the token, and the caller's promise.
        unsafe { _mm512_loadu_ps(ptr) }
    }

    #[inline(always)]
    unsafe fn store_ptr(self, ptr: *mut f32, x: Self::F32) {
        // SAFETY: the token, and the caller's promise.
        unsafe { _mm512_storeu_ps(ptr, x) }
    }
}
