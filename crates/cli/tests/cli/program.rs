//! Running the program.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

/// What a run of the program left behind.
pub(crate) struct Ran {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) code: i32,
}

impl Ran {
    /// Fails the test unless the program ended with this code.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    /// The answer as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).expect("stdout is JSON and nothing else")
    }
}

/// The program in a folder, as far as possible independent of where the test runs.
pub(crate) fn program(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_residua"));
    command.current_dir(folder).stdin(Stdio::null());
    for variable in ["RESIDUA_ISA", "NO_COLOR", "CLICOLOR_FORCE", "COLUMNS"] {
        command.env_remove(variable);
    }
    command
}

/// Runs the program with arguments that are split at blanks.
#[track_caller]
pub(crate) fn run(folder: &Path, args: &str) -> Ran {
    let output = program(folder).args(args.split_whitespace()).output().expect("it starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it prints UTF-8");
    Ran {
        stdout: text(output.stdout),
        stderr: text(output.stderr),
        code: output.status.code().expect("it ends by itself"),
    }
}

/// The command and all it says, for a snapshot; the folder's path is left out.
pub(crate) fn transcript(folder: &Path, args: &str) -> String {
    let Ran { stdout, stderr, code } = run(folder, args);
    let text = format!("$ residua {args}\n{stdout}{stderr}[{code}]\n");
    text.replace(&folder.display().to_string(), "[DIR]")
}
