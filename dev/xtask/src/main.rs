//! The project's own checks, run as `cargo xtask <task>`.

mod check;
mod documents;
mod golden;
mod layers;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const USAGE: &str = "usage: cargo xtask <task>

tasks:
  check    everything CI runs, cheapest first
  layers   fail on a dependency that the crate table of ARCHITECTURE.md forbids
  golden   regenerate the PyTorch goldens (needs a Python with torch) and their checksums";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let root = workspace_root();
    let result = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["check"] => check::run(&root),
        ["layers"] => layers::run(&root),
        ["golden"] => golden::regenerate(&root),
        ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The folder of the workspace's `Cargo.toml`, wherever cargo was called from.
fn workspace_root() -> PathBuf {
    let manifest_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest_dir.ancestors().nth(2).expect("this package lies in dev/xtask").to_owned()
}
