//! `residua quickstart`, cut short.

use crate::program::run;

#[test]
fn it_leaves_a_plot_a_model_and_images() {
    let folder = tempfile::tempdir().unwrap();
    let ran = run(folder.path(), "quickstart --steps 3").expect(0);
    for part in ["Network", "train error", "New image", "arrow.png", "Next:"] {
        assert!(ran.stdout.contains(part), "{part}: {}", ran.stdout);
    }
    let out = folder.path().join("runs/quickstart");
    assert!(ran.stdout.contains("max |Δlogit| = 0"), "{}", ran.stdout);
    let page = std::fs::read_to_string(out.join("report.html")).unwrap();
    assert!(page.contains("plain32-w8 dev") && page.contains("max |Δlogit| = 0"));
    assert!(page.contains("<svg") && !page.contains("<script"));
    assert!(out.join("report-1-curves.svg").exists() && out.join("deeper.safetensors").exists());
    // What it says to try next works.
    let next: Vec<_> =
        ran.stdout.lines().filter_map(|line| line.trim().strip_prefix("residua ")).collect();
    assert!(next.len() >= 4, "{next:?}");
    for command in next.iter().filter(|command| !command.contains("DATA")) {
        run(folder.path(), &command.replace('\'', "")).expect(0);
    }
    run(folder.path(), "quickstart --steps 2").expect(0);
}
