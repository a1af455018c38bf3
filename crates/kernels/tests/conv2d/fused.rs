//! What is joined to a convolution gives the bits that it gives alone: batch norms that make what it
//! reads, and shortcuts beside it; and the sums over what it makes are right within the error of sums in f32.

use residua_kernels::batch_norm::{Mask, backward_apply, normalise};
use residua_kernels::conv2d::{
    Addend, Backward, Conv2dKernel, Forward, GradInput, GradWeight, Moments, NormGradSums, Sums,
    kernels,
};
use residua_kernels::zero_pad::{self, ZeroPadGrad, ZeroPadded};
use residua_kernels::{
    Conv2dProblem, Element, Isa, NormGrad, Normalised, Residual, Source, ZeroPadProblem, bf16,
    convert,
};
use residua_testkit::{EPS32, Generator};

use crate::packed::Format;
use crate::problems;

/// Terms that are added in f32 before sums go on in f64: 64 tiles of 16 rows.
const TERMS_IN_F32: f64 = 1024.0;

fn values<E: Element>(generator: &mut Generator, len: usize) -> Vec<E> {
    let mut stored = vec![E::from_f32(0.0); len];
    convert(&generator.signed(len), &mut stored);
    stored
}

fn same_bits<E: Element>(left: &[E], right: &[E]) -> bool {
    bits(left) == bits(right)
}

fn bits<E: Element>(values: &[E]) -> Vec<u32> {
    values.iter().map(|x| x.to_f32().to_bits()).collect()
}

/// A batch norm's operands for `c` channels.
struct Norm {
    scale: Vec<f32>,
    shift: Vec<f32>,
    mean: Vec<f32>,
    b: Vec<f32>,
}

impl Norm {
    fn new(generator: &mut Generator, c: usize) -> Self {
        let [scale, shift, mean, b] = std::array::from_fn(|_| generator.signed(c));
        Self { scale, shift, mean, b }
    }

    fn grad<'a, E>(&'a self, grad_output: &'a [E], input: &'a [E]) -> NormGrad<'a, E> {
        let Self { scale: a, shift: c, mean, b } = self;
        NormGrad { grad_output, input, mean, a, b, c }
    }
}

/// The mean, `Σ (x − mean)²` and largest difference of each channel.
fn moments_of<E: Element>(rows: &[E], c: usize) -> Vec<[f64; 3]> {
    let channel = |c_i: usize| rows.iter().skip(c_i).step_by(c).map(|x| f64::from(x.to_f32()));
    let n = (rows.len() / c) as f64;
    let of = |c_i| {
        let mean = channel(c_i).sum::<f64>() / n;
        let m2 = channel(c_i).map(|x| (x - mean).powi(2)).sum();
        let range = channel(c_i).fold(f64::MIN, f64::max) - channel(c_i).fold(f64::MAX, f64::min);
        [mean, m2, range]
    };
    (0..c).map(of).collect()
}

fn moments_fit<E: Element>(rows: &[E], mean: &[f64], m2: &[f64]) -> bool {
    let c = mean.len();
    let (n, error) = ((rows.len() / c) as f64, TERMS_IN_F32 * EPS32);
    moments_of(rows, c).into_iter().zip(mean.iter().zip(m2)).all(|(want, (mean, m2))| {
        let [want_mean, want_m2, range] = want;
        (mean - want_mean).abs() <= error * range
            && (m2 - want_m2).abs() <= 2.0 * error * n * range * range
    })
}

/// `Σ grad` and `Σ grad · (x − mean)` on top of `before`, with the sums of the terms' magnitudes.
fn grad_sums_fit<E: Element>(
    grad: &[E],
    input: &[E],
    mean: &[f32],
    before: f64,
    [sum, centred]: [&[f64]; 2],
) -> bool {
    let c = mean.len();
    (0..c).all(|c_i| {
        let pairs = grad.iter().zip(input).skip(c_i).step_by(c);
        let (mut want, mut magnitude) = ([before; 2], [before.abs(); 2]);
        for (grad, x) in pairs {
            let (grad, x) = (f64::from(grad.to_f32()), f64::from(x.to_f32()));
            let terms = [grad, grad * (x - f64::from(mean[c_i]))];
            for i in 0..2 {
                want[i] += terms[i];
                magnitude[i] += terms[i].abs();
            }
        }
        let fits =
            |i: usize, got: f64| (got - want[i]).abs() <= 2.0 * TERMS_IN_F32 * EPS32 * magnitude[i];
        fits(0, sum[c_i]) && fits(1, centred[c_i])
    })
}

fn check_forward<E: Format>(kernel: &dyn Conv2dKernel<E>, p: &Conv2dProblem) {
    let mut generator = Generator::new(1);
    let norm = Norm::new(&mut generator, p.ic);
    let [input, residual] = std::array::from_fn(|_| values::<E>(&mut generator, p.input_len()));
    let mut packed = vec![0.0; kernel.packed_weight_len(p)];
    kernel.pack_weight(p, &generator.signed(p.weight_len()), &mut packed);
    let (input, stored) = (&input[..], Some(Residual::Stored(&residual[..])));
    let shortcut = problems::shortcut(p);
    let narrow = values::<E>(&mut generator, shortcut.input_len());
    let mut padded = values::<E>(&mut generator, p.input_len());
    zero_pad::forward(kernel.isa(), &shortcut, &narrow, &mut padded);
    let padded = Some(Residual::Stored(&padded[..]));
    let zero_padded = Some(Residual::ZeroPadded(ZeroPadded::new(shortcut, &narrow)));
    // What is added, and the same in memory.
    for ([residual, in_memory], relu, keep) in [
        ([None; 2], true, false),
        ([stored; 2], true, true),
        ([zero_padded, padded], true, true),
        ([zero_padded, padded], false, false),
        ([None; 2], false, true),
    ] {
        let what = format!("{p} by {}, {} {relu} {keep}", kernel.name(), residual.is_some());
        let (scale, shift) = (&norm.scale[..], &norm.shift[..]);
        let mut normalised = values::<E>(&mut generator, p.input_len());
        let from = Normalised { input, scale, shift, residual: in_memory, relu, output: None };
        normalise(kernel.isa(), from, &mut normalised);
        let mut want = vec![E::from_f32(0.0); p.output_len()];
        kernel.forward(p, &normalised, &packed, None, &mut want);

        let mut kept = vec![E::from_f32(0.0); p.input_len()];
        let mut output = want.clone();
        output.fill(E::from_f32(7.0));
        let (mut mean, mut m2) = (vec![f64::NAN; p.oc], vec![f64::NAN; p.oc]);
        let output_kept = keep.then_some(&mut kept[..]);
        let source = Normalised { input, scale, shift, residual, relu, output: output_kept };
        kernel.run_forward(
            p,
            Forward {
                input: Source::Normalised(source),
                packed: &packed,
                bias: None,
                output: &mut output,
                sums: Sums::Moments(Moments { count: 0, mean: &mut mean, m2: &mut m2 }),
            },
        );
        assert!(same_bits(&output, &want), "{what}");
        assert!(!keep || same_bits(&kept, &normalised), "{what}");
        if !output.is_empty() {
            assert!(moments_fit(&output, &mean, &m2), "{what}: {mean:?} {m2:?}");
        }
    }
}

fn check_backward<E: Format>(kernel: &dyn Conv2dKernel<E>, p: &Conv2dProblem) {
    let mut generator = Generator::new(2);
    let (before_norm, after_norm) =
        (Norm::new(&mut generator, p.ic), Norm::new(&mut generator, p.oc));
    let mut of = |len| values::<E>(&mut generator, len);
    let (input, accumulated, output_of_relu) =
        (of(p.input_len()), of(p.input_len()), of(p.input_len()));
    let (grad_norm_output, conv_output) = (of(p.output_len()), of(p.output_len()));
    let mut packed = vec![0.0; kernel.packed_weight_backward_len(p)];
    kernel.pack_weight_backward(p, &generator.signed(p.weight_len()), &mut packed);
    let isa = kernel.isa();
    let Norm { scale, shift, mean, .. } = &before_norm;
    // NaN, of either sign, lets gradients through.
    let mut output_of_relu = output_of_relu;
    for (first, nan) in [(2, f32::NAN), (5, -f32::NAN)] {
        let every = output_of_relu.iter_mut().skip(first).step_by(7);
        every.for_each(|x| *x = E::from_f32(nan));
    }

    let mut normalised = input.clone();
    let with_relu =
        || Normalised { input: &input, scale, shift, residual: None, relu: true, output: None };
    normalise(isa, with_relu(), &mut normalised);
    let mut grad_output = conv_output.clone();
    backward_apply(isa, after_norm.grad(&grad_norm_output, &conv_output), &mut grad_output);
    let mut want_grad = vec![0.0; kernel.packed_grad_len(p)];
    kernel.backward_weight(p, &normalised, &grad_output, &mut want_grad);
    let mut want_weight = vec![0.0; p.weight_len()];
    kernel.unpack_grad(p, &want_grad, &mut want_weight);

    // Shortcuts with the convolution's stride and with another.
    let shortcuts = [p.sh, p.sh + 1].map(|stride| {
        let Conv2dProblem { n, ic, ih, iw, .. } = *p;
        let problem = ZeroPadProblem { n, ic, ih, iw, stride, pad_before: 1, pad_after: 2 };
        (problem, values::<E>(&mut generator, problem.output_len()))
    });
    // What is added, the same in memory, and whether it is.
    let shortcut = |i: usize| {
        let (problem, grad) = &shortcuts[i];
        let mut in_memory = accumulated.clone();
        zero_pad::backward(isa, problem, grad, false, &mut in_memory);
        (Addend::ZeroPad(ZeroPadGrad::new(*problem, grad)), in_memory, true)
    };
    let in_place = || (Addend::InPlace, accumulated.clone(), true);
    let nothing = || (Addend::None, accumulated.clone(), false);
    let of_relu = Mask::Output(&output_of_relu[..]);
    for (mask, (addend, mut want, accumulate)) in [
        (Mask::None, nothing()),
        (of_relu, in_place()),
        (Mask::Normalised { scale, shift }, nothing()),
        (of_relu, shortcut(0)),
        (Mask::None, shortcut(1)),
    ] {
        let what = format!("{p} by {}, {mask:?}, {addend:?}", kernel.name());
        kernel.backward_data(p, &grad_output, &packed, accumulate, &mut want);
        for (i, want) in want.iter_mut().enumerate() {
            let (x, c_i) = (input[i].to_f32(), i % p.ic);
            let open = match mask {
                Mask::None => true,
                Mask::Output(output) => output[i].to_f32() > 0.0 || output[i].to_f32().is_nan(),
                // Without FMA the product is rounded too.
                Mask::Normalised { .. } if isa == Isa::Portable => {
                    x * scale[c_i] + shift[c_i] > 0.0
                }
                Mask::Normalised { .. } => x.mul_add(scale[c_i], shift[c_i]) > 0.0,
            };
            *want = if open { *want } else { E::from_f32(0.0) };
        }
        let mut grad_input = accumulated.clone();
        let (mut sum, mut centred) = (vec![3.0; p.ic], vec![3.0; p.ic]);
        // Overwritten, where nothing is said of adding.
        let mut packed_grad = vec![f32::NAN; kernel.packed_grad_len(p)];
        let sums = NormGradSums {
            mask,
            input: &input,
            mean,
            sum_grad: &mut sum,
            sum_grad_centred: &mut centred,
        };
        kernel.run_backward(
            p,
            Backward {
                input: Source::Normalised(with_relu()),
                grad_output: Source::NormGrad(after_norm.grad(&grad_norm_output, &conv_output)),
                packed_backward: &packed,
                grad_input: Some(GradInput {
                    grad_input: &mut grad_input,
                    addend,
                    sums: Sums::NormGrad(sums),
                }),
                grad_weight: Some(GradWeight::Packed {
                    packed_grad: &mut packed_grad,
                    accumulate: false,
                }),
            },
        );
        assert!(same_bits(&grad_input, &want), "{what}");
        assert!(grad_sums_fit(&grad_input, &input, mean, 3.0, [&sum, &centred]), "{what}");
        let mut weight = vec![0.0; p.weight_len()];
        kernel.unpack_grad(p, &packed_grad, &mut weight);
        assert!(same_bits(&weight, &want_weight), "{what}");
    }
}

fn check_all<E: Format>() {
    for p in problems::all() {
        for kernel in kernels::<E>().filter(|kernel| kernel.supports(&p)) {
            check_forward(kernel, &p);
            check_backward(kernel, &p);
        }
    }
}

#[test]
fn joined_steps_give_the_bits_of_single_ones() {
    check_all::<f32>();
    check_all::<bf16>();
}

#[test]
fn the_checks_of_sums_reject_wrong_ones() {
    let (c, rows) = (3, 40);
    let mut generator = Generator::new(3);
    let (x, grad) =
        (values::<f32>(&mut generator, rows * c), values::<f32>(&mut generator, rows * c));
    let right = moments_of(&x, c);
    let [mean, m2]: [Vec<f64>; 2] = [0, 1].map(|i| right.iter().map(|of| of[i]).collect());
    assert!(moments_fit(&x, &mean, &m2));
    let biased: Vec<f64> = m2.iter().map(|m2| m2 * rows as f64 / (rows - 1) as f64).collect();
    assert!(!moments_fit(&x, &mean, &biased), "another count");
    let neighbour: Vec<f64> = (0..c).map(|i| mean[(i + 1) % c]).collect();
    assert!(!moments_fit(&x, &neighbour, &m2), "the neighbour's mean");

    let center = [0.1, 0.2, 0.3];
    let sum_of = |term: &dyn Fn(usize) -> f64| -> Vec<f64> {
        (0..c).map(|c_i| (0..rows).map(|row| term(row * c + c_i)).sum()).collect()
    };
    let sum = sum_of(&|i| f64::from(grad[i]));
    let centred = sum_of(&|i| f64::from(grad[i]) * (f64::from(x[i]) - f64::from(center[i % c])));
    assert!(grad_sums_fit(&grad, &x, &center, 0.0, [&sum, &centred]));
    let not_centred = sum_of(&|i| f64::from(grad[i]) * f64::from(x[i]));
    assert!(!grad_sums_fit(&grad, &x, &center, 0.0, [&sum, &not_centred]), "not centred");
    let without_last = sum_of(&|i| if i < rows * c - c { f64::from(grad[i]) } else { 0.0 });
    assert!(
        !grad_sums_fit(&grad, &x, &center, 0.0, [&without_last, &centred]),
        "a pixel is missing"
    );
}
