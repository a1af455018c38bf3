//! `cargo xtask golden`: the PyTorch goldens and their checksums.

use crate::Result;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

/// Scripts of `tools/golden/` that write goldens.
const SCRIPTS: [&str; 4] = ["operations.py", "networks.py", "schedules.py", "torchvision_names.py"];
const CHECKSUMS: &str = "tools/golden/SHA256SUMS";

const HOW: &str = "the goldens are made by a Python with PyTorch:
  python3 -m venv target/golden-venv
  target/golden-venv/bin/pip install torch==2.15.0 torchvision
  RESIDUA_PYTHON=target/golden-venv/bin/python cargo xtask golden";

/// Checksums by path, relative to the workspace's root.
type Checksums = BTreeMap<String, String>;

/// Runs the scripts, then records the checksums of what they wrote.
pub(crate) fn regenerate(root: &Path) -> Result<()> {
    let python = std::env::var("RESIDUA_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let has_torch =
        Command::new(&python).args(["-c", "import torch, torchvision"]).current_dir(root).output();
    if !has_torch.is_ok_and(|output| output.status.success()) {
        return Err(format!("`{python}` can't import torch and torchvision; {HOW}").into());
    }
    for script in SCRIPTS {
        let path = root.join("tools/golden").join(script);
        let status = Command::new(&python).arg(&path).current_dir(root).status()?;
        if !status.success() {
            return Err(format!("{}: {status}", path.display()).into());
        }
    }
    let checksums = compute(root)?;
    let mut text = String::new();
    for (path, checksum) in &checksums {
        writeln!(text, "{checksum}  {path}")?;
    }
    std::fs::write(root.join(CHECKSUMS), text)?;
    println!("golden: {} files", checksums.len());
    Ok(())
}

/// Fails unless the committed goldens are exactly those of the list.
pub(crate) fn verify(root: &Path) -> Result<()> {
    let text = std::fs::read_to_string(root.join(CHECKSUMS))?;
    let problems = differences(&parse(&text)?, &compute(root)?);
    if problems.is_empty() {
        println!("golden: {} files have their checksums", text.lines().count());
        return Ok(());
    }
    Err(format!("{CHECKSUMS}:\n  {}", problems.join("\n  ")).into())
}

/// Reads the output format of `sha256sum`.
fn parse(text: &str) -> Result<Checksums> {
    let entry = |line: &str| {
        let (checksum, path) = line.split_once("  ")?;
        Some((path.to_owned(), checksum.to_owned()))
    };
    text.lines()
        .map(|line| {
            entry(line).ok_or_else(|| {
                format!("{CHECKSUMS}: line is `{line}`, expected a checksum and a path").into()
            })
        })
        .collect()
}

/// Checksums of every file in the crates' `tests/golden` folders.
fn compute(root: &Path) -> Result<Checksums> {
    let mut checksums = Checksums::new();
    for crate_folder in std::fs::read_dir(root.join("crates"))? {
        let folder = crate_folder?.path().join("tests/golden");
        if !folder.is_dir() {
            continue;
        }
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            let digest = Sha256::digest(std::fs::read(&path)?);
            let hex = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            let relative = path.strip_prefix(root)?.to_string_lossy().replace('\\', "/");
            checksums.insert(relative, hex);
        }
    }
    Ok(checksums)
}

fn differences(expected: &Checksums, got: &Checksums) -> Vec<String> {
    let mut problems = Vec::new();
    for (path, checksum) in expected {
        match got.get(path) {
            None => problems.push(format!("{path}: file is missing")),
            Some(got) if got != checksum => {
                problems.push(format!("{path}: sha256 is {got}, expected {checksum}"));
            }
            Some(_) => {}
        }
    }
    for path in got.keys().filter(|path| !expected.contains_key(*path)) {
        problems.push(format!("{path}: file is not in the list"));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_missing_and_unlisted_goldens_are_rejected() -> Result<()> {
        let root = tempfile::tempdir()?;
        let folder = root.path().join("crates/a/tests/golden");
        std::fs::create_dir_all(&folder)?;
        std::fs::create_dir_all(root.path().join("tools/golden"))?;
        std::fs::write(folder.join("x.safetensors"), "abc")?;
        // The checksum of "abc" is the example of FIPS 180-2.
        let list = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  \
                    crates/a/tests/golden/x.safetensors\n";
        std::fs::write(root.path().join(CHECKSUMS), list)?;
        verify(root.path())?;

        std::fs::write(folder.join("x.safetensors"), "abd")?;
        assert!(
            verify(root.path()).is_err_and(|error| error.to_string().contains("expected ba78"))
        );
        std::fs::write(folder.join("x.safetensors"), "abc")?;
        std::fs::write(folder.join("y.safetensors"), "abc")?;
        assert!(verify(root.path()).is_err_and(|error| error.to_string().contains("not in the")));
        std::fs::remove_file(folder.join("x.safetensors"))?;
        assert!(verify(root.path()).is_err_and(|error| error.to_string().contains("missing")));
        Ok(())
    }
}
