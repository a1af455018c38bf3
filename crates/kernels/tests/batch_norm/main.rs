//! The parts of batch norm at every instruction set against the reference in `f64`, and put
//! together as a training step does.

mod check;
mod mutants;

use residua_kernels::batch_norm::{self, Mask};
use residua_kernels::reference::batch_norm::{self as reference, Params, Statistics};
use residua_kernels::{Isa, NormGrad, Normalised, Residual};
use residua_testkit::{Case, Check, EPS32, Generator, all, assert_rejected, widen};

use check::{
    check_backward_apply, check_backward_sums, check_merge, check_moments, check_normalise,
};

#[test]
fn moments_match_the_reference() -> Check {
    check_moments(batch_norm::moments)
}

#[test]
fn merged_moments_are_those_of_the_whole() -> Check {
    check_merge(batch_norm::merge_moments)
}

#[test]
fn normalise_matches_the_reference() -> Check {
    check_normalise(batch_norm::normalise)
}

#[test]
fn backward_sums_match_the_reference() -> Check {
    check_backward_sums(batch_norm::backward_sums)
}

#[test]
fn backward_apply_matches_the_reference() -> Check {
    check_backward_apply(batch_norm::backward_apply)
}

#[test]
fn the_checks_reject_wrong_variants() {
    for (mutant, moments) in mutants::MOMENTS {
        assert_rejected(mutant, check_moments(moments));
    }
    for (mutant, merge) in mutants::MERGE {
        assert_rejected(mutant, check_merge(merge));
    }
    for (mutant, normalise) in mutants::NORMALISE {
        assert_rejected(mutant, check_normalise(normalise));
    }
    for (mutant, backward_sums) in mutants::BACKWARD_SUMS {
        assert_rejected(mutant, check_backward_sums(backward_sums));
    }
    for (mutant, backward_apply) in mutants::BACKWARD_APPLY {
        assert_rejected(mutant, check_backward_apply(backward_apply));
    }
}

/// A batch norm with a ReLU.
fn with_relu<'a>(input: &'a [f32], scale: &'a [f32], shift: &'a [f32]) -> Normalised<'a, f32> {
    Normalised { input, scale, shift, residual: None, relu: true, output: None }
}

/// A residual block whose last batch norm has weight and bias 0 is the identity on what a ReLU gave.
#[test]
fn without_scale_and_shift_the_residual_passes_bit_for_bit() {
    for isa in Isa::supported() {
        for c in [3, 16, 65] {
            let mut generator = Generator::new(1);
            let input = generator.signed(40 * c);
            let residual: Vec<f32> = generator.signed(40 * c).iter().map(|x| x.max(0.0)).collect();
            let (zeros, mut output) = (vec![0.0; c], vec![f32::NAN; 40 * c]);
            let stored = Some(Residual::Stored(&residual[..]));
            let from = Normalised { residual: stored, ..with_relu(&input, &zeros, &zeros) };
            batch_norm::normalise(isa, from, &mut output);
            let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&output), bits(&residual), "{isa}, {c} channels");
        }
    }
}

#[test]
fn nan_stays_nan() {
    for isa in Isa::supported() {
        for i in 0..50 {
            let (scale, shift, mut output) = ([2.0; 5], [1.0; 5], [0.0; 50]);
            let mut input = [1.0; 50];
            input[i] = f32::NAN;
            batch_norm::normalise(isa, with_relu(&input, &scale, &shift), &mut output);
            assert!(output[i].is_nan(), "{isa}, element {i}");
            assert_eq!(output.iter().filter(|x| x.is_nan()).count(), 1, "{isa}, element {i}");
            let (mut mean, mut m2) = ([0.0; 5], [0.0; 5]);
            batch_norm::moments(isa, &input, 0, &mut mean, &mut m2);
            assert!(mean[i % 5].is_nan() && m2[i % 5].is_nan(), "{isa}, element {i}");
            assert_eq!(mean.iter().filter(|x| x.is_nan()).count(), 1, "{isa}, element {i}");
        }
    }
}

/// One batch norm with its ReLU, forward and backward.
struct Layer {
    c: usize,
    eps: f64,
    weight: Vec<f32>,
    bias: Vec<f32>,
    input: Vec<f32>,
    grad_output: Vec<f32>,
}

/// Output and gradients of the input, the weight and the bias.
type Results<T> = [Vec<T>; 4];

impl Layer {
    fn new(rows: usize, c: usize, seed: u64) -> Self {
        let mut generator = Generator::new(seed);
        let mut signed = |len| generator.signed(len);
        let (weight, bias) = (signed(c), signed(c));
        Self { c, eps: 1e-5, weight, bias, input: signed(rows * c), grad_output: signed(rows * c) }
    }

    fn rows(&self) -> usize {
        self.input.len() / self.c
    }

    /// From the parts, in slices of the batch as a plan has them.
    fn by_parts(&self, isa: Isa) -> Results<f32> {
        let (c, len, count) = (self.c, self.input.len(), self.rows() as f64);
        let (mut mean, mut m2) = (vec![0.0; c], vec![0.0; c]);
        let cut = self.rows() / 3;
        let (first, second) = self.input.split_at(cut * c);
        batch_norm::moments(isa, first, 0, &mut mean, &mut m2);
        let (mut other_mean, mut other_m2) = (vec![0.0; c], vec![0.0; c]);
        batch_norm::moments(isa, second, 0, &mut other_mean, &mut other_m2);
        let rest = self.rows() - cut;
        batch_norm::merge_moments(cut, &mut mean, &mut m2, rest, &other_mean, &other_m2);

        let inv_std: Vec<f64> =
            m2.iter().map(|m2| (m2 / count + self.eps).sqrt().recip()).collect();
        let per_channel =
            |f: &dyn Fn(usize) -> f64| -> Vec<f32> { (0..c).map(|i| f(i) as f32).collect() };
        let scale = per_channel(&|i| f64::from(self.weight[i]) * inv_std[i]);
        let shift = per_channel(&|i| f64::from(self.bias[i]) - mean[i] * f64::from(scale[i]));
        let mut output = vec![f32::NAN; len];
        batch_norm::normalise(isa, with_relu(&self.input, &scale, &shift), &mut output);

        let mut grad = self.grad_output.clone();
        let mean = per_channel(&|i| mean[i]);
        let (mut sum, mut centred) = (vec![0.0; c], vec![0.0; c]);
        batch_norm::backward_sums(
            isa,
            Mask::Output(&output),
            &mut grad,
            &self.input,
            &mean,
            &mut sum,
            &mut centred,
        );
        let b =
            per_channel(&|i| -f64::from(scale[i]) * inv_std[i] * inv_std[i] * centred[i] / count);
        let shift = per_channel(&|i| -f64::from(scale[i]) * sum[i] / count);
        let mut grad_input = vec![f32::NAN; len];
        let (grad_output, input) = (&grad[..], &self.input[..]);
        let from = NormGrad { grad_output, input, mean: &mean, a: &scale, b: &b, c: &shift };
        batch_norm::backward_apply(isa, from, &mut grad_input);
        let grad_weight = per_channel(&|i| centred[i] * inv_std[i]);
        [output, grad_input, grad_weight, per_channel(&|i| sum[i])]
    }

    /// By the reference; the ReLU's mask is taken from `output`, so that an element that rounds to
    /// the other side of 0 does not count as an error of the gradient.
    fn by_reference(&self, output: &[f32]) -> (Statistics<f64>, Results<f64>) {
        let [input, grad_output, weight, bias] =
            [&self.input, &self.grad_output, &self.weight, &self.bias].map(|x| widen(x));
        let params = Params { weight: &weight, bias: &bias, eps: self.eps };
        let mut want = vec![0.0; input.len()];
        let batch = reference::forward_train(params, &input, &mut want);
        want.iter_mut().for_each(|x| *x = x.max(0.0));
        let grad = grad_output.iter().zip(output);
        let grad: Vec<f64> = grad.map(|(&g, &y)| if y <= 0.0 { 0.0 } else { g }).collect();
        let mut grad_input = vec![0.0; input.len()];
        let (mut grad_weight, mut grad_bias) = (vec![0.0; self.c], vec![0.0; self.c]);
        reference::backward(
            params,
            &batch,
            &input,
            &grad,
            &mut grad_input,
            &mut grad_weight,
            &mut grad_bias,
        );
        (batch, [want, grad_input, grad_weight, grad_bias])
    }

    /// The sums of the absolute values of the terms of every result.
    fn magnitudes(&self, batch: &Statistics<f64>) -> Results<f64> {
        let (c, count) = (self.c, self.rows() as f64);
        let inv_std = |i: usize| (batch.var[i % c] + self.eps).sqrt().recip();
        let scale = |i: usize| (f64::from(self.weight[i % c]) * inv_std(i)).abs();
        let mut of_mean = vec![0.0; c];
        (0..self.input.len())
            .for_each(|i| of_mean[i % c] += f64::from(self.input[i].abs()) / count);
        let terms = |i: usize| f64::from(self.input[i].abs()) + of_mean[i % c];
        let grad = |i: usize| f64::from(self.grad_output[i].abs());
        let (mut of_weight, mut of_bias) = (vec![0.0; c], vec![0.0; c]);
        for i in 0..self.input.len() {
            of_weight[i % c] += grad(i) * terms(i) * inv_std(i);
            of_bias[i % c] += grad(i);
        }
        let elements = || 0..self.input.len();
        let of_output = |i: usize| terms(i) * scale(i) + f64::from(self.bias[i % c].abs());
        let of_input = |i: usize| {
            let through_mean = of_bias[i % c] / count;
            scale(i) * (grad(i) + through_mean + terms(i) * inv_std(i) * of_weight[i % c] / count)
        };
        let [of_output, of_input] =
            [elements().map(of_output).collect(), elements().map(of_input).collect()];
        [of_output, of_input, of_weight, of_bias]
    }

    fn check(&self, by_parts: impl Fn(&Self, Isa) -> Results<f32>) -> Check {
        all(Isa::supported().map(|isa| {
            let got = by_parts(self, isa);
            let (batch, want) = self.by_reference(&got[0]);
            let magnitudes = self.magnitudes(&batch);
            let names = ["output", "grad_input", "grad_weight", "grad_bias"];
            let problem = format!("batch norm of {} rows of {} channels", self.rows(), self.c);
            let kernel = isa.to_string();
            all((0..4).map(|i| {
                let shape = [0, self.c];
                let case = Case {
                    pass: names[i],
                    problem: &problem,
                    kernel: &kernel,
                    seed: 0,
                    shape: &shape,
                };
                case.within(&got[i], &want[i], &magnitudes[i], 8.0 * EPS32)
            }))
        }))
    }
}

#[test]
fn the_parts_make_a_training_step() -> Check {
    all([[2, 3], [9, 16], [50, 65], [400, 24], [3, 1]]
        .into_iter()
        .enumerate()
        .map(|(seed, [rows, c])| Layer::new(rows, c, seed as u64).check(Layer::by_parts)))
}

#[test]
fn the_training_step_check_rejects_wrong_variants() {
    let layer = Layer::new(9, 16, 1);
    type Spoil = fn(&Layer, &mut Results<f32>);
    let mutants: [(&str, Spoil); 4] = [
        ("statistics taken for constants", |layer, [output, grad_input, ..]| {
            let (batch, _) = layer.by_reference(output);
            for (i, grad) in grad_input.iter_mut().enumerate() {
                let std = (batch.var[i % 16] + layer.eps).sqrt();
                let passes = output[i] > 0.0;
                let through = f64::from(layer.weight[i % 16] * layer.grad_output[i]) / std;
                *grad = if passes { through as f32 } else { 0.0 };
            }
        }),
        ("normalised with the unbiased variance", |layer, [output, ..]| {
            let factor = (1.0 - 1.0 / layer.rows() as f32).sqrt();
            output.iter_mut().for_each(|x| *x *= factor);
        }),
        ("without eps", |layer, results| {
            let Layer { c, weight, bias, input, grad_output, .. } = layer;
            let [weight, bias, input, grad_output] =
                [weight, bias, input, grad_output].map(Vec::clone);
            let without = Layer { c: *c, eps: 0.0, weight, bias, input, grad_output };
            *results = without.by_parts(Isa::Portable);
        }),
        ("no gradient of the weight", |_, [_, _, grad_weight, _]| grad_weight.fill(0.0)),
    ];
    layer.check(Layer::by_parts).unwrap();
    for (mutant, spoil) in mutants {
        let by_mutant = |layer: &Layer, isa| {
            let mut results = layer.by_parts(isa);
            spoil(layer, &mut results);
            results
        };
        assert_rejected(mutant, layer.check(by_mutant));
    }
}
