//! The micro-kernel of gradients of weights: one 16×16 tile of `C (+)= Σ_k A[:, k] · B[k, :]` in 16
//! registers, from the tiles that AMX multiplies.
//!
//! For two `k` at once it loads a row of B, 16 pairs, and of each row of A its pair into all lanes, which
//! is an operand of the product. Floor: 16 products, see [`super`], and 17 loads.

use crate::Isa;
use crate::conv2d::tile::Start;
use crate::conv2d::tiled::backward_weight::{GradBlocks, GradCall};
use half::bf16;
use std::arch::x86_64::*;

/// Rows and columns of C, and pairs in a step of `k`.
const TILE: usize = 16;
/// Elements of a row of A or B.
const ROW: usize = 2 * TILE;

/// Proof that this machine has AVX512-BF16.
#[derive(Debug)]
pub(super) struct Pairs(());

impl Pairs {
    /// # Panics
    /// The machine lacks it.
    pub(super) fn detect() -> Self {
        assert!(Isa::Avx512Bf16.is_supported(), "this machine has no AVX512-BF16");
        Self(())
    }
}

impl GradBlocks for Pairs {
    fn max_cols(num_rows: usize) -> usize {
        4 / num_rows
    }

    unsafe fn multiply(&self, num_rows: usize, num_cols: usize, call: &GradCall) {
        for (i, c) in call.c[..num_rows * num_cols].iter().enumerate() {
            let (a, b) = (call.a[i / num_cols], call.b[i % num_cols]);
            // SAFETY: the token proves the instructions; the caller promises the rest.
            unsafe { multiply(a, b, *c, call.steps, call.start) }
        }
    }
}

/// # Safety
/// The machine has AVX512-BF16. `steps` tiles can be read from `a` and `b`, and a tile written to `c`.
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn multiply(a: *const bf16, b: *const bf16, c: *mut f32, steps: usize, start: Start) {
    // SAFETY: all addresses are within the tiles that the caller promises; any bits are pairs.
    unsafe {
        let mut sums = [_mm512_setzero_ps(); TILE];
        if start == Start::Output {
            for (m, sum) in sums.iter_mut().enumerate() {
                *sum = _mm512_loadu_ps(c.add(m * TILE));
            }
        }
        for step in 0..steps {
            for pair in 0..TILE {
                let at = step * TILE * ROW;
                let b = _mm512_loadu_si512(b.add(at + pair * ROW).cast());
                for (m, sum) in sums.iter_mut().enumerate() {
                    let a = a.add(at + m * ROW + 2 * pair).cast::<i32>().read_unaligned();
                    let a: __m512bh = std::mem::transmute(_mm512_set1_epi32(a));
                    *sum = _mm512_dpbf16_ps(*sum, a, std::mem::transmute::<__m512i, __m512bh>(b));
                }
            }
        }
        for (m, sum) in sums.iter().enumerate() {
            _mm512_storeu_ps(c.add(m * TILE), *sum);
        }
    }
}
