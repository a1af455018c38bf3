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

/// Runs all checks and rejects if any does, with the first few reasons.
pub fn all(checks: impl IntoIterator<Item = Check>) -> Check {
    let (mut num_checks, mut failures) = (0, Vec::new());
    for check in checks {
        num_checks += 1;
        failures.extend(check.err());
    }
    if num_checks == 0 {
        return Err(Failure::new("no checks to run"));
    }
    if failures.is_empty() {
        return Ok(());
    }
    let first: String = failures.iter().take(5).map(|failure| format!("\n{failure}")).collect();
    Err(Failure::new(format!("{} of {num_checks} checks fail{first}", failures.len())))
}

/// The negative control of a checker: panics if it accepts a variant known to be wrong.
pub fn assert_rejected(mutant: &str, check: Check) {
    assert!(check.is_err(), "the checker accepts a wrong variant: {mutant}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_checks_run_and_the_first_reasons_are_kept() {
        let check = |i| if i % 2 == 0 { Ok(()) } else { Err(Failure::new(format!("case {i}"))) };
        let message = all((0..20).map(check)).unwrap_err().to_string();
        assert_eq!(message, "10 of 20 checks fail\ncase 1\ncase 3\ncase 5\ncase 7\ncase 9");
        assert_eq!(all([0, 2].map(check)), Ok(()));
        assert_rejected("nothing was checked", all([]));
    }

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
