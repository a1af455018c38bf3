//! Max pooling at every instruction set against the reference: the maxima and their places are the
//! same bits, and so are gradients on integers.

use residua_kernels::batch_norm::{self, Mask};
use residua_kernels::conv2d::{NormGradSums, Sums};
use residua_kernels::reference::max_pool as reference;
use residua_kernels::{Isa, MaxPoolProblem, Normalised, Source, max_pool};
use residua_testkit::{
    Case, Check, Data, EPS32, Expected, Generator, Guarded, all, assert_rejected,
};

type Forward = fn(Isa, &MaxPoolProblem, &[f32], &mut [f32], &mut [u8]);
type Backward = fn(Isa, &MaxPoolProblem, &[f32], &[u8], &mut [f32]);

fn problems() -> Vec<MaxPoolProblem> {
    let stem = MaxPoolProblem { n: 2, c: 64, ih: 8, iw: 10, k: 3, s: 2, p: 1 };
    let small = MaxPoolProblem { n: 3, c: 5, ih: 6, iw: 7, k: 2, s: 2, p: 0 };
    let mut problems = vec![
        stem,
        small,
        MaxPoolProblem { n: 0, ..small },
        MaxPoolProblem { k: 2, s: 1, p: 1, ..small },
        MaxPoolProblem { k: 3, s: 1, p: 1, ..small },
        MaxPoolProblem { k: 1, s: 2, ..small },
        MaxPoolProblem { k: 2, s: 3, ..small },
        MaxPoolProblem { ih: 1, iw: 1, k: 3, s: 2, p: 1, ..small },
        MaxPoolProblem { ih: 1, iw: 4, k: 5, s: 1, p: 2, ..small },
        MaxPoolProblem { ih: 16, iw: 15, k: 15, s: 1, p: 0, ..small },
        MaxPoolProblem { ih: 3, iw: 9, k: 15, s: 2, p: 7, ..small },
    ];
    let channels = [1, 2, 3, 5, 8, 15, 16, 17, 24, 31, 32, 33, 48, 64, 65];
    problems.extend(channels.map(|c| MaxPoolProblem { c, n: 1, ..stem }));
    problems.extend((1..=35).map(|iw| MaxPoolProblem { iw, n: 1, c: 3, ..stem }));
    problems
}

/// Integers have ties in most windows, which are half of what there is to get wrong.
fn check_forward(forward: Forward) -> Check {
    check_forward_on(forward, |generator, len, seed| {
        let mut input = generator.values(Data::ALL[seed as usize % 2], len);
        if seed % 4 == 3 {
            input.iter_mut().step_by(7).for_each(|x| *x = f32::NAN);
            input.iter_mut().skip(3).step_by(5).for_each(|x| *x = f32::NEG_INFINITY);
        }
        input
    })
}

fn check_forward_on(
    forward: Forward,
    data: impl Fn(&mut Generator, usize, u64) -> Vec<f32>,
) -> Check {
    let trials = problems().into_iter().flat_map(|p| (0..4).map(move |seed| (p, seed)));
    all(trials.flat_map(|(p, seed)| Isa::supported().map(move |isa| (p, seed, isa))).map(
        |(p, seed, isa)| {
            let input = data(&mut Generator::new(seed), p.input_len(), seed);
            let mut want = vec![0.0; p.output_len()];
            let mut want_index = vec![0; p.output_len()];
            reference::forward(&p, &input, &mut want, &mut want_index);
            let mut output = Guarded::poisoned(p.output_len());
            let mut index = Guarded::poisoned(p.output_len());
            forward(isa, &p, &Guarded::holding(&input), &mut output, &mut index);
            let (problem, name) = (format!("{p:?}"), isa.to_string());
            let shape = [p.n, p.oh(), p.ow(), p.c];
            let case =
                Case { pass: "max_pool", problem: &problem, kernel: &name, seed, shape: &shape };
            case.written(output.check())?;
            case.written(index.check())?;
            case.exact(&output, &want)?;
            Case { pass: "index of max_pool", ..case }.exact(&index, &want_index)
        },
    ))
}

fn check_backward(backward: Backward) -> Check {
    let trials = problems().into_iter().flat_map(|p| Data::ALL.map(|data| (p, data)));
    all(trials.flat_map(|(p, data)| Isa::supported().map(move |isa| (p, data, isa))).map(
        |(p, data, isa)| {
            let seed = 5;
            let mut generator = Generator::new(seed);
            let (input, grad_output) =
                (generator.integers(p.input_len()), generator.values(data, p.output_len()));
            let (mut output, mut index) = (vec![0.0; p.output_len()], vec![0; p.output_len()]);
            reference::forward(&p, &input, &mut output, &mut index);
            let want =
                Expected::sum_of_products(data, [&grad_output], p.input_len(), |[g], want| {
                    reference::backward(&p, g, &index, want);
                });
            let mut grad_input = Guarded::poisoned(p.input_len());
            let index = Guarded::holding(&index);
            backward(isa, &p, &Guarded::holding(&grad_output), &index, &mut grad_input);
            let (problem, name) = (format!("{p:?}"), isa.to_string());
            let shape = [p.n, p.ih, p.iw, p.c];
            let pass = "max_pool backward";
            let case = Case { pass, problem: &problem, kernel: &name, seed, shape: &shape };
            case.written(grad_input.check())?;
            case.matches(&grad_input, &want, 8.0 * EPS32)
        },
    ))
}

#[test]
fn forward_is_the_reference() -> Check {
    check_forward(max_pool::forward)
}

#[test]
fn backward_is_the_reference() -> Check {
    check_backward(max_pool::backward)
}

/// The input element at a place of an output's window, unless that is padding.
fn input_at(p: &MaxPoolProblem, output: usize, place: usize) -> Option<usize> {
    let pixel = output / p.c;
    let (n_i, oh_i, ow_i) = (pixel / p.ow() / p.oh(), pixel / p.ow() % p.oh(), pixel % p.ow());
    let row = (oh_i * p.s + place / p.k).checked_sub(p.p).filter(|row| *row < p.ih)?;
    let column = (ow_i * p.s + place % p.k).checked_sub(p.p).filter(|column| *column < p.iw)?;
    Some(((n_i * p.ih + row) * p.iw + column) * p.c + output % p.c)
}

/// The reference with another rule for who wins.
fn forward_where(
    p: &MaxPoolProblem,
    input: &[f32],
    output: &mut [f32],
    index: &mut [u8],
    wins: fn(challenger: f32, best: f32) -> bool,
) {
    for i in 0..output.len() {
        let mut winner = None;
        for place in 0..p.k * p.k {
            let Some(challenger) = input_at(p, i, place).map(|at| input[at]) else { continue };
            if winner.is_none_or(|(best, _)| wins(challenger, best)) {
                winner = Some((challenger, place));
            }
        }
        let (best, place) = winner.unwrap();
        (output[i], index[i]) = (best, place as u8);
    }
}

#[test]
fn the_checks_reject_wrong_forwards() {
    let right: Forward = |_, p, input, output, index| {
        let wins = |challenger: f32, best| challenger > best || challenger.is_nan();
        forward_where(p, input, output, index, wins);
    };
    check_forward(right).unwrap();
    let mutants: [(&str, Forward); 8] = [
        ("the last maximum wins", |_, p, input, output, index| {
            let wins = |challenger: f32, best| challenger >= best || challenger.is_nan();
            forward_where(p, input, output, index, wins);
        }),
        ("NaN never wins", |_, p, input, output, index| {
            let wins = |challenger, best| challenger > best;
            forward_where(p, input, output, index, wins);
        }),
        ("NaN is forgotten", |_, p, input, output, index| {
            let wins = |challenger: f32, best: f32| challenger > best || best.is_nan();
            forward_where(p, input, output, index, wins);
        }),
        ("the first NaN wins", |_, p, input, output, index| {
            let wins = |challenger: f32, best: f32| {
                challenger > best || (challenger.is_nan() && !best.is_nan())
            };
            forward_where(p, input, output, index, wins);
        }),
        ("minimum", |_, p, input, output, index| {
            let wins = |challenger: f32, best| challenger < best || challenger.is_nan();
            forward_where(p, input, output, index, wins);
        }),
        ("padding wins with 0", |isa, p, input, output, index| {
            max_pool::forward(isa, p, input, output, index);
            let on_edge = |i: usize| p.p > 0 && (i / p.c).is_multiple_of(p.ow());
            for (_, x) in output.iter_mut().enumerate().filter(|(i, x)| on_edge(*i) && **x < 0.0) {
                *x = 0.0;
            }
        }),
        ("column counted before row", |isa, p, input, output, index| {
            max_pool::forward(isa, p, input, output, index);
            let k = p.k as u8;
            index.iter_mut().for_each(|place| *place = *place % k * k + *place / k);
        }),
        ("place in the clipped window", |isa, p, input, output, index| {
            max_pool::forward(isa, p, input, output, index);
            let first_row = |i: usize| (i / p.c / p.ow()).is_multiple_of(p.oh());
            for (i, place) in index.iter_mut().enumerate().filter(|(i, _)| first_row(*i)) {
                *place =
                    place.saturating_sub((p.p * p.k) as u8) + (i / p.c / p.ow() % p.oh()) as u8;
            }
        }),
    ];
    for (mutant, forward) in mutants {
        assert_rejected(mutant, check_forward(forward));
    }
}

#[test]
fn the_checks_reject_wrong_backwards() {
    let mutants: [(&str, Backward); 4] = [
        ("added to what was there", |isa, p, grad_output, index, grad_input| {
            let before = grad_input.to_vec();
            max_pool::backward(isa, p, grad_output, index, grad_input);
            grad_input.iter_mut().zip(before).for_each(|(grad, before)| *grad += before);
        }),
        ("to the winner of the neighbouring channel", |isa, p, grad_output, index, grad_input| {
            let mut index = index.to_vec();
            index.chunks_exact_mut(p.c).for_each(|pixel| pixel.rotate_left(1));
            max_pool::backward(isa, p, grad_output, &index, grad_input);
        }),
        ("overlapping windows overwrite each other", |_, p, grad_output, index, grad_input| {
            grad_input.fill(0.0);
            for (i, (&grad, &place)) in grad_output.iter().zip(index).enumerate() {
                grad_input[input_at(p, i, place.into()).unwrap()] = grad;
            }
        }),
        ("shared by the window", |isa, p, grad_output, index, grad_input| {
            let mean: Vec<f32> = grad_output.iter().map(|g| g / (p.k * p.k) as f32).collect();
            max_pool::backward(isa, p, &mean, index, grad_input);
        }),
    ];
    for (mutant, backward) in mutants {
        assert_rejected(mutant, check_backward(backward));
    }
}

/// Pictures of more rows than are taken at once, and small ones.
fn joined_problems() -> [MaxPoolProblem; 4] {
    let large = MaxPoolProblem { n: 2, c: 48, ih: 61, iw: 70, k: 3, s: 2, p: 1 };
    [
        large,
        MaxPoolProblem { n: 1, k: 5, s: 1, p: 2, ..large },
        MaxPoolProblem { n: 1, k: 2, s: 3, p: 0, ..large },
        MaxPoolProblem { n: 3, c: 5, ih: 6, iw: 7, ..large },
    ]
}

#[test]
fn a_joined_batch_norm_gives_the_bits_of_one_before() {
    for (p, isa) in
        joined_problems().into_iter().flat_map(|p| Isa::supported().map(move |isa| (p, isa)))
    {
        let mut generator = Generator::new(3);
        let input = generator.signed(p.input_len());
        let (scale, shift) = (generator.signed(p.c), generator.signed(p.c));
        let norm = || Normalised {
            input: &input,
            scale: &scale,
            shift: &shift,
            residual: None,
            relu: true,
            output: None,
        };
        let mut normalised = vec![f32::NAN; p.input_len()];
        batch_norm::normalise(isa, norm(), &mut normalised);
        let (mut want, mut want_index) = (vec![0.0; p.output_len()], vec![0; p.output_len()]);
        max_pool::forward(isa, &p, &normalised, &mut want, &mut want_index);
        let (mut output, mut index) =
            (Guarded::poisoned(p.output_len()), Guarded::poisoned(p.output_len()));
        max_pool::forward_of(isa, &p, Source::Normalised(norm()), &mut output, &mut index);
        assert!(output[..] == want && index[..] == want_index, "{p:?}, {isa}");
    }
}

#[test]
fn joined_sums_are_those_of_a_pass_after() {
    for (p, isa) in
        joined_problems().into_iter().flat_map(|p| Isa::supported().map(move |isa| (p, isa)))
    {
        let mut generator = Generator::new(5);
        // Sums of integers are exact in any order.
        let (input, grad_output) =
            (generator.integers(p.input_len()), generator.integers(p.output_len()));
        let mean = vec![1.0; p.c];
        let (mut output, mut index) = (vec![0.0; p.output_len()], vec![0; p.output_len()]);
        max_pool::forward(isa, &p, &input, &mut output, &mut index);
        let run = |joined: bool| {
            let (mut sum_grad, mut sum_grad_centred) = (vec![0.0; p.c], vec![0.0; p.c]);
            let sums = Sums::NormGrad(NormGradSums {
                mask: Mask::Output(&input),
                input: &input,
                mean: &mean,
                sum_grad: &mut sum_grad,
                sum_grad_centred: &mut sum_grad_centred,
            });
            let mut grad_input = vec![f32::NAN; p.input_len()];
            if joined {
                max_pool::backward_with_sums(isa, &p, &grad_output, &index, &mut grad_input, sums);
            } else {
                max_pool::backward(isa, &p, &grad_output, &index, &mut grad_input);
                sums.add(isa, &mut grad_input);
            }
            (grad_input, sum_grad, sum_grad_centred)
        };
        assert!(run(true) == run(false), "{p:?}, {isa}");
    }
}

#[test]
#[should_panic]
fn sizes_that_wrap_are_refused() {
    let iw = (1 << 60) + 1;
    let p = MaxPoolProblem { n: 1, c: 16, ih: 1, iw, k: 1, s: (1 << 60) - 1, p: 0 };
    let (mut output, mut index) = ([0.0; 32], [0; 32]);
    max_pool::forward(Isa::Portable, &p, &[0.0_f32; 16], &mut output, &mut index);
}
