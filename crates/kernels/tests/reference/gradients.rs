//! Every backward of the reference against central differences with random cotangents, and against
//! the transpose where the operation is linear; wrong backwards are rejected.

use residua_kernels::reference::batch_norm::{Params, Statistics};
use residua_kernels::reference::{
    add_relu, batch_norm, conv2d, cross_entropy, global_avg_pool, linear, max_pool, relu, zero_pad,
};
use residua_kernels::{Conv2dProblem, MaxPoolProblem, ZeroPadProblem};
use residua_testkit::{
    Check, EPS64, Generator, all, assert_rejected, check_adjoint, check_gradient,
};

/// All inputs of an operation in one vector, and the gradient of all of them. The second slice is
/// the cotangent of the outputs.
type Backward = fn(&[f64], &[f64]) -> Vec<f64>;

const SEEDS: std::ops::Range<u64> = 0..4;

fn check(
    at: fn(&mut Generator) -> Vec<f64>,
    forward: fn(&[f64]) -> Vec<f64>,
    backward: Backward,
) -> Check {
    all(SEEDS.map(|seed| {
        let input = at(&mut Generator::new(seed));
        check_gradient(&input, seed, forward, |grad| backward(&input, grad))
    }))
}

/// A convolution with everything uneven; its input, weight and bias are one vector.
const CONV: Conv2dProblem =
    Conv2dProblem { n: 2, ic: 3, ih: 5, iw: 7, oc: 4, kh: 3, kw: 2, sh: 2, sw: 1, ph: 1, pw: 0 };

fn conv_inputs(generator: &mut Generator) -> Vec<f64> {
    generator.signed_f64(CONV.input_len() + CONV.weight_len() + CONV.oc)
}

fn conv_split(all: &[f64]) -> [&[f64]; 3] {
    let (input, rest) = all.split_at(CONV.input_len());
    let (weight, bias) = rest.split_at(CONV.weight_len());
    [input, weight, bias]
}

fn conv_forward(all: &[f64]) -> Vec<f64> {
    let [input, weight, bias] = conv_split(all);
    let mut output = vec![f64::NAN; CONV.output_len()];
    conv2d::forward(&CONV, input, weight, Some(bias), &mut output);
    output
}

fn conv_backward(all: &[f64], grad_output: &[f64]) -> Vec<f64> {
    let [input, weight, _] = conv_split(all);
    let mut grads = vec![f64::NAN; all.len()];
    let (grad_input, rest) = grads.split_at_mut(CONV.input_len());
    let (grad_weight, grad_bias) = rest.split_at_mut(CONV.weight_len());
    conv2d::backward_data(&CONV, grad_output, weight, grad_input);
    conv2d::backward_weight(&CONV, input, grad_output, grad_weight);
    conv2d::backward_bias(&CONV, grad_output, grad_bias);
    grads
}

#[test]
fn conv2d_gradients() {
    check(conv_inputs, conv_forward, conv_backward).unwrap();
    let mutants: [(&str, Backward); 5] = [
        ("dropped gradient of the bias", |all, grad| {
            let mut grads = conv_backward(all, grad);
            let start = all.len() - CONV.oc;
            grads[start..].fill(0.0);
            grads
        }),
        ("mean over the batch", |all, grad| {
            let mut grads = conv_backward(all, grad);
            grads[CONV.input_len()..].iter_mut().for_each(|grad| *grad /= CONV.n as f64);
            grads
        }),
        ("output channels swapped", |all, grad| {
            let mut grads = conv_backward(all, grad);
            let filter = CONV.weight_len() / CONV.oc;
            let start = CONV.input_len();
            grads[start..start + 2 * filter].rotate_left(filter);
            grads
        }),
        ("kernel not flipped", |all, grad| {
            let mut flipped = all.to_vec();
            let weight = &mut flipped[CONV.input_len()..][..CONV.weight_len()];
            weight.chunks_exact_mut(CONV.kh * CONV.kw).for_each(<[f64]>::reverse);
            let wrong = conv_backward(&flipped, grad);
            [&wrong[..CONV.input_len()], &conv_backward(all, grad)[CONV.input_len()..]].concat()
        }),
        ("first row of the padding counted", |all, grad| {
            let mut shifted = all.to_vec();
            shifted[..CONV.input_len()].rotate_right(CONV.iw * CONV.ic);
            let wrong = conv_backward(&shifted, grad);
            [&conv_backward(all, grad)[..CONV.input_len()], &wrong[CONV.input_len()..]].concat()
        }),
    ];
    for (mutant, backward) in mutants {
        assert_rejected(mutant, check(conv_inputs, conv_forward, backward));
    }
}

const IN_FEATURES: usize = 5;
const OUT_FEATURES: usize = 3;
const SAMPLES: usize = 4;

fn linear_split(all: &[f64]) -> [&[f64]; 3] {
    let (input, rest) = all.split_at(SAMPLES * IN_FEATURES);
    let (weight, bias) = rest.split_at(OUT_FEATURES * IN_FEATURES);
    [input, weight, bias]
}

fn linear_backward(all: &[f64], grad_output: &[f64]) -> Vec<f64> {
    let [input, weight, bias] = linear_split(all);
    let mut grads = [input, weight, bias].map(|values| vec![f64::NAN; values.len()]);
    linear::backward_data(IN_FEATURES, grad_output, weight, &mut grads[0]);
    linear::backward_weight(IN_FEATURES, input, grad_output, &mut grads[1]);
    linear::backward_bias(grad_output, &mut grads[2]);
    grads.concat()
}

#[test]
fn linear_gradients() {
    let inputs = |generator: &mut Generator| {
        generator.signed_f64((SAMPLES + OUT_FEATURES) * IN_FEATURES + OUT_FEATURES)
    };
    let forward = |all: &[f64]| {
        let [input, weight, bias] = linear_split(all);
        let mut output = vec![f64::NAN; SAMPLES * OUT_FEATURES];
        linear::forward(IN_FEATURES, input, weight, Some(bias), &mut output);
        output
    };
    check(inputs, forward, linear_backward).unwrap();
    let mutants: [(&str, Backward); 2] = [
        ("gradient of the weight transposed", |all, grad| {
            let mut grads = linear_backward(all, grad);
            let start = SAMPLES * IN_FEATURES;
            let right = grads[start..].to_vec();
            for i in 0..IN_FEATURES * OUT_FEATURES {
                grads[start + i] = right[i % OUT_FEATURES * IN_FEATURES + i / OUT_FEATURES];
            }
            grads
        }),
        ("bias of one sample", |all, grad| {
            let mut grads = linear_backward(all, grad);
            let start = all.len() - OUT_FEATURES;
            grads[start..].copy_from_slice(&grad[..OUT_FEATURES]);
            grads
        }),
    ];
    for (mutant, backward) in mutants {
        assert_rejected(mutant, check(inputs, forward, backward));
    }
}

const CHANNELS: usize = 3;
const EPS: f64 = 0.01;

/// Weight, bias and then rows of channels.
fn batch_norm_split(all: &[f64]) -> (Params<'_, f64>, &[f64]) {
    let (weight, rest) = all.split_at(CHANNELS);
    let (bias, input) = rest.split_at(CHANNELS);
    (Params { weight, bias, eps: EPS }, input)
}

fn batch_norm_forward(all: &[f64]) -> Vec<f64> {
    let (params, input) = batch_norm_split(all);
    let mut output = vec![f64::NAN; input.len()];
    batch_norm::forward_train(params, input, &mut output);
    output
}

fn batch_norm_backward_with(
    all: &[f64],
    grad_output: &[f64],
    change: fn(&mut Statistics<f64>),
) -> Vec<f64> {
    let (params, input) = batch_norm_split(all);
    let mut batch = Statistics::of_batch(CHANNELS, input);
    change(&mut batch);
    let mut grads = vec![f64::NAN; all.len()];
    let (grad_weight, rest) = grads.split_at_mut(CHANNELS);
    let (grad_bias, grad_input) = rest.split_at_mut(CHANNELS);
    batch_norm::backward(params, &batch, input, grad_output, grad_input, grad_weight, grad_bias);
    grads
}

fn batch_norm_backward(all: &[f64], grad_output: &[f64]) -> Vec<f64> {
    batch_norm_backward_with(all, grad_output, |_| ())
}

#[test]
fn batch_norm_gradients() {
    let inputs = |generator: &mut Generator| generator.signed_f64(2 * CHANNELS + 7 * CHANNELS);
    check(inputs, batch_norm_forward, batch_norm_backward).unwrap();
    let mutants: [(&str, Backward); 5] = [
        ("statistics taken for constants", |all, grad| {
            let mut grads = batch_norm_backward(all, grad);
            let (params, input) = batch_norm_split(all);
            let batch = Statistics::of_batch(CHANNELS, input);
            for (i, grad_input) in grads[2 * CHANNELS..].iter_mut().enumerate() {
                let c_i = i % CHANNELS;
                *grad_input = grad[i] * params.weight[c_i] / (batch.var[c_i] + EPS).sqrt();
            }
            grads
        }),
        ("unbiased variance", |all, grad| {
            batch_norm_backward_with(all, grad, |batch| {
                batch.var.iter_mut().for_each(|var| *var *= 7.0 / 6.0);
            })
        }),
        ("without eps", |all, grad| {
            batch_norm_backward_with(all, grad, |batch| {
                batch.var.iter_mut().for_each(|var| *var -= EPS);
            })
        }),
        ("channels swapped", |all, grad| {
            batch_norm_backward_with(all, grad, |batch| batch.mean.swap(0, 1))
        }),
        ("gradient of the weight not normalised", |all, grad| {
            let mut grads = batch_norm_backward(all, grad);
            let (_, input) = batch_norm_split(all);
            let batch = Statistics::of_batch(CHANNELS, input);
            for (grad, var) in grads.iter_mut().zip(batch.var) {
                *grad *= (var + EPS).sqrt();
            }
            grads
        }),
    ];
    for (mutant, backward) in mutants {
        assert_rejected(mutant, check(inputs, batch_norm_forward, backward));
    }
}

fn relu_backward(input: &[f64], grad_output: &[f64]) -> Vec<f64> {
    let (mut output, mut grad_input) = (vec![0.0; input.len()], vec![f64::NAN; input.len()]);
    relu::forward(input, &mut output);
    relu::backward(&output, grad_output, &mut grad_input);
    grad_input
}

#[test]
fn relu_gradients() {
    let inputs = |generator: &mut Generator| generator.away_from_zero(40, 0.05);
    let forward = |input: &[f64]| {
        let mut output = vec![f64::NAN; input.len()];
        relu::forward(input, &mut output);
        output
    };
    check(inputs, forward, relu_backward).unwrap();
    let mutants: [(&str, Backward); 2] = [
        ("gradient everywhere", |_, grad| grad.to_vec()),
        ("mask inverted", |input, grad| {
            let passed = relu_backward(input, grad);
            grad.iter().zip(passed).map(|(grad, passed)| grad - passed).collect()
        }),
    ];
    for (mutant, backward) in mutants {
        assert_rejected(mutant, check(inputs, forward, backward));
    }
}

fn add_relu_forward(both: &[f64]) -> Vec<f64> {
    let (left, right) = both.split_at(both.len() / 2);
    let mut output = vec![f64::NAN; left.len()];
    add_relu::forward(left, right, &mut output);
    output
}

fn add_relu_backward(both: &[f64], grad_output: &[f64]) -> Vec<f64> {
    let mut grad = vec![f64::NAN; grad_output.len()];
    add_relu::backward(&add_relu_forward(both), grad_output, &mut grad);
    grad.repeat(2)
}

#[test]
fn add_relu_gradients() {
    // Each of the two moves by up to a step.
    let inputs = |generator: &mut Generator| {
        let (sum, left) = (generator.away_from_zero(20, 0.05), generator.signed_f64(20));
        let right: Vec<f64> = sum.iter().zip(&left).map(|(sum, left)| sum - left).collect();
        [left, right].concat()
    };
    check(inputs, add_relu_forward, add_relu_backward).unwrap();
    let to_the_left_only: Backward = |both, grad| {
        let mut grads = add_relu_backward(both, grad);
        grads[20..].fill(0.0);
        grads
    };
    assert_rejected("shortcut dropped", check(inputs, add_relu_forward, to_the_left_only));
}

const POOL: MaxPoolProblem = MaxPoolProblem { n: 2, c: 3, ih: 5, iw: 6, k: 3, s: 2, p: 1 };

fn max_pool_backward(input: &[f64], grad_output: &[f64]) -> Vec<f64> {
    let (mut output, mut index) = (vec![0.0; grad_output.len()], vec![0; grad_output.len()]);
    max_pool::forward(&POOL, input, &mut output, &mut index);
    let mut grad_input = vec![f64::NAN; input.len()];
    max_pool::backward(&POOL, grad_output, &index, &mut grad_input);
    grad_input
}

#[test]
fn max_pool_gradients() {
    let inputs = |generator: &mut Generator| generator.distinct(POOL.input_len(), 0.05);
    let forward = |input: &[f64]| {
        let (mut output, mut index) = (vec![0.0; POOL.output_len()], vec![0; POOL.output_len()]);
        max_pool::forward(&POOL, input, &mut output, &mut index);
        output
    };
    check(inputs, forward, max_pool_backward).unwrap();
    let mutants: [(&str, Backward); 2] = [
        ("to the winner of the negated input", |input, grad| {
            let negated: Vec<f64> = input.iter().map(|x| -x).collect();
            max_pool_backward(&negated, grad)
        }),
        ("winners of two windows counted once", |input, grad| {
            let ones = max_pool_backward(input, &vec![1.0; grad.len()]);
            let grads = max_pool_backward(input, grad);
            grads.iter().zip(ones).map(|(grad, ones)| grad / f64::max(ones, 1.0)).collect()
        }),
    ];
    for (mutant, backward) in mutants {
        assert_rejected(mutant, check(inputs, forward, backward));
    }
}

#[test]
fn global_avg_pool_gradients() {
    let inputs = |generator: &mut Generator| generator.signed_f64(2 * 6 * 3);
    let forward = |input: &[f64]| {
        let mut output = vec![f64::NAN; 6];
        global_avg_pool::forward(6, 3, input, &mut output);
        output
    };
    let backward: Backward = |_, grad| {
        let mut grad_input = vec![f64::NAN; 36];
        global_avg_pool::backward(6, 3, grad, &mut grad_input);
        grad_input
    };
    check(inputs, forward, backward).unwrap();
    let sum: Backward = |_, grad| {
        let samples = grad.chunks_exact(3).map(|grad| grad.repeat(6));
        samples.collect::<Vec<_>>().concat()
    };
    assert_rejected("sum instead of mean", check(inputs, forward, sum));
}

#[test]
fn zero_pad_gradients() -> Check {
    const P: ZeroPadProblem =
        ZeroPadProblem { n: 2, ic: 3, ih: 5, iw: 4, stride: 2, pad_before: 1, pad_after: 2 };
    let inputs = |generator: &mut Generator| generator.signed_f64(P.input_len());
    let forward = |input: &[f64]| {
        let mut output = vec![f64::NAN; P.output_len()];
        zero_pad::forward(&P, input, &mut output);
        output
    };
    let backward = |_: &[f64], grad: &[f64]| {
        let mut grad_input = vec![f64::NAN; P.input_len()];
        zero_pad::backward(&P, grad, &mut grad_input);
        grad_input
    };
    check(inputs, forward, backward)?;
    let mut generator = Generator::new(9);
    let (input, grad) = (inputs(&mut generator), generator.signed_f64(P.output_len()));
    check_adjoint(&input, &grad, forward, |grad| backward(&[], grad), 64.0 * EPS64)
}

const LABELS: [u32; 4] = [2, 0, 4, 1];

/// The mean loss, its only output, with label smoothing.
fn mean_loss(logits: &[f64]) -> Vec<f64> {
    let mut losses = [f64::NAN; 4];
    cross_entropy::forward(logits, &LABELS, 5, 0.1, &mut losses);
    vec![losses.iter().sum::<f64>() / 4.0]
}

fn mean_loss_backward(logits: &[f64], grad: f64, smoothing: f64) -> Vec<f64> {
    let mut grad_logits = vec![f64::NAN; logits.len()];
    cross_entropy::backward(logits, &LABELS, 5, smoothing, &mut grad_logits);
    grad_logits.iter().map(|x| x * grad).collect()
}

#[test]
fn cross_entropy_gradients() {
    let inputs = |generator: &mut Generator| generator.signed_f64(20);
    check(inputs, mean_loss, |logits, grad| mean_loss_backward(logits, grad[0], 0.1)).unwrap();
    let mutants: [(&str, Backward); 3] = [
        ("label smoothing ignored", |logits, grad| mean_loss_backward(logits, grad[0], 0.0)),
        ("sum instead of mean", |logits, grad| mean_loss_backward(logits, 4.0 * grad[0], 0.1)),
        ("loss not subtracted at the label", |logits, grad| {
            let mut grads = mean_loss_backward(logits, grad[0], 0.1);
            let labels = LABELS.iter().enumerate();
            labels.for_each(|(n_i, &label)| grads[n_i * 5 + label as usize] += 0.9 / 4.0 * grad[0]);
            grads
        }),
    ];
    for (mutant, backward) in mutants {
        assert_rejected(mutant, check(inputs, mean_loss, backward));
    }
}

#[test]
fn conv2d_passes_are_adjoint_in_f64() -> Check {
    all(SEEDS.flat_map(|seed| {
        let mut generator = Generator::new(seed);
        let (input, weight, grad_output) = (
            generator.signed_f64(CONV.input_len()),
            generator.signed_f64(CONV.weight_len()),
            generator.signed_f64(CONV.output_len()),
        );
        let run = |len: usize, pass: &dyn Fn(&mut [f64])| {
            let mut result = vec![f64::NAN; len];
            pass(&mut result);
            result
        };
        let forward = |input: &[f64], weight: &[f64]| {
            run(CONV.output_len(), &|y| conv2d::forward(&CONV, input, weight, None, y))
        };
        let in_input = check_adjoint(
            &input,
            &grad_output,
            |input| forward(input, &weight),
            |grad| run(input.len(), &|dx| conv2d::backward_data(&CONV, grad, &weight, dx)),
            1024.0 * EPS64,
        );
        let in_weight = check_adjoint(
            &weight,
            &grad_output,
            |weight| forward(&input, weight),
            |grad| run(weight.len(), &|dw| conv2d::backward_weight(&CONV, &input, grad, dw)),
            1024.0 * EPS64,
        );
        [in_input, in_weight]
    }))
}
