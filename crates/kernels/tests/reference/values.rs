//! Forward values, and the updates of batch norm and SGD.

use residua_kernels::reference::batch_norm::{Params, Statistics};
use residua_kernels::reference::{
    Real, add_relu, batch_norm, conv2d, cross_entropy, global_avg_pool, linear, max_pool, relu,
    sgd, zero_pad,
};
use residua_kernels::{Conv2dProblem, MaxPoolProblem, ZeroPadProblem};
use residua_testkit::{
    Case, Check, EPS64, Failure, Generator, absolute, all, assert_rejected, nchw_to_nhwc,
    nhwc_to_nchw,
};

fn close(got: &[f64], want: &[f64]) -> Check {
    let case = Case { pass: "values", problem: &"reference", kernel: "f64", seed: 0, shape: &[0] };
    case.within(got, want, &absolute(want), 64.0 * EPS64)
}

fn problem(descriptor: &str) -> Conv2dProblem {
    descriptor.parse().expect("a valid descriptor")
}

#[test]
fn conv2d_is_a_cross_correlation() {
    let input: Vec<f64> = (1..=9).map(f64::from).collect();
    let mut output = [0.0; 4];
    let p = problem("n1ic1ih3oc1kh2");
    conv2d::forward(&p, &input, &[1.0, 2.0, 3.0, 4.0], Some(&[0.5]), &mut output);
    assert_eq!(output, [37.5, 47.5, 67.5, 77.5]);
}

#[test]
fn conv2d_pads_with_zeros_and_steps_by_the_stride() {
    let input: Vec<f64> = (1..=9).map(f64::from).collect();
    let weight: Vec<f64> = (1..=9).map(f64::from).collect();
    let mut output = [0.0; 4];
    conv2d::forward(&problem("n1ic1ih3oc1kh3sh2ph1"), &input, &weight, None, &mut output);
    // At the top left, 1 2 4 5 meet 5 6 8 9.
    assert_eq!(output, [94.0, 106.0, 106.0, 94.0]);
    let mut output = [0.0; 3];
    let p = Conv2dProblem { kw: 1, sh: 1, sw: 2, ph: 0, pw: 1, ..problem("n1ic1ih3oc1kh3") };
    conv2d::forward(&p, &input, &[1.0, 10.0, 100.0], None, &mut output);
    assert_eq!(output, [0.0, 852.0, 0.0]);
}

/// In PyTorch's layouts: a padded copy of the image, indexed with plain strides.
fn conv2d_nchw(p: &Conv2dProblem, input: &[f64], weight: &[f64], bias: &[f64]) -> Vec<f64> {
    let (ph, pw) = (p.ih + 2 * p.ph, p.iw + 2 * p.pw);
    let mut padded = vec![0.0; p.n * p.ic * ph * pw];
    for (i, &x) in input.iter().enumerate() {
        let (plane, row, column) = (i / (p.ih * p.iw), i / p.iw % p.ih, i % p.iw);
        padded[(plane * ph + row + p.ph) * pw + column + p.pw] = x;
    }
    let mut output = Vec::new();
    for i in 0..p.output_len() {
        let (column, row) = (i % p.ow(), i / p.ow() % p.oh());
        let (oc_i, n_i) = (i / (p.ow() * p.oh()) % p.oc, i / (p.ow() * p.oh() * p.oc));
        let filter = &weight[oc_i * p.ic * p.kh * p.kw..][..p.ic * p.kh * p.kw];
        let product = |(j, &weight): (usize, &f64)| {
            let (ic_i, kh_i, kw_i) = (j / (p.kh * p.kw), j / p.kw % p.kh, j % p.kw);
            let plane = n_i * p.ic + ic_i;
            weight * padded[(plane * ph + row * p.sh + kh_i) * pw + column * p.sw + kw_i]
        };
        output.push(bias[oc_i] + filter.iter().enumerate().map(product).sum::<f64>());
    }
    output
}

#[test]
fn conv2d_equals_its_formula_in_pytorchs_layout() {
    let descriptors = [
        "n2ic3ih5iw7oc4kh3kw2sh1ph1",
        "n2ic2ih9iw4oc3kh1kw3sh2sw1ph0pw2",
        "n1ic5ih4iw6oc2kh4kw5sh3sw2ph3pw1",
        "n3ic1ih1iw1oc7kh7sh2ph3",
        "n2ic6ih5iw3oc5kh1sh2ph0",
    ];
    for descriptor in descriptors {
        let p = problem(descriptor);
        let mut generator = Generator::new(1);
        let mut integers =
            |len| -> Vec<f64> { generator.integers(len).into_iter().map(f64::from).collect() };
        let (nchw, weight, bias) =
            (integers(p.input_len()), integers(p.weight_len()), integers(p.oc));
        let input = nchw_to_nhwc([p.n, p.ic, p.ih, p.iw], &nchw);
        let mut output = vec![f64::NAN; p.output_len()];
        conv2d::forward(&p, &input, &weight, Some(&bias), &mut output);
        let output = nhwc_to_nchw([p.n, p.oc, p.oh(), p.ow()], &output);
        assert_eq!(output, conv2d_nchw(&p, &nchw, &weight, &bias), "{p}");
    }
}

#[test]
fn linear_multiplies_by_the_transposed_weight() {
    let mut output = [0.0; 6];
    let (input, weight) = ([1.0, 2.0, 3.0, 4.0], [1.0, 10.0, 2.0, 20.0, 3.0, 30.0]);
    linear::forward(2, &input, &weight, Some(&[0.25, 0.5, 0.75]), &mut output);
    assert_eq!(output, [21.25, 42.5, 63.75, 43.25, 86.5, 129.75]);
    let mut grad_bias = [0.0; 3];
    linear::backward_bias(&[1.0, 2.0, 3.0, 10.0, 20.0, 30.0], &mut grad_bias);
    assert_eq!(grad_bias, [11.0, 22.0, 33.0]);
}

#[test]
fn relu_keeps_positive_values_and_nan() {
    let mut output = [1.0; 5];
    relu::forward(&[-1.0, -0.0, 0.0, 2.5, f64::NAN], &mut output);
    assert_eq!(output[..4], [0.0, 0.0, 0.0, 2.5]);
    assert!(output[4].is_nan());
    let mut grad_input = [9.0; 5];
    relu::backward(&output, &[1.0, 2.0, 3.0, 4.0, 5.0], &mut grad_input);
    assert_eq!(grad_input, [0.0, 0.0, 0.0, 4.0, 5.0]);
    add_relu::forward(&[1.0, -3.0, f64::NAN], &[1.5, 2.0, 1.0], &mut output[..3]);
    assert_eq!(output[..2], [2.5, 0.0]);
    assert!(output[2].is_nan());
}

/// Rows of three channels with distances in all of them.
const ROWS: [f64; 12] = [1.0, -2.0, 0.5, 3.0, 4.0, 0.25, -1.0, 7.0, 2.5, 5.0, 0.0, -3.0];

/// Batch norm of [`ROWS`] in training: its output and the running statistics after it.
type Train = fn(Params<'_, f64>, momentum: f64) -> (Vec<f64>, Statistics<f64>);

fn train(params: Params<'_, f64>, momentum: f64) -> (Vec<f64>, Statistics<f64>) {
    let mut output = vec![f64::NAN; 12];
    let batch = batch_norm::forward_train(params, &ROWS, &mut output);
    let mut running = Statistics { mean: vec![0.0; 3], var: vec![1.0; 3] };
    running.update_running(&batch, 4, momentum);
    (output, running)
}

/// By formulas without a mean in them: the variance is half the mean squared distance of all
/// pairs of values, of different ones if unbiased.
fn check_train(train: Train) -> Check {
    let (weight, bias, eps, momentum) = ([2.0, -1.0, 0.5], [0.25, 1.0, -4.0], 0.1, 0.3);
    let (output, running) = train(Params { weight: &weight, bias: &bias, eps }, momentum);
    all((0..3).map(|c_i| {
        let values: Vec<f64> = ROWS.iter().skip(c_i).step_by(3).copied().collect();
        let pairs = values.iter().flat_map(|a| values.iter().map(move |b| (a - b) * (a - b)));
        let sum_of_pairs: f64 = pairs.sum();
        let (biased, unbiased) = (sum_of_pairs / (2.0 * 16.0), sum_of_pairs / (2.0 * 12.0));
        let mean = values.iter().sum::<f64>() / 4.0;
        close(&[running.mean[c_i]], &[0.3 * mean])?;
        close(&[running.var[c_i]], &[0.7 + 0.3 * unbiased])?;
        let outputs: Vec<f64> = output.iter().skip(c_i).step_by(3).copied().collect();
        let difference = outputs[3] - outputs[0];
        let want = weight[c_i] * (values[3] - values[0]) / (biased + eps).sqrt();
        close(&[difference, outputs.iter().sum()], &[want, 4.0 * bias[c_i]])
    }))
}

#[test]
fn batch_norm_in_training_is_biased_and_keeps_unbiased_statistics() -> Check {
    check_train(train)
}

#[test]
fn the_batch_norm_check_rejects_wrong_variants() {
    let mutants: [(&str, Train); 6] = [
        ("biased running variance", |params, momentum| {
            let (output, mut running) = train(params, momentum);
            let batch = Statistics::of_batch(3, &ROWS);
            for (running, var) in running.var.iter_mut().zip(batch.var) {
                *running = (1.0 - momentum) + momentum * var;
            }
            (output, running)
        }),
        ("momentum of the old statistics", |params, momentum| train(params, 1.0 - momentum)),
        ("no update", |params, momentum| {
            let (output, _) = train(params, momentum);
            (output, Statistics { mean: vec![0.0; 3], var: vec![1.0; 3] })
        }),
        ("normalised with the unbiased variance", |params, momentum| {
            let (mut output, running) = train(params, momentum);
            let mut batch = Statistics::of_batch(3, &ROWS);
            batch.var.iter_mut().for_each(|var| *var *= 4.0 / 3.0);
            batch_norm::forward_eval(params, &batch, &ROWS, &mut output);
            (output, running)
        }),
        ("eps outside the root", |params, momentum| {
            let (mut output, running) = train(params, momentum);
            let mut batch = Statistics::of_batch(3, &ROWS);
            let outside = |var: f64| (var.sqrt() + params.eps).powi(2) - params.eps;
            batch.var.iter_mut().for_each(|var| *var = outside(*var));
            batch_norm::forward_eval(params, &batch, &ROWS, &mut output);
            (output, running)
        }),
        ("dropped bias", |params, momentum| train(Params { bias: &[0.0; 3], ..params }, momentum)),
    ];
    for (mutant, train) in mutants {
        assert_rejected(mutant, check_train(train));
    }
}

#[test]
#[should_panic(expected = "batch norm over 1 values a channel, expected at least 2")]
fn the_unbiased_variance_of_one_value_panics() {
    let batch = Statistics { mean: vec![0.0], var: vec![0.0] };
    batch.clone().update_running(&batch, 1, 0.1);
}

#[test]
fn batch_norm_in_evaluation_takes_the_running_statistics() -> Check {
    let running = Statistics { mean: vec![1.0, 2.0], var: vec![3.0, 8.0] };
    let params = Params { weight: &[4.0, -6.0], bias: &[0.5, 0.25], eps: 1.0 };
    let mut output = [0.0; 4];
    batch_norm::forward_eval(params, &running, &[2.0, 5.0, 1.0, 2.0], &mut output);
    close(&output, &[2.5, -5.75, 0.5, 0.25])
}

#[test]
fn the_first_maximum_wins_and_the_last_nan() {
    let p = MaxPoolProblem { n: 1, c: 1, ih: 3, iw: 4, k: 2, s: 2, p: 1 };
    let nan = f64::NAN;
    let input = [
        -1.0, 5.0, 5.0, -7.0, //
        -2.0, 5.0, nan, 9.0, //
        -3.0, 4.0, 3.0, nan,
    ];
    let (mut output, mut index) = ([0.0; 6], [9; 6]);
    max_pool::forward(&p, &input, &mut output, &mut index);
    assert_eq!(output[..4], [-1.0, 5.0, -7.0, -2.0]);
    assert!(output[4].is_nan() && output[5].is_nan());
    assert_eq!(index, [3, 2, 2, 1, 1, 2]);
    let mut grad_input = [9.0; 12];
    max_pool::backward(&p, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &index, &mut grad_input);
    assert_eq!(grad_input, [1.0, 2.0, 0.0, 3.0, 4.0, 0.0, 5.0, 0.0, 0.0, 0.0, 0.0, 6.0]);
}

#[test]
fn a_window_of_negative_infinities_has_a_winner() {
    let p = MaxPoolProblem { n: 1, c: 1, ih: 1, iw: 1, k: 3, s: 1, p: 1 };
    let (mut output, mut index) = ([0.0], [9]);
    max_pool::forward(&p, &[f32::NEG_INFINITY], &mut output, &mut index);
    assert_eq!((output, index), ([f32::NEG_INFINITY], [4]));
}

#[test]
fn global_avg_pool_is_the_mean_of_each_channel() {
    let mut output = [0.0; 4];
    let input = [1.0, 10.0, 2.0, 20.0, 6.0, 30.0, -1.0, 0.5, -2.0, 0.0, 0.0, 1.0];
    global_avg_pool::forward(3, 2, &input, &mut output);
    assert_eq!(output, [3.0, 20.0, -1.0, 0.5]);
}

#[test]
fn zero_pad_keeps_even_pixels_between_zero_channels() {
    let p = ZeroPadProblem { n: 1, ic: 1, ih: 3, iw: 3, stride: 2, pad_before: 1, pad_after: 2 };
    let mut output = [9.0; 16];
    zero_pad::forward(&p, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0], &mut output);
    let kept = [1.0, 3.0, 7.0, 9.0];
    assert_eq!(output.to_vec(), kept.map(|x| [0.0, x, 0.0, 0.0]).concat());
}

#[test]
fn cross_entropy_is_the_surprise_of_the_label() -> Check {
    let logits = [1.0_f64.ln(), 2.0_f64.ln(), 5.0_f64.ln(), 7.0, 7.0, 7.0];
    let mut losses = [0.0; 2];
    cross_entropy::forward(&logits, &[2, 0], 3, 0.0, &mut losses);
    close(&losses, &[-(5.0_f64 / 8.0).ln(), 3.0_f64.ln()])?;
    let mut grad = [0.0; 6];
    cross_entropy::backward(&logits, &[2, 0], 3, 0.0, &mut grad);
    let third = 1.0 / 3.0;
    let want = [1.0 / 8.0, 2.0 / 8.0, -3.0 / 8.0, third - 1.0, third, third];
    close(&grad, &want.map(|x| x / 2.0))
}

/// PyTorch's form: a share of the mean surprise of all classes.
#[test]
fn label_smoothing_mixes_in_the_mean_of_all_classes() -> Check {
    let logits = Generator::new(1).signed_f64(8);
    let labels = [3, 1];
    let surprise = |sample: usize, class: u32| {
        let mut losses = [0.0; 2];
        cross_entropy::forward(&logits, &[class; 2], 4, 0.0, &mut losses);
        losses[sample]
    };
    let want = [0, 1].map(|n_i| {
        let mean = (0..4).map(|class| surprise(n_i, class)).sum::<f64>() / 4.0;
        0.9 * surprise(n_i, labels[n_i]) + 0.1 * mean
    });
    let mut losses = [0.0; 2];
    cross_entropy::forward(&logits, &labels, 4, 0.1, &mut losses);
    close(&losses, &want)
}

#[test]
fn a_class_that_is_ruled_out_costs_nothing() {
    let logits = [f64::NEG_INFINITY, 1.0, 1.0];
    let (mut losses, mut grad) = ([0.0], [0.0; 3]);
    cross_entropy::forward(&logits, &[1], 3, 0.0, &mut losses);
    cross_entropy::backward(&logits, &[1], 3, 0.0, &mut grad);
    assert_eq!((losses, grad), ([2.0_f64.ln()], [0.0, -0.5, 0.5]));
}

/// Two steps worked out by hand, from a parameter of 1 with gradients 0.5 and −0.25.
#[test]
fn sgd_follows_pytorchs_form() -> Check {
    let plain = sgd::Sgd { lr: 0.1, momentum: 0.0, nesterov: false, weight_decay: 0.0 };
    let heavy = sgd::Sgd { momentum: 0.9, weight_decay: 0.2, ..plain };
    let nesterov = sgd::Sgd { nesterov: true, ..heavy };
    let trials = [
        (plain, [1.0 - 0.05, 0.95 + 0.025]),
        // g 0.7, v 0.7; g −0.25 + 0.186, v 0.63 − 0.064.
        (heavy, [0.93, 0.93 - 0.0566]),
        // g 0.7, v 0.7, direction 1.33; g −0.25 + 0.1734, v 0.5534, direction 0.42146.
        (nesterov, [0.867, 0.867 - 0.042146]),
    ];
    all(trials.map(|(sgd, want)| {
        let (mut param, mut velocity) = ([1.0], [0.0]);
        let mut got = [0.0; 2];
        for (got, grad) in got.iter_mut().zip([0.5, -0.25]) {
            sgd::step(&sgd, &mut param, &[grad], &mut velocity);
            *got = param[0];
        }
        close(&got, &want).map_err(|failure| failure.of(&format!("{sgd:?}")))
    }))
}

/// The same in `f32`, to its precision: the reference is generic, not a copy.
#[test]
fn the_reference_runs_in_both_precisions() -> Check {
    fn loss<T: Real>() -> f64 {
        let mut losses = [T::ZERO];
        let logits = [0.3, -1.2, 2.0].map(T::from_f64);
        cross_entropy::forward(&logits, &[1], 3, T::from_f64(0.1), &mut losses);
        losses[0].to_f64()
    }
    let (single, double) = (loss::<f32>(), loss::<f64>());
    if single == double || (single - double).abs() > 1e-6 {
        return Err(Failure::new(format!("loss is {single} in f32, {double} in f64")));
    }
    Ok(())
}
