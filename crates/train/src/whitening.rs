//! Filters of the first convolution that whiten the patches it sees.

use std::sync::Arc;

use nalgebra::{DMatrix, DVector, SymmetricEigen};
use residua_data::{Augment, Batch, Dataset, LoaderOptions, Split, TrainLoader};
use residua_graph::{Conv2d, Graph, Op, Weights};

use crate::TrainError;

/// Pixels of the images that are looked at, about.
const NUM_PIXELS: usize = 1 << 19;
/// Added to each variance: directions in which patches hardly differ are noise.
const EPSILON: f64 = 5e-4;

/// Sets the filters of the first convolution to the directions in which patches of the training
/// images are uncorrelated, scaled to variance 1: eigenvectors of the patches' covariance over
/// `sqrt(variance + 5e-4)`, by falling variance, each with both signs, as a ReLU follows. What there
/// are more filters than that keeps its weights. (Page 2019, "How to Train Your ResNet 8: Bag of
/// Tricks"; both signs as in Jordan 2024, arXiv 2404.00498, section 3.2. There the filters are then
/// fixed, here they are trained on.)
///
/// The images are the first ones of the first epoch, not augmented. A network without convolutions
/// is left as it is.
pub(crate) fn whiten_stem(
    graph: &Graph,
    weights: &mut Weights,
    dataset: &Arc<Dataset>,
    seed: u64,
    workers: usize,
) -> Result<(), TrainError> {
    let stem = graph.nodes().iter().find_map(|node| match &node.op {
        Op::Conv2d { conv, weight, .. } => Some((conv, &graph.params()[weight.index()])),
        _ => None,
    });
    let Some((conv, spec)) = stem else { return Ok(()) };
    let shape = dataset.sample_shape();
    let batch_size = (NUM_PIXELS / (shape[1] * shape[2])).clamp(1, dataset.len(Split::Train));
    let options =
        LoaderOptions { batch_size, seed, augment: Augment::None, image_size: None, workers };
    let images = TrainLoader::new(dataset, &options, 0)?.next()?;
    let filters = whitening_filters(covariance(&images, shape, conv));
    let patch_len = spec.shape[1..].iter().product();
    let weights = weights.params[spec.range()].chunks_exact_mut(patch_len);
    for (weights, filter) in weights.zip(filters) {
        weights.copy_from_slice(&filter);
    }
    Ok(())
}

/// Covariance of the values that the convolution's windows see, in the order of its weights;
/// windows that reach into the padding are left out.
fn covariance(images: &Batch, [c, h, w]: [usize; 3], conv: &Conv2d) -> DMatrix<f64> {
    let [kh, kw] = conv.kernel_size;
    let len = c * kh * kw;
    let (mut patch, mut sum) = (DVector::zeros(len), DVector::zeros(len));
    let mut products = DMatrix::zeros(len, len);
    let mut num_patches = 0.0;
    for image in images.input.chunks_exact(h * w * c) {
        for top in (0..=h - kh).step_by(conv.stride[0]) {
            for left in (0..=w - kw).step_by(conv.stride[1]) {
                for (i, value) in patch.iter_mut().enumerate() {
                    let (channel, row, column) = (i / (kh * kw), i / kw % kh, i % kw);
                    *value = f64::from(image[((top + row) * w + left + column) * c + channel]);
                }
                num_patches += 1.0;
                sum += &patch;
                products.ger(1.0, &patch, &patch, 1.0);
            }
        }
    }
    let mean = sum / num_patches;
    products / num_patches - &mean * mean.transpose()
}

/// The filters, each followed by its negative.
fn whitening_filters(covariance: DMatrix<f64>) -> impl Iterator<Item = Vec<f32>> {
    let SymmetricEigen { eigenvectors, eigenvalues } = SymmetricEigen::new(covariance);
    let mut order: Vec<usize> = (0..eigenvalues.len()).collect();
    order.sort_by(|&a, &b| eigenvalues[b].total_cmp(&eigenvalues[a]));
    order.into_iter().flat_map(move |k| {
        let scale = 1.0 / (eigenvalues[k].max(0.0) + EPSILON).sqrt();
        [scale, -scale]
            .map(|scale| eigenvectors.column(k).iter().map(|v| (scale * v) as f32).collect())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use residua_data::OpenOptions;
    use residua_resnet::{Architecture, InitOptions, Shape, StemKind, init_weights};

    const FILTERS: usize = 60;

    /// What the stem of 3×3 puts out away from the borders, `[window][filter]`.
    fn outputs(images: &Batch, weight: &[f32]) -> Vec<Vec<f64>> {
        let mut outputs = Vec::new();
        for image in images.input.chunks_exact(32 * 32 * 3) {
            for (top, left) in (0..30).flat_map(|top| (0..30).map(move |left| (top, left))) {
                let filters = weight.chunks_exact(27).map(|filter| {
                    let taps = filter.iter().enumerate().map(|(i, &tap)| {
                        let pixel = (top + i / 3 % 3) * 32 + left + i % 3;
                        f64::from(tap) * f64::from(image[pixel * 3 + i / 9])
                    });
                    taps.sum()
                });
                outputs.push(filters.collect());
            }
        }
        outputs
    }

    fn covariance_of(outputs: &[Vec<f64>], a: usize, b: usize) -> f64 {
        let mean = |f: &dyn Fn(&Vec<f64>) -> f64| {
            outputs.iter().map(f).sum::<f64>() / outputs.len() as f64
        };
        mean(&|one| one[a] * one[b]) - mean(&|one| one[a]) * mean(&|one| one[b])
    }

    #[test]
    fn what_the_stem_puts_out_is_white() {
        let source = "synthetic:shapes?train=40&dev=5&test=5";
        let dataset = Arc::new(residua_data::open(source, &OpenOptions::default()).unwrap());
        let architecture = Architecture::builder(Shape::image(3, 32, 32), 10)
            .stem(StemKind::Conv3x3, FILTERS)
            .stage(1, FILTERS, 2)
            .build()
            .unwrap();
        let graph = architecture.to_graph().unwrap();
        let before = init_weights(&architecture, &graph, &InitOptions::default());
        let mut weights = before.clone();
        whiten_stem(&graph, &mut weights, &dataset, 1, 2).unwrap();

        let stem = graph.params()[0].range();
        assert_eq!(graph.params()[0].name, "conv1.weight");
        let rest = 54 * 27;
        assert_eq!(weights.params[rest..], before.params[rest..], "no other weight changes");
        for pair in weights.params[..rest].chunks_exact(2 * 27) {
            assert!((0..27).all(|i| pair[i] == -pair[27 + i]));
        }

        let options = LoaderOptions {
            batch_size: 40,
            seed: 9,
            augment: Augment::None,
            image_size: None,
            workers: 1,
        };
        let images = TrainLoader::new(&dataset, &options, 0).unwrap().next().unwrap();
        let found = outputs(&images, &weights.params[stem.clone()]);
        // Of a direction of variance λ, λ / (λ + ε) is left. A filter is at most 1 / sqrt(ε) = 45 long, so
        // rounding it to f32 moves an output by at most 45 · 2⁻²⁴ = 3e-6 times the patch's length, which
        // is some 30 at most, and a covariance by about 1e-4.
        let variances: Vec<f64> = (0..27).map(|k| covariance_of(&found, 2 * k, 2 * k)).collect();
        assert!(variances.is_sorted_by(|a, b| *a >= b - 1e-3) && variances[0] > 0.99);
        assert!(variances.iter().all(|variance| (0.0..1.001).contains(variance)), "{variances:?}");
        let correlated = |outputs: &[Vec<f64>]| {
            let pairs = (0..27).flat_map(|a| (0..a).map(move |b| (2 * a, 2 * b)));
            pairs.map(|(a, b)| covariance_of(outputs, a, b).abs()).fold(0.0, f64::max)
        };
        assert!(correlated(&found) < 1e-3, "{}", correlated(&found));
        assert!(correlated(&outputs(&images, &before.params[stem])) > 0.01, "no check at all");
    }
}
