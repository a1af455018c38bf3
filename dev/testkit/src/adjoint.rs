use crate::{Check, Failure};

/// `Σ left · right`, in `f64`.
pub fn dot<L: Copy + Into<f64>, R: Copy + Into<f64>>(left: &[L], right: &[R]) -> f64 {
    assert_eq!(left.len(), right.len(), "lengths of the factors of a dot product");
    left.iter().zip(right).map(|(&left, &right)| left.into() * right.into()).sum()
}

/// That all these inner products are the same number, up to `tolerance` times `magnitude`, the sum
/// of the absolute values of their terms. On small integers the tolerance is 0.
///
/// For a bilinear map such as a convolution, `⟨conv(x, w), g⟩`, `⟨x, backward_data(g, w)⟩` and
/// `⟨w, backward_weight(x, g)⟩` are one sum taken in three orders: an identity without a step size.
pub fn check_products(products: &[(&str, f64)], magnitude: f64, tolerance: f64) -> Check {
    let (_, first) = products[0];
    let agree = |(_, product): &(&str, f64)| (product - first).abs() <= tolerance * magnitude;
    if first == 0.0 {
        return Err(Failure::new("the inner products are 0, which says nothing"));
    }
    if products.iter().all(agree) {
        return Ok(());
    }
    let list: Vec<_> = products.iter().map(|(name, x)| format!("{name} = {x:?}")).collect();
    Err(Failure::new(format!("inner products differ: {}", list.join(", "))))
}

/// That the linear map `backward` is the transpose of the linear map `forward`:
/// `⟨forward(x), g⟩ = ⟨x, backward(g)⟩`.
pub fn check_adjoint(
    input: &[f64],
    grad_output: &[f64],
    forward: impl Fn(&[f64]) -> Vec<f64>,
    backward: impl Fn(&[f64]) -> Vec<f64>,
    tolerance: f64,
) -> Check {
    let (output, grad_input) = (forward(input), backward(grad_output));
    let absolute = |values: &[f64]| -> Vec<f64> { values.iter().map(|x| x.abs()).collect() };
    let magnitude = dot(&absolute(&output), &absolute(grad_output))
        .max(dot(&absolute(input), &absolute(&grad_input)));
    let products = [
        ("⟨forward(x), g⟩", dot(&output, grad_output)),
        ("⟨x, backward(g)⟩", dot(input, &grad_input)),
    ];
    check_products(&products, magnitude, tolerance)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EPS64, Generator, assert_rejected};

    /// `output[i] = 2 input[i] + input[i + 1]`: one shorter than its input.
    fn forward(input: &[f64]) -> Vec<f64> {
        input.windows(2).map(|pair| 2.0 * pair[0] + pair[1]).collect()
    }

    fn backward(grad_output: &[f64]) -> Vec<f64> {
        let at = |i: usize| grad_output.get(i).copied().unwrap_or(0.0);
        (0..=grad_output.len()).map(|i| 2.0 * at(i) + if i > 0 { at(i - 1) } else { 0.0 }).collect()
    }

    fn check(backward: impl Fn(&[f64]) -> Vec<f64>) -> Check {
        let mut generator = Generator::new(1);
        let (x, g) = (generator.signed_f64(20), generator.signed_f64(19));
        check_adjoint(&x, &g, forward, backward, 100.0 * EPS64)
    }

    #[test]
    fn the_transpose_passes() -> Check {
        check(backward)
    }

    #[test]
    fn what_is_not_the_transpose_is_rejected() {
        let reversed = |g: &[f64]| backward(g).into_iter().rev().collect();
        assert_rejected("reversed", check(reversed));
        let scaled = |g: &[f64]| backward(g).into_iter().map(|x| x * (1.0 + 1e-12)).collect();
        assert_rejected("scaled", check(scaled));
        let dropped = |g: &[f64]| [&backward(&g[..18])[..], &[0.0]].concat();
        assert_rejected("last term dropped", check(dropped));
        assert_rejected("NaN", check(|g| vec![f64::NAN; g.len() + 1]));
    }

    #[test]
    fn products_of_nothing_are_rejected() {
        assert_rejected("zeros", check_products(&[("left", 0.0), ("right", 0.0)], 1.0, 0.0));
    }
}
