use super::Simd;
use crate::Element;
use half::bf16;

/// Eight lanes in plain arrays, which the compiler turns into whatever the baseline has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Portable;

const LANES: usize = 8;

#[inline(always)]
fn map2(a: [f32; LANES], b: [f32; LANES], f: impl Fn(f32, f32) -> f32) -> [f32; LANES] {
    let mut out = [0.0; LANES];
    for i in 0..LANES {
        out[i] = f(a[i], b[i]);
    }
    out
}

impl Simd for Portable {
    const LANES: usize = LANES;
    type F32 = [f32; LANES];

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F32 {
        [x; LANES]
    }

    #[inline(always)]
    fn add(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        map2(a, b, |a, b| a + b)
    }

    #[inline(always)]
    fn sub(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        map2(a, b, |a, b| a - b)
    }

    #[inline(always)]
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        map2(a, b, |a, b| a * b)
    }

    #[inline(always)]
    fn fma(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32 {
        // `f32::mul_add` would be a library call where the baseline has no FMA.
        self.add(self.mul(a, b), c)
    }

    #[inline(always)]
    fn fma_scalar(self, a: f32, b: f32, c: f32) -> f32 {
        a * b + c
    }

    #[inline(always)]
    fn at_least(self, floor: Self::F32, a: Self::F32) -> Self::F32 {
        map2(floor, a, |floor, a| if a < floor { floor } else { a })
    }

    #[inline(always)]
    fn relu_mask(self, output: Self::F32, grad: Self::F32) -> Self::F32 {
        map2(output, grad, |output, grad| if output <= 0.0 { 0.0 } else { grad })
    }

    #[inline(always)]
    fn greater(self, mut best: [Self::F32; 2], x: [Self::F32; 2]) -> [Self::F32; 2] {
        for i in 0..LANES {
            let wins = x[0][i] > best[0][i] || x[0][i].is_nan();
            best[0][i] = if wins { x[0][i] } else { best[0][i] };
            best[1][i] = if wins { x[1][i] } else { best[1][i] };
        }
        best
    }

    #[inline(always)]
    unsafe fn where_byte(self, ptr: *const u8, byte: u8, mut x: Self::F32) -> Self::F32 {
        // SAFETY: the caller's promise.
        let bytes = unsafe { ptr.cast::<[u8; LANES]>().read() };
        for (x, found) in x.iter_mut().zip(bytes) {
            *x = if found == byte { *x } else { 0.0 };
        }
        x
    }

    #[inline(always)]
    unsafe fn store_bytes(self, ptr: *mut u8, x: Self::F32) {
        // SAFETY: the caller's promise.
        unsafe { ptr.cast::<[u8; LANES]>().write(x.map(|x| x as u8)) }
    }

    #[inline(always)]
    unsafe fn load_ptr(self, ptr: *const f32) -> Self::F32 {
        // SAFETY: the caller's promise; arrays of f32 have the alignment of f32.
        unsafe { ptr.cast::<Self::F32>().read() }
    }

    #[inline(always)]
    unsafe fn store_ptr(self, ptr: *mut f32, x: Self::F32) {
        // SAFETY: the caller's promise; arrays of f32 have the alignment of f32.
        unsafe { ptr.cast::<Self::F32>().write(x) }
    }

    #[inline(always)]
    unsafe fn load_bf16_ptr(self, ptr: *const bf16) -> Self::F32 {
        // SAFETY: the caller's promise.
        unsafe { ptr.cast::<[bf16; LANES]>().read() }.map(Element::to_f32)
    }

    #[inline(always)]
    fn round_bf16(self, x: Self::F32) -> Self::F32 {
        x.map(|x| bf16::from_f32(x).to_f32())
    }

    #[inline(always)]
    unsafe fn store_bf16_ptr(self, ptr: *mut bf16, x: Self::F32) {
        // SAFETY: the caller's promise.
        unsafe { ptr.cast::<[bf16; LANES]>().write(x.map(bf16::from_f32)) }
    }
}
