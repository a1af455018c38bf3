//! Every registered convolution kernel against the reference in `f64`.

mod check;
mod fused;
mod mutants;
mod packed;
mod problems;
mod refused;
mod rows;
mod winograd;

use std::collections::HashSet;

use residua_kernels::conv2d::{backward_bias, choose, kernels};
use residua_kernels::reference::{conv2d as reference, linear};
use residua_kernels::{Conv2dProblem, Element, Isa, bf16};
use residua_testkit::{Check, Data, Failure, all, assert_rejected, check_products, dot};

use check::{Convolution, Trial};
use mutants::{BACKWARD_DATA, BACKWARD_WEIGHT, FORWARD, LOSSY, Mutant, RIGHT};
use packed::{Format, keeping, supporting};

/// Both kinds of data for every problem.
fn trials<E: Element>() -> impl Iterator<Item = Trial> {
    // In bf16 the sum over a kernel taller than 128 rows is rounded on the way.
    let tallest = if E::ROUNDING > f32::ROUNDING { 128 } else { usize::MAX };
    let problems = problems::all().into_iter().enumerate().filter(move |(_, p)| p.kh <= tallest);
    problems.flat_map(|(i, p)| Data::ALL.map(|data| Trial::new(p, data, i as u64).in_format::<E>()))
}

fn check_forward<E: Format>() -> Check {
    all(trials::<E>().map(|trial| trial.check_forward(&supporting::<E>(&trial.p))))
}

fn check_backward_data<E: Format>() -> Check {
    all(trials::<E>().map(|trial| trial.check_backward_data(&supporting::<E>(&trial.p))))
}

fn check_backward_weight<E: Format>() -> Check {
    all(trials::<E>().map(|trial| trial.check_backward_weight(&supporting::<E>(&trial.p))))
}

#[test]
fn forward_matches_the_reference() -> Check {
    check_forward::<f32>()?;
    check_forward::<bf16>()
}

#[test]
fn backward_data_matches_the_reference() -> Check {
    check_backward_data::<f32>()?;
    check_backward_data::<bf16>()
}

#[test]
fn backward_weight_matches_the_reference() -> Check {
    check_backward_weight::<f32>()?;
    check_backward_weight::<bf16>()
}

#[test]
fn gradients_of_kept_operands_match_the_reference() -> Check {
    let keeps = trials::<bf16>().any(|trial| !keeping::<bf16>(&trial.p).is_empty());
    assert_eq!(keeps, Isa::Avx512Bf16.is_supported(), "products of pairs keep their operands");
    all(trials::<bf16>().map(|trial| trial.check_backward_weight(&keeping::<bf16>(&trial.p))))
}

#[test]
fn the_checks_reject_wrong_variants() {
    let few = |data| problems::few().into_iter().map(move |p| Trial::new(p, data, 1));
    type Pass = fn(&Trial, &[Mutant]) -> Check;
    let passes: [(&[Mutant], Data, Pass); 6] = [
        (&FORWARD, Data::Integers, Trial::check_forward),
        (&BACKWARD_DATA, Data::Integers, Trial::check_backward_data),
        (&BACKWARD_WEIGHT, Data::Integers, Trial::check_backward_weight),
        (&LOSSY[..1], Data::Signed, Trial::check_forward),
        (&LOSSY[1..2], Data::Signed, Trial::check_backward_data),
        (&LOSSY[2..], Data::Signed, Trial::check_backward_weight),
    ];
    for (mutants, data, check) in passes {
        all(few(data).map(|trial| check(&trial, &[RIGHT]))).unwrap();
        for mutant in mutants {
            assert_rejected(mutant.name(), all(few(data).map(|trial| check(&trial, &[*mutant]))));
        }
    }
}

/// On integers all three inner products are exact: an identity without the reference.
fn check_adjoints(kernel: &impl Convolution, trial: &Trial) -> Check {
    let Trial { p, input, weight, grad_output, .. } = trial;
    let mut output = vec![f32::NAN; p.output_len()];
    kernel.forward(p, input, weight, None, &mut output);
    let mut grad_input = vec![f32::NAN; p.input_len()];
    kernel.backward_data(p, grad_output, weight, false, &mut grad_input);
    let mut grad_weight = vec![f32::NAN; p.weight_len()];
    kernel.backward_weight(p, &[(input, grad_output)], &mut grad_weight);
    let products = [
        ("⟨conv(x, w), g⟩", dot(&output, grad_output)),
        ("⟨x, backward_data(g, w)⟩", dot(input, &grad_input)),
        ("⟨w, backward_weight(x, g)⟩", dot(weight, &grad_weight)),
    ];
    check_products(&products, 1.0, 0.0)
        .map_err(|failure| failure.of(&format!("{p} by {}", kernel.name())))
}

/// Whether a window sees anything but padding.
fn sees_input(p: &Conv2dProblem) -> bool {
    let axis = |input: usize, output: usize, kernel: usize, stride: usize, padding: usize| {
        let mut positions = (0..output).flat_map(|o| (0..kernel).map(move |k| o * stride + k));
        positions.any(|position| (padding..padding + input).contains(&position))
    };
    p.n > 0 && axis(p.ih, p.oh(), p.kh, p.sh, p.ph) && axis(p.iw, p.ow(), p.kw, p.sw, p.pw)
}

#[test]
fn passes_are_adjoint_to_each_other() -> Check {
    // Of smaller ones the inner products may be 0 by chance.
    let problems = problems::all().into_iter().filter(|p| p.macs() > 500 && sees_input(p));
    all(problems.enumerate().flat_map(|(i, p)| {
        let trial = Trial::new(p, Data::Integers, 100 + i as u64);
        supporting::<f32>(&p).into_iter().map(move |kernel| check_adjoints(&kernel, &trial))
    }))
}

#[test]
fn the_adjoint_check_rejects_wrong_variants() {
    let few = || problems::few().into_iter().map(|p| Trial::new(p, Data::Integers, 1));
    all(few().map(|trial| check_adjoints(&RIGHT, &trial))).unwrap();
    let of_one_batch = BACKWARD_WEIGHT.iter().filter(|m| m.name() != "the last batch only");
    let in_one_pass = BACKWARD_DATA.iter().filter(|m| m.name() != "accumulate ignored");
    let linear_in_input = FORWARD.iter().filter(|mutant| !mutant.name().contains("bias"));
    for mutant in linear_in_input.chain(in_one_pass).chain(of_one_batch) {
        assert_rejected(mutant.name(), all(few().map(|trial| check_adjoints(mutant, &trial))));
    }
}

/// A linear layer over `n` samples is the `1×1` convolution of one image of `n` pixels in a row.
fn linear_problem(n: usize, ic: usize, oc: usize) -> Conv2dProblem {
    Conv2dProblem { n: 1, ic, ih: 1, iw: n, oc, kh: 1, kw: 1, sh: 1, sw: 1, ph: 0, pw: 0 }
}

fn check_linear(kernel: &impl Convolution, n: usize, in_features: usize, oc: usize) -> Check {
    let p = linear_problem(n, in_features, oc);
    let Trial { input, weight, bias, grad_output, .. } = Trial::new(p, Data::Integers, n as u64);
    let mut want = vec![0.0; n * oc];
    linear::forward(in_features, &input, &weight, Some(&bias), &mut want);
    let mut got = vec![f32::NAN; n * oc];
    kernel.forward(&p, &input, &weight, Some(&bias), &mut got);
    let forward = got == want;

    let mut want = vec![0.0; n * in_features];
    linear::backward_data(in_features, &grad_output, &weight, &mut want);
    let mut got = vec![f32::NAN; n * in_features];
    kernel.backward_data(&p, &grad_output, &weight, false, &mut got);
    let backward_data = got == want;

    let mut want = vec![0.0; weight.len()];
    linear::backward_weight(in_features, &input, &grad_output, &mut want);
    let mut got = vec![f32::NAN; weight.len()];
    kernel.backward_weight(&p, &[(&input, &grad_output)], &mut got);
    let backward_weight = got == want;

    if forward && backward_data && backward_weight {
        return Ok(());
    }
    Err(Failure::new(format!(
        "linear {in_features}→{oc} of {n} samples by {}: equal to the reference: forward {forward}, \
         backward_data {backward_data}, backward_weight {backward_weight}",
        kernel.name()
    )))
}

#[test]
fn linear_is_a_convolution_of_one_row() -> Check {
    let sizes = [(1, 64, 10), (7, 128, 256), (130, 33, 10), (2, 2, 2), (16, 1, 1)];
    all(sizes.into_iter().flat_map(|(n, in_features, out_features)| {
        let kernels = supporting::<f32>(&linear_problem(n, in_features, out_features));
        kernels.into_iter().map(move |kernel| check_linear(&kernel, n, in_features, out_features))
    }))
}

#[test]
fn the_linear_check_rejects_wrong_variants() {
    check_linear(&RIGHT, 7, 5, 3).unwrap();
    for mutant in [FORWARD[2], FORWARD[6], BACKWARD_DATA[3], BACKWARD_WEIGHT[3]] {
        assert_rejected(mutant.name(), check_linear(&mutant, 7, 5, 3));
    }
}

/// One NaN reaches everything that the reference computes from it, and no other sample.
#[test]
fn nan_reaches_all_that_reads_it_and_no_other_sample() {
    check_nan::<f32>();
    check_nan::<bf16>();
}

fn check_nan<E: Format>() {
    for descriptor in ["n2ic16ih8oc17kh3sh1ph1", "n2ic3ih9oc16kh7sh2ph3", "n2ic33ih4oc5kh1sh2ph0"] {
        let p: Conv2dProblem = descriptor.parse().unwrap();
        let Trial { mut input, weight, mut grad_output, .. } = Trial::new(p, Data::Signed, 1);
        input[1] = f32::NAN;
        grad_output[1] = f32::NAN;
        let check = |pass: &str, kernel: &str, want: &[f32], got: &[f32], first_sample: usize| {
            let reached = want.iter().zip(got).all(|(want, got)| !want.is_nan() || got.is_nan());
            assert!(want.iter().any(|x| x.is_nan()) && reached, "{pass} of {p} by {kernel}");
            assert!(got[first_sample..].iter().all(|x| x.is_finite()), "{pass} of {p} by {kernel}");
        };
        for kernel in supporting::<E>(&p) {
            let (mut want, mut got) = (vec![0.0; p.output_len()], vec![0.0; p.output_len()]);
            reference::forward(&p, &input, &weight, None, &mut want);
            kernel.forward(&p, &input, &weight, None, &mut got);
            check("forward", kernel.name(), &want, &got, p.with_n(1).output_len());

            let (mut want, mut got) = (vec![0.0; p.input_len()], vec![0.0; p.input_len()]);
            reference::backward_data(&p, &grad_output, &weight, &mut want);
            kernel.backward_data(&p, &grad_output, &weight, false, &mut got);
            check("backward_data", kernel.name(), &want, &got, p.with_n(1).input_len());

            let (mut want, mut got) = (vec![0.0; p.weight_len()], vec![0.0; p.weight_len()]);
            reference::backward_weight(&p, &input, &grad_output, &mut want);
            kernel.backward_weight(&p, &[(&input, &grad_output)], &mut got);
            check("backward_weight", kernel.name(), &want, &got, p.weight_len());
        }
    }
}

/// The products of AMX and AVX512-BF16 take them for zeros, and so does the rounding of their sums.
#[test]
fn subnormal_numbers_are_themselves_or_zeros_in_bf16() {
    let p: Conv2dProblem = "n1ic32ih4oc16kh1sh1ph0".parse().unwrap();
    let subnormal = bf16::from_bits(0x0012).to_f32();
    let (mut input, mut weight) = (vec![0.0; p.input_len()], vec![0.0; p.weight_len()]);
    input.iter_mut().step_by(p.ic).for_each(|x| *x = subnormal);
    weight.iter_mut().step_by(p.ic).for_each(|x| *x = 1.0);
    for kernel in supporting::<bf16>(&p) {
        let mut output = vec![f32::NAN; p.output_len()];
        kernel.forward(&p, &input, &weight, None, &mut output);
        let want = if kernel.0.isa() >= Isa::Avx512Bf16 { 0.0 } else { subnormal };
        assert!(output.iter().all(|x| x.to_bits() == want.to_bits()), "{}", kernel.name());
    }
}

/// As PyTorch's autocast does: what is added up is then rounded once.
#[test]
fn a_bias_is_rounded_first_in_bf16() {
    let p: Conv2dProblem = "n1ic5ih4oc33kh3sh1ph1".parse().unwrap();
    let Trial { input, weight, bias, .. } = Trial::new(p, Data::Signed, 1);
    let rounded: Vec<_> = bias.iter().map(|x| bf16::from_f32(*x).to_f32()).collect();
    assert!(bias != rounded);
    for kernel in supporting::<bf16>(&p) {
        let [got, want] = [&bias, &rounded].map(|bias| {
            let mut output = vec![f32::NAN; p.output_len()];
            kernel.forward(&p, &input, &weight, Some(bias), &mut output);
            output
        });
        assert_eq!(got, want, "{}", kernel.name());
    }
}

#[test]
fn the_same_call_gives_the_same_bits() {
    check_repeated::<f32>();
    check_repeated::<bf16>();
}

fn check_repeated<E: Format>() {
    let p: Conv2dProblem = "n2ic24ih9oc33kh3sh1ph1".parse().unwrap();
    let trial = Trial::new(p, Data::Signed, 1);
    for kernel in supporting::<E>(&p) {
        let run = || {
            let mut output = vec![0.0; p.output_len()];
            kernel.forward(&p, &trial.input, &trial.weight, Some(&trial.bias), &mut output);
            let mut grad_weight = vec![0.0; p.weight_len()];
            kernel.backward_weight(&p, &[(&trial.input, &trial.grad_output)], &mut grad_weight);
            output.extend(grad_weight);
            output.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
        };
        assert_eq!(run(), run(), "{}", kernel.name());
    }
}

#[test]
fn every_problem_has_a_kernel_within_its_instruction_set() {
    for p in problems::all() {
        for isa in Isa::supported() {
            let kernel = choose::<f32>(&p, isa);
            let (name, of) = (kernel.name(), kernel.isa());
            assert!(kernel.supports(&p), "{p} on {isa}: {name} does not support it");
            assert!(of <= isa, "{p} on {isa}: {name} needs {of}");
        }
    }
}

/// Added to what is there, which integers keep exact.
fn check_backward_bias(backward_bias: fn(&[f32], &mut [f32])) -> Check {
    all(problems::all().into_iter().map(|p| {
        let trial = Trial::new(p, Data::Integers, 1);
        let mut want = vec![0.0; p.oc];
        reference::backward_bias(&p, &trial.grad_output, &mut want);
        want.iter_mut().zip(&trial.bias).for_each(|(want, bias)| *want += bias);
        let mut got = trial.bias.clone();
        backward_bias(&trial.grad_output, &mut got);
        if got == want { Ok(()) } else { Err(Failure::new(format!("backward_bias of {p}"))) }
    }))
}

#[test]
fn backward_bias_adds_the_sum_over_all_pixels() -> Check {
    let overwriting = |grad_output: &[f32], grad_bias: &mut [f32]| {
        grad_bias.fill(0.0);
        backward_bias(grad_output, grad_bias);
    };
    assert_rejected("overwriting", check_backward_bias(overwriting));
    let mean = |grad_output: &[f32], grad_bias: &mut [f32]| {
        let pixels = (grad_output.len() / grad_bias.len()).max(1) as f32;
        let mean: Vec<f32> = grad_output.iter().map(|grad| grad / pixels).collect();
        backward_bias(&mean, grad_bias);
    };
    assert_rejected("mean over the pixels", check_backward_bias(mean));
    check_backward_bias(backward_bias)
}

#[test]
fn kernels_are_registered_once_and_for_every_instruction_set() {
    let names = kernels::<f32>().map(|kernel| kernel.name());
    let names: Vec<_> = names.chain(kernels::<bf16>().map(|kernel| kernel.name())).collect();
    let distinct: HashSet<_> = names.iter().collect();
    assert_eq!(names.len(), distinct.len(), "{names:?}");
    for isa in Isa::supported() {
        let f32_too = isa >= Isa::Avx512Bf16 || kernels::<f32>().any(|kernel| kernel.isa() == isa);
        let any = f32_too && kernels::<bf16>().any(|kernel| kernel.isa() == isa);
        assert!(any, "no kernel for {isa}: {names:?}");
    }
}

#[test]
fn the_problems_cover_the_edges() {
    let problems = problems::all();
    let covers = |what: &str, of: fn(&Conv2dProblem) -> usize, sizes: &[usize]| {
        let seen: HashSet<_> = problems.iter().map(of).collect();
        let missing: Vec<_> = sizes.iter().filter(|size| !seen.contains(size)).collect();
        assert!(missing.is_empty(), "no problem with {what} in {missing:?}");
    };
    let channels = [1, 2, 3, 5, 8, 15, 16, 17, 24, 31, 32, 33, 48, 64, 65];
    covers("ic", |p| p.ic, &channels);
    covers("oc", |p| p.oc, &channels);
    covers("iw", |p| p.iw, &(1..=35).collect::<Vec<_>>());
    covers("n", |p| p.n, &[0, 1, 2, 3, 7]);
    covers("kh", |p| p.kh, &[1, 2, 3, 5, 7]);
    covers("kh and sh", |p| 10 * p.kh + p.sh, &[11, 12, 13, 31, 32, 33, 51, 52, 53, 71, 72, 73]);
    covers("ph", |p| p.ph, &[0, 1, 2, 3]);
}
