//! `cargo xtask layers`: the crate table of ARCHITECTURE.md, enforced.

use crate::Result;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A row of the crate table.
struct Row {
    name: &'static str,
    /// Tests of a crate may use every crate that is not on a higher level.
    level: u8,
    /// What the crate itself may use.
    may_use: &'static [&'static str],
}

const fn row(name: &'static str, level: u8, may_use: &'static [&'static str]) -> Row {
    Row { name, level, may_use }
}

const TABLE: [Row; 13] = [
    row("residua-kernels", 0, &[]),
    row("residua-graph", 0, &[]),
    row("residua-data", 0, &[]),
    row("residua-engine", 1, &["residua-graph", "residua-kernels"]),
    row("residua-resnet", 1, &["residua-graph"]),
    row("residua-format", 2, &["residua-graph", "residua-resnet", "residua-data"]),
    row("residua-train", 3, BELOW_TRAIN),
    row("residua-study", 4, BELOW_STUDY),
    row("residua-serve", 4, BELOW_TRAIN),
    row("residua", 5, BELOW_FACADE),
    row("residua-cli", 6, BELOW_CLI),
    row("residua-testkit", 0, &[]),
    row("xtask", 0, &["residua-kernels"]),
];

const BELOW_TRAIN: &[&str] =
    &["residua-graph", "residua-engine", "residua-resnet", "residua-data", "residua-format"];
const BELOW_STUDY: &[&str] = &[
    "residua-graph",
    "residua-engine",
    "residua-resnet",
    "residua-data",
    "residua-format",
    "residua-train",
];
const BELOW_FACADE: &[&str] = &[
    "residua-kernels",
    "residua-graph",
    "residua-engine",
    "residua-resnet",
    "residua-data",
    "residua-format",
    "residua-train",
    "residua-study",
    "residua-serve",
];
const BELOW_CLI: &[&str] = &[
    "residua-kernels",
    "residua-graph",
    "residua-engine",
    "residua-resnet",
    "residua-data",
    "residua-format",
    "residua-train",
    "residua-study",
    "residua-serve",
    "residua",
];

/// The only crate that may contain `unsafe`.
const UNSAFE_CRATE: &str = "residua-kernels";

/// The one test outside of it that opens `unsafe`: a global allocator, which counts, is unsafe to
/// implement.
const COUNTING_ALLOCATOR: &str = "tests/allocations.rs";
const UNSAFE_LINT: &str = concat!("unsafe", "_code");

/// What `cargo metadata` says, as far as it matters here.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// `None` is a normal dependency.
    kind: Option<String>,
    /// Set for crates of this workspace only.
    path: Option<PathBuf>,
}

/// Fails with the list of everything the crate table forbids.
pub(crate) fn run(root: &Path) -> Result<()> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(root)
        .output()?;
    if !output.status.success() {
        return Err(format!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let metadata: Metadata = serde_json::from_slice(&output.stdout)?;
    let mut problems = forbidden_edges(&metadata.packages);
    for package in &metadata.packages {
        let manifest = std::fs::read_to_string(&package.manifest_path)?;
        problems.extend(missing_lints(&package.name, &manifest)?);
        if package.name != UNSAFE_CRATE {
            let folder = package.manifest_path.parent().expect("a manifest lies in a folder");
            let mut sources = rust_sources(folder)?;
            sources.retain(|path, _| !path.ends_with(COUNTING_ALLOCATOR));
            problems.extend(relaxed_unsafe(&sources));
        }
    }
    if problems.is_empty() {
        println!("layers: {} crates keep to the crate table", metadata.packages.len());
        return Ok(());
    }
    Err(format!("layers:\n  {}", problems.join("\n  ")).into())
}

/// Edges between crates of the workspace that [`TABLE`] does not allow.
fn forbidden_edges(packages: &[Package]) -> Vec<String> {
    let mut problems = Vec::new();
    for package in packages {
        let Some(from) = find(&package.name) else {
            problems.push(format!("{}: not in the crate table, add its row", package.name));
            continue;
        };
        for dependency in package.dependencies.iter().filter(|dependency| is_watched(dependency)) {
            let is_dev = dependency.kind.as_deref() == Some("dev");
            if !is_allowed(from, &dependency.name, is_dev) {
                let section = if is_dev { "dev-dependencies" } else { "dependencies" };
                let allowed = match from.may_use {
                    [] => "no crate of this workspace".to_owned(),
                    names => names.join(", "),
                };
                problems.push(format!(
                    "{}: {section} contain {}, expected {allowed}{}",
                    package.name,
                    dependency.name,
                    if is_dev { ", residua-testkit or a crate not above it" } else { "" },
                ));
            }
        }
    }
    problems
}

/// Crates of this workspace are watched, and `anyhow`, which belongs to the binary alone.
fn is_watched(dependency: &Dependency) -> bool {
    dependency.path.is_some() || dependency.name == "anyhow"
}

fn is_allowed(from: &Row, to: &str, is_dev: bool) -> bool {
    if to == "anyhow" {
        return from.name == "residua-cli";
    }
    let not_above = |to: &str| find(to).is_some_and(|to| to.level <= from.level);
    from.may_use.contains(&to) || (is_dev && to != "xtask" && not_above(to))
}

fn find(name: &str) -> Option<&'static Row> {
    TABLE.iter().find(|row| row.name == name)
}

/// Every crate inherits the workspace's lints, so that `unsafe` is denied in it.
fn missing_lints(package: &str, manifest: &str) -> Result<Option<String>> {
    let manifest: toml::Table = manifest.parse()?;
    let inherits = manifest
        .get("lints")
        .and_then(|lints| lints.get("workspace"))
        .is_some_and(|value| value.as_bool() == Some(true));
    Ok((!inherits).then(|| format!("{package}: Cargo.toml lacks `[lints] workspace = true`")))
}

/// Lines that name the lint against `unsafe` other than to deny it.
fn relaxed_unsafe(sources: &BTreeMap<PathBuf, String>) -> Vec<String> {
    let mut problems = Vec::new();
    for (path, source) in sources {
        for (line_idx, line) in source.lines().enumerate() {
            if line.contains(UNSAFE_LINT) && !line.contains("deny(") && !line.contains("forbid(") {
                problems.push(format!(
                    "{}:{}: relaxes {UNSAFE_LINT}, which only {UNSAFE_CRATE} may do",
                    path.display(),
                    line_idx + 1
                ));
            }
        }
    }
    problems
}

/// Every Rust source under a crate's folder, by path.
fn rust_sources(folder: &Path) -> Result<BTreeMap<PathBuf, String>> {
    let mut sources = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let source = std::fs::read_to_string(&path)?;
                sources.insert(path, source);
            }
        }
    }
    Ok(sources)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A workspace of one package with one dependency, as `cargo metadata` prints it.
    fn edges(from: &str, to: &str, kind: Option<&str>) -> Vec<String> {
        let package = serde_json::json!({
            "name": from,
            "manifest_path": "/w/Cargo.toml",
            "dependencies": [
                { "name": "serde", "kind": null },
                { "name": to, "kind": kind, "path": (to != "anyhow").then_some("/w/to") },
            ],
        });
        forbidden_edges(&[serde_json::from_value(package).expect("the fields above are complete")])
    }

    #[test]
    fn allowed_edges_pass() {
        assert_eq!(edges("residua-engine", "residua-kernels", None), [""; 0]);
        assert_eq!(edges("residua-format", "residua-data", None), [""; 0]);
        assert_eq!(edges("residua-cli", "anyhow", None), [""; 0]);
        assert_eq!(edges("residua-engine", "residua-testkit", Some("dev")), [""; 0]);
        assert_eq!(edges("residua-engine", "residua-resnet", Some("dev")), [""; 0]);
    }

    #[test]
    fn forbidden_edges_are_rejected() {
        for (from, to, kind) in [
            ("residua-kernels", "residua-graph", None),
            ("residua-engine", "residua-resnet", None),
            ("residua-data", "residua-engine", None),
            ("residua-format", "residua-train", None),
            ("residua-serve", "residua-train", None),
            ("residua-engine", "residua-testkit", None),
            ("residua-engine", "residua-testkit", Some("build")),
            ("residua-engine", "residua-train", Some("dev")),
            ("residua-train", "xtask", Some("dev")),
            ("residua-train", "anyhow", None),
            ("residua-unknown", "residua-graph", None),
        ] {
            let problems = edges(from, to, kind);
            assert_eq!(problems.len(), 1, "{from} -> {to} ({kind:?}): {problems:?}");
            assert!(problems[0].starts_with(from), "{problems:?}");
        }
    }

    #[test]
    fn table_has_no_cycle() {
        for row in &TABLE {
            for used in row.may_use {
                let used = find(used).expect("a crate in may_use has a row");
                let is_tool = ["residua-testkit", "xtask"].contains(&row.name);
                assert!(used.level < row.level || is_tool, "{} -> {}", row.name, used.name);
            }
        }
    }

    #[test]
    fn relaxed_unsafe_is_rejected() {
        let source = |line: &str| BTreeMap::from([(PathBuf::from("lib.rs"), line.to_owned())]);
        let lint = UNSAFE_LINT;
        assert!(relaxed_unsafe(&source(&format!("#![forbid({lint})]"))).is_empty());
        for attribute in ["allow", "expect", "warn"] {
            let line = format!("#[{attribute}(dead_code, {lint}, reason = \"speed\")]");
            assert_eq!(relaxed_unsafe(&source(&line)).len(), 1, "{line}");
        }
    }

    #[test]
    fn missing_lints_are_rejected() -> Result<()> {
        assert_eq!(missing_lints("a", "[lints]\nworkspace = true")?, None);
        assert!(missing_lints("a", "[package]\nname = \"a\"")?.is_some());
        assert!(missing_lints("a", "[lints.rust]\nunsafe_op_in_unsafe_fn = \"deny\"")?.is_some());
        Ok(())
    }
}
