//! The interpreter with the kernels of plans, against itself: on integers every sum is exact, so that all
//! must be the same.

use residua_engine::Isa;
use residua_engine::reference::{self, Tensors};
use residua_graph::{Conv2d, Graph, GraphBuilder, GraphError, Shape, Weights};
use residua_testkit::Generator;

const NUM_SAMPLES: usize = 3;

/// Convolutions of few channels, of a width that Winograd's take, and strided ones.
fn network() -> Result<Graph, GraphError> {
    let mut b = GraphBuilder::new(Shape::image(3, 8, 8));
    let x = b.conv2d("conv1", b.input(), Conv2d::square(32, 3).padding(1))?;
    let x = b.relu("relu1", x);
    let x = b.conv2d("conv2", x, Conv2d::square(32, 3).padding(1))?;
    let x = b.relu("relu2", x);
    let x = b.conv2d("conv3", x, Conv2d::square(16, 1).stride(2).bias(true))?;
    let x = b.global_avg_pool("pool", x);
    let x = b.linear("fc", x, 5)?;
    Ok(b.finish(x))
}

fn integers(generator: &mut Generator, len: usize, most: f32) -> Vec<f32> {
    generator.signed(len).iter().map(|x| (x * (most + 0.5)).round().clamp(-most, most)).collect()
}

#[test]
fn kernels_give_the_same_numbers() -> Result<(), GraphError> {
    let graph = network()?;
    let mut generator = Generator::new(7);
    let mut weights = Weights::zeros(&graph);
    weights.params = integers(&mut generator, weights.params.len(), 1.0);
    let input = integers(&mut generator, NUM_SAMPLES * 3 * 8 * 8, 2.0);
    let grad_output = integers(&mut generator, NUM_SAMPLES * 5, 1.0);
    let run = |mut tensors: Tensors<f32>| {
        let trace = reference::forward_train(&graph, &mut tensors, &input);
        let grads = reference::backward(&graph, &tensors, &trace, &grad_output);
        (trace.output().to_vec(), grads)
    };
    let (output, grads) = run(Tensors::new(&weights));
    assert!(output.iter().any(|x| *x != 0.0) && grads.params.iter().any(|x| *x != 0.0));
    for isa in Isa::supported() {
        let (found, found_grads) = run(Tensors::new(&weights).by_kernels(isa));
        assert_eq!(found, output, "{isa}");
        assert_eq!(found_grads, grads, "{isa}");
    }
    Ok(())
}
