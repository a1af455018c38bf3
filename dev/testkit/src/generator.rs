use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The two kinds of data that kernels are tested on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Data {
    /// [`Generator::integers`]: results are compared with `==`.
    Integers,
    /// [`Generator::signed`]: results are compared within a bound.
    Signed,
}

impl Data {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Integers, Self::Signed];
}

/// Seeded data: the same seed gives the same values on every machine.
#[derive(Debug, Clone)]
pub struct Generator {
    rng: ChaCha8Rng,
}

impl Generator {
    /// A generator for a seed.
    pub fn new(seed: u64) -> Self {
        Self { rng: ChaCha8Rng::seed_from_u64(seed) }
    }

    /// Values of a kind.
    pub fn values(&mut self, data: Data, len: usize) -> Vec<f32> {
        match data {
            Data::Integers => self.integers(len),
            Data::Signed => self.signed(len),
        }
    }

    /// Integers in `-4..=4`. Products and sums of up to a million of them are exact in `f32`
    /// whatever their order, so that results can be compared with `==`.
    pub fn integers(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.rng.random_range(-4_i8..=4).into()).collect()
    }

    /// Values of both signs, more and larger positive ones, over a few powers of two. No symmetry
    /// in them hides a sign or an order.
    pub fn signed(&mut self, len: usize) -> Vec<f32> {
        let one = |rng: &mut ChaCha8Rng| {
            rng.random_range(-1.0_f32..1.5) * f32::from(1_u8 << rng.random_range(0..4)) / 4.0
        };
        (0..len).map(|_| one(&mut self.rng)).collect()
    }

    /// [`Self::signed`] in `f64`, with all its bits.
    pub fn signed_f64(&mut self, len: usize) -> Vec<f64> {
        let coarse = self.signed(len);
        coarse.into_iter().map(|x| f64::from(x) + self.rng.random_range(-1e-7..1e-7)).collect()
    }

    /// Values of both signs, each at least `margin` from 0: away from the kink of a ReLU.
    pub fn away_from_zero(&mut self, len: usize, margin: f64) -> Vec<f64> {
        let mut values = self.signed_f64(len);
        for x in &mut values {
            while x.abs() < margin {
                *x = self.signed_f64(1)[0];
            }
        }
        values
    }

    /// Values of both signs in random order, each at least `margin` from every other: away from
    /// the kinks of a maximum.
    pub fn distinct(&mut self, len: usize, margin: f64) -> Vec<f64> {
        let jitter = |rng: &mut ChaCha8Rng| rng.random_range(1.0..1.5);
        let mut values: Vec<f64> = (0..len)
            .map(|i| (i as f64 - 0.4 * len as f64) * 2.0 + jitter(&mut self.rng))
            .map(|x| x * margin)
            .collect();
        values.shuffle(&mut self.rng);
        values
    }

    /// Labels below `num_classes`.
    pub fn labels(&mut self, len: usize, num_classes: u32) -> Vec<u32> {
        (0..len).map(|_| self.rng.random_range(0..num_classes)).collect()
    }

    /// One of the items.
    pub fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.rng.random_range(0..items.len())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_decides_the_values() {
        let signed = |seed| Generator::new(seed).signed(100);
        assert_eq!(signed(1), signed(1));
        assert_ne!(signed(1), signed(2));
    }

    #[test]
    fn integers_cover_their_range() {
        let mut values = Generator::new(3).integers(1000);
        values.sort_by(f32::total_cmp);
        values.dedup();
        assert_eq!(values, [-4., -3., -2., -1., 0., 1., 2., 3., 4.]);
    }

    #[test]
    fn signed_values_are_asymmetric() {
        let values = Generator::new(4).signed(10_000);
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        assert!((0.15..0.35).contains(&mean), "mean is {mean}");
        assert!(values.iter().any(|x| *x < -1.5) && values.iter().any(|x| *x > 2.5));
    }

    #[test]
    fn margins_hold() {
        let mut generator = Generator::new(5);
        let values = generator.away_from_zero(1000, 0.1);
        assert!(values.iter().all(|x| x.abs() >= 0.1));
        let mut values = generator.distinct(1000, 0.1);
        assert!(values.windows(2).any(|pair| pair[0] > pair[1]), "not in order");
        values.sort_by(f64::total_cmp);
        assert!(values[0] < 0.0 && values[999] > 0.0);
        assert!(values.windows(2).all(|pair| pair[1] - pair[0] >= 0.1));
    }
}
