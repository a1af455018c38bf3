use std::fmt::Debug;
use std::ops::{Deref, DerefMut};

use crate::{Check, Failure};

/// An element type with two values that no kernel writes by chance.
pub trait Guard: Copy + Debug {
    /// Fills what a kernel has to overwrite. Arithmetic on it gives NaN, where the type has one.
    const POISON: Self;
    /// Stands around a buffer.
    const CANARY: Self;

    /// Equality of bits, so that a NaN equals itself.
    fn same_bits(self, other: Self) -> bool;
}

impl Guard for f32 {
    const POISON: Self = Self::from_bits(0x7fc0_dead);
    const CANARY: Self = Self::from_bits(0x7fc0_beef);

    fn same_bits(self, other: Self) -> bool {
        self.to_bits() == other.to_bits()
    }
}

impl Guard for f64 {
    const POISON: Self = Self::from_bits(0x7ff8_0000_dead_dead);
    const CANARY: Self = Self::from_bits(0x7ff8_0000_beef_beef);

    fn same_bits(self, other: Self) -> bool {
        self.to_bits() == other.to_bits()
    }
}

impl Guard for half::bf16 {
    const POISON: Self = Self::from_bits(0x7fdd);
    const CANARY: Self = Self::from_bits(0x7fee);

    fn same_bits(self, other: Self) -> bool {
        self.to_bits() == other.to_bits()
    }
}

impl Guard for u8 {
    const POISON: Self = 0xfd;
    const CANARY: Self = 0xfb;

    fn same_bits(self, other: Self) -> bool {
        self == other
    }
}

/// A buffer between canaries, which starts at no particular alignment.
///
/// A kernel that writes past it is found by [`Guarded::check`]; one that reads past it takes NaN
/// into its result. Use it for inputs as well as outputs.
#[derive(Debug, Clone)]
pub struct Guarded<T: Guard> {
    all: Vec<T>,
    len: usize,
}

/// Odd, so that the buffer is not aligned to a vector; wide enough for an overrun of one.
const MARGIN: usize = 67;

impl<T: Guard> Guarded<T> {
    /// A buffer to be overwritten.
    pub fn poisoned(len: usize) -> Self {
        Self::holding(&vec![T::POISON; len])
    }

    /// A buffer with these values.
    pub fn holding(values: &[T]) -> Self {
        let mut all = vec![T::CANARY; values.len() + 2 * MARGIN];
        all[MARGIN..][..values.len()].copy_from_slice(values);
        Self { all, len: values.len() }
    }

    /// That all canaries live and no element is poison.
    pub fn check(&self) -> Check {
        if let Some(i) =
            self.all.iter().enumerate().position(|(i, x)| {
                !(MARGIN..MARGIN + self.len).contains(&i) && !x.same_bits(T::CANARY)
            })
        {
            let at = i as isize - MARGIN as isize;
            let (len, value) = (self.len, self.all[i]);
            return Err(Failure::new(format!(
                "element {at} of a buffer of {len} was overwritten with {value:?}"
            )));
        }
        match self.iter().position(|x| x.same_bits(T::POISON)) {
            Some(i) => Err(Failure::new(format!("element {i} of {} was not written", self.len))),
            None => Ok(()),
        }
    }
}

impl<T: Guard> Deref for Guarded<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.all[MARGIN..][..self.len]
    }
}

impl<T: Guard> DerefMut for Guarded<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.all[MARGIN..][..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assert_rejected;

    #[test]
    fn a_written_buffer_passes() -> Check {
        let mut buffer = Guarded::<f32>::poisoned(5);
        buffer.fill(f32::NAN);
        buffer.check()?;
        Guarded::<u8>::poisoned(0).check()
    }

    #[test]
    fn an_unwritten_element_is_found() {
        let mut buffer = Guarded::<f32>::poisoned(5);
        buffer[..4].fill(1.0);
        let failure = buffer.check().unwrap_err();
        assert_eq!(failure.to_string(), "element 4 of 5 was not written");
        let mut buffer = Guarded::<u8>::poisoned(5);
        buffer[1..].fill(1);
        assert_rejected("first element left", buffer.check());
    }

    #[test]
    fn overruns_are_found_on_both_sides() {
        for (i, at) in [(MARGIN - 1, "-1"), (MARGIN + 5, "5"), (0, "-67"), (MARGIN + 71, "71")] {
            let mut buffer = Guarded::holding(&[1.0_f64; 5]);
            buffer.all[i] = 0.0;
            let failure = buffer.check().unwrap_err().to_string();
            assert_eq!(failure, format!("element {at} of a buffer of 5 was overwritten with 0.0"));
        }
    }

    #[test]
    fn poison_and_canaries_are_contagious() {
        assert!((f32::POISON + 1.0).is_nan() && (f32::CANARY * 0.0).is_nan());
        assert!(!f32::POISON.same_bits(f32::CANARY) && !f32::POISON.same_bits(f32::NAN));
        assert!((f64::POISON + 1.0).is_nan() && !f64::POISON.same_bits(f64::NAN));
    }
}
