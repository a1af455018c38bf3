//! Shortcuts on and off.

use crate::models::{SPIRALS, spirals};
use crate::program::run;

#[test]
fn shortcuts_go_and_come_back() {
    let (model, folder) = (spirals().display(), tempfile::tempdir().unwrap());
    let strip = format!("convert --strip-shortcuts {model} --out plain");
    let json = run(folder.path(), &format!("{strip} --verify {SPIRALS} --json")).expect(0).json();
    assert_eq!(
        (&json["before"], &json["after"]),
        (&"dense-resnet8-w32".into(), &"dense-plain8-w32".into())
    );
    let verified = json["verified"].as_array().unwrap();
    assert_eq!(verified.len(), 2, "f32 and bf16");
    for one in verified {
        let [before, after] =
            ["top1_error_before", "top1_error_after"].map(|key| one[key].as_f64().unwrap());
        assert!(after > before, "a residual network needs its shortcuts: {before} {after}");
    }
    let add = "convert --add-shortcuts plain --out back";
    let ran = run(folder.path(), add).expect(0);
    assert!(ran.stdout.starts_with("dense-plain8-w32 → dense-resnet8-w32"), "{}", ran.stdout);
    let eval = |model: &str| {
        run(folder.path(), &format!("eval {model} {SPIRALS} --json")).expect(0).json()["mean_loss"]
            .as_f64()
    };
    assert_eq!(eval("back"), eval(&model.to_string()));
}

#[test]
fn the_wrong_direction_is_refused() {
    let (model, folder) = (spirals().display(), tempfile::tempdir().unwrap());
    let ran = run(folder.path(), &format!("convert --add-shortcuts {model} --out x")).expect(2);
    assert!(ran.stderr.contains("dense-resnet8-w32 has shortcuts"), "{}", ran.stderr);
    run(folder.path(), &format!("convert --strip-shortcuts {model} --out plain")).expect(0);
    let ran = run(folder.path(), "convert --strip-shortcuts plain --out x").expect(2);
    assert!(ran.stderr.contains("dense-plain8-w32 has no shortcuts"), "{}", ran.stderr);
    assert!(!folder.path().join("x").exists());
    run(folder.path(), &format!("convert {model} --out x")).expect(2);
}
