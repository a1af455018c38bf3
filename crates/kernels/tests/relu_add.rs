//! ReLU and sums at every instruction set, bit for bit as the reference in `f32`: each element is
//! rounded at most once.

use residua_kernels::reference;
use residua_kernels::{Isa, add, relu};
use residua_testkit::{Case, Check, Generator, Guarded, all, assert_rejected};

type Unary = fn(Isa, &[f32], &mut [f32]);
type Sum = fn(Isa, &[f32], &[f32], bool, &mut [f32]);

/// Around one, two and four vectors, and a long one.
fn lens() -> impl Iterator<Item = usize> + Clone {
    (0..=70).chain([127, 128, 129, 1025])
}

/// Signed values between zeros of both signs, infinities and NaN.
fn special(len: usize, seed: u64) -> Vec<f32> {
    let specials = [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MIN_POSITIVE];
    let mut generator = Generator::new(seed);
    let mut values = generator.signed(len);
    for (i, x) in values.iter_mut().enumerate() {
        if i % 3 == seed as usize % 3 {
            *x = generator.pick(&specials);
        }
    }
    values
}

fn case<'a>(pass: &'a str, len: &'a usize, kernel: &'a str) -> Case<'a> {
    Case { pass, problem: len, kernel, seed: *len as u64, shape: &[0] }
}

/// All lengths at all instruction sets.
fn everywhere(check: impl Fn(usize, Isa) -> Check) -> Check {
    all(lens()
        .flat_map(|len| Isa::supported().map(move |isa| (len, isa)))
        .map(|(len, isa)| check(len, isa)))
}

fn check_relu(forward: Unary) -> Check {
    everywhere(|len, isa| {
        let input = special(len, len as u64);
        let mut want = vec![0.0; len];
        reference::relu::forward(&input, &mut want);
        let mut output = Guarded::poisoned(len);
        forward(isa, &Guarded::holding(&input), &mut output);
        let name = isa.to_string();
        case("relu", &len, &name).written(output.check())?;
        case("relu", &len, &name).exact(&output, &want)
    })
}

fn check_relu_backward(backward: Unary) -> Check {
    everywhere(|len, isa| {
        let mut output = special(len, len as u64);
        output.iter_mut().step_by(4).for_each(|x| *x = 0.0);
        let grad_output = special(len, 1 + len as u64);
        let mut want = vec![0.0; len];
        reference::relu::backward(&output, &grad_output, &mut want);
        let mut grad = Guarded::holding(&grad_output);
        backward(isa, &Guarded::holding(&output), &mut grad);
        let name = isa.to_string();
        case("relu backward", &len, &name).written(grad.check())?;
        case("relu backward", &len, &name).exact(&grad, &want)
    })
}

fn check_add_relu(add_relu: Sum) -> Check {
    everywhere(|len, isa| {
        let (left, right) = (special(len, len as u64), special(len, 1 + len as u64));
        let sum: Vec<f32> = left.iter().zip(&right).map(|(left, right)| left + right).collect();
        let mut positive = vec![0.0; len];
        reference::add_relu::forward(&left, &right, &mut positive);
        let name = isa.to_string();
        for (pass, relu, want) in [("add", false, sum), ("add_relu", true, positive)] {
            let mut output = Guarded::poisoned(len);
            let (left, right) = (Guarded::holding(&left), Guarded::holding(&right));
            add_relu(isa, &left, &right, relu, &mut output);
            case(pass, &len, &name).written(output.check())?;
            case(pass, &len, &name).exact(&output, &want)?;
        }
        Ok(())
    })
}

fn check_add_assign(add_assign: Unary) -> Check {
    everywhere(|len, isa| {
        let (before, other) = (special(len, len as u64), special(len, 1 + len as u64));
        let want: Vec<f32> = before.iter().zip(&other).map(|(left, right)| left + right).collect();
        let mut output = Guarded::holding(&before);
        add_assign(isa, &Guarded::holding(&other), &mut output);
        let name = isa.to_string();
        case("add_assign", &len, &name).written(output.check())?;
        case("add_assign", &len, &name).exact(&output, &want)
    })
}

#[test]
fn relu_is_the_reference() -> Check {
    check_relu(relu::forward)
}

#[test]
fn relu_backward_is_the_reference() -> Check {
    check_relu_backward(relu::backward)
}

#[test]
fn add_relu_is_the_reference() -> Check {
    check_add_relu(add::add_relu)
}

#[test]
fn add_assign_is_the_reference() -> Check {
    check_add_assign(|isa, other, output| add::add_assign(isa, output, other))
}

/// A block whose last layer is all zeros is the identity on what a ReLU gave.
#[test]
fn adding_zeros_to_what_a_relu_gave_changes_no_bit() {
    for isa in Isa::supported() {
        let mut input = vec![f32::NAN; 1000];
        relu::forward(isa, &Generator::new(1).signed(1000), &mut input);
        let mut output = vec![f32::NAN; 1000];
        add::add_relu(isa, &input, &vec![0.0; 1000], true, &mut output);
        let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&output), bits(&input), "{isa}");
    }
}

fn map(input: &[f32], output: &mut [f32], f: impl Fn(f32) -> f32) {
    output.iter_mut().zip(input).for_each(|(output, &input)| *output = f(input));
}

#[test]
fn the_checks_reject_wrong_relus() {
    let forward: [(&str, Unary); 6] = [
        ("NaN becomes 0", |_, input, output| map(input, output, |x| x.max(0.0))),
        ("a leak", |_, input, output| map(input, output, |x| x.max(1e-6 * x))),
        ("absolute value", |_, input, output| map(input, output, f32::abs)),
        ("no ReLU", |_, input, output| output.copy_from_slice(input)),
        ("infinity becomes large", |_, input, output| map(input, output, |x| x.min(f32::MAX))),
        ("the tail left out", |isa, input, output| {
            let whole = input.len() - input.len() % 16;
            relu::forward(isa, &input[..whole], &mut output[..whole]);
        }),
    ];
    for (mutant, forward) in forward {
        assert_rejected(mutant, check_relu(forward));
    }
    let backward: [(&str, Unary); 4] = [
        ("gradient at 0", |_, output, grad| {
            grad.iter_mut().zip(output).filter(|(_, x)| **x < 0.0).for_each(|(g, _)| *g = 0.0);
        }),
        ("no gradient at NaN", |_, output, grad| {
            let passes = |x: f32| x > 0.0;
            grad.iter_mut().zip(output).filter(|(_, x)| !passes(**x)).for_each(|(g, _)| *g = 0.0);
        }),
        ("gradient everywhere", |_, _, _| ()),
        ("masked by multiplication", |_, output, grad| {
            grad.iter_mut().zip(output).filter(|(_, x)| **x <= 0.0).for_each(|(g, _)| *g *= 0.0);
        }),
    ];
    for (mutant, backward) in backward {
        assert_rejected(mutant, check_relu_backward(backward));
    }
}

#[test]
fn the_checks_reject_wrong_sums() {
    let sums: [(&str, Sum); 5] = [
        ("no ReLU", |isa, left, right, _, output| add::add_relu(isa, left, right, false, output)),
        ("always ReLU", |isa, left, right, _, output| {
            add::add_relu(isa, left, right, true, output);
        }),
        ("ReLU before the sum", |isa, left, right, relu, output| {
            let mut positive = left.to_vec();
            if relu {
                relu::forward(isa, left, &mut positive);
            }
            add::add_relu(isa, &positive, right, relu, output);
        }),
        ("difference", |isa, left, right, relu, output| {
            let negative: Vec<f32> = right.iter().map(|x| -x).collect();
            add::add_relu(isa, left, &negative, relu, output);
        }),
        ("residual dropped", |isa, left, right, relu, output| {
            add::add_relu(isa, left, &vec![0.0; right.len()], relu, output);
        }),
    ];
    for (mutant, add_relu) in sums {
        assert_rejected(mutant, check_add_relu(add_relu));
    }
    let assigns: [(&str, Unary); 2] = [
        ("overwritten", |_, other, output| output.copy_from_slice(other)),
        ("added twice", |isa, other, output| {
            add::add_assign(isa, output, other);
            add::add_assign(isa, output, other);
        }),
    ];
    for (mutant, add_assign) in assigns {
        assert_rejected(mutant, check_add_assign(add_assign));
    }
}
