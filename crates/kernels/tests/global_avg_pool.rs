//! Global average pooling at every instruction set against the reference.

use residua_kernels::reference::global_avg_pool as reference;
use residua_kernels::{Isa, global_avg_pool};
use residua_testkit::{
    Case, Check, Data, EPS32, Expected, Generator, Guarded, all, assert_rejected, check_adjoint,
};

type Pass = fn(Isa, usize, usize, &[f32], &mut [f32]);
type Reference = fn(usize, usize, &[f64], &mut [f64]);

/// Samples, pixels and channels.
fn sizes() -> impl Iterator<Item = [usize; 3]> {
    let channels = [1, 2, 3, 5, 8, 15, 16, 17, 24, 31, 32, 33, 48, 64, 65, 130, 1030];
    let pixels = [1, 2, 4, 7, 16, 49, 63, 64, 65, 130];
    let by_channel = channels.into_iter().enumerate().map(move |(i, c)| [i % 4, pixels[i % 10], c]);
    let by_pixels = (1..=35).chain(pixels).map(|num_pixels| [2, num_pixels, 19]);
    by_channel.chain(by_pixels).chain([[3, 4500, 1], [2, 2100, 3]])
}

/// A mean of powers of two pixels of integers is exact; others are rounded.
fn check(pass: &str, kernel: Pass, reference: Reference, forward: bool) -> Check {
    let trials = sizes().flat_map(|sizes| Data::ALL.map(|data| (sizes, data)));
    all(trials.flat_map(|(sizes, data)| Isa::supported().map(move |isa| (sizes, data, isa))).map(
        |([n, num_pixels, c], data, isa)| {
            let (whole, pooled) = ([n, num_pixels, c], [n, c]);
            let (from, to): (&[usize], &[usize]) =
                if forward { (&whole, &pooled) } else { (&pooled, &whole) };
            let seed = (num_pixels + c) as u64;
            let from = Generator::new(seed).values(data, from.iter().product());
            let len = to.iter().product();
            let mut want = Expected::sum_of_products(Data::Signed, [&from], len, |[from], want| {
                reference(num_pixels, c, from, want);
            });
            if data == Data::Integers && num_pixels.is_power_of_two() {
                want.magnitude = None;
            }
            let mut got = Guarded::poisoned(len);
            kernel(isa, num_pixels, c, &Guarded::holding(&from), &mut got);
            let problem = format!("{n} samples of {num_pixels} pixels of {c} channels");
            let case = Case { pass, problem: &problem, kernel: &isa.to_string(), seed, shape: to };
            case.written(got.check())?;
            case.matches(&got, &want, 4.0 * EPS32)
        },
    ))
}

fn check_forward(kernel: Pass) -> Check {
    check("global_avg_pool", kernel, reference::forward, true)
}

fn check_backward(kernel: Pass) -> Check {
    check("global_avg_pool backward", kernel, reference::backward, false)
}

#[test]
fn forward_matches_the_reference() -> Check {
    check_forward(global_avg_pool::forward)
}

#[test]
fn backward_matches_the_reference() -> Check {
    check_backward(global_avg_pool::backward)
}

#[test]
fn the_checks_reject_wrong_variants() {
    let mutants: [(&str, Pass); 5] = [
        ("sum instead of mean", |isa, num_pixels, c, input, output| {
            global_avg_pool::forward(isa, num_pixels, c, input, output);
            output.iter_mut().for_each(|x| *x *= num_pixels as f32);
        }),
        ("mean over all but one", |isa, num_pixels, c, input, output| {
            global_avg_pool::forward(isa, num_pixels, c, input, output);
            let factor = num_pixels as f32 / (num_pixels as f32 - 1.0).max(1.0);
            output.iter_mut().for_each(|x| *x *= factor);
        }),
        ("input read as NCHW", |isa, num_pixels, c, input, output| {
            let mut nhwc = Vec::new();
            for sample in input.chunks_exact(num_pixels * c) {
                nhwc.extend((0..sample.len()).map(|i| sample[i % c * num_pixels + i / c]));
            }
            global_avg_pool::forward(isa, num_pixels, c, &nhwc, output);
        }),
        ("added to what was there", |isa, num_pixels, c, input, output| {
            let before = output.to_vec();
            global_avg_pool::forward(isa, num_pixels, c, input, output);
            output.iter_mut().zip(before).for_each(|(output, before)| *output += before);
        }),
        ("the reciprocal rounded to bf16", |isa, num_pixels, c, input, output| {
            global_avg_pool::forward(isa, num_pixels, c, input, output);
            let reciprocal = 1.0 / num_pixels as f32;
            let rounded = f32::from_bits(reciprocal.to_bits() & 0xffff_0000);
            output.iter_mut().for_each(|x| *x *= rounded / reciprocal);
        }),
    ];
    for (mutant, forward) in mutants {
        assert_rejected(mutant, check_forward(forward));
    }
    let mutants: [(&str, Pass); 2] = [
        ("gradient not divided", |isa, num_pixels, c, grad_output, grad_input| {
            global_avg_pool::backward(isa, num_pixels, c, grad_output, grad_input);
            grad_input.iter_mut().for_each(|x| *x *= num_pixels as f32);
        }),
        ("the first pixel only", |isa, num_pixels, c, grad_output, grad_input| {
            global_avg_pool::backward(isa, num_pixels, c, grad_output, grad_input);
            grad_input.chunks_mut(num_pixels * c).for_each(|sample| sample[c..].fill(0.0));
        }),
    ];
    for (mutant, backward) in mutants {
        assert_rejected(mutant, check_backward(backward));
    }
}

#[test]
fn backward_is_adjoint_to_forward() -> Check {
    let (num_pixels, c) = (12, 5);
    let mut generator = Generator::new(1);
    let (input, grad) = (generator.signed_f64(3 * num_pixels * c), generator.signed_f64(3 * c));
    let narrow = |values: &[f64]| values.iter().map(|&x| x as f32).collect::<Vec<_>>();
    let widen = |values: Vec<f32>| values.into_iter().map(f64::from).collect::<Vec<_>>();
    all(Isa::supported().map(|isa| {
        let run = |pass: Pass, from: &[f64], len: usize| {
            let mut to = vec![0.0; len];
            pass(isa, num_pixels, c, &narrow(from), &mut to);
            widen(to)
        };
        let forward = |input: &[f64]| run(global_avg_pool::forward, input, 3 * c);
        let backward = |grad: &[f64]| run(global_avg_pool::backward, grad, 3 * num_pixels * c);
        check_adjoint(&input, &grad, forward, backward, 8.0 * EPS32)
    }))
}
