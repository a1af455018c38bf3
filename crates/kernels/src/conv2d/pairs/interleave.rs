//! Pairs of positions: what the gradient of the weight's B tiles are made of.

use super::TILE;
use half::bf16;
use std::arch::x86_64::*;
use std::ops::Range;

/// Elements of a pair of 16 channels.
pub(super) const PAIR: usize = 2 * TILE;

/// Writes some pairs of `[channel tile][pair][channel][2]`: the `i`-th of them is, in `even`, the positions `2i`
/// and `2i + 1` of `line`, and in `odd`, if it is not empty, `2i + 1` and `2i + 2`. Channels and
/// positions that don't exist are zeros.
///
/// # Panics
/// `even` is not of whole pairs of all tiles, or `odd` neither as long nor empty.
pub(super) fn interleave(
    line: &[bf16],
    num_channels: usize,
    pairs: Range<usize>,
    even: &mut [bf16],
    odd: &mut [bf16],
) {
    let tiles = num_channels.div_ceil(TILE);
    assert!(even.len().is_multiple_of(tiles * PAIR) && line.len().is_multiple_of(num_channels));
    assert!(odd.is_empty() || odd.len() == even.len());
    crate::Isa::Avx512.assert_supported();
    let tile_len = even.len() / tiles;
    let elements = pairs.start * PAIR..pairs.end * PAIR;
    for (tile, even) in even.chunks_exact_mut(tile_len).enumerate() {
        let first = tile * TILE;
        let channels = (num_channels - first).min(TILE);
        let line =
            Line { elements: line, num_channels, first, mask: ((1u32 << channels) - 1) as u16 };
        let odd = match odd.is_empty() {
            true => &mut [],
            false => &mut odd[tile * tile_len..][elements.clone()],
        };
        // SAFETY: the machine has AVX-512.
        unsafe { line.pairs(&mut even[elements.clone()], odd) }
    }
}

/// Up to 16 channels of consecutive positions.
struct Line<'a> {
    elements: &'a [bf16],
    num_channels: usize,
    /// The first channel, and which of 16 there are.
    first: usize,
    mask: __mmask16,
}

impl Line<'_> {
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    fn pairs(&self, even: &mut [bf16], odd: &mut [bf16]) {
        let num_positions = self.elements.len() / self.num_channels;
        let (even, _) = even.as_chunks_mut::<PAIR>();
        let (odd, _) = odd.as_chunks_mut::<PAIR>();
        // Those whose three positions exist go without a check for each.
        let whole = (num_positions.saturating_sub(1) / 2).min(even.len());
        let checked = |i: usize| match i < num_positions {
            // SAFETY: the position exists.
            true => unsafe { self.position(i) },
            false => _mm256_setzero_si256(),
        };
        let mut first = checked(0);
        let (inner, outer) = even.split_at_mut(whole);
        if odd.is_empty() {
            for (i, even) in inner.iter_mut().enumerate() {
                // SAFETY: `2i + 1` is less than the number of positions.
                put(unsafe { self.position(2 * i) }, unsafe { self.position(2 * i + 1) }, even);
            }
            for (i, even) in (whole..).zip(outer) {
                put(checked(2 * i), checked(2 * i + 1), even);
            }
            return;
        }
        let (inner_odd, outer_odd) = odd.split_at_mut(whole);
        for (i, (even, odd)) in inner.iter_mut().zip(inner_odd).enumerate() {
            // SAFETY: `2i + 2` is less than the number of positions.
            let (second, third) = unsafe { (self.position(2 * i + 1), self.position(2 * i + 2)) };
            put(first, second, even);
            put(second, third, odd);
            first = third;
        }
        for (i, (even, odd)) in (whole..).zip(outer.iter_mut().zip(outer_odd)) {
            put(checked(2 * i), checked(2 * i + 1), even);
            put(checked(2 * i + 1), checked(2 * i + 2), odd);
        }
    }

    /// The channels of a position.
    ///
    /// # Safety
    /// The position exists.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn position(&self, i: usize) -> __m256i {
        let at = i * self.num_channels + self.first;
        // SAFETY: the position exists, and so do the channels in the mask.
        unsafe { _mm256_maskz_loadu_epi16(self.mask, self.elements.as_ptr().add(at).cast()) }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn put(left: __m256i, right: __m256i, out: &mut [bf16; PAIR]) {
    let right = _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(right));
    let pair = _mm512_or_si512(_mm512_cvtepu16_epi32(left), right);
    // SAFETY: `out` has 64 bytes.
    unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), pair) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_meet_in_pairs() {
        if !crate::Isa::Avx512.is_supported() {
            return;
        }
        for (channels, len) in [(1, 5), (16, 8), (19, 7), (32, 9), (48, 1), (16, 40)] {
            let line: Vec<bf16> =
                (0..len * channels).map(|i| bf16::from_bits(i as u16 + 1)).collect();
            let (tiles, num_pairs) = (usize::div_ceil(channels, TILE), 12);
            let mut even = vec![bf16::NAN; tiles * num_pairs * PAIR];
            let mut odd = even.clone();
            interleave(&line, channels, 0..num_pairs, &mut even, &mut odd);
            for (shift, pairs) in [(0, &even), (1, &odd)] {
                for (i, value) in pairs.iter().enumerate() {
                    let (tile, pair) = (i / PAIR / num_pairs, i / PAIR % num_pairs);
                    let c = tile * TILE + i % PAIR / 2;
                    let position = 2 * pair + i % 2 + shift;
                    let there = c < channels && position < len;
                    let want = if there { position * channels + c + 1 } else { 0 };
                    assert_eq!(usize::from(value.to_bits()), want, "{channels} channels, {i}");
                }
            }
            interleave(&line, channels, 0..num_pairs, &mut odd, &mut []);
            assert!(even.iter().zip(&odd).all(|(a, b)| a.to_bits() == b.to_bits()));
        }
    }
}
