//! Blocks and tiny networks against PyTorch: `tools/golden/networks.py` wrote the files of
//! `tests/golden/`.

use crate::case::{Case, Outcome};
use crate::rounding::Truth;
use residua_engine::reference::{self, Tensors};
use residua_engine::{Isa, Plan, PlanOptions, Sgd, ThreadPool, cross_entropy, sgd_step};
use residua_graph::{Conv2d, Graph, GraphBuilder, GraphError, Shape, ValueId, Weights};
use residua_kernels::reference as kernels;
use residua_resnet::{Architecture, Shortcut, StemKind};
use residua_testkit::{Check, Failure, Golden, GoldenError, assert_rejected, widen};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// f64 against f64, relative to a tensor's largest element: only the order of sums differs.
const ONE_STEP: f64 = 1e-12;
/// After ten steps, each of which amplifies the rounding of those before.
const TEN_STEPS: f64 = 1e-10;

fn golden(name: &str) -> std::result::Result<Golden, GoldenError> {
    Golden::load(format!("{}/tests/golden/{name}.safetensors", env!("CARGO_MANIFEST_DIR")))
}

/// All f64 or f32 tensors whose names start with a prefix, without it.
fn tensors(golden: &Golden, prefix: &str) -> std::result::Result<Outcome, GoldenError> {
    let mut outcome = Outcome::new();
    for name in golden.names() {
        if let Some(short) = name.strip_prefix(prefix) {
            let values = golden.f64(&name).or_else(|_| Ok(widen(&golden.f32(&name)?)))?;
            outcome.insert(short.to_owned(), values);
        }
    }
    Ok(outcome)
}

fn initial_weights(golden: &Golden, graph: &Graph) -> std::result::Result<Weights, GoldenError> {
    let mut weights = Weights::zeros(graph);
    for spec in graph.params() {
        let values = golden.f32(&format!("initial.{}", spec.name))?;
        weights.params[spec.range()].copy_from_slice(&values);
    }
    for spec in graph.buffers() {
        let values = golden.f32(&format!("initial.{}", spec.name))?;
        weights.buffers[spec.range()].copy_from_slice(&values);
    }
    Ok(weights)
}

/// That both have the same tensors, equal up to `tolerance` times the largest element.
fn check_equal(got: &Outcome, want: &Outcome, tolerance: f64) -> Check {
    if got.keys().ne(want.keys()) {
        let (got, want) = (got.keys(), want.keys());
        return Err(Failure::new(format!("tensors are {got:?}, want {want:?}")));
    }
    residua_testkit::all(want.iter().map(|(name, want)| {
        let got = &got[name];
        let largest = want.iter().fold(0.0, |largest: f64, x| largest.max(x.abs()));
        let close = |(got, want): (&f64, &f64)| (got - want).abs() <= tolerance * largest;
        if got.len() == want.len() && got.iter().zip(want).all(close) {
            return Ok(());
        }
        let error = got.iter().zip(want).map(|(got, want)| (got - want).abs() / largest);
        let error = error.fold(0.0, f64::max);
        Err(Failure::new(format!("{name}: off by {error:.1e} of the largest element")))
    }))
}

/// `relu(F(x) + shortcut(x))`, where `F` is given by its convolutions.
fn block(
    input: Shape,
    convs: &[Conv2d],
    shortcut: Shortcut,
) -> std::result::Result<Graph, GraphError> {
    let mut b = GraphBuilder::new(input);
    let mut x: ValueId = b.input();
    for (i, conv) in convs.iter().enumerate() {
        x = b.conv2d(&format!("conv{}", i + 1), x, *conv)?;
        x = b.batch_norm(&format!("bn{}", i + 1), x)?;
        if i + 1 < convs.len() {
            x = b.relu(&format!("relu{}", i + 1), x);
        }
    }
    let channels = b.shape(x).c;
    let stride: usize = convs.iter().map(|conv| conv.stride[0]).product();
    let side = match shortcut {
        Shortcut::None => b.input(),
        Shortcut::ZeroPad => b.zero_pad("downsample", b.input(), channels, stride)?,
        _ => {
            let projection = Conv2d::square(channels, 1).stride(stride);
            let y = b.conv2d("downsample.0", b.input(), projection)?;
            b.batch_norm("downsample.1", y)?
        }
    };
    let sum = b.add("add", x, side)?;
    let output = b.relu("relu", sum);
    Ok(b.finish(output))
}

fn basic_block(
    input: Shape,
    width: usize,
    stride: usize,
    shortcut: Shortcut,
) -> std::result::Result<Graph, GraphError> {
    let conv = Conv2d::square(width, 3).padding(1);
    block(input, &[conv.stride(stride), conv], shortcut)
}

fn bottleneck(
    input: Shape,
    width: usize,
    strides: [usize; 2],
    shortcut: Shortcut,
) -> std::result::Result<Graph, GraphError> {
    let first = Conv2d::square(width, 1).stride(strides[0]);
    let middle = Conv2d::square(width, 3).padding(1).stride(strides[1]);
    block(input, &[first, middle, Conv2d::square(4 * width, 1)], shortcut)
}

/// Everything the golden of a block has, by the interpreter in f64.
fn interpret_block(golden: &Golden, graph: &Graph) -> Result<Outcome> {
    let mut tensors = Tensors::<f64>::new(&initial_weights(golden, graph)?);
    let input = widen(&golden.f32("input")?);
    let trace = reference::forward_train(graph, &mut tensors, &input);
    let grad_output = widen(&golden.f32("grad_output")?);
    let grads = reference::backward(graph, &tensors, &trace, &grad_output);
    let eval = reference::forward_eval(graph, &tensors, &input);
    let mut got = Outcome::from([
        ("input".to_owned(), input),
        ("grad_output".to_owned(), grad_output),
        ("output".to_owned(), trace.output().to_vec()),
        ("grad_input".to_owned(), grads.input),
        ("eval_output".to_owned(), eval.output().to_vec()),
    ]);
    for spec in graph.params() {
        got.insert(format!("grad.{}", spec.name), grads.params[spec.range()].to_vec());
    }
    for spec in graph.buffers() {
        got.insert(format!("running.{}", spec.name), tensors.buffers[spec.range()].to_vec());
    }
    Ok(got)
}

fn check_block(name: &str, graph: &Graph) -> Result<Check> {
    let golden = golden(name)?;
    let mut want = tensors(&golden, "")?;
    want.retain(|name, _| !name.starts_with("initial."));
    Ok(check_equal(&interpret_block(&golden, graph)?, &want, ONE_STEP))
}

#[test]
fn blocks_match_pytorch() -> Result<()> {
    let image = Shape::image;
    for (name, graph) in [
        ("basic_block_identity", basic_block(image(4, 5, 6), 4, 1, Shortcut::None)?),
        ("basic_block_zero_pad", basic_block(image(3, 5, 6), 8, 2, Shortcut::ZeroPad)?),
        ("basic_block_projection", basic_block(image(3, 6, 5), 6, 2, Shortcut::Projection)?),
        ("bottleneck_identity", bottleneck(image(12, 5, 4), 3, [1, 1], Shortcut::None)?),
        ("bottleneck_projection", bottleneck(image(5, 5, 6), 3, [1, 2], Shortcut::Projection)?),
    ] {
        check_block(name, &graph)?.map_err(|failure| failure.of(name))?;
        // Plans agree with the interpreter, which agrees with PyTorch.
        let golden = golden(name)?;
        let case = Case {
            weights: initial_weights(&golden, &graph)?,
            num_samples: golden.shape("input")?[0],
            input: golden.f32("input")?,
            grad_logits: golden.f32("grad_output")?,
            graph,
        };
        for isa in Isa::supported() {
            let check = Truth::of(&case).check(&case.plan(isa)?);
            check.map_err(|failure| failure.of(&format!("{name}, {isa}")))?;
        }
    }
    Ok(())
}

#[test]
fn the_stride_of_the_other_convolution_is_rejected() -> Result<()> {
    let v1 = bottleneck(Shape::image(5, 5, 6), 3, [2, 1], Shortcut::Projection)?;
    assert_rejected("v1 stride", check_block("bottleneck_projection", &v1)?);
    Ok(())
}

/// The hyper-parameters of a golden's ten steps.
#[derive(Clone, Copy)]
struct Recipe {
    num_steps: usize,
    sgd: Sgd,
    label_smoothing: f32,
}

impl Recipe {
    fn of(golden: &Golden) -> Result<Self> {
        let number = |key: &str| -> Result<f32> { Ok(golden.metadata(key)?.parse()?) };
        Ok(Self {
            num_steps: golden.metadata("num_steps")?.parse()?,
            sgd: Sgd {
                lr: number("lr")?,
                momentum: number("momentum")?,
                nesterov: golden.metadata("nesterov")? == "True",
                weight_decay: number("weight_decay")?,
            },
            label_smoothing: number("label_smoothing")?,
        })
    }
}

fn tiny_resnet(shortcut: Shortcut) -> Result<Graph> {
    let architecture = Architecture::builder(Shape::image(3, 12, 10), 7)
        .shortcut(shortcut)
        .stem(StemKind::Conv3x3, 4)
        .stage(1, 4, 1)
        .stage(1, 8, 2)
        .stage(1, 16, 2)
        .build()?;
    Ok(architecture.to_graph()?)
}

/// Three batches of inputs and labels, which the steps go through in turn.
struct Batches {
    inputs: Vec<f32>,
    labels: Vec<u32>,
    batch_size: usize,
}

impl Batches {
    fn of(golden: &Golden) -> Result<Self> {
        let (inputs, labels) = (golden.f32("input")?, golden.labels("labels")?);
        Ok(Self { inputs, labels, batch_size: golden.shape("labels")?[1] })
    }

    fn of_step(&self, step: usize) -> (&[f32], &[u32]) {
        let (num, i) = (self.labels.len() / self.batch_size, self.batch_size);
        let input_len = self.inputs.len() / num;
        let batch = step % num;
        (&self.inputs[batch * input_len..][..input_len], &self.labels[batch * i..][..i])
    }
}

fn insert_params(outcome: &mut Outcome, prefix: &str, graph: &Graph, params: &[f64]) {
    for spec in graph.params() {
        outcome.insert(format!("{prefix}.{}", spec.name), params[spec.range()].to_vec());
    }
}

fn insert_buffers(outcome: &mut Outcome, prefix: &str, graph: &Graph, buffers: &[f64]) {
    for spec in graph.buffers() {
        outcome.insert(format!("{prefix}.{}", spec.name), buffers[spec.range()].to_vec());
    }
}

/// The golden's training by the interpreter in f64.
fn train_interpreter(golden: &Golden, graph: &Graph, recipe: Recipe) -> Result<Outcome> {
    let batches = Batches::of(golden)?;
    let mut tensors = Tensors::<f64>::new(&initial_weights(golden, graph)?);
    let mut velocity = vec![0.0; tensors.params.len()];
    let Sgd { lr, momentum, nesterov, weight_decay } = recipe.sgd;
    let sgd = kernels::sgd::Sgd {
        lr: lr.into(),
        momentum: momentum.into(),
        nesterov,
        weight_decay: weight_decay.into(),
    };
    let smoothing = f64::from(recipe.label_smoothing);
    let (mut outcome, mut mean_losses) = (Outcome::new(), Vec::new());
    for step in 0..recipe.num_steps {
        let (input, labels) = batches.of_step(step);
        let trace = reference::forward_train(graph, &mut tensors, &widen(input));
        let logits = trace.output();
        let (mut losses, mut grad_logits) = (vec![0.0; labels.len()], vec![0.0; logits.len()]);
        kernels::cross_entropy::forward(logits, labels, 7, smoothing, &mut losses);
        kernels::cross_entropy::backward(logits, labels, 7, smoothing, &mut grad_logits);
        mean_losses.push(losses.iter().sum::<f64>() / labels.len() as f64);
        let grads = reference::backward(graph, &tensors, &trace, &grad_logits);
        if step == 0 {
            outcome.insert("logits".to_owned(), logits.to_vec());
            insert_params(&mut outcome, "grad", graph, &grads.params);
            insert_buffers(&mut outcome, "running", graph, &tensors.buffers);
        }
        kernels::sgd::step(&sgd, &mut tensors.params, &grads.params, &mut velocity);
    }
    outcome.insert("losses".to_owned(), mean_losses);
    insert_params(&mut outcome, "final", graph, &tensors.params);
    insert_buffers(&mut outcome, "final", graph, &tensors.buffers);
    let eval = reference::forward_eval(graph, &tensors, &widen(batches.of_step(0).0));
    outcome.insert("eval_logits".to_owned(), eval.output().to_vec());
    Ok(outcome)
}

/// The golden's training by a plan.
fn train_plan(golden: &Golden, graph: &Graph, recipe: Recipe, isa: Isa) -> Result<Outcome> {
    let batches = Batches::of(golden)?;
    let n = batches.batch_size;
    let mut weights = initial_weights(golden, graph)?;
    let mut plan = Plan::new(graph, &PlanOptions { isa, ..PlanOptions::train(n)? })?;
    let mut velocity = vec![0.0; weights.params.len()];
    let mut grads = vec![f32::NAN; weights.params.len()];
    let (mut logits, mut grad_logits) = (vec![f32::NAN; n * 7], vec![f32::NAN; n * 7]);
    let (mut losses, mut mean_losses) = (vec![f32::NAN; n], Vec::new());
    let mut outcome = Outcome::new();
    for step in 0..recipe.num_steps {
        let (input, labels) = batches.of_step(step);
        plan.forward_train(&mut weights, input, &mut logits);
        let smoothing = recipe.label_smoothing;
        let loss = cross_entropy(&logits, labels, 7, smoothing, &mut losses, &mut grad_logits);
        mean_losses.push(f64::from(loss.mean));
        plan.backward(&weights, &grad_logits, &mut grads);
        if step == 0 {
            outcome.insert("logits".to_owned(), widen(&logits));
            insert_params(&mut outcome, "grad", graph, &widen(&grads));
            insert_buffers(&mut outcome, "running", graph, &widen(&weights.buffers));
        }
        for spec in graph.params() {
            let range = spec.range();
            let params = &mut weights.params[range.clone()];
            sgd_step(isa, &recipe.sgd, params, &grads[range.clone()], &mut velocity[range]);
        }
    }
    outcome.insert("losses".to_owned(), mean_losses);
    insert_params(&mut outcome, "final", graph, &widen(&weights.params));
    insert_buffers(&mut outcome, "final", graph, &widen(&weights.buffers));
    let mut eval = Plan::new(graph, &PlanOptions { isa, ..PlanOptions::eval(n)? })?;
    eval.load(&weights);
    eval.forward(batches.of_step(0).0, &mut logits);
    outcome.insert("eval_logits".to_owned(), widen(&logits));
    Ok(outcome)
}

const TINY: [(&str, Shortcut); 2] =
    [("tiny_resnet_zero_pad", Shortcut::ZeroPad), ("tiny_resnet_projection", Shortcut::Projection)];

#[test]
fn ten_steps_of_the_interpreter_match_pytorch() -> Result<()> {
    for (name, shortcut) in TINY {
        let (golden, graph) = (golden(name)?, tiny_resnet(shortcut)?);
        let got = train_interpreter(&golden, &graph, Recipe::of(&golden)?)?;
        let want = tensors(&golden, "f64.")?;
        let is_first =
            |name: &String| ["logits", "grad.", "running."].iter().any(|p| name.starts_with(p));
        let first = |outcome: &Outcome| -> Outcome {
            outcome
                .iter()
                .filter(|(name, _)| is_first(name))
                .map(|(n, v)| (n.clone(), v.clone()))
                .collect()
        };
        check_equal(&first(&got), &first(&want), ONE_STEP).map_err(|failure| failure.of(name))?;
        check_equal(&got, &want, TEN_STEPS).map_err(|failure| failure.of(name))?;
    }
    Ok(())
}

#[test]
fn ten_steps_of_plans_match_pytorch() -> Result<()> {
    for (name, shortcut) in TINY {
        let (golden, graph) = (golden(name)?, tiny_resnet(shortcut)?);
        let truth = Truth::new(tensors(&golden, "f64.")?, &tensors(&golden, "f32.")?);
        for isa in Isa::supported() {
            let got = train_plan(&golden, &graph, Recipe::of(&golden)?, isa)?;
            println!("{name}, {isa}: {:?} of the bound", truth.worst(&got));
            truth.check(&got).map_err(|failure| failure.of(&format!("{name}, {isa}")))?;
        }
    }
    Ok(())
}

/// Every bit of the trained weights, by any number of threads.
#[test]
fn the_number_of_threads_changes_no_bit() -> Result<()> {
    for (name, shortcut) in TINY {
        let (golden, graph) = (golden(name)?, tiny_resnet(shortcut)?);
        for isa in Isa::supported() {
            let train = |threads: usize| -> Result<Outcome> {
                let pool = ThreadPool::new(Some(threads))?;
                assert_eq!(pool.num_threads(), threads);
                let recipe = Recipe::of(&golden)?;
                // Errors of a box can't leave the pool.
                let trained = pool.install(|| {
                    train_plan(&golden, &graph, recipe, isa).map_err(|error| error.to_string())
                });
                Ok(trained?)
            };
            let one = train(1)?;
            for threads in [2, 7] {
                assert!(train(threads)? == one, "{name}, {isa}: {threads} threads");
            }
        }
    }
    Ok(())
}

#[test]
fn other_recipes_are_rejected() -> Result<()> {
    for (name, shortcut) in TINY {
        let (golden, graph) = (golden(name)?, tiny_resnet(shortcut)?);
        let right = Recipe::of(&golden)?;
        let truth = Truth::new(tensors(&golden, "f64.")?, &tensors(&golden, "f32.")?);
        let sgd = right.sgd;
        for (mutant, recipe) in [
            ("momentum", Recipe { sgd: Sgd { momentum: 0.0, ..sgd }, ..right }),
            ("decay", Recipe { sgd: Sgd { weight_decay: 0.0, ..sgd }, ..right }),
            ("nesterov", Recipe { sgd: Sgd { nesterov: !sgd.nesterov, ..sgd }, ..right }),
            ("lr", Recipe { sgd: Sgd { lr: sgd.lr * 1.0001, ..sgd }, ..right }),
            ("smoothing", Recipe { label_smoothing: 0.1 - right.label_smoothing, ..right }),
        ] {
            let got = train_interpreter(&golden, &graph, recipe)?;
            assert_rejected(&format!("{name}: another {mutant}"), truth.check(&got));
        }
    }
    Ok(())
}
