//! Channels as rows: what backward weight's A tiles are made of.

use super::{STEP, TILE};
use half::bf16;
use std::arch::x86_64::*;

/// Positions that are turned at once.
const POSITIONS: usize = STEP;

/// Writes `[channel tile][position / 32][channel][position % 32]` of the pixels in `line`. Channels
/// and positions that don't exist are zeros.
///
/// # Panics
/// `out` doesn't have just as many tiles.
pub(super) fn transpose(line: &[bf16], num_channels: usize, out: &mut [bf16]) {
    let len = line.len() / num_channels;
    let (tiles, steps) = (num_channels.div_ceil(TILE), len.div_ceil(POSITIONS));
    assert_eq!(line.len(), len * num_channels);
    assert_eq!(out.len(), tiles * steps * TILE * POSITIONS);
    crate::Isa::Avx512.assert_supported();
    for step in 0..steps {
        for tile in 0..tiles {
            let (first, channel) = (step * POSITIONS, tile * TILE);
            let out = &mut out[(tile * steps + step) * TILE * POSITIONS..][..TILE * POSITIONS];
            // SAFETY: the machine has AVX-512; the positions and channels that
            // are read exist, and `out` is a whole tile.
            unsafe {
                block(
                    line.as_ptr().add(first * num_channels + channel),
                    num_channels,
                    (len - first).min(POSITIONS),
                    (num_channels - channel).min(TILE),
                    out.as_mut_ptr(),
                );
            }
        }
    }
}

/// Turns 32 positions of 16 channels, of which `num_positions` and `num_channels` exist.
///
/// # Safety
/// Those are readable; 512 elements are writable.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn block(
    x: *const bf16,
    x_stride: usize,
    num_positions: usize,
    num_channels: usize,
    out: *mut bf16,
) {
    let mask = ((1u32 << num_channels) - 1) as __mmask16;
    let load = |i: usize| {
        if i < num_positions {
            // SAFETY: the position exists, and so do the channels in the mask.
            unsafe { _mm256_maskz_loadu_epi16(mask, x.add(i * x_stride).cast()) }
        } else {
            _mm256_setzero_si256()
        }
    };
    // Positions i and i + 16 side by side; eight of these at a time are turned within their lanes.
    let both = |i: usize| _mm512_inserti64x4::<1>(_mm512_castsi256_si512(load(i)), load(i + 16));
    let first = turn_lanes(std::array::from_fn(both));
    let second = turn_lanes(std::array::from_fn(|i| both(i + 8)));
    let low = _mm512_setr_epi64(0, 1, 8, 9, 4, 5, 12, 13);
    let high = _mm512_setr_epi64(2, 3, 10, 11, 6, 7, 14, 15);
    for (c, (first, second)) in first.into_iter().zip(second).enumerate() {
        // SAFETY: rows c and c + 8 of the 16.
        unsafe {
            let row = _mm512_permutex2var_epi64(first, low, second);
            _mm512_storeu_si512(out.add(c * POSITIONS).cast(), row);
            let row = _mm512_permutex2var_epi64(first, high, second);
            _mm512_storeu_si512(out.add((c + 8) * POSITIONS).cast(), row);
        }
    }
}

/// Transposes 8×8 elements of 16 bits in each lane of 128 bits.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn turn_lanes(r: [__m512i; 8]) -> [__m512i; 8] {
    let low16 = |i: usize| _mm512_unpacklo_epi16(r[i], r[i + 1]);
    let high16 = |i: usize| _mm512_unpackhi_epi16(r[i], r[i + 1]);
    let t = [low16(0), low16(2), low16(4), low16(6), high16(0), high16(2), high16(4), high16(6)];
    let low32 = |i: usize| _mm512_unpacklo_epi32(t[i], t[i + 1]);
    let high32 = |i: usize| _mm512_unpackhi_epi32(t[i], t[i + 1]);
    // Channels 0 and 1, 2 and 3, … of positions 0 to 3, then of positions 4 to 7.
    let u = [low32(0), high32(0), low32(4), high32(4)];
    let v = [low32(2), high32(2), low32(6), high32(6)];
    std::array::from_fn(|c| match c % 2 {
        0 => _mm512_unpacklo_epi64(u[c / 2], v[c / 2]),
        _ => _mm512_unpackhi_epi64(u[c / 2], v[c / 2]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_arrives() {
        if !crate::Isa::Avx512.is_supported() {
            return;
        }
        for (len, channels) in [(1_usize, 1_usize), (32, 16), (33, 17), (70, 48), (5, 31), (64, 3)]
        {
            let line: Vec<bf16> = (0..len * channels).map(|i| bf16::from_bits(i as u16)).collect();
            let (tiles, steps) = (channels.div_ceil(TILE), len.div_ceil(POSITIONS));
            let mut out = vec![bf16::NAN; tiles * steps * TILE * POSITIONS];
            transpose(&line, channels, &mut out);
            for (i, value) in out.iter().enumerate() {
                let (tile, step) = (i / POSITIONS / TILE / steps, i / POSITIONS / TILE % steps);
                let channel = tile * TILE + i / POSITIONS % TILE;
                let position = step * POSITIONS + i % POSITIONS;
                let exists = channel < channels && position < len;
                let want = if exists { line[position * channels + channel].to_bits() } else { 0 };
                assert_eq!(value.to_bits(), want, "{len} {channels}");
            }
        }
    }
}
