use std::fmt;

/// What a checker found: nothing, or why it rejects.
pub type Check = Result<(), Failure>;

/// Why a checker rejects. `Debug` prints the plain message, which is what `unwrap` and a test that
/// returns it show.
#[derive(Clone, PartialEq, Eq)]
pub struct Failure(String);

impl Failure {
    /// A failure with this message.
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }

    /// The same, with the subject in front.
    pub fn of(self, subject: &str) -> Self {
        Self(format!("{subject}: {}", self.0))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

/// The negative control of a checker: panics if it accepts a variant known to be wrong.
pub fn assert_rejected(mutant: &str, check: Check) {
    assert!(check.is_err(), "the checker accepts a wrong variant: {mutant}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "accepts a wrong variant: dropped bias")]
    fn acceptance_of_a_mutant_panics() {
        assert_rejected("dropped bias", Ok(()));
    }

    #[test]
    fn a_rejected_mutant_is_fine() {
        assert_rejected("dropped bias", Err(Failure::new("wrong").of("conv2d")));
    }
}
