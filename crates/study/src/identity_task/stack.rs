use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::{Distribution, StandardNormal};
use residua_graph::{Conv2d, Graph, GraphBuilder, GraphError, Role, Shape, ValueId, Weights};
use residua_resnet::Family;

use super::LayerKind;

/// Rows and columns of the images of convolutional stacks.
const SIDE: usize = 8;

/// Layers that put out as much as they take in.
pub(super) fn graph(
    kind: LayerKind,
    family: Family,
    depth: usize,
    width: usize,
) -> Result<Graph, GraphError> {
    let input = match kind {
        LayerKind::Dense => Shape::vector(width),
        LayerKind::Conv => Shape::image(width, SIDE, SIDE),
    };
    let mut builder = GraphBuilder::new(input);
    let layer = |builder: &mut GraphBuilder, i: usize, x: ValueId| match kind {
        LayerKind::Dense => builder.linear(&format!("fc{i}"), x, width),
        LayerKind::Conv => {
            let conv = Conv2d::square(width, 3).padding(1).bias(true);
            builder.conv2d(&format!("conv{i}"), x, conv)
        }
    };
    let mut x = builder.input();
    let mut block_input = x;
    for i in 1..=depth {
        let mut y = layer(&mut builder, i, x)?;
        if family == Family::Residual && i % 2 == 0 {
            y = builder.add(&format!("add{i}"), y, block_input)?;
        }
        x = builder.relu(&format!("relu{i}"), y);
        if i % 2 == 0 {
            block_input = x;
        }
    }
    Ok(builder.finish(x))
}

/// As without batch norms: fan-in, biases 0, the last layer of each branch divided by the square root of the
/// number of blocks. Both families start from the same random numbers.
pub(super) fn init(graph: &Graph, family: Family, seed: u64) -> Weights {
    let mut weights = Weights::zeros(graph);
    let layers = graph.params().iter().filter(|spec| spec.role != Role::Bias);
    let num_blocks = (layers.clone().count() / 2) as f64;
    for (i, spec) in layers.enumerate() {
        let fan_in: usize = spec.shape[1..].iter().product();
        let mut std = (2.0 / fan_in as f64).sqrt();
        if family == Family::Residual && i % 2 == 1 {
            std /= num_blocks.sqrt();
        }
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(i as u64);
        for value in &mut weights.params[spec.range()] {
            let sample: f64 = StandardNormal.sample(&mut rng);
            *value = (std * sample) as f32;
        }
    }
    weights
}

#[cfg(test)]
mod tests {
    use super::*;
    use residua_engine::reference::{self, Tensors};

    fn output(graph: &Graph, weights: &Weights, input: &[f32]) -> Vec<f32> {
        reference::forward_eval(graph, &Tensors::new(weights), input).output().to_vec()
    }

    #[test]
    fn stacks_without_weights_are_the_identity_or_nothing() {
        for kind in [LayerKind::Dense, LayerKind::Conv] {
            let residual = graph(kind, Family::Residual, 4, 3).unwrap();
            let plain = graph(kind, Family::Plain, 4, 3).unwrap();
            assert_eq!(residual.params(), plain.params(), "{kind}");
            let len = residual.shape(residual.input()).len();
            let input: Vec<f32> = (0..2 * len).map(|i| i as f32).collect();
            assert_eq!(output(&residual, &Weights::zeros(&residual), &input), input, "{kind}");
            assert_eq!(output(&plain, &Weights::zeros(&plain), &input), vec![0.0; 2 * len]);
        }
    }

    #[test]
    fn both_families_start_from_the_same_numbers() {
        let of = |family| {
            let graph = graph(LayerKind::Dense, family, 8, 16).unwrap();
            let weights = init(&graph, family, 5);
            ["fc1.weight", "fc2.weight", "fc2.bias"]
                .map(|name| weights.get(&graph, name).unwrap().to_vec())
        };
        let [first, second, bias] = of(Family::Plain);
        let [residual_first, residual_second, _] = of(Family::Residual);
        assert_eq!(first, residual_first);
        assert_eq!(second, residual_second.iter().map(|w| 2.0 * w).collect::<Vec<_>>(), "4 blocks");
        assert_eq!(bias, [0.0; 16]);
        let mean_square = first.iter().map(|w| w * w).sum::<f32>() / first.len() as f32;
        assert!((mean_square * 16.0 / 2.0 - 1.0).abs() < 0.3, "{mean_square}");
    }
}
