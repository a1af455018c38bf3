//! A residual block whose weights and biases are 0 is the identity on what is not negative, bit for
//! bit, so that blocks can be put into a trained network without changing what it says.

use residua_engine::{Isa, Mode, Plan, PlanError, PlanOptions, Precision};
use residua_graph::{Conv2d, Graph, GraphBuilder, GraphError, Shape, ValueId, Weights};
use residua_kernels::bf16;
use residua_resnet::{
    Architecture, Insertion, NewBlocks, Place, Shortcut, SurgeryError, insert_blocks,
};
use residua_testkit::Generator;

const NUM_SAMPLES: usize = 6;
/// How many go through a network at once in evaluation.
const BATCH_SIZES: [usize; 4] = [1, 2, 3, NUM_SAMPLES];

/// Ways to put two blocks into the first and the last stage.
fn insertions(architecture: &Architecture) -> impl Iterator<Item = Insertion> {
    let stages = [1, architecture.stages().len()].into_iter();
    stages.flat_map(|stage| {
        [Place::Middle, Place::End].map(|place| Insertion { place, ..Insertion::new(stage, 2) })
    })
}

/// Adds `relu(F(x) + x)`, convolutional or fully connected, with batch norms or with biases.
fn block(
    builder: &mut GraphBuilder,
    input: ValueId,
    dense: bool,
    norm: bool,
) -> Result<ValueId, GraphError> {
    let c = builder.shape(input).c;
    let mut x = input;
    for i in 1..=2 {
        let name = format!("block.layer{i}");
        x = match dense {
            true => builder.linear(&name, x, c)?,
            false => builder.conv2d(&name, x, Conv2d::square(c, 3).padding(1).bias(!norm))?,
        };
        if norm {
            x = builder.batch_norm(&format!("block.bn{i}"), x)?;
        }
        if i == 1 {
            x = builder.relu("block.relu1", x);
        }
    }
    let sum = builder.add("block.add", x, input)?;
    Ok(builder.relu("block.relu2", sum))
}

/// Not negative and exact in bf16: zero, tiny, subnormal and huge values among others.
fn input(len: usize, seed: u64) -> Vec<f32> {
    let special = [0.0, f32::MIN_POSITIVE, 1e-42, 3.0e38, 1.0 / 3.0, 16_777_217.0];
    let values = Generator::new(seed).signed(len).into_iter().map(|x| x.max(0.0));
    let values = values.enumerate().map(|(i, x)| if i % 3 == 0 { special[i / 3 % 6] } else { x });
    values.map(|x| bf16::from_f32(x).to_f32()).collect()
}

/// In every precision on every instruction set: in evaluation in batches of each size, then in training.
fn outputs(graph: &Graph, weights: &Weights, input: &[f32]) -> Result<Vec<Vec<f32>>, PlanError> {
    let [input_len, output_len] =
        [graph.input(), graph.output()].map(|value| graph.shape(value).len());
    let len = NUM_SAMPLES * output_len;
    let mut outputs = Vec::new();
    let both = |isa| [Precision::F32, Precision::Bf16].map(|precision| (isa, precision));
    for (isa, precision) in Isa::supported().flat_map(both) {
        for batch_size in BATCH_SIZES {
            let options = PlanOptions { batch_size, mode: Mode::Eval, precision, isa };
            let mut plan = Plan::new(graph, &options)?;
            plan.load(weights);
            let mut eval = vec![f32::NAN; len];
            let batches = input.chunks_exact(batch_size * input_len);
            for (input, output) in batches.zip(eval.chunks_exact_mut(batch_size * output_len)) {
                plan.forward(input, output);
            }
            outputs.push(eval);
        }
        let options = PlanOptions { batch_size: NUM_SAMPLES, mode: Mode::Train, precision, isa };
        let mut train = vec![f32::NAN; len];
        Plan::new(graph, &options)?.forward_train(&mut weights.clone(), input, &mut train);
        outputs.push(train);
    }
    Ok(outputs)
}

fn assert_same_bits(got: &[f32], want: &[f32], what: &str) {
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        assert_eq!(got.to_bits(), want.to_bits(), "{what}, element {i}: {got:?}, want {want:?}");
    }
    assert_eq!(got.len(), want.len(), "{what}");
}

#[test]
fn a_block_of_zeros_is_the_identity() -> Result<(), Box<dyn std::error::Error>> {
    for (shape, dense) in [
        (Shape::image(5, 4, 6), false),
        (Shape::image(19, 3, 3), false),
        (Shape::vector(16), false),
        (Shape::vector(13), true),
        (Shape::vector(64), true),
    ] {
        for norm in [false, true] {
            let mut builder = GraphBuilder::new(shape);
            let input = builder.input();
            let output = block(&mut builder, input, dense, norm)?;
            let graph = builder.finish(output);
            let input = self::input(NUM_SAMPLES * shape.len(), 1);
            // Also the weights of the batch norms; running variances are 0, which eps makes fine.
            for output in outputs(&graph, &Weights::zeros(&graph), &input)? {
                assert_same_bits(&output, &input, &format!("{shape}, dense {dense}, norm {norm}"));
            }
        }
    }
    Ok(())
}

/// The same with weights in the layers, where only the last batch norm is 0, inside a network.
#[test]
fn a_block_with_a_zero_norm_leaves_the_logits_as_they_are() -> Result<(), Box<dyn std::error::Error>>
{
    let network = |with_block: bool| -> Result<Graph, GraphError> {
        let mut builder = GraphBuilder::new(Shape::image(3, 6, 5));
        let stem = Conv2d::square(9, 3).padding(1);
        let mut x = builder.conv2d("conv1", builder.input(), stem)?;
        x = builder.batch_norm("bn1", x)?;
        x = builder.relu("relu", x);
        if with_block {
            x = block(&mut builder, x, false, true)?;
        }
        x = builder.global_avg_pool("avgpool", x);
        let logits = builder.linear("fc", x, 4)?;
        Ok(builder.finish(logits))
    };
    let (short, long) = (network(false)?, network(true)?);
    let mut generator = Generator::new(2);
    let short_weights = crate::architectures::random_weights(&short, &mut generator);
    let mut long_weights = crate::architectures::random_weights(&long, &mut generator);
    for spec in short.params().iter().chain(short.buffers()) {
        let values = short_weights.get(&short, &spec.name).expect("its own tensor");
        long_weights.get_mut(&long, &spec.name).expect("the same tensor").copy_from_slice(values);
    }
    for name in ["block.bn2.weight", "block.bn2.bias"] {
        long_weights.get_mut(&long, name).expect("the block's last norm").fill(0.0);
    }
    let input = generator.signed(NUM_SAMPLES * 3 * 6 * 5);
    let want = outputs(&short, &short_weights, &input)?;
    for (got, want) in outputs(&long, &long_weights, &input)?.iter().zip(&want) {
        assert_same_bits(got, want, "logits");
    }

    // The negative control: the smallest change of the norm shows.
    long_weights.get_mut(&long, "block.bn2.bias").expect("the block's last norm").fill(1e-6);
    assert_ne!(outputs(&long, &long_weights, &input)?, want);
    Ok(())
}

#[test]
fn inserted_blocks_leave_the_logits_as_they_are() -> Result<(), Box<dyn std::error::Error>> {
    let mut num_grown = 0;
    for (i, architecture) in crate::architectures::all().into_iter().enumerate() {
        let graph = architecture.to_graph()?;
        let mut generator = Generator::new(i as u64);
        let weights = crate::architectures::random_weights(&graph, &mut generator);
        let input = generator.signed(NUM_SAMPLES * graph.shape(graph.input()).len());
        let want = outputs(&graph, &weights, &input)?;
        for insertion in insertions(&architecture) {
            let deeper = match insert_blocks(&architecture, &weights, &insertion) {
                Ok(deeper) => deeper,
                Err(SurgeryError::NoIdentity { .. }) => {
                    let refused = [Shortcut::None, Shortcut::ProjectionAll];
                    assert!(refused.contains(&architecture.shortcut()), "{}", architecture.name());
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            num_grown += 1;
            let deeper_graph = deeper.architecture.to_graph()?;
            assert_eq!(deeper.architecture.num_blocks(), architecture.num_blocks() + 2);
            let got = outputs(&deeper_graph, &deeper.weights, &input)?;
            for (got, want) in got.iter().zip(&want) {
                assert_same_bits(got, want, &format!("{} {insertion:?}", architecture.name()));
            }
        }
    }
    assert!(num_grown >= 4 * 15, "{num_grown}");
    Ok(())
}

/// Of the ways to put layers into a plain network none leaves the logits as they are; kernels that put out
/// their input come close in evaluation.
#[test]
fn layers_in_a_plain_network_change_its_logits() -> Result<(), Box<dyn std::error::Error>> {
    for name in ["plain", "plain-no-norm", "dense-plain", "dense-plain-no-norm"] {
        let architecture = crate::architectures::named(name);
        let graph = architecture.to_graph()?;
        let mut generator = Generator::new(1);
        let weights = crate::architectures::random_weights(&graph, &mut generator);
        let input = generator.signed(NUM_SAMPLES * graph.shape(graph.input()).len());
        let logits = |graph: &Graph, weights: &Weights| -> Result<Vec<f32>, PlanError> {
            Ok(outputs(graph, weights, &input)?.swap_remove(0))
        };
        let want = logits(&graph, &weights)?;
        let largest_change = |start| -> Result<f32, Box<dyn std::error::Error>> {
            let insertion = Insertion { start, ..Insertion::new(1, 2) };
            let deeper = insert_blocks(&architecture, &weights, &insertion)?;
            let got = logits(&deeper.architecture.to_graph()?, &deeper.weights)?;
            let changes = got.iter().zip(&want).map(|(got, want)| (got - want).abs());
            Ok(changes.fold(0.0, f32::max))
        };
        // Four batch norms, each with a few roundings, of values of about 1, through two layers more.
        assert!(largest_change(NewBlocks::Dirac)? < 1e-5, "{name}");
        assert!(largest_change(NewBlocks::Random)? > 1e-2, "{name}");
    }
    Ok(())
}
