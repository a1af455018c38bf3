use super::Simd;
use crate::Isa;
use half::bf16;
use std::arch::x86_64::*;

/// Proof that this machine has AVX2 and FMA.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx2(());

impl Avx2 {
    /// # Panics
    /// The machine lacks it.
    #[inline]
    pub(crate) fn detect() -> Self {
        Isa::Avx2.assert_supported();
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

impl Simd for Avx2 {
    const LANES: usize = 8;
    type F32 = __m256;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F32 {
        // SAFETY: the token proves the feature; so it does below.
        unsafe { _mm256_set1_ps(x) }
    }

    #[inline(always)]
    fn add(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        // SAFETY: the token.
        unsafe { _mm256_add_ps(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        // SAFETY: the token.
        unsafe { _mm256_sub_ps(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        // SAFETY: the token.
        unsafe { _mm256_mul_ps(a, b) }
    }

    #[inline(always)]
    fn fma(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32 {
        // SAFETY: the token.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn fma_scalar(self, a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }

    #[inline(always)]
    fn at_least(self, floor: Self::F32, a: Self::F32) -> Self::F32 {
        // max(floor, a), not max(a, floor): MAXPS returns its second operand when either is NaN.
        // SAFETY: the token.
        unsafe { _mm256_max_ps(floor, a) }
    }

    #[inline(always)]
    fn relu_mask(self, output: Self::F32, grad: Self::F32) -> Self::F32 {
        // SAFETY: the token.
        unsafe {
            let positive = _mm256_cmp_ps::<_CMP_NLE_UQ>(output, _mm256_setzero_ps());
            _mm256_and_ps(positive, grad)
        }
    }

    #[inline(always)]
    fn greater(self, best: [Self::F32; 2], x: [Self::F32; 2]) -> [Self::F32; 2] {
        // SAFETY: the token.
        unsafe {
            let greater = _mm256_cmp_ps::<_CMP_GT_OQ>(x[0], best[0]);
            let wins = _mm256_or_ps(greater, _mm256_cmp_ps::<_CMP_UNORD_Q>(x[0], x[0]));
            [_mm256_blendv_ps(best[0], x[0], wins), _mm256_blendv_ps(best[1], x[1], wins)]
        }
    }

    #[inline(always)]
    unsafe fn where_byte(self, ptr: *const u8, byte: u8, x: Self::F32) -> Self::F32 {
        // SAFETY: the token, and the caller's promise.
        unsafe {
            let found = _mm_cmpeq_epi8(_mm_loadl_epi64(ptr.cast()), _mm_set1_epi8(byte as i8));
            _mm256_and_ps(_mm256_castsi256_ps(_mm256_cvtepi8_epi32(found)), x)
        }
    }

    #[inline(always)]
    unsafe fn store_bytes(self, ptr: *mut u8, x: Self::F32) {
        // SAFETY: the token, and the caller's promise.
        unsafe {
            let numbers = _mm256_cvttps_epi32(x);
            let (low, high) =
                (_mm256_castsi256_si128(numbers), _mm256_extracti128_si256::<1>(numbers));
            let words = _mm_packus_epi32(low, high);
            _mm_storel_epi64(ptr.cast(), _mm_packus_epi16(words, words));
        }
    }

    #[inline(always)]
    unsafe fn load_ptr(self, ptr: *const f32) -> Self::F32 {
        // SAFETY: the token, and the caller's promise.
        unsafe { _mm256_loadu_ps(ptr) }
    }

    #[inline(always)]
    unsafe fn store_ptr(self, ptr: *mut f32, x: Self::F32) {
        // SAFETY: the token, and the caller's promise.
        unsafe { _mm256_storeu_ps(ptr, x) }
    }

    #[inline(always)]
    unsafe fn load_bf16_ptr(self, ptr: *const bf16) -> Self::F32 {
        // SAFETY: the token, and the caller's promise.
        unsafe {
            let bits = _mm256_cvtepu16_epi32(_mm_loadu_si128(ptr.cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(bits))
        }
    }

    #[inline(always)]
    fn round_bf16(self, x: Self::F32) -> Self::F32 {
        // SAFETY: the token.
        unsafe {
            let bits = _mm256_castps_si256(x);
            let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
            let half = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
            let rounded = _mm256_add_epi32(bits, half);
            let nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(x, x));
            let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x40_0000));
            let high = _mm256_set1_epi32(0xffff_0000_u32 as i32);
            let bits = _mm256_blendv_epi8(rounded, quiet, nan);
            _mm256_castsi256_ps(_mm256_and_si256(bits, high))
        }
    }

    #[inline(always)]
    unsafe fn store_bf16_ptr(self, ptr: *mut bf16, x: Self::F32) {
        // SAFETY: the token, and the caller's promise.
        unsafe {
            let bits = _mm256_srli_epi32::<16>(_mm256_castps_si256(self.round_bf16(x)));
            let packed = _mm256_packus_epi32(bits, bits);
            let low = _mm256_permute4x64_epi64::<0b1000>(packed);
            _mm_storeu_si128(ptr.cast(), _mm256_castsi256_si128(low));
        }
    }
}
