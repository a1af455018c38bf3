//! The micro-kernel of gradients of weights: one 16×16 tile of `C (+)= Σ_k A[:, k] · B[k, :]` in 16
//! registers, from the tiles that AMX multiplies.
//!
//! For two `k` at once it loads a row of B, 16 pairs, and of each row of A its pair into all lanes. That is
//! the last operand of the product, which alone may be a number in memory for all lanes: an instruction of
//! its own to load it takes as long as a product. Pairs without an output pixel are left out: on 7×7 pixels
//! with padding around them that is one in three. Floor: 16 products, see [`super`], and 17 loads.

use crate::Isa;
use crate::conv2d::pairs::TILE;
use crate::conv2d::pairs::grad_blocks::{GradBlocks, GradCall};
use crate::conv2d::pairs::pixels::Pixels;
use crate::conv2d::tile::Start;
use half::bf16;
use std::arch::x86_64::*;

/// Elements of a row of A or B.
const ROW: usize = 2 * TILE;

/// Proof that this machine has AVX512-BF16.
#[derive(Debug)]
pub(super) struct Pairs(());

impl GradBlocks for Pairs {
    fn start() -> Self {
        Isa::Avx512Bf16.assert_supported();
        Self(())
    }

    fn max_cols(num_rows: usize) -> usize {
        4 / num_rows
    }

    unsafe fn multiply(
        &self,
        num_rows: usize,
        num_cols: usize,
        call: &mut GradCall,
        pixels: &Pixels,
    ) {
        for (i, c) in call.c[..num_rows * num_cols].iter().enumerate() {
            let (a, b) = (call.a[i / num_cols], call.b[i % num_cols]);
            // SAFETY: the token proves the instructions; the caller promises the rest.
            unsafe { multiply(a, b, *c, call.start, pixels) }
        }
    }
}

/// # Safety
/// The machine has AVX512-BF16. The tiles that `pixels` are in can be read from `a` and `b`, and a tile
/// written to `c`.
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn multiply(a: *const bf16, b: *const bf16, c: *mut f32, start: Start, pixels: &Pixels) {
    // SAFETY: all addresses are within the tiles that the caller promises; any bits are pairs.
    unsafe {
        let mut sums = [_mm512_setzero_ps(); TILE];
        if start == Start::Output {
            for (m, sum) in sums.iter_mut().enumerate() {
                *sum = _mm512_loadu_ps(c.add(m * TILE));
            }
        }
        for run in pixels.clone() {
            for pair in run {
                let b = _mm512_loadu_si512(b.add(pair * ROW).cast());
                let a = a.add(pair / TILE * TILE * ROW + pair % TILE * 2);
                for (m, sum) in sums.iter_mut().enumerate() {
                    let a = a.add(m * ROW).cast::<i32>().read_unaligned();
                    let a: __m512bh = std::mem::transmute(_mm512_set1_epi32(a));
                    let b = std::mem::transmute::<__m512i, __m512bh>(b);
                    *sum = _mm512_dpbf16_ps(*sum, b, a);
                }
            }
        }
        for (m, sum) in sums.iter().enumerate() {
            _mm512_storeu_ps(c.add(m * TILE), *sum);
        }
    }
}
