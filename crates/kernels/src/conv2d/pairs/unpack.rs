//! Gradients of weights from tiles to PyTorch's layout.

use super::TILE;
use super::layout::{channels, taps};
use crate::Conv2dProblem;
use std::arch::x86_64::*;

/// Writes tiles `[oc tile][ic tile][tap][oc][ic]` as `[oc][ic][tap]`, in the order of memory.
pub(super) fn unpack(p: &Conv2dProblem, packed: &[f32], grad_weight: &mut [f32]) {
    let taps = p.kh * p.kw;
    let len = p.ic.div_ceil(TILE) * taps * TILE * TILE;
    assert_eq!((packed.len(), grad_weight.len()), (p.oc.div_ceil(TILE) * len, p.weight_len()));
    crate::Isa::Avx512.assert_supported();
    let first = Places::first(taps);
    for (oc, grads) in grad_weight.chunks_exact_mut(p.ic * taps).enumerate() {
        let tiles = packed[oc / TILE * len..][..len].chunks_exact(taps * TILE * TILE);
        for (grads, tiles) in grads.chunks_mut(TILE * taps).zip(tiles) {
            let row = &tiles[oc % TILE * TILE..];
            match taps {
                1 => grads.copy_from_slice(&row[..grads.len()]),
                // SAFETY: the machine has AVX-512.
                _ => unsafe { unpack_row(row, taps, &first, grads) },
            }
        }
    }
}

/// The same where the columns of the kernel are channels, of few input channels: tiles
/// `[oc tile][channel tile][kernel row][oc][kernel column · ic]`.
pub(super) fn unpack_folded(p: &Conv2dProblem, packed: &[f32], grad_weight: &mut [f32]) {
    let (channels, taps) = (channels(p), taps(p));
    let tiles = channels.div_ceil(TILE);
    for (i, tile) in packed.chunks_exact(TILE * TILE).enumerate() {
        let (tap, first_channel) = (i % taps, i / taps % tiles * TILE);
        let first_oc = i / taps / tiles * TILE;
        for (oc, grads) in (first_oc..p.oc).zip(tile.chunks_exact(TILE)) {
            for (channel, grad) in (first_channel..channels).zip(grads) {
                let (kw_i, ic_i) = (channel / p.ic, channel % p.ic);
                grad_weight[((oc * p.ic + ic_i) * p.kh + tap) * p.kw + kw_i] = *grad;
            }
        }
    }
}

/// The taps and input channels of 16 numbers that are neighbours in PyTorch's layout.
struct Places {
    tap: [i32; TILE],
    ic: [i32; TILE],
}

impl Places {
    fn first(taps: usize) -> Self {
        let of_lanes = |f: &dyn Fn(usize) -> usize| std::array::from_fn(|lane| f(lane) as i32);
        Self { tap: of_lanes(&|lane| lane % taps), ic: of_lanes(&|lane| lane / taps) }
    }
}

/// Writes `[ic][tap]` of a row of as many tiles as there are taps.
#[target_feature(enable = "avx512f")]
fn unpack_row(row: &[f32], taps: usize, first: &Places, grads: &mut [f32]) {
    assert!(row.len() >= (taps - 1) * TILE * TILE + TILE && grads.len() <= TILE * taps);
    // SAFETY: 64 bytes each.
    let (mut tap, mut ic) = unsafe {
        (
            _mm512_loadu_si512(first.tap.as_ptr().cast()),
            _mm512_loadu_si512(first.ic.as_ptr().cast()),
        )
    };
    let all_taps = _mm512_set1_epi32(taps as i32);
    let next_tap = _mm512_set1_epi32((TILE % taps) as i32);
    let next_ic = _mm512_set1_epi32((TILE / taps) as i32);
    for vector in grads.chunks_mut(TILE) {
        let mask = ((1u32 << vector.len()) - 1) as __mmask16;
        let places = _mm512_add_epi32(_mm512_slli_epi32::<8>(tap), ic);
        // SAFETY: the numbers in the mask are of taps and channels that a row of the tiles has, as asserted
        // above, and `vector` has as many.
        unsafe {
            let zeros = _mm512_setzero_ps();
            let values = _mm512_mask_i32gather_ps::<4>(zeros, mask, places, row.as_ptr().cast());
            _mm512_mask_storeu_ps(vector.as_mut_ptr(), mask, values);
        }
        (tap, ic) = (_mm512_add_epi32(tap, next_tap), _mm512_add_epi32(ic, next_ic));
        let beyond = _mm512_cmpge_epi32_mask(tap, all_taps);
        tap = _mm512_mask_sub_epi32(tap, beyond, tap, all_taps);
        ic = _mm512_mask_add_epi32(ic, beyond, ic, _mm512_set1_epi32(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_gradient_arrives() {
        if !crate::Isa::Avx512.is_supported() {
            return;
        }
        for problem in [
            "ic16oc16ih9kh3",
            "ic37oc19ih9kh3",
            "ic5oc33ih1kh1",
            "ic48oc16ih9kh5kw2",
            "ic3oc1ih9kh7",
        ] {
            let p: Conv2dProblem = format!("n1{problem}").parse().unwrap();
            let (taps, ic_tiles) = (p.kh * p.kw, p.ic.div_ceil(TILE));
            let packed: Vec<f32> = (0..p.oc.div_ceil(TILE) * ic_tiles * taps * TILE * TILE)
                .map(|i| i as f32)
                .collect();
            let mut grads = vec![f32::NAN; p.weight_len()];
            unpack(&p, &packed, &mut grads);
            for (i, grad) in grads.iter().enumerate() {
                let (tap, ic, oc) = (i % taps, i / taps % p.ic, i / taps / p.ic);
                let tile = (oc / TILE * ic_tiles + ic / TILE) * taps + tap;
                let want = (tile * TILE + oc % TILE) * TILE + ic % TILE;
                assert_eq!(*grad, want as f32, "{problem} {i}");
            }
        }
    }
}
