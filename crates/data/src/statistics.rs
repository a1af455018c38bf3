use rayon::prelude::*;

use crate::dataset::PixelShape;

/// How often each byte occurs in each channel. Counting is exact, so the order of the pictures and
/// the number of threads can't change a mean.
#[derive(Clone)]
pub(crate) struct ChannelHistogram {
    counts: Vec<[u64; 256]>,
}

impl ChannelHistogram {
    pub(crate) fn new(channels: usize) -> Self {
        Self { counts: vec![[0; 256]; channels] }
    }

    /// Counts the bytes of HWC pixels.
    pub(crate) fn add(&mut self, pixels: &[u8]) {
        for pixel in pixels.chunks_exact(self.counts.len()) {
            for (counts, &byte) in self.counts.iter_mut().zip(pixel) {
                counts[byte as usize] += 1;
            }
        }
    }

    pub(crate) fn merge(mut self, other: &Self) -> Self {
        for (counts, more) in self.counts.iter_mut().zip(&other.counts) {
            for (count, more) in counts.iter_mut().zip(more) {
                *count += more;
            }
        }
        self
    }

    /// Over the given pictures of an array `[sample, height, width, channel]`.
    pub(crate) fn over(shape: PixelShape, data: &[u8], indices: &[u32]) -> Self {
        indices
            .par_chunks(1024)
            .map(|chunk| {
                let mut histogram = Self::new(shape.channels);
                for &i in chunk {
                    histogram.add(&data[i as usize * shape.len()..][..shape.len()]);
                }
                histogram
            })
            .reduce(|| Self::new(shape.channels), |a, b| a.merge(&b))
    }

    /// Mean and population standard deviation of bytes / 255, per channel.
    pub(crate) fn mean_std(&self) -> (Vec<f32>, Vec<f32>) {
        self.counts
            .iter()
            .map(|counts| {
                let sum = |power: u32| -> u64 {
                    (0..256).zip(counts).map(|(byte, count)| u64::pow(byte, power) * count).sum()
                };
                mean_std(sum(0) as f64, sum(1) as f64 / 255.0, sum(2) as f64 / (255.0 * 255.0))
            })
            .unzip()
    }
}

/// Per feature of the given rows of an array `[sample, feature]`.
pub(crate) fn vector_mean_std(width: usize, data: &[f32], indices: &[u32]) -> (Vec<f32>, Vec<f32>) {
    (0..width)
        .into_par_iter()
        .map(|feature| {
            let values = || indices.iter().map(|&i| f64::from(data[i as usize * width + feature]));
            // Two passes: the features may be far from zero.
            let mean = values().sum::<f64>() / indices.len() as f64;
            let variance = values().map(|x| (x - mean).powi(2)).sum::<f64>() / indices.len() as f64;
            (mean as f32, std_or_one(variance.sqrt(), 4.0 * f64::from(f32::EPSILON) * mean.abs()))
        })
        .unzip()
}

fn mean_std(count: f64, sum: f64, sum_of_squares: f64) -> (f32, f32) {
    if count == 0.0 {
        return (0.0, 1.0);
    }
    let mean = sum / count;
    let variance = sum_of_squares / count - mean * mean;
    // Rounding leaves about 1e-8 of such a difference.
    (mean as f32, std_or_one(variance.max(0.0).sqrt(), 1e-6))
}

/// What is constant up to rounding carries nothing: it is shifted to zero and not scaled up.
fn std_or_one(std: f64, rounding: f64) -> f32 {
    let is_constant = std <= rounding || (std as f32) < f32::MIN_POSITIVE;
    if is_constant { 1.0 } else { std as f32 }
}
