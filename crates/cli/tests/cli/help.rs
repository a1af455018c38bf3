//! The help texts, as they are printed.

use crate::program::{run, transcript};

#[test]
fn help_is_as_reviewed() {
    let folder = tempfile::tempdir().unwrap();
    for command in [
        "",
        "quickstart",
        "train",
        "eval",
        "predict",
        "inspect",
        "deepen",
        "compare",
        "report",
        "prune",
        "convert",
        "study",
        "study lesion",
        "study gradients",
        "study identity-task",
        "data",
        "data info",
        "data check",
        "data export",
        "bench",
        "bench hardware",
        "bench kernels",
        "bench train",
        "bench infer",
        "bench data",
    ] {
        let text = transcript(folder.path(), &format!("{command} --help"));
        assert!(text.ends_with("[0]\n"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 100), "too wide: {text}");
        let name = if command.is_empty() { "residua" } else { command };
        insta::assert_snapshot!(format!("help {name}").replace(' ', "-"), text);
    }
}

#[test]
fn version_is_the_package_s() {
    let folder = tempfile::tempdir().unwrap();
    let ran = run(folder.path(), "--version").expect(0);
    assert_eq!(ran.stdout, format!("residua {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn without_arguments_it_helps_and_fails() {
    let folder = tempfile::tempdir().unwrap();
    let ran = run(folder.path(), "").expect(2);
    assert!(ran.stderr.contains("First steps:") && ran.stdout.is_empty());
}

#[test]
fn nothing_is_coloured_without_a_terminal() {
    let folder = tempfile::tempdir().unwrap();
    for args in ["--help", "inspect nothing", "--nothing", "inspect resnet20"] {
        let ran = run(folder.path(), args);
        assert!(!(ran.stdout + &ran.stderr).contains('\x1b'), "{args}");
    }
}
