use std::fmt::Display;

use crate::{Check, Expected, Failure};

/// Distance from 1 to the next `f32`.
pub const EPS32: f64 = f32::EPSILON as f64;
/// Distance from 1 to the next `f64`.
pub const EPS64: f64 = f64::EPSILON;

/// One comparison of a result with the reference: what its report says beside the numbers.
#[derive(Clone, Copy)]
pub struct Case<'a> {
    /// What was computed, as `backward_data`.
    pub pass: &'a str,
    /// Its sizes.
    pub problem: &'a dyn Display,
    /// Who computed it.
    pub kernel: &'a str,
    /// Seed of the data.
    pub seed: u64,
    /// Shape of the result, in which the report gives places.
    pub shape: &'a [usize],
}

impl Case<'_> {
    /// That all elements are equal; NaN equals NaN, and −0 equals 0.
    pub fn exact<G: Copy + Into<f64>, W: Copy + Into<f64>>(&self, got: &[G], want: &[W]) -> Check {
        self.compare(got, want, |_| 0.0)
    }

    /// That `|got − want| <= tolerance · magnitude` in every element. `magnitude` is the sum of
    /// the absolute values of all terms that `want` is the sum of, which the reference gives when
    /// it is run on absolute values; `tolerance` is a small multiple of the rounding error. So no
    /// element passes for being small, and none fails for being a difference of large terms.
    ///
    /// Infinities must be equal, and NaN must be where NaN is expected and nowhere else.
    pub fn within<G: Copy + Into<f64>, W: Copy + Into<f64>>(
        &self,
        got: &[G],
        want: &[W],
        magnitude: &[f64],
        tolerance: f64,
    ) -> Check {
        if want.len() != magnitude.len() {
            let (want, magnitude) = (want.len(), magnitude.len());
            return Err(self.failure(&format!("{magnitude} magnitudes for {want} elements")));
        }
        // Products below the smallest normal number lose all their digits.
        self.compare(got, want, |i| tolerance * magnitude[i] + f64::from(f32::MIN_POSITIVE))
    }

    /// [`Self::within`] the magnitude of what is expected, or [`Self::exact`] if it has none.
    pub fn matches<G: Copy + Into<f64>>(
        &self,
        got: &[G],
        want: &Expected,
        tolerance: f64,
    ) -> Check {
        match &want.magnitude {
            Some(magnitude) => self.within(got, &want.values, magnitude, tolerance),
            None => self.exact(got, &want.values),
        }
    }

    /// That a buffer's canaries live and every element was written.
    pub fn written(&self, buffer: Check) -> Check {
        buffer.map_err(|failure| self.failure(&failure.to_string()))
    }

    fn compare<G: Copy + Into<f64>, W: Copy + Into<f64>>(
        &self,
        got: &[G],
        want: &[W],
        bound: impl Fn(usize) -> f64,
    ) -> Check {
        if got.len() != want.len() {
            return Err(self.failure(&format!("{} elements, want {}", got.len(), want.len())));
        }
        let mut lines = Vec::new();
        let mut num_wrong = 0;
        for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
            let (got, want) = (got.into(), want.into());
            let error = (got - want).abs();
            let equal = got == want || (got.is_nan() && want.is_nan());
            if equal || (want.is_finite() && error <= bound(i)) {
                continue;
            }
            num_wrong += 1;
            if lines.len() < 3 {
                let place = place(i, self.shape);
                let ratio = match bound(i) {
                    0.0 => String::new(),
                    bound => format!(", error {:.3} × the bound", error / bound),
                };
                lines.push(format!("\n  {place:?}: got {got:?}, want {want:?}{ratio}"));
            }
        }
        if num_wrong == 0 {
            return Ok(());
        }
        let lines = lines.concat();
        Err(self.failure(&format!("{num_wrong} of {} elements are wrong{lines}", got.len())))
    }

    fn failure(&self, what: &str) -> Failure {
        let Self { pass, problem, kernel, seed, shape: _ } = self;
        Failure::new(format!("{pass} of {problem} by {kernel}, seed {seed}: {what}"))
    }
}

/// The indices of an element, the last running fastest; what is left over goes to the first.
fn place(mut i: usize, shape: &[usize]) -> Vec<usize> {
    let mut place = Vec::new();
    for &size in shape.iter().skip(1).rev() {
        place.push(i % size.max(1));
        i /= size.max(1);
    }
    place.push(i);
    place.reverse();
    place
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assert_rejected;

    const CASE: Case<'_> =
        Case { pass: "forward", problem: &"n1c2", kernel: "fast", seed: 7, shape: &[2, 2, 2] };

    #[test]
    fn equal_results_pass() -> Check {
        CASE.exact(&[1.0_f32, f32::NAN, -0.0], &[1.0, f64::NAN, 0.0])?;
        CASE.exact::<f32, f64>(&[], &[])?;
        CASE.exact(&[3_u8], &[3_u8])?;
        CASE.within(&[1.0_f32, f32::INFINITY], &[1.0, f64::INFINITY], &[0.0, 0.0], EPS32)
    }

    #[test]
    fn a_difference_is_reported_with_its_place() {
        let got = [0.0, 1.0, 2.0, 3.0, 4.0, 5.5, 6.0, 7.0_f32];
        let want = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0];
        assert_eq!(
            CASE.exact(&got, &want).unwrap_err().to_string(),
            "forward of n1c2 by fast, seed 7: 1 of 8 elements are wrong\n  \
             [1, 0, 1]: got 5.5, want 5.0"
        );
        assert_eq!(
            CASE.within(&got, &want, &[1.0; 8], 0.25).unwrap_err().to_string(),
            "forward of n1c2 by fast, seed 7: 1 of 8 elements are wrong\n  \
             [1, 0, 1]: got 5.5, want 5.0, error 2.000 × the bound"
        );
    }

    #[test]
    fn the_report_stops_after_three() {
        let report = CASE.exact(&[1.0_f32; 100], &[0.0; 100]).unwrap_err().to_string();
        assert!(report.contains("100 of 100") && report.lines().count() == 4, "{report}");
    }

    #[test]
    fn a_cancelling_sum_is_judged_by_its_terms() -> Check {
        // 1 + 1e-7 − 1, rounded in f32: nothing is left of the right digits.
        let (got, want) = ([1.192_092_9e-7_f32], [1e-7]);
        CASE.within(&got, &want, &[2.0], EPS32)?;
        assert_rejected("small value without cancellation", CASE.within(&got, &want, &want, EPS32));
        Ok(())
    }

    #[test]
    fn wrong_results_are_rejected() {
        assert_rejected("one digit", CASE.exact(&[1.000_000_1_f32], &[1.0]));
        assert_rejected("too short", CASE.exact(&[1.0_f32], &[1.0, 1.0]));
        assert_rejected("NaN", CASE.within(&[f32::NAN], &[1.0], &[1e30], 1.0));
        assert_rejected("no NaN", CASE.within(&[1.0_f32], &[f64::NAN], &[f64::NAN], 1.0));
        assert_rejected("overflow", CASE.within(&[f32::INFINITY], &[1.0], &[1.0], EPS32));
        assert_rejected("finite", CASE.within(&[1.0_f32], &[f64::INFINITY], &[f64::INFINITY], 1.0));
        assert_rejected("sign", CASE.within(&[-1.0_f32], &[1.0], &[1.0], 8.0 * EPS32));
        assert_rejected("bf16", CASE.within(&[1.003_906_2_f32], &[1.0], &[10.0], 8.0 * EPS32));
        assert_rejected("no bound", CASE.within(&[1.0_f32; 2], &[1.0; 2], &[1.0], 1.0));
    }
}
