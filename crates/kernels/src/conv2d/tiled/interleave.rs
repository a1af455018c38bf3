//! Pairs of positions: what backward weight's B tiles are made of.

use super::block::TILE;
use half::bf16;
use std::arch::x86_64::*;

/// Puts the pixels of a row, `num_channels` each, at the positions from `first` on of
/// `out[position/2][channel][position%2]`, which has whole tiles of channels and holds zeros there.
///
/// # Panics
/// The slices are too short.
pub(super) fn put_row(row: &[bf16], num_channels: usize, first: usize, out: &mut [bf16]) {
    let pair_len = 2 * num_channels.next_multiple_of(TILE);
    let num_pixels = row.len() / num_channels;
    assert!(out.len() >= (first + num_pixels).div_ceil(2) * pair_len);
    assert!(crate::Isa::Amx.is_supported());
    // SAFETY: the machine has AVX-512 wherever it has AMX.
    unsafe { put_pixels(row, num_channels, first, out, pair_len) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn put_pixels(row: &[bf16], num_channels: usize, first: usize, out: &mut [bf16], pair_len: usize) {
    let mut pixels = row.chunks_exact(num_channels);
    let mut pair = first / 2;
    if first % 2 == 1
        && let Some(right) = pixels.next()
    {
        add_pair(None, Some(right), &mut out[pair * pair_len..][..pair_len]);
        pair += 1;
    }
    while let Some(left) = pixels.next() {
        add_pair(Some(left), pixels.next(), &mut out[pair * pair_len..][..pair_len]);
        pair += 1;
    }
}

/// Adds two pixels to a pair of which their halves are zero.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn add_pair(left: Option<&[bf16]>, right: Option<&[bf16]>, out: &mut [bf16]) {
    for (block, out) in out.chunks_exact_mut(2 * TILE).enumerate() {
        let load = |pixel: Option<&[bf16]>| match pixel {
            Some(pixel) => {
                let pixel = &pixel[block * TILE..];
                let mask = ((1u32 << pixel.len().min(TILE)) - 1) as __mmask16;
                // SAFETY: the mask has no more bits than there are channels.
                let pixel = unsafe { _mm256_maskz_loadu_epi16(mask, pixel.as_ptr().cast()) };
                _mm512_cvtepu16_epi32(pixel)
            }
            None => _mm512_setzero_si512(),
        };
        let pair = _mm512_or_si512(load(left), _mm512_slli_epi32::<16>(load(right)));
        // SAFETY: `out` has 64 bytes.
        unsafe {
            let out: *mut __m512i = out.as_mut_ptr().cast();
            let before = _mm512_loadu_si512(out);
            _mm512_storeu_si512(out, _mm512_or_si512(before, pair));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_meet_in_pairs() {
        if !crate::Isa::Amx.is_supported() {
            return;
        }
        for channels in [1, 16, 19, 32] {
            let pair_len = 2 * usize::next_multiple_of(channels, TILE);
            let mut out = vec![bf16::ZERO; 8 * pair_len];
            // Positions 1 to 4, then 5 to 9, with nothing at 0 and from 10 on.
            let pixels = |first: usize, len: usize| -> Vec<bf16> {
                (first * channels..(first + len) * channels)
                    .map(|i| bf16::from_bits(i as u16 + 1))
                    .collect()
            };
            put_row(&pixels(1, 4), channels, 1, &mut out);
            put_row(&pixels(5, 5), channels, 5, &mut out);
            for position in 0..16 {
                for c in 0..pair_len / 2 {
                    let got = out[position / 2 * pair_len + 2 * c + position % 2].to_bits();
                    let there = (1..10).contains(&position) && c < channels;
                    let want = if there { position * channels + c + 1 } else { 0 };
                    assert_eq!(usize::from(got), want, "position {position}, channel {c}");
                }
            }
        }
    }
}
