//! Every third-party crate has its line in `docs/dependencies.md`.

use crate::Result;
use std::path::Path;

const LIST: &str = "docs/dependencies.md";

/// Fails with the names of the workspace's dependencies that the list lacks, and of those in the
/// list that are no longer used.
pub(crate) fn verify(root: &Path) -> Result<()> {
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
}
