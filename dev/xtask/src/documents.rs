//! What the documents promise: every third-party crate has its line in `docs/dependencies.md`, and
//! the tests that `docs/numerics.md` names exist.

use crate::Result;
use std::path::Path;

const LIST: &str = "docs/dependencies.md";
const NUMERICS: &str = "docs/numerics.md";

/// Fails unless both documents are up to date.
pub(crate) fn verify(root: &Path) -> Result<()> {
    verify_dependencies(root)?;
    verify_tests(root)
}

/// Fails with the names of the workspace's dependencies that the list lacks, and of those in the
/// list that are no longer used.
fn verify_dependencies(root: &Path) -> Result<()> {
    let manifest: toml::Table = std::fs::read_to_string(root.join("Cargo.toml"))?.parse()?;
    let dependencies = manifest
        .get("workspace")
        .and_then(|workspace| workspace.get("dependencies"))
        .and_then(toml::Value::as_table)
        .ok_or("Cargo.toml: workspace.dependencies is missing")?;
    let is_ours = |value: &toml::Value| value.get("path").is_some();
    let used: Vec<&str> = dependencies
        .iter()
        .filter(|(_, value)| !is_ours(value))
        .map(|(name, _)| name.as_str())
        .collect();
    let text = std::fs::read_to_string(root.join(LIST))?;
    let problems = differences(&used, &listed(&text));
    if problems.is_empty() {
        println!("dependencies: {} crates, each with its reason", used.len());
        return Ok(());
    }
    Err(format!("{LIST}:\n  {}", problems.join("\n  ")).into())
}

/// Names in the first column of the table.
fn listed(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect()
}

fn differences(used: &[&str], listed: &[&str]) -> Vec<String> {
    let missing = used.iter().filter(|name| !listed.contains(name));
    let unused = listed.iter().filter(|name| !used.contains(name));
    missing
        .map(|name| format!("{name}: line is missing"))
        .chain(unused.map(|name| format!("{name}: not a dependency of the workspace")))
        .collect()
}

/// Fails with the tests that are named but not there.
fn verify_tests(root: &Path) -> Result<()> {
    let text = std::fs::read_to_string(root.join(NUMERICS))?;
    let named = named_tests(&text);
    let mut problems = Vec::new();
    for (path, test) in &named {
        let source = std::fs::read_to_string(root.join(path)).unwrap_or_default();
        // Without the indentation of a module of tests.
        let source: Vec<&str> = source.lines().map(str::trim_start).collect();
        let source = source.join("\n");
        if !source.contains(&format!("#[test]\nfn {test}(")) {
            problems.push(format!("{path} has no test `{test}`"));
        }
    }
    if named.is_empty() {
        problems.push("no test is named".to_owned());
    }
    if problems.is_empty() {
        println!("numerics: {} tests are there", named.len());
        return Ok(());
    }
    Err(format!("{NUMERICS}:\n  {}", problems.join("\n  ")).into())
}

/// Each `path.rs: name` between backticks.
fn named_tests(text: &str) -> Vec<(&str, &str)> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted
        .filter_map(|code| code.split_once(": ").filter(|(path, _)| path.ends_with(".rs")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_and_unused_lines_are_rejected() {
        let list = listed("| crate | release | why |\n|---|---|---|\n| `csv` | 1 | vectors |\n");
        assert_eq!(differences(&["csv"], &list), [""; 0]);
        assert_eq!(differences(&["csv", "tar"], &list), ["tar: line is missing"]);
        assert_eq!(differences(&[], &list), ["csv: not a dependency of the workspace"]);
    }
    #[test]
    fn tests_that_are_gone_are_rejected() -> Result<()> {
        let root = tempfile::tempdir()?;
        std::fs::create_dir(root.path().join("docs"))?;
        std::fs::write(root.path().join(NUMERICS), "`x` is so. `a.rs: it_is_so`\n")?;
        std::fs::write(root.path().join("a.rs"), "#[test]\nfn it_is_so() {}\n")?;
        verify_tests(root.path())?;
        std::fs::write(root.path().join("a.rs"), "fn it_is_so() {}\n")?;
        assert!(verify_tests(root.path()).is_err());
        std::fs::remove_file(root.path().join("a.rs"))?;
        assert!(verify_tests(root.path()).is_err());
        std::fs::write(root.path().join(NUMERICS), "`x` is so.\n")?;
        assert!(verify_tests(root.path()).is_err());
        Ok(())
    }
}
