//! What a core can do at most: loops that only multiply and add, or only read. The rates that kernels
//! are measured against.

use crate::simd::{Simd, simd_fn};
use std::hint::black_box;

/// Independent sums: enough to hide the latency of a multiply-add on two units.
const MANY: usize = 12;
/// As many as stay in registers of an instruction set that has few.
const FEW: usize = 6;

simd_fn! {
    /// Does `rounds` rounds of 12 independent f32 multiply-adds in vectors, or of 6 if `few`, and adds
    /// the floating-point operations that they are (two for each lane) to `flop`.
    pub fn multiply_add<S>(simd, rounds: usize, few: bool, flop: &mut u64) {
        if few {
            chains::<S, FEW>(simd, rounds, flop);
        } else {
            chains::<S, MANY>(simd, rounds, flop);
        }
    }
}

#[inline(always)]
fn chains<S: Simd, const CHAINS: usize>(simd: S, rounds: usize, flop: &mut u64) {
    let (a, b) = (simd.splat(black_box(0.5)), simd.splat(black_box(0.25)));
    let mut sums = [simd.splat(0.0); CHAINS];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = simd.fma(*sum, a, b);
        }
    }
    let mut lanes = [[0.0; crate::simd::MAX_LANES]; CHAINS];
    for (lanes, sum) in lanes.iter_mut().zip(sums) {
        simd.store(lanes, sum);
    }
    black_box(lanes);
    *flop += (rounds * CHAINS * S::LANES * 2) as u64;
}

simd_fn! {
    /// Reads all of `data` in vectors, so many times, and returns the sum of what it read in `sum`.
    pub fn read<S>(simd, data: &[f32], passes: usize, sum: &mut f32) {
        let mut sums = [simd.splat(0.0); 8];
        for _ in 0..passes {
            for chunk in data.chunks_exact(8 * S::LANES) {
                for (sum, vector) in sums.iter_mut().zip(chunk.chunks_exact(S::LANES)) {
                    *sum = simd.add(*sum, simd.load(vector));
                }
            }
        }
        let mut lanes = [0.0; crate::simd::MAX_LANES];
        *sum = 0.0;
        for part in sums {
            simd.store(&mut lanes, part);
            *sum += lanes[..S::LANES].iter().sum::<f32>();
        }
    }
}

/// Does `rounds` rounds of four bf16 products of AMX tiles with the four tile loads they take, and
/// adds the floating-point operations to `flop`.
///
/// # Panics
/// The machine lacks AMX; see [`Isa::Amx`](crate::Isa::Amx).
#[cfg(target_arch = "x86_64")]
pub fn multiply_tiles(rounds: usize, flop: &mut u64) {
    crate::conv2d::multiply_tiles(rounds);
    // Four products of 16×32 by 32×16 elements.
    *flop += (rounds * 4 * 2 * 16 * 16 * 32) as u64;
}

/// Does `rounds` rounds of 12 independent products of pairs of bf16 in vectors, and adds the
/// floating-point operations that they are (four for each lane) to `flop`.
///
/// # Panics
/// The machine lacks AVX512-BF16; see [`Isa::Avx512Bf16`](crate::Isa::Avx512Bf16).
#[cfg(target_arch = "x86_64")]
pub fn multiply_pairs(rounds: usize, flop: &mut u64) {
    use std::arch::x86_64::*;
    #[target_feature(enable = "avx512f,avx512bf16")]
    fn chains(rounds: usize) -> [__m512; MANY] {
        let pairs = |pair: i32| {
            // SAFETY: any bits are pairs.
            unsafe { std::mem::transmute::<__m512i, __m512bh>(_mm512_set1_epi32(black_box(pair))) }
        };
        let (a, b) = (pairs(0x3f00_3f00), pairs(0x3e80_3e80));
        let mut sums = [_mm512_setzero_ps(); MANY];
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = _mm512_dpbf16_ps(*sum, a, b);
            }
        }
        sums
    }
    crate::Isa::Avx512Bf16.assert_supported();
    // SAFETY: the machine has the instructions.
    black_box(unsafe { chains(rounds) });
    *flop += (rounds * MANY * 16 * 4) as u64;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;

    #[test]
    fn the_loops_do_what_is_counted() {
        for isa in Isa::supported() {
            let (mut many, mut few) = (0, 0);
            multiply_add(isa, 10, false, &mut many);
            multiply_add(isa, 10, true, &mut few);
            assert_eq!(many * FEW as u64, few * MANY as u64, "{isa}");
            let data: Vec<f32> = (0..1024).map(|i| (i % 5) as f32).collect();
            let mut sum = 0.0;
            read(isa, &data, 2, &mut sum);
            assert_eq!(sum, 2.0 * data.iter().sum::<f32>(), "{isa}");
        }
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn tiles_are_counted() {
        if Isa::Amx.is_supported() {
            let mut flop = 0;
            multiply_tiles(3, &mut flop);
            assert_eq!(flop, 3 * 65_536);
        }
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn pairs_are_counted() {
        if Isa::Avx512Bf16.is_supported() {
            let mut flop = 0;
            multiply_pairs(3, &mut flop);
            assert_eq!(flop, 3 * 768);
        }
    }
}
