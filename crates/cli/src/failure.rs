//! How a command ends: exit codes, and errors as a person reads them.

use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use anyhow::Error;
use residua_data::DataError;
use residua_resnet::ArchitectureError;

/// How a command that did its work ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All is well.
    Done,
    /// The answer is no: something that was checked is not as it should be.
    No,
    /// Ctrl-C, after everything was saved.
    Interrupted,
}

const NO: u8 = 1;
const FAILED: u8 = 2;
/// 128 + SIGINT, as shells have it.
pub(crate) const INTERRUPTED: u8 = 130;

/// An error, with a command or a flag that would help.
#[derive(Debug)]
pub(crate) struct Hinted {
    message: String,
    hint: String,
}

impl fmt::Display for Hinted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Hinted {}

/// An error that tells what to do about it.
pub(crate) fn hinted(message: impl Into<String>, hint: impl Into<String>) -> Error {
    Hinted { message: message.into(), hint: hint.into() }.into()
}

/// Reports the error, if there is one, and says how the process ends.
pub(crate) fn exit_code(result: Result<Outcome, Error>) -> ExitCode {
    match result {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::No) => ExitCode::from(NO),
        Ok(Outcome::Interrupted) => ExitCode::from(INTERRUPTED),
        // Whoever reads has read enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            report(&error);
            ExitCode::from(FAILED)
        }
    }
}

/// Prints help or the version as asked for, or what is wrong with the arguments.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    let text = error.render();
    if error.use_stderr() {
        let _ = write!(anstream::stderr(), "{}", style("residua: ", &text.ansi().to_string()));
        ExitCode::from(FAILED)
    } else {
        let _ = write!(anstream::stdout(), "{}", text.ansi());
        ExitCode::SUCCESS
    }
}

/// Puts the program's name before an error of the argument parser, but not before help.
fn style(name: &str, text: &str) -> String {
    match text.contains("error:") {
        true => format!("{name}{text}"),
        false => text.to_owned(),
    }
}

/// `residua: error: …`, and a `hint:` line where something would help.
pub(crate) fn report(error: &Error) {
    let mut text = format!("residua: \x1b[1;31merror:\x1b[0m {}\n", chain(error));
    if let Some(hint) = hint(error) {
        text += &format!("\x1b[1;32mhint:\x1b[0m {hint}\n");
    }
    let _ = anstream::stderr().write_all(text.as_bytes());
}

/// The error and what caused it, leaving out causes that the line before already quotes.
pub(crate) fn chain(error: &Error) -> String {
    let mut text = String::new();
    let mut last = String::new();
    for cause in error.chain() {
        let message = cause.to_string();
        if last.contains(&message) {
            continue;
        }
        if !text.is_empty() {
            text += ": ";
        }
        text += message.trim_end();
        last = message;
    }
    text
}

fn hint(error: &Error) -> Option<String> {
    error.chain().find_map(|cause| {
        if let Some(hinted) = cause.downcast_ref::<Hinted>() {
            return Some(hinted.hint.clone());
        }
        if let Some(error) = cause.downcast_ref::<DataError>() {
            return error.hint().map(Into::into);
        }
        match cause.downcast_ref::<ArchitectureError>()? {
            ArchitectureError::UnknownName { .. } => {
                Some("`residua inspect --list` shows the names there are".to_owned())
            }
            _ => None,
        }
    })
}

fn is_broken_pipe(error: &Error) -> bool {
    let io_errors = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    io_errors.into_iter().any(|error| error.kind() == ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn causes_are_told_once() {
        let error = Error::msg("disk full").context("cannot write a: disk full").context("saving");
        assert_eq!(chain(&error), "saving: cannot write a: disk full");
    }

    #[test]
    fn hints_are_found_below_context() {
        let error = Err::<(), _>(hinted("no model", "train one")).context("eval").unwrap_err();
        assert_eq!(chain(&error), "eval: no model");
        assert_eq!(hint(&error).as_deref(), Some("train one"));
        assert_eq!(hint(&Error::msg("other")), None);
    }

    #[test]
    fn only_broken_pipes_are_taken_for_success() {
        let error = |kind| Error::from(io::Error::from(kind)).context("printing");
        assert!(is_broken_pipe(&error(ErrorKind::BrokenPipe)));
        assert!(!is_broken_pipe(&error(ErrorKind::StorageFull)));
    }
}
