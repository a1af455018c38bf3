//! From data to a model to its answers.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use serde_json::Value;
use tempfile::TempDir;

use crate::program::run;

/// The folder of a run on spirals, trained once.
pub(crate) fn spirals() -> &'static Path {
    static RUN: OnceLock<TempDir> = OnceLock::new();
    let folder = RUN.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let args = "--model dense-resnet --depth 8 --width 32 --epochs 15 --seed 3 --out .";
        run(folder.path(), &format!("train {SPIRALS} {args}")).expect(0);
        folder
    });
    folder.path()
}

pub(crate) const SPIRALS: &str = "synthetic:spirals?train=1500&dev=300&test=300";

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

#[test]
fn spirals_are_learned_and_recognised() {
    let run_folder = spirals().display().to_string();
    let folder = tempfile::tempdir().unwrap();
    let eval = format!("eval {run_folder} {SPIRALS} --split test");
    let json = run(folder.path(), &format!("{eval} --json")).expect(0).json();
    for key in ["top1_error", "top5_error", "mean_loss", "confusion", "per_class", "classes"] {
        assert!(keys(&json).contains(&key), "{key}");
    }
    let error = json["top1_error"].as_f64().unwrap();
    assert!(error < 15.0, "{error} % of the test set are wrong");
    assert!(json["top5_error"].is_null(), "there are 3 classes");
    assert_eq!(json["trained_on_this_data"], true);
    let confusion: Vec<Vec<u64>> = serde_json::from_value(json["confusion"].clone()).unwrap();
    let all: u64 = confusion.iter().flatten().sum();
    let right: u64 = (0..3).map(|i| confusion[i][i]).sum();
    assert_eq!(all, 300);
    assert!((error - (all - right) as f64 / 3.0).abs() < 1e-9);
    let text = run(folder.path(), &eval).expect(0).stdout;
    assert!(text.contains(&format!("top-1 error {error:.2} %")), "{text}");
    let summary = fs::read_to_string(spirals().join("summary.json")).unwrap();
    let summary: Value = serde_json::from_str(&summary).unwrap();
    assert_eq!(summary["test"]["top1_error"], error, "the run and eval measure the same");
}

#[test]
fn a_vector_gets_probabilities() {
    let model = spirals().display().to_string();
    let folder = tempfile::tempdir().unwrap();
    let args = format!("predict {model} --vector 0.5,-0.25 --vector -1,0.1 --json");
    let ran = run(folder.path(), &args).expect(0);
    let lines: Vec<Value> =
        ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    for line in &lines {
        let predictions = line["predictions"].as_array().unwrap();
        let sum: f64 = predictions.iter().map(|p| p["probability"].as_f64().unwrap()).sum();
        assert_eq!(predictions.len(), 3);
        assert!((sum - 1.0).abs() < 1e-5, "{sum}");
    }
    let ran = run(folder.path(), &format!("predict {model} --vector 1,x --vector 1")).expect(1);
    assert!(ran.stderr.contains("`x` is no number"), "{}", ran.stderr);
    assert!(ran.stderr.contains("got 1 values, expected 2"), "{}", ran.stderr);
}

#[test]
fn other_data_of_the_same_name_is_told() {
    let model = spirals().display().to_string();
    let folder = tempfile::tempdir().unwrap();
    // The same source with another dev set: images of the training set would be measured.
    let export = "data export synthetic:shapes?train=60&dev=0&test=0 shapes";
    run(folder.path(), export).expect(0);
    let train = "train shapes --model resnet8-w4 --image-size 32 --batch-size 8 --steps 2 --out m";
    run(folder.path(), train).expect(0);
    let same = run(folder.path(), "eval m shapes --json").expect(0);
    assert_eq!((same.json()["trained_on_this_data"].as_bool(), &*same.stderr), (Some(true), ""));
    let other = run(folder.path(), "eval m shapes --split-seed 1 --json").expect(0);
    assert_eq!(other.json()["trained_on_this_data"], false);
    assert!(other.stderr.contains("--split-seed"), "{}", other.stderr);
    let _ = model;
}

#[test]
fn a_run_is_measured_with_the_splits_of_its_training() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let row = |i: u32| format!("{},{},{}\n", (i * 37 % 101) as f32, (i * 53 % 97) as f32, i % 2);
    let rows: String = (0..200).map(row).collect();
    fs::write(path.join("points.csv"), format!("x,y,label\n{rows}")).unwrap();
    let splits = "--val-fraction 0.3 --test-fraction 0.2 --split-seed 5";
    let train = "train points.csv --model dense-resnet --depth 6 --width 8 --steps 30 --out m";
    let trained = run(path, &format!("{train} {splits} --json")).expect(0).json();
    for model in ["m", "m/model.safetensors"] {
        let json =
            run(path, &format!("eval {model} points.csv --split test --json")).expect(0).json();
        assert_eq!(json["trained_on_this_data"], true, "{model}");
        assert_eq!(json["num_samples"], 40);
        assert_eq!(json["top1_error"], trained["test"]["top1_error"]);
    }
    let prune = "prune m points.csv --blocks 1 --out new/folder/p.safetensors --fine-tune-steps 3";
    let pruned = run(path, &format!("{prune} --precision f32 --json")).expect(0);
    assert_eq!(pruned.json()["before"]["test"]["top1_error"], trained["test"]["top1_error"]);
    assert!(!pruned.stderr.contains("note:"), "{}", pruned.stderr);
    let config = fs::read_to_string(path.join("new/folder/p.run/config.toml")).unwrap();
    assert!(config.contains("val_fraction = 0.3") && config.contains("\"f32\""), "{config}");
    let lesion = run(path, "study lesion m points.csv --json").expect(0);
    assert!(!lesion.stderr.contains("note:"), "{}", lesion.stderr);

    // The file alone does not say how the data was split.
    fs::copy(path.join("m/model.safetensors"), path.join("alone.safetensors")).unwrap();
    for command in ["eval", "study lesion", "inspect --identity=points.csv"] {
        let data = if command.starts_with("inspect") { "" } else { "points.csv" };
        let ran = run(path, &format!("{command} alone.safetensors {data}")).expect(0);
        assert!(ran.stderr.contains("not the splits"), "{command}: {}", ran.stderr);
    }
}

#[test]
fn models_are_not_written_where_something_else_belongs() {
    let (model, folder) = (spirals().display(), tempfile::tempdir().unwrap());
    for wrong in [".", "d.state", "d.run"] {
        for command in ["deepen --stage 1", "convert --strip-shortcuts"] {
            let ran = run(folder.path(), &format!("{command} {model} --out {wrong}")).expect(2);
            assert!(ran.stderr.contains("expected"), "{}", ran.stderr);
        }
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[cfg(unix)]
#[test]
fn arguments_that_are_not_utf8_lose_nothing() {
    use std::os::unix::ffi::OsStrExt;
    let folder = tempfile::tempdir().unwrap();
    let name = std::ffi::OsStr::from_bytes(b"kept-\xff");
    let mut command = crate::program::program(folder.path());
    command.args(["inspect", "--identity", "--out"]).arg(name).arg("--").arg(spirals());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(folder.path().join(name).join("study.json").exists());
}

#[test]
fn plots_are_drawn() {
    let model = spirals().display().to_string();
    let folder = tempfile::tempdir().unwrap();
    for name in ["c.svg", "c.png"] {
        run(folder.path(), &format!("eval {model} {SPIRALS} --plot {name}")).expect(0);
    }
    let svg = fs::read_to_string(folder.path().join("c.svg")).unwrap();
    assert!(svg.starts_with("<svg") && svg.contains(">arm1<"));
    let png = fs::read(folder.path().join("c.png")).unwrap();
    assert!(png.starts_with(b"\x89PNG"), "not a PNG");
    let ran = run(folder.path(), &format!("eval {model} {SPIRALS} --plot no/c.svg")).expect(2);
    assert!(ran.stderr.contains("no/c.svg"), "{}", ran.stderr);
    assert!(ran.stdout.contains("top-1 error"), "what was measured is lost: {}", ran.stdout);
}

#[test]
fn a_run_can_be_repeated_from_its_config() {
    let config = spirals().join("config.toml").display().to_string();
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), &format!("train --config {config} --out again --threads 1")).expect(0);
    let model = |folder: &Path| fs::read(folder.join("model.safetensors")).unwrap();
    assert!(model(spirals()) == model(&folder.path().join("again")), "other bytes");
    run(folder.path(), &format!("train --config {config} --seed 4 --out other")).expect(0);
    assert!(model(spirals()) != model(&folder.path().join("other")), "the seed has no effect");
}

#[test]
fn every_setting_reaches_the_config() {
    let folder = tempfile::tempdir().unwrap();
    let args = "--depth 6 --width 8 --shortcut projection --no-norm --init kaiming-fan-in \
                --zero-init-residual --head-lr 0.5 --steps 4 --eval-every 2 --checkpoint-every 3 \
                --batch-size 16 --lr 0.02 --schedule step --milestones 1,2 --gamma 0.5 \
                --warmup-steps 2 --momentum 0.8 --nesterov --weight-decay 0.002 --decay-bias off \
                --decay-norm off --label-smoothing 0.1 --clip-grad-norm 2 --seed 5 \
                --precision f32 --split-seed 6 --augment none --skip-bad";
    let train = format!("train synthetic:spirals?train=60&dev=12&test=12 {args}");
    run(folder.path(), &train).expect(0);
    let run_folder = folder.path().join("runs/spirals-dense-resnet6-w8-projection-no-norm-s5");
    let config = run_folder.join("config.toml");
    insta::assert_snapshot!(fs::read_to_string(&config).unwrap());

    // A switch without its value is on.
    let switched = format!("train --config {} --out on --decay-bias", config.display());
    run(folder.path(), &switched).expect(0);
    let again = fs::read_to_string(folder.path().join("on/config.toml")).unwrap();
    assert!(again.contains("decay_bias = true\ndecay_norm = false"), "{again}");

    // Of a schedule, what is not set stays as it is.
    let moved = format!("train --config {} --out moved --milestones 3", config.display());
    run(folder.path(), &moved).expect(0);
    let again = fs::read_to_string(folder.path().join("moved/config.toml")).unwrap();
    assert!(again.contains("milestones = [3]") && again.contains("gamma = 0.5"), "{again}");
}

#[test]
fn the_summary_is_printed_for_machines_too() {
    let folder = tempfile::tempdir().unwrap();
    let train = "train synthetic:spirals?train=60&dev=12&test=12 --depth 4 --width 8 --steps 3";
    let ran = run(folder.path(), &format!("{train} --out r --json")).expect(0);
    let json = ran.json();
    for key in ["folder", "model", "train", "dev", "test", "seconds", "weights_sha256"] {
        assert!(keys(&json).contains(&key), "{key}");
    }
    assert_eq!(json["steps"], 3);
    assert!(ran.stderr.contains("60 train, 12 dev and 12 test samples"), "{}", ran.stderr);
}
