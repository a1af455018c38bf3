//! Softmax cross-entropy against the reference in `f64`.

use residua_kernels::cross_entropy;
use residua_kernels::reference::cross_entropy as reference;
use residua_testkit::{Case, Check, EPS32, Generator, Guarded, all, assert_rejected, widen};

type Loss = fn(&[f32], &[u32], usize, f32, &mut [f32], &mut [f32]);

/// Samples, classes, factor and offset of the logits.
const TRIALS: [(usize, u32, f32, f32); 9] = [
    (1, 2, 1.0, 0.0),
    (0, 3, 1.0, 0.0),
    (5, 1, 1.0, 0.0),
    (3, 10, 1.0, 0.0),
    (17, 10, 30.0, 0.0),
    (4, 7, 0.01, 1000.0),
    (2, 100, 1000.0, -500.0),
    (3, 1000, 2.0, 0.0),
    (6, 5, 1e20, 0.0),
];

fn check(loss: Loss) -> Check {
    let trials = TRIALS.into_iter().flat_map(|trial| [0.0, 0.1, 1.0].map(|s| (trial, s)));
    all(trials.enumerate().map(|(seed, ((n, k, factor, offset), smoothing))| {
        let classes = k as usize;
        let mut generator = Generator::new(seed as u64);
        let signed = generator.signed(n * classes);
        let logits: Vec<f32> = signed.iter().map(|x| factor * x + offset).collect();
        let labels = generator.labels(n, k);

        let wide = widen(&logits);
        let smoothing64 = f64::from(smoothing);
        let (mut want, mut want_grad) = (vec![0.0; n], vec![0.0; n * classes]);
        reference::forward(&wide, &labels, classes, smoothing64, &mut want);
        reference::backward(&wide, &labels, classes, smoothing64, &mut want_grad);

        // A logit's distance to the largest is rounded, and that is the relative error of its
        // probability.
        let mut magnitude = vec![0.0; n];
        let mut grad_magnitude = vec![0.0; n * classes];
        for i in 0..n * classes {
            let sample = &wide[i / classes * classes..][..classes];
            let distance = sample.iter().fold(0.0, |most: f64, x| most.max((x - wide[i]).abs()));
            magnitude[i / classes] =
                f64::max(magnitude[i / classes], distance + 1.0 + f64::from(k));
            grad_magnitude[i] =
                (want_grad[i].abs() + 1.0 / f64::from(k)) * (1.0 + distance.min(100.0));
        }

        let (mut losses, mut grad) = (Guarded::poisoned(n), Guarded::poisoned(n * classes));
        loss(&Guarded::holding(&logits), &labels, classes, smoothing, &mut losses, &mut grad);
        let problem =
            format!("{n} samples of {k} classes, ×{factor} +{offset}, smoothing {smoothing}");
        let shape = [n, classes];
        let case = |pass| Case {
            pass,
            problem: &problem,
            kernel: "f64",
            seed: seed as u64,
            shape: &shape,
        };
        case("losses").written(losses.check())?;
        case("grad_logits").written(grad.check())?;
        case("losses").within(&losses, &want, &magnitude, 2.0 * EPS32)?;
        case("grad_logits").within(&grad, &want_grad, &grad_magnitude, 2.0 * EPS32)
    }))
}

#[test]
fn loss_and_gradient_match_the_reference() -> Check {
    check(cross_entropy::forward_backward)
}

/// In one sample only.
#[test]
fn nan_logits_give_nan_losses() {
    for (i, bad) in [(0, f32::NAN), (4, f32::NAN), (2, f32::INFINITY)] {
        let mut logits = [1.0, -2.0, 0.5, 3.0, 0.25, 1.5];
        logits[i] = bad;
        let (mut losses, mut grad) = ([0.0; 2], [0.0; 6]);
        cross_entropy::forward_backward(&logits, &[1, 0], 3, 0.1, &mut losses, &mut grad);
        let sample = i / 3;
        assert!(losses[sample].is_nan() && grad[3 * sample..][..3].iter().all(|x| x.is_nan()));
        let other = 1 - sample;
        assert!(losses[other].is_finite() && grad[3 * other..][..3].iter().all(|x| x.is_finite()));
    }
}

/// As `torch.nn.functional.cross_entropy`: finite without smoothing, infinite with it.
#[test]
fn a_logit_of_minus_infinity_rules_a_class_out() {
    let logits = [0.5, f32::NEG_INFINITY, 0.5];
    let (mut losses, mut grad) = ([0.0; 1], [0.0; 3]);
    cross_entropy::forward_backward(&logits, &[0], 3, 0.0, &mut losses, &mut grad);
    assert_eq!((losses, grad), ([std::f32::consts::LN_2], [-0.5, 0.0, 0.5]));
    cross_entropy::forward_backward(&logits, &[0], 3, 0.1, &mut losses, &mut grad);
    assert_eq!(losses, [f32::INFINITY]);
}

#[test]
#[should_panic(expected = "label is 3, expected below 3")]
fn a_label_that_is_no_class_panics() {
    let (mut losses, mut grad) = ([0.0; 2], [0.0; 6]);
    cross_entropy::forward_backward(&[0.0; 6], &[0, 3], 3, 0.0, &mut losses, &mut grad);
}

/// The formula in `f32`, with what can go wrong in it left to the caller.
fn formula(
    logits: &[f32],
    labels: &[u32],
    classes: usize,
    losses: &mut [f32],
    grad: &mut [f32],
    target: impl Fn(bool) -> f32,
    shifted: bool,
) {
    let n = labels.len() as f32;
    for (i, &label) in labels.iter().enumerate() {
        let logits = &logits[i * classes..][..classes];
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let max = if shifted { largest } else { 0.0 };
        let total: f32 = logits.iter().map(|x| (x - max).exp()).sum();
        losses[i] = 0.0;
        for (j, logit) in logits.iter().enumerate() {
            let (q, log_p) = (target(j == label as usize), logit - max - total.ln());
            losses[i] -= if q == 0.0 { 0.0 } else { q * log_p };
            grad[i * classes + j] = (log_p.exp() - q) / n;
        }
    }
}

#[test]
fn the_check_rejects_wrong_variants() {
    let right: Loss = |logits, labels, k, s, losses, grad| {
        let target = |hit| if hit { 1.0 - s + s / k as f32 } else { s / k as f32 };
        formula(logits, labels, k, losses, grad, target, true);
    };
    check(right).unwrap();
    let mutants: [(&str, Loss); 9] = [
        ("sum instead of mean", |logits, labels, k, s, losses, grad| {
            cross_entropy::forward_backward(logits, labels, k, s, losses, grad);
            grad.iter_mut().for_each(|x| *x *= labels.len() as f32);
        }),
        ("losses divided by the batch", |logits, labels, k, s, losses, grad| {
            cross_entropy::forward_backward(logits, labels, k, s, losses, grad);
            losses.iter_mut().for_each(|x| *x /= labels.len() as f32);
        }),
        ("label smoothing ignored", |logits, labels, k, _, losses, grad| {
            cross_entropy::forward_backward(logits, labels, k, 0.0, losses, grad);
        }),
        ("smoothing over the other classes", |logits, labels, k, s, losses, grad| {
            let k1 = (k as f32 - 1.0).max(1.0);
            cross_entropy::forward_backward(logits, labels, k, s * k as f32 / k1, losses, grad);
        }),
        ("largest logit not subtracted", |logits, labels, k, s, losses, grad| {
            let target = |hit| if hit { 1.0 - s + s / k as f32 } else { s / k as f32 };
            formula(logits, labels, k, losses, grad, target, false);
        }),
        ("gradient negated", |logits, labels, k, s, losses, grad| {
            cross_entropy::forward_backward(logits, labels, k, s, losses, grad);
            grad.iter_mut().for_each(|x| *x = -*x);
        }),
        ("label off by one", |logits, labels, k, s, losses, grad| {
            let labels: Vec<u32> = labels.iter().map(|label| (label + 1) % k as u32).collect();
            cross_entropy::forward_backward(logits, &labels, k, s, losses, grad);
        }),
        ("logarithm of base 2", |logits, labels, k, s, losses, grad| {
            cross_entropy::forward_backward(logits, labels, k, s, losses, grad);
            losses.iter_mut().for_each(|x| *x *= std::f32::consts::LOG2_E);
        }),
        ("gradient rounded to bf16", |logits, labels, k, s, losses, grad| {
            cross_entropy::forward_backward(logits, labels, k, s, losses, grad);
            grad.iter_mut().for_each(|x| *x = f32::from_bits(x.to_bits() & 0xffff_0000));
        }),
    ];
    for (mutant, loss) in mutants {
        assert_rejected(mutant, check(loss));
    }
}
