//! How far f32 may be from the truth: the error model behind every comparison of whole networks.
//!
//! The truth is the interpreter in f64. What rounding does to a network depends on its weights and
//! data (a batch norm over nearly equal values amplifies it, a cancelling gradient loses digits to
//! it), so it is measured: the interpreter in f32 makes the same rounding errors as any f32
//! computation, only in another order. Its error is taken at several starting points that differ by
//! a few units in the last place, and the largest of them, times [`FACTOR`], bounds the error of a
//! plan, tensor by tensor in the Euclidean norm.

use crate::case::{Case, Outcome};
use residua_kernels::bf16;
use residua_testkit::{Check, EPS32, Failure, Generator};
use std::collections::BTreeMap;

/// How much worse than plain f32 loops a plan may be. A different order of summation is worth a
/// factor of 2 or 3; the rest is for the spread of the few errors that were drawn.
pub(crate) const FACTOR: f64 = 6.0;
/// Starting points at which the error is measured.
const NUM_DRAWS: u64 = 3;

/// What should come out, and how far off it may be.
pub(crate) struct Truth {
    want: Outcome,
    /// By tensor, the Euclidean norm of the error of f32.
    rounding: BTreeMap<String, f64>,
}

impl Truth {
    pub(crate) fn of(case: &Case) -> Self {
        Self::measured(case, EPS32, Case::interpret::<f32>)
    }

    /// For plans in bf16: what they store is rounded, sums are not.
    pub(crate) fn of_bf16(case: &Case) -> Self {
        let round = |x: f64| f64::from(bf16::from_f64(x));
        Self::measured(case, bf16::EPSILON.into(), |case| case.interpret_rounded(round))
    }

    fn measured(case: &Case, eps: f64, narrow: impl Fn(&Case) -> Outcome) -> Self {
        let want = case.interpret::<f64>();
        let mut rounding: BTreeMap<String, f64> =
            want.iter().map(|(name, want)| (name.clone(), eps * norm(want))).collect();
        for seed in 0..NUM_DRAWS {
            let near = nudged(case, seed, eps as f32);
            let (narrow, wide) = (narrow(&near), near.interpret::<f64>());
            for (name, error) in &mut rounding {
                *error = error.max(distance(&narrow[name], &wide[name]));
            }
        }
        Self { want, rounding }
    }

    /// A truth that comes with its error, as PyTorch's f64 and f32 do.
    pub(crate) fn new(want: Outcome, single: &Outcome) -> Self {
        let error = |(name, want): (&String, &Vec<f64>)| {
            (name.clone(), distance(want, &single[name]).max(EPS32 * norm(want)))
        };
        Self { rounding: want.iter().map(error).collect(), want }
    }

    /// That every tensor is there, and right up to rounding.
    pub(crate) fn check(&self, got: &Outcome) -> Check {
        let names = |outcome: &Outcome| outcome.keys().cloned().collect::<Vec<_>>();
        if names(got) != names(&self.want) {
            return Err(Failure::new(format!(
                "tensors are {:?}, want {:?}",
                names(got),
                names(&self.want)
            )));
        }
        residua_testkit::all(self.want.iter().map(|(name, want)| {
            let (got, rounding) = (&got[name], self.rounding[name]);
            if got.len() != want.len() {
                let lens = (got.len(), want.len());
                return Err(Failure::new(format!("{name}: {} elements, want {}", lens.0, lens.1)));
            }
            let (error, bound) = (distance(got, want), FACTOR * rounding + f64::MIN_POSITIVE);
            if error <= bound {
                return Ok(());
            }
            let worst = (0..want.len())
                .max_by(|&i, &j| (got[i] - want[i]).abs().total_cmp(&(got[j] - want[j]).abs()));
            let worst = worst.expect("a difference needs elements");
            Err(Failure::new(format!(
                "{name}: off by {error:.2e} ({:.1e} of its norm), {:.1} times the bound; worst \
                 element {worst} of {}: got {:?}, want {:?}",
                error / norm(want),
                error / bound,
                want.len(),
                got[worst],
                want[worst]
            )))
        }))
    }

    /// How close to the bound the worst tensor comes.
    pub(crate) fn worst(&self, got: &Outcome) -> (f64, &str) {
        let ratio = |(name, want): (&String, &Vec<f64>)| {
            distance(&got[name], want) / (FACTOR * self.rounding[name] + f64::MIN_POSITIVE)
        };
        let names = self.want.iter().map(|entry| (ratio(entry), entry.0.as_str()));
        names.fold((0.0, "none"), |worst, this| if this.0 > worst.0 { this } else { worst })
    }
}

/// The same case up to a few units in the last place of weights and input.
fn nudged(case: &Case, seed: u64, eps: f32) -> Case {
    let mut near = case.clone();
    let mut generator = Generator::new(seed);
    let mut nudge = |values: &mut [f32]| {
        let ulps = generator.integers(values.len());
        values.iter_mut().zip(ulps).for_each(|(x, ulps)| *x += *x * ulps * eps);
    };
    nudge(&mut near.weights.params);
    nudge(&mut near.weights.buffers);
    nudge(&mut near.input);
    near
}

fn norm(values: &[f64]) -> f64 {
    values.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// NaN if either has one.
fn distance(left: &[f64], right: &[f64]) -> f64 {
    let squares = left.iter().zip(right).map(|(left, right)| (left - right).powi(2));
    squares.sum::<f64>().sqrt()
}
