use crate::Data;

/// The same values in `f64`.
pub fn widen(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&x| x.into()).collect()
}

/// The absolute values.
pub fn absolute(values: &[f64]) -> Vec<f64> {
    values.iter().map(|x| x.abs()).collect()
}

/// What the reference says in `f64`, and from what terms it got there.
#[derive(Debug, Clone, PartialEq)]
pub struct Expected {
    /// The result.
    pub values: Vec<f64>,
    /// For each element, the sum of the absolute values of its terms; none where the result of an
    /// `f32` kernel has no rounding error.
    pub magnitude: Option<Vec<f64>>,
}

impl Expected {
    /// The result of an operation that is a sum of products of its inputs, hence has its magnitude
    /// from the same operation on absolute values.
    pub fn sum_of_products<const N: usize>(
        data: Data,
        inputs: [&[f32]; N],
        len: usize,
        reference: impl Fn([&[f64]; N], &mut [f64]),
    ) -> Self {
        let inputs = inputs.map(widen);
        let mut values = vec![f64::NAN; len];
        reference(inputs.each_ref().map(Vec::as_slice), &mut values);
        let magnitude = (data == Data::Signed).then(|| {
            let inputs = inputs.each_ref().map(|input| absolute(input));
            let mut magnitude = vec![f64::NAN; len];
            reference(inputs.each_ref().map(Vec::as_slice), &mut magnitude);
            magnitude
        });
        Self { values, magnitude }
    }

    /// With another term in every element; fewer of them are repeated, as a bias is.
    pub fn plus(mut self, term: &[f32]) -> Self {
        let terms = || term.iter().copied().cycle().map(f64::from);
        self.values.iter_mut().zip(terms()).for_each(|(value, term)| *value += term);
        if let Some(magnitude) = &mut self.magnitude {
            magnitude.iter_mut().zip(terms()).for_each(|(value, term)| *value += term.abs());
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn product([left, right]: [&[f64]; 2], output: &mut [f64]) {
        output[0] = left.iter().zip(right).map(|(left, right)| left * right).sum();
    }

    #[test]
    fn magnitude_is_that_of_all_terms() {
        let inputs: [&[f32]; 2] = [&[1.0, -2.0], &[4.0, 3.0]];
        let expected = Expected::sum_of_products(Data::Signed, inputs, 1, product).plus(&[-0.5]);
        assert_eq!(expected, Expected { values: vec![-2.5], magnitude: Some(vec![10.5]) });
        let expected = Expected::sum_of_products(Data::Integers, inputs, 1, product);
        assert_eq!(expected, Expected { values: vec![-2.0], magnitude: None });
    }

    #[test]
    fn a_bias_is_repeated() {
        let zeros = Expected { values: vec![0.0; 5], magnitude: Some(vec![1.0; 5]) };
        let expected = zeros.plus(&[1.0, -2.0]);
        assert_eq!(expected.values, [1.0, -2.0, 1.0, -2.0, 1.0]);
        assert_eq!(expected.magnitude.unwrap(), [2.0, 3.0, 2.0, 3.0, 2.0]);
    }
}
