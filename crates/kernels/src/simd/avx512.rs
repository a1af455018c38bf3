use super::Simd;
use crate::Isa;
use half::bf16;
use std::arch::x86_64::*;

/// The places of the upper halves of 32-bit lanes, in order, in the lower half of a vector.
// SAFETY: any bits are a vector.
const UPPER_HALVES: __m512i = unsafe {
    let mut places = [0u16; 32];
    let mut i = 0;
    while i < 16 {
        places[i] = 2 * i as u16 + 1;
        i += 1;
    }
    std::mem::transmute(places)
};

/// Proof that this machine has AVX-512 F, BW, DQ and VL, and with `BF16` that too.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx512<const BF16: bool>(());

impl<const BF16: bool> Avx512<BF16> {
    /// # Panics
    /// The machine lacks it.
    #[inline]
    pub(crate) fn detect() -> Self {
        let isa = if BF16 { Isa::Avx512Bf16 } else { Isa::Avx512 };
        isa.assert_supported();
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

    /// The upper halves of lanes are rounded to bf16; the lower ones are anything.
    #[inline(always)]
    fn rounded_above(self, x: __m512) -> __m512i {
        // SAFETY: the token.
        unsafe {
            let bits = _mm512_castps_si512(x);
            let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
            let half = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff));
            let rounded = _mm512_add_epi32(bits, half);
            let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x);
            _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x40_0000))
        }
    }
}

impl<const BF16: bool> Simd for Avx512<BF16> {
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
    fn at_least(self, floor: Self::F32, a: Self::F32) -> Self::F32 {
        // max(floor, a), not max(a, floor): MAXPS returns its second operand when either is NaN.
        // SAFETY: the token.
        unsafe { _mm512_max_ps(floor, a) }
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
    fn greater(self, best: [Self::F32; 2], x: [Self::F32; 2]) -> [Self::F32; 2] {
        // SAFETY: the token.
        unsafe {
            let wins = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(x[0], best[0])
                | _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x[0], x[0]);
            [_mm512_mask_mov_ps(best[0], wins, x[0]), _mm512_mask_mov_ps(best[1], wins, x[1])]
        }
    }

    #[inline(always)]
    unsafe fn where_byte(self, ptr: *const u8, byte: u8, x: Self::F32) -> Self::F32 {
        // SAFETY: the token, and the caller's promise.
        unsafe {
            let found = _mm_cmpeq_epi8_mask(_mm_loadu_si128(ptr.cast()), _mm_set1_epi8(byte as i8));
            _mm512_maskz_mov_ps(found, x)
        }
    }

    #[inline(always)]
    unsafe fn store_bytes(self, ptr: *mut u8, x: Self::F32) {
        // SAFETY: the token, and the caller's promise.
        unsafe {
            let bytes = _mm512_cvtepi32_epi8(_mm512_cvttps_epi32(x));
            _mm_storeu_si128(ptr.cast(), bytes);
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

    #[inline(always)]
    unsafe fn load_bf16_ptr(self, ptr: *const bf16) -> Self::F32 {
        // SAFETY: the token, and the caller's promise.
        unsafe {
            let bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256(ptr.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits))
        }
    }

    #[inline(always)]
    fn round_bf16(self, x: Self::F32) -> Self::F32 {
        // SAFETY: the token.
        unsafe {
            let high = _mm512_set1_epi32(0xffff_0000_u32 as i32);
            _mm512_castsi512_ps(_mm512_and_si512(self.rounded_above(x), high))
        }
    }

    #[inline(always)]
    unsafe fn store_bf16_ptr(self, ptr: *mut bf16, x: Self::F32) {
        if BF16 {
            // One instruction instead of seven; it takes subnormal numbers as 0.
            // SAFETY: the token, and the caller's promise.
            unsafe {
                let rounded = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(x));
                _mm256_storeu_si256(ptr.cast(), rounded);
            }
            return;
        }
        // SAFETY: the token, and the caller's promise.
        unsafe { self.store_exact_bf16_ptr(ptr, _mm512_castsi512_ps(self.rounded_above(x))) }
    }

    #[inline(always)]
    unsafe fn store_exact_bf16_ptr(self, ptr: *mut bf16, x: Self::F32) {
        // SAFETY: the token, and the caller's promise.
        unsafe {
            let high = _mm512_permutexvar_epi16(UPPER_HALVES, _mm512_castps_si512(x));
            _mm256_storeu_si256(ptr.cast(), _mm512_castsi512_si256(high));
        }
    }

    #[inline(always)]
    unsafe fn store_bf16_pair(self, ptr: *mut bf16, [first, second]: [Self::F32; 2]) {
        // SAFETY: the token, and the caller's promise.
        unsafe {
            if BF16 {
                let rounded =
                    std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(second, first));
                _mm512_storeu_si512(ptr.cast(), rounded);
            } else {
                self.store_bf16_ptr(ptr, first);
                self.store_bf16_ptr(ptr.add(Self::LANES), second);
            }
        }
    }
}
