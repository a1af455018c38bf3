use crate::{Check, EPS64, Failure, Generator, dot};

/// Steps of the differences: five, each a quarter of the one before.
const STEPS: [f64; 5] = [1.0 / 64.0, 1.0 / 256.0, 1.0 / 1024.0, 1.0 / 4096.0, 1.0 / 16384.0];

/// That `backward` is the gradient of `forward` at `input`, by central differences in a random
/// direction and with a random cotangent (a sum of the outputs would be blind to much, as to all of
/// batch norm's input gradient):
///
/// ```text
/// D(h) = ⟨forward(input + h·v) − forward(input − h·v), g⟩ / 2h  →  ⟨v, backward(g)⟩
/// ```
///
/// `forward` maps the input to the outputs, `backward` a cotangent of the outputs to the gradient
/// of the input. The error of `D(h)` has to fall with `h²` until rounding hides it; that of a wrong
/// gradient stays. The input has to be further than 1/64 from kinks.
pub fn check_gradient(
    input: &[f64],
    seed: u64,
    forward: impl Fn(&[f64]) -> Vec<f64>,
    backward: impl Fn(&[f64]) -> Vec<f64>,
) -> Check {
    let mut generator = Generator::new(seed);
    let output = forward(input);
    let cotangent = generator.signed_f64(output.len());
    let direction = unit(generator.signed_f64(input.len()));
    let gradient = backward(&cotangent);
    if gradient.len() != input.len() {
        let (got, want) = (gradient.len(), input.len());
        return Err(Failure::new(format!("gradient has {got} elements, want {want}")));
    }
    let want = dot(&direction, &gradient);
    let terms: f64 = output.iter().zip(&cotangent).map(|(output, g)| (output * g).abs()).sum();

    let mut table = format!("derivative by backward {want:?}, by differences");
    let mut errors: Vec<f64> = Vec::new();
    let mut accepted = true;
    for (k, h) in STEPS.into_iter().enumerate() {
        let at = |h: f64| -> Vec<f64> {
            forward(&input.iter().zip(&direction).map(|(x, v)| x + h * v).collect::<Vec<_>>())
        };
        let change: Vec<f64> = at(h).iter().zip(at(-h)).map(|(plus, minus)| plus - minus).collect();
        let difference = dot(&change, &cotangent) / (2.0 * h);
        let error = (difference - want).abs();
        let rounding = 256.0 * EPS64 * terms / h;
        // What the errors so far allow, with a factor of 4 for the terms beyond h².
        let truncation =
            (0..k).map(|j| 4.0 * errors[j] * (h / STEPS[j]).powi(2)).fold(0.0, f64::max);
        accepted &= (k == 0 && error.is_finite()) || error <= truncation + rounding;
        if want.abs() <= rounding {
            return Err(Failure::new(format!("derivative is {want:?}, which says nothing")));
        }
        table += &format!("\n  h = {h:.0e}: {difference:?}, error {error:.1e}");
        errors.push(error);
    }
    if accepted { Ok(()) } else { Err(Failure::new(table)) }
}

/// Scaled so that the largest element is 1: a step then moves no input by more than `h`.
fn unit(mut direction: Vec<f64>) -> Vec<f64> {
    let largest = direction.iter().fold(0.0, |largest: f64, v| largest.max(v.abs()));
    direction.iter_mut().for_each(|v| *v /= largest);
    direction
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assert_rejected;

    /// `output[i] = input[i] · exp(input[i + 1])`, in a ring.
    fn forward(input: &[f64]) -> Vec<f64> {
        let len = input.len();
        (0..len).map(|i| input[i] * input[(i + 1) % len].exp()).collect()
    }

    fn backward(input: &[f64], g: &[f64]) -> Vec<f64> {
        let len = input.len();
        let mut gradient = vec![0.0; len];
        for i in 0..len {
            gradient[i] += g[i] * input[(i + 1) % len].exp();
            gradient[(i + 1) % len] += g[i] * input[i] * input[(i + 1) % len].exp();
        }
        gradient
    }

    fn check(seed: u64, backward: impl Fn(&[f64], &[f64]) -> Vec<f64>) -> Check {
        let input = Generator::new(seed).signed_f64(30);
        check_gradient(&input, seed, forward, |g| backward(&input, g))
    }

    #[test]
    fn the_gradient_passes() -> Check {
        (0..50).try_for_each(|seed| check(seed, backward))
    }

    #[test]
    fn a_linear_map_passes_at_every_step() -> Check {
        let input = Generator::new(1).signed_f64(30);
        let double = |x: &[f64]| x.iter().map(|x| 2.0 * x).collect();
        check_gradient(&input, 1, double, double)
    }

    #[test]
    fn wrong_gradients_are_rejected() {
        for seed in 0..20 {
            let scaled =
                |x: &[f64], g: &[f64]| backward(x, g).iter().map(|v| v * (1.0 + 1e-7)).collect();
            assert_rejected("a ten-millionth too large", check(seed, scaled));
            let negated = |x: &[f64], g: &[f64]| backward(x, g).iter().map(|v| -v).collect();
            assert_rejected("negated", check(seed, negated));
            let swapped = |x: &[f64], g: &[f64]| {
                let mut gradient = backward(x, g);
                gradient.swap(3, 4);
                gradient
            };
            assert_rejected("two elements swapped", check(seed, swapped));
            let partial = |x: &[f64], g: &[f64]| {
                let factor = |i: usize| x[(i + 1) % x.len()].exp();
                (0..x.len()).map(|i| g[i] * factor(i)).collect()
            };
            assert_rejected("one path forgotten", check(seed, partial));
            let mean =
                |x: &[f64], g: &[f64]| backward(x, g).iter().map(|v| v / x.len() as f64).collect();
            assert_rejected("mean instead of sum", check(seed, mean));
            assert_rejected("NaN", check(seed, |x, _| vec![f64::NAN; x.len()]));
            assert_rejected("too short", check(seed, |x, g| backward(x, g)[1..].to_vec()));
        }
    }

    #[test]
    fn a_kink_within_the_step_is_rejected() {
        let input = [0.001];
        let relu = |x: &[f64]| vec![x[0].max(0.0)];
        assert_rejected("at the kink", check_gradient(&input, 1, relu, |g| vec![g[0]]));
    }

    #[test]
    fn a_vanishing_derivative_is_rejected() {
        let input = Generator::new(1).signed_f64(4);
        let constant = |_: &[f64]| vec![1.0, 2.0];
        assert_rejected("constant", check_gradient(&input, 1, constant, |_| vec![0.0; 4]));
    }
}
