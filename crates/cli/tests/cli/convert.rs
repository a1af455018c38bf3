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
    let tuned = run(
        folder.path(),
        &format!("{strip} --verify {SPIRALS} --fine-tune-steps 20 --lr 0.01 --record kept --json")
            .replace("--out plain", "--out tuned"),
    );
    let tuned = tuned.expect(0).json();
    assert_eq!(tuned["verified"], json["verified"], "before the training");
    assert_eq!((&tuned["tuned"]["steps"], &tuned["tuned"]["lr"]), (&20.into(), &0.01.into()));
    let summary = std::fs::read(folder.path().join("tuned.run/summary.json")).unwrap();
    let summary: serde_json::Value = serde_json::from_slice(&summary).unwrap();
    let precision = summary["precision"].as_str().unwrap();
    let eval = format!("eval tuned {SPIRALS} --split test --precision {precision} --json");
    let measured = run(folder.path(), &eval).expect(0).json();
    assert_eq!(measured["top1_error"], tuned["tuned"]["test_error"]);
    run(folder.path(), "report kept --out page.html").expect(0);
    let page = std::fs::read_to_string(folder.path().join("page.html")).unwrap();
    assert!(
        page.contains("without its shortcuts") && page.contains("After 20 more steps at lr 0.01")
    );
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
    let strip = format!("convert --strip-shortcuts {model} --out x --fine-tune-steps 2");
    let ran = run(folder.path(), &strip).expect(2);
    assert!(ran.stderr.contains("trains on the data of --verify"), "{}", ran.stderr);
}
