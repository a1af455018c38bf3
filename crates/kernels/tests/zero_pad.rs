//! The zero-padding shortcut at every instruction set: copies, hence the same bits.

use residua_kernels::reference::{conv2d, linear, zero_pad as reference};
use residua_kernels::{Conv2dProblem, Isa, ZeroPadProblem, zero_pad};
use residua_testkit::{Case, Check, Data, Generator, Guarded, all, assert_rejected, dot};

type Forward = fn(Isa, &ZeroPadProblem, &[f32], &mut [f32]);
type Backward = fn(Isa, &ZeroPadProblem, &[f32], bool, &mut [f32]);

fn problems() -> Vec<ZeroPadProblem> {
    let shortcut =
        ZeroPadProblem { n: 2, ic: 16, ih: 8, iw: 6, stride: 2, pad_before: 8, pad_after: 8 };
    let mut problems = vec![
        shortcut,
        ZeroPadProblem { n: 0, ..shortcut },
        ZeroPadProblem { pad_before: 0, pad_after: 0, ..shortcut },
        ZeroPadProblem { stride: 1, ..shortcut },
        ZeroPadProblem { stride: 1, pad_before: 0, pad_after: 0, ..shortcut },
        ZeroPadProblem { stride: 3, ih: 7, iw: 8, ..shortcut },
        ZeroPadProblem { stride: 5, ih: 3, iw: 1, ..shortcut },
        // A dense network's: vectors of 128 into the upper half of 256.
        ZeroPadProblem { n: 5, ic: 128, ih: 1, iw: 1, stride: 1, pad_before: 0, pad_after: 128 },
    ];
    let channels = [1, 2, 3, 5, 8, 15, 16, 17, 24, 31, 32, 33, 48, 64, 65];
    problems.extend(channels.map(|ic| ZeroPadProblem {
        ic,
        ih: 5,
        pad_before: ic / 2,
        pad_after: ic - ic / 2,
        ..shortcut
    }));
    problems.extend((1..=19).map(|iw| ZeroPadProblem { iw, ic: 3, pad_before: 1, ..shortcut }));
    problems
}

fn everywhere(check: impl Fn(ZeroPadProblem, Isa) -> Check) -> Check {
    let trials = problems().into_iter().flat_map(|p| Isa::supported().map(move |isa| (p, isa)));
    all(trials.map(|(p, isa)| check(p, isa)))
}

fn check_forward(forward: Forward) -> Check {
    everywhere(|p, isa| {
        let input = Generator::new(1).values(Data::Signed, p.input_len());
        let mut want = vec![0.0; p.output_len()];
        reference::forward(&p, &input, &mut want);
        let mut output = Guarded::poisoned(p.output_len());
        forward(isa, &p, &Guarded::holding(&input), &mut output);
        let (problem, kernel) = (format!("{p:?}"), isa.to_string());
        let shape = [p.n, p.oh(), p.ow(), p.oc()];
        let pass = "zero_pad";
        let case = Case { pass, problem: &problem, kernel: &kernel, seed: 1, shape: &shape };
        case.written(output.check())?;
        case.exact(&output, &want)
    })
}

fn check_backward(backward: Backward) -> Check {
    everywhere(|p, isa| {
        let mut generator = Generator::new(2);
        let (grad_output, before) =
            (generator.signed(p.output_len()), generator.signed(p.input_len()));
        let mut overwritten = vec![0.0; p.input_len()];
        reference::backward(&p, &grad_output, &mut overwritten);
        let sum = before.iter().zip(&overwritten).map(|(before, grad)| before + grad);
        let accumulated: Vec<f32> = sum.collect();
        let (problem, kernel) = (format!("{p:?}"), isa.to_string());
        let shape = [p.n, p.ih, p.iw, p.ic];
        for (pass, accumulate, start, want) in [
            ("zero_pad backward", false, Guarded::poisoned(p.input_len()), &overwritten),
            ("accumulating zero_pad backward", true, Guarded::holding(&before), &accumulated),
        ] {
            let mut grad_input = start;
            backward(isa, &p, &Guarded::holding(&grad_output), accumulate, &mut grad_input);
            let case = Case { pass, problem: &problem, kernel: &kernel, seed: 2, shape: &shape };
            case.written(grad_input.check())?;
            case.exact(&grad_input, want)?;
        }
        Ok(())
    })
}

#[test]
fn forward_is_the_reference() -> Check {
    check_forward(zero_pad::forward)
}

#[test]
fn backward_is_the_reference() -> Check {
    check_backward(zero_pad::backward)
}

/// `[rows, columns]` with 1 where the row is `pad_before` plus the column: `[0; I; 0]`.
fn fixed_matrix(rows: usize, columns: usize, pad_before: usize) -> Vec<f32> {
    let one = |i: usize| i / columns == pad_before + i % columns;
    (0..rows * columns).map(|i| if one(i) { 1.0 } else { 0.0 }).collect()
}

/// On vectors the shortcut is the product with a fixed matrix, here `256×128`; so is its backward
/// with the transpose.
#[test]
fn on_vectors_it_is_the_product_with_the_fixed_matrix() {
    for pad_before in [0, 64, 128] {
        let (n, ic) = (3, 128);
        let pad_after = 128 - pad_before;
        let p = ZeroPadProblem { n, ic, ih: 1, iw: 1, stride: 1, pad_before, pad_after };
        let mut generator = Generator::new(3);
        let (input, grad_output) = (generator.signed(n * 128), generator.signed(n * 256));
        let matrix = fixed_matrix(256, 128, pad_before);
        let mut want = vec![0.0; n * 256];
        linear::forward(128, &input, &matrix, None, &mut want);
        let mut want_grad = vec![0.0; n * 128];
        linear::backward_data(128, &grad_output, &matrix, &mut want_grad);
        for isa in Isa::supported() {
            let mut output = vec![f32::NAN; n * 256];
            zero_pad::forward(isa, &p, &input, &mut output);
            assert_eq!(output, want, "{isa}, {p:?}");
            let mut grad_input = vec![f32::NAN; n * 128];
            zero_pad::backward(isa, &p, &grad_output, false, &mut grad_input);
            assert_eq!(grad_input, want_grad, "{isa}, {p:?}");
        }
    }
}

/// On images it is the `1×1` convolution with that matrix and the same stride.
#[test]
fn on_images_it_is_a_convolution_with_the_fixed_matrix() {
    for p in problems() {
        let ZeroPadProblem { n, ic, ih, iw, stride, pad_before, .. } = p;
        let (sh, sw, oc) = (stride, stride, p.oc());
        let conv = Conv2dProblem { n, ic, ih, iw, oc, kh: 1, kw: 1, sh, sw, ph: 0, pw: 0 };
        let input = Generator::new(4).signed(p.input_len());
        let mut want = vec![0.0; p.output_len()];
        conv2d::forward(&conv, &input, &fixed_matrix(oc, ic, pad_before), None, &mut want);
        for isa in Isa::supported() {
            let mut output = vec![f32::NAN; p.output_len()];
            zero_pad::forward(isa, &p, &input, &mut output);
            assert_eq!(output, want, "{isa}, {p:?}");
        }
    }
}

#[test]
fn backward_is_adjoint_to_forward() {
    for p in problems().into_iter().filter(|p| p.n > 0) {
        let mut generator = Generator::new(5);
        let (input, grad_output) =
            (generator.integers(p.input_len()), generator.integers(p.output_len()));
        for isa in Isa::supported() {
            let (mut output, mut grad_input) =
                (vec![0.0; p.output_len()], vec![0.0; p.input_len()]);
            zero_pad::forward(isa, &p, &input, &mut output);
            zero_pad::backward(isa, &p, &grad_output, false, &mut grad_input);
            assert_eq!(dot(&output, &grad_output), dot(&input, &grad_input), "{isa}, {p:?}");
        }
    }
}

#[test]
fn the_checks_reject_wrong_variants() {
    let forward: [(&str, Forward); 5] = [
        ("zeros after only", |isa, p, input, output| {
            let after =
                ZeroPadProblem { pad_before: 0, pad_after: p.pad_before + p.pad_after, ..*p };
            zero_pad::forward(isa, &after, input, output);
        }),
        ("odd rows and columns kept", |isa, p, input, output| {
            let mut shifted = input.to_vec();
            shifted.rotate_left(p.ic.min(input.len()));
            zero_pad::forward(isa, p, &shifted, output);
        }),
        ("padding not written", |isa, p, input, output| {
            let before = output.to_vec();
            zero_pad::forward(isa, p, input, output);
            for (i, x) in output.iter_mut().enumerate().filter(|(i, _)| i % p.oc() < p.pad_before) {
                *x = before[i];
            }
        }),
        ("mean of the stride's window", |isa, p, input, output| {
            zero_pad::forward(isa, p, input, output);
            let area = (p.stride * p.stride) as f32;
            output.iter_mut().for_each(|x| *x /= area);
        }),
        ("channels repeated instead of zeros", |isa, p, input, output| {
            zero_pad::forward(isa, p, input, output);
            for pixel in output.chunks_exact_mut(p.oc()) {
                pixel.copy_within(p.pad_before..p.pad_before + p.pad_before.min(p.ic), 0);
            }
        }),
    ];
    for (mutant, forward) in forward {
        assert_rejected(mutant, check_forward(forward));
    }
    let backward: [(&str, Backward); 3] = [
        ("accumulate ignored", |isa, p, grad_output, _, grad_input| {
            zero_pad::backward(isa, p, grad_output, false, grad_input);
        }),
        ("always accumulates", |isa, p, grad_output, _, grad_input| {
            zero_pad::backward(isa, p, grad_output, true, grad_input);
        }),
        ("gradient of the padding", |isa, p, grad_output, accumulate, grad_input| {
            let after =
                ZeroPadProblem { pad_before: 0, pad_after: p.pad_before + p.pad_after, ..*p };
            zero_pad::backward(isa, &after, grad_output, accumulate, grad_input);
        }),
    ];
    for (mutant, backward) in backward {
        assert_rejected(mutant, check_backward(backward));
    }
}
