//! Image folders: export, check, train with bad images, evaluate, predict.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::program::run;

const SHAPES: &str = "synthetic:shapes?train=80&dev=20&test=20";
const SMALL: &str = "--model resnet8-w4 --image-size 32 --batch-size 8 --steps 4";

fn exported() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), &format!("data export {SHAPES} shapes")).expect(0);
    folder
}

#[test]
fn an_exported_set_trains_and_predicts() {
    let folder = exported();
    let path = folder.path();
    run(path, &format!("train shapes {SMALL} --out m")).expect(0);
    let json = run(path, "eval m shapes --split test --json").expect(0).json();
    assert_eq!(json["num_samples"], 20);
    assert_eq!(json["classes"].as_array().unwrap().len(), 10);
    assert!(json["top5_error"].as_f64().is_some());
    let one = first_image(&path.join("shapes/test/star"));
    fs::create_dir(path.join("empty")).unwrap();
    fs::write(path.join("bad.png"), "not a PNG").unwrap();
    let ran =
        run(path, &format!("predict m {one} shapes/test bad.png empty no.png --json --top 2"));
    let ran = ran.expect(1);
    let lines: Vec<Value> =
        ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 1 + 20 + 3);
    let (good, bad): (Vec<_>, Vec<_>) =
        lines.iter().partition(|line| line["predictions"].as_array().is_some_and(|p| p.len() == 2));
    assert_eq!((good.len(), bad.len()), (21, 3));
    assert!(bad.iter().all(|line| line["error"].is_string()), "{bad:?}");
    let same = lines[1..].iter().find(|line| line["input"] == *one).unwrap();
    assert_eq!(same["predictions"], lines[0]["predictions"]);
    let text = run(path, &format!("predict m {one} bad.png --top 1")).expect(1);
    assert_eq!(text.stdout.lines().count(), 1);
    assert!(text.stderr.starts_with("residua: error: bad.png"), "{}", text.stderr);
}

fn first_image(folder: &Path) -> String {
    let mut images: Vec<_> = fs::read_dir(folder).unwrap().flatten().map(|e| e.path()).collect();
    images.sort();
    let below = images[0].strip_prefix(folder.ancestors().nth(3).unwrap()).unwrap();
    below.display().to_string()
}

#[test]
fn bad_images_are_found_before_training() {
    let folder = exported();
    let path = folder.path();
    run(path, "data check shapes").expect(0);
    fs::write(path.join("shapes/train/star/bad.png"), "not a PNG").unwrap();
    fs::write(path.join("shapes/val/ring/empty.jpg"), "").unwrap();
    let check = run(path, "data check shapes").expect(1);
    for part in ["bad.png", "empty.jpg"] {
        assert!(check.stdout.contains(part), "{part}: {}", check.stdout);
    }
    let json = run(path, "data check shapes --json").expect(1).json();
    assert_eq!((&json["ok"], json["findings"].as_array().unwrap().len()), (&Value::Bool(false), 2));
    let train = format!("train shapes {SMALL} --out m");
    let refused = run(path, &train).expect(2);
    for part in ["bad.png", "empty.jpg", "hint: ", "--skip-bad"] {
        assert!(refused.stderr.contains(part), "{part}: {}", refused.stderr);
    }
    assert!(!path.join("m").exists());
    let skipped = run(path, &format!("{train} --skip-bad")).expect(0);
    assert!(skipped.stderr.contains("2 bad images left out"), "{}", skipped.stderr);
}

#[test]
fn info_counts_classes_and_splits() {
    let folder = exported();
    let ran = run(folder.path(), "data info shapes --image-size 32").expect(0);
    let settings = insta::Settings::clone_current();
    settings.bind(|| insta::assert_snapshot!(ran.stdout));
    let json = run(folder.path(), &format!("data info {SHAPES} --json")).expect(0).json();
    assert_eq!(json["splits"][2]["samples"], 20);
    assert_eq!(json["classes"].as_array().unwrap().len(), 10);
}

#[test]
fn an_export_does_not_touch_a_folder_in_use() {
    let folder = exported();
    let ran = run(folder.path(), &format!("data export {SHAPES} shapes")).expect(2);
    assert!(ran.stderr.contains("not empty"), "{}", ran.stderr);
    run(folder.path(), "data export synthetic:spirals points").expect(2);
}
