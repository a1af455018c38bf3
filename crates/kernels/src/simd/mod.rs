//! One source for each kernel, generic over the instruction set.
//!
//! [`Simd`] is a token: a value exists only where the machine has the instructions, so its methods
//! are safe. [`simd_fn!`] turns a function that is generic over the token into one that takes an
//! [`Isa`](crate::Isa) and runs the body compiled for it.

use crate::Element;
use half::bf16;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::Avx512;
pub(crate) use portable::Portable;

/// Vectors of `f32` of one instruction set.
///
/// Every method is `#[inline(always)]`, so that it compiles to instructions of the caller, which
/// [`simd_fn!`] makes with the features enabled.
#[allow(unreachable_pub, reason = "in the bounds of a public trait, but not to be named outside")]
pub trait Simd: Copy {
    /// Lanes of a vector.
    const LANES: usize;
    /// A vector.
    type F32: Copy;

    /// All lanes `x`.
    fn splat(self, x: f32) -> Self::F32;
    /// `a + b`
    fn add(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a − b`
    fn sub(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a · b`
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a · b + c`, rounded once where the machine has FMA, twice on the portable level.
    fn fma(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32;
    /// [`fma`](Self::fma) of one element, with the same bits.
    fn fma_scalar(self, a: f32, b: f32, c: f32) -> f32;
    /// `max(a, 0)`; NaN stays NaN.
    #[inline(always)]
    fn relu(self, a: Self::F32) -> Self::F32 {
        self.at_least(self.splat(0.0), a)
    }
    /// `max(a, floor)`; NaN in `a` stays NaN.
    fn at_least(self, floor: Self::F32, a: Self::F32) -> Self::F32;
    /// `grad` where not `output ≤ 0`, else 0.
    fn relu_mask(self, output: Self::F32, grad: Self::F32) -> Self::F32;

    /// `x` and its place in the lanes where it is greater than `best` or NaN, else `best` and its place.
    fn greater(self, best: [Self::F32; 2], x: [Self::F32; 2]) -> [Self::F32; 2];
    /// `x` in the lanes whose byte is `byte`, else 0.
    ///
    /// # Safety
    /// `LANES` bytes must be readable at `ptr`.
    unsafe fn where_byte(self, ptr: *const u8, byte: u8, x: Self::F32) -> Self::F32;
    /// Writes `LANES` bytes at `ptr`, whole numbers from 0 to 255.
    ///
    /// # Safety
    /// They must be writable.
    unsafe fn store_bytes(self, ptr: *mut u8, x: Self::F32);

    /// The `LANES` elements at `ptr`.
    ///
    /// # Safety
    /// They must be readable.
    unsafe fn load_ptr(self, ptr: *const f32) -> Self::F32;
    /// Writes `LANES` elements at `ptr`.
    ///
    /// # Safety
    /// They must be writable.
    unsafe fn store_ptr(self, ptr: *mut f32, x: Self::F32);

    /// The `LANES` elements at `ptr`, widened.
    ///
    /// # Safety
    /// They must be readable.
    unsafe fn load_bf16_ptr(self, ptr: *const bf16) -> Self::F32;
    /// Writes `LANES` elements at `ptr`, rounded to nearest, ties to even.
    ///
    /// # Safety
    /// They must be writable.
    unsafe fn store_bf16_ptr(self, ptr: *mut bf16, x: Self::F32);
    /// The same numbers rounded to bf16.
    fn round_bf16(self, x: Self::F32) -> Self::F32;
    /// Writes `LANES` elements at `ptr` that are numbers of bf16.
    ///
    /// # Safety
    /// They must be writable.
    #[inline(always)]
    unsafe fn store_exact_bf16_ptr(self, ptr: *mut bf16, x: Self::F32) {
        // SAFETY: the caller's promise.
        unsafe { self.store_bf16_ptr(ptr, x) }
    }

    /// Writes `2 · LANES` elements at `ptr`, rounded to nearest, ties to even.
    ///
    /// # Safety
    /// They must be writable.
    #[inline(always)]
    unsafe fn store_bf16_pair(self, ptr: *mut bf16, [first, second]: [Self::F32; 2]) {
        // SAFETY: the caller's promise.
        unsafe {
            self.store_bf16_ptr(ptr, first);
            self.store_bf16_ptr(ptr.add(Self::LANES), second);
        }
    }

    /// The `2 · LANES` elements from `i` on.
    ///
    /// # Safety
    /// They exist.
    #[inline(always)]
    unsafe fn load_pair<E: Element>(self, x: &[E], i: usize) -> [Self::F32; 2] {
        // SAFETY: the caller's promise.
        unsafe { [self.load_at(x, i), self.load_at(x, i + Self::LANES)] }
    }

    /// Overwrites the `2 · LANES` elements from `i` on.
    ///
    /// # Safety
    /// They exist.
    #[inline(always)]
    unsafe fn store_pair<E: Element>(self, out: &mut [E], i: usize, pair: [Self::F32; 2]) {
        debug_assert!(i + 2 * Self::LANES <= out.len());
        // SAFETY: the caller's promise.
        unsafe { E::store_pair(self, out.as_mut_ptr().add(i), pair) }
    }

    /// The `LANES` elements from `i` on.
    ///
    /// # Safety
    /// They exist.
    #[inline(always)]
    unsafe fn load_at<E: Element>(self, x: &[E], i: usize) -> Self::F32 {
        debug_assert!(i + Self::LANES <= x.len());
        // SAFETY: the caller's promise.
        unsafe { E::load(self, x.as_ptr().add(i)) }
    }

    /// Overwrites the `LANES` elements from `i` on.
    ///
    /// # Safety
    /// They exist.
    #[inline(always)]
    unsafe fn store_at<E: Element>(self, out: &mut [E], i: usize, x: Self::F32) {
        debug_assert!(i + Self::LANES <= out.len());
        // SAFETY: the caller's promise.
        unsafe { E::store(self, out.as_mut_ptr().add(i), x) }
    }

    /// As [`store_at`](Self::store_at), of numbers that `E` has.
    ///
    /// # Safety
    /// They exist.
    #[inline(always)]
    unsafe fn store_exact_at<E: Element>(self, out: &mut [E], i: usize, x: Self::F32) {
        debug_assert!(i + Self::LANES <= out.len());
        // SAFETY: the caller's promise.
        unsafe { E::store_exact(self, out.as_mut_ptr().add(i), x) }
    }

    /// The first `LANES` elements.
    #[inline(always)]
    fn load<E: Element>(self, x: &[E]) -> Self::F32 {
        assert!(x.len() >= Self::LANES);
        // SAFETY: the slice is long enough.
        unsafe { E::load(self, x.as_ptr()) }
    }

    /// Overwrites the first `LANES` elements.
    #[inline(always)]
    fn store<E: Element>(self, out: &mut [E], x: Self::F32) {
        assert!(out.len() >= Self::LANES);
        // SAFETY: the slice is long enough.
        unsafe { E::store(self, out.as_mut_ptr(), x) }
    }
}

/// The most lanes a vector has on any instruction set.
pub(crate) const MAX_LANES: usize = 16;

/// Defines `fn name(isa: Isa, …)` from a body that is generic over a [`Simd`] token, and perhaps over
/// [`Element`]s.
macro_rules! simd_fn {
    ($(#[$meta:meta])* $vis:vis fn $name:ident<$S:ident $(, $E:ident)*>(
        $simd:ident $(, $arg:ident: $ty:ty)* $(,)?
    ) $body:block) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments, reason = "kernels take one slice for each operand")]
        $vis fn $name<$($E: $crate::Element),*>(isa: $crate::Isa, $($arg: $ty),*) {
            #[inline(always)]
            #[allow(clippy::too_many_arguments, reason = "as above")]
            fn body<$S: $crate::simd::Simd $(, $E: $crate::Element)*>(
                $simd: $S,
                $($arg: $ty),*
            ) $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            #[allow(clippy::too_many_arguments, reason = "as above")]
            fn avx2<$($E: $crate::Element),*>(token: $crate::simd::Avx2, $($arg: $ty),*) {
                body(token, $($arg),*)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
            #[allow(clippy::too_many_arguments, reason = "as above")]
            fn avx512<$($E: $crate::Element),*>(token: $crate::simd::Avx512<false>, $($arg: $ty),*) {
                body(token, $($arg),*)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
            #[allow(clippy::too_many_arguments, reason = "as above")]
            fn avx512bf16<$($E: $crate::Element),*>(token: $crate::simd::Avx512<true>, $($arg: $ty),*) {
                body(token, $($arg),*)
            }

            match isa {
                #[cfg(target_arch = "x86_64")]
                $crate::Isa::Avx2 => {
                    let token = $crate::simd::Avx2::detect();
                    // SAFETY: the token exists only where AVX2 and FMA were detected.
                    unsafe { avx2(token, $($arg),*) }
                }
                #[cfg(target_arch = "x86_64")]
                $crate::Isa::Avx512 => {
                    let token = $crate::simd::Avx512::detect();
                    // SAFETY: the token exists only where these AVX-512 features were detected.
                    unsafe { avx512(token, $($arg),*) }
                }
                #[cfg(target_arch = "x86_64")]
                $crate::Isa::Avx512Bf16 | $crate::Isa::Amx => {
                    let token = $crate::simd::Avx512::detect();
                    // SAFETY: as above.
                    unsafe { avx512bf16(token, $($arg),*) }
                }
                _ => body($crate::simd::Portable, $($arg),*),
            }
        }
    };
}
pub(crate) use simd_fn;
