//! `residua study`, and `residua inspect --identity`.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::models::{SPIRALS, spirals};
use crate::program::run;

/// The record that a command kept.
fn record(folder: &Path) -> Value {
    serde_json::from_slice(&fs::read(folder.join("study.json")).unwrap()).unwrap()
}

#[test]
fn identity_measures_of_a_trained_network_are_shown_and_kept() {
    let (model, folder) = (spirals().display(), tempfile::tempdir().unwrap());
    let inspect = format!("inspect {model} --identity {SPIRALS} --samples 40 --split test");
    let ran = run(folder.path(), &format!("{inspect} --out kept")).expect(0);
    for text in ["‖F(x)‖/‖x‖", "layer1.2", "Nearest to the identity", "fc2.weight"] {
        assert!(ran.stdout.contains(text), "{text}: {}", ran.stdout);
    }
    let kept = record(&folder.path().join("kept"));
    assert_eq!((&kept["study"], &kept["model"]), (&"identity".into(), &"dense-resnet8-w32".into()));
    assert_eq!(
        (&kept["data"]["num_samples"], &kept["data"]["split"]),
        (&40.into(), &"test".into())
    );
    let blocks = kept["blocks"].as_array().unwrap();
    assert_eq!(blocks.len(), 3);
    assert!(blocks.iter().all(|block| block["ratio"].as_f64().unwrap() > 0.0));
    assert!(folder.path().join("kept/identity-ratio.svg").exists());
    assert!(folder.path().join("kept/response-std.svg").exists());
    let json = run(folder.path(), &format!("{inspect} --json --threads 1")).expect(0).json();
    assert_eq!((&json["blocks"], &json["responses"]), (&kept["blocks"], &kept["responses"]));
}

#[test]
fn a_block_that_was_put_in_is_the_identity() {
    let (model, folder) = (spirals().display(), tempfile::tempdir().unwrap());
    run(folder.path(), &format!("deepen {model} --stage 1 --out deeper")).expect(0);
    let inspect = format!("inspect deeper --identity {SPIRALS} --json");
    let json = run(folder.path(), &inspect).expect(0).json();
    let new = &json["blocks"][3];
    assert_eq!((&new["ratio"], &new["share_changed"]), (&0.0.into(), &0.0.into()));
}

#[test]
fn norms_are_shown_without_data() {
    let (model, folder) = (spirals().display(), tempfile::tempdir().unwrap());
    let ran = run(folder.path(), &format!("inspect {model} --identity")).expect(0);
    assert!(ran.stdout.contains("Euclidean norms") && !ran.stdout.contains("‖F(x)‖"));
    for (args, expected) in [
        ("inspect resnet20 --identity", "resnet20: no such file"),
        (
            "inspect a.toml --identity",
            "a.toml: has no weights, expected a model file or run folder",
        ),
        ("inspect m --identity --classes 3", "--classes"),
        ("inspect m --identity --plan", "cannot be used with"),
        ("inspect m --samples 3", "--identity"),
    ] {
        let ran = run(folder.path(), args).expect(2);
        assert!(ran.stderr.contains(expected), "{args}: {}", ran.stderr);
    }
}

#[test]
fn gradients_of_named_and_trained_networks_are_compared() {
    let (model, folder) = (spirals().display(), tempfile::tempdir().unwrap());
    let study = format!(
        "study gradients {SPIRALS} --model dense-resnet6-w8,dense-plain6-w8-no-norm,{model} \
         --batch-size 16 --points 20 --seeds 2"
    );
    let ran = run(folder.path(), &format!("{study} --out kept")).expect(0);
    for text in ["dense-plain6-w8-no-norm", "layer1.1", "at lag 1:", "lag 16"] {
        assert!(ran.stdout.contains(text), "{text}: {}", ran.stdout);
    }
    let kept = record(&folder.path().join("kept"));
    assert_eq!(kept["study"], "gradients");
    assert!(folder.path().join("kept/gradient-autocorrelation.svg").exists());
    let json = run(folder.path(), &format!("{study} --json --threads 1")).expect(0).json();
    assert_eq!(json["networks"], kept["networks"]);
    let trained: Vec<_> =
        json["networks"].as_array().unwrap().iter().map(|it| &it["trained"]).collect();
    assert_eq!(trained, [false, false, true]);
    let runs = json["networks"][0]["runs"].as_array().unwrap();
    assert_eq!((runs.len(), runs[0]["norms"].as_array().unwrap().len()), (2, 2));
    let ran = run(folder.path(), &format!("study gradients {SPIRALS} --model resnett20")).expect(2);
    assert!(ran.stderr.contains("resnett20"), "{}", ran.stderr);
}

#[test]
fn gradients_are_measured_on_the_way() {
    let folder = tempfile::tempdir().unwrap();
    let study = format!(
        "study gradients {SPIRALS} --model dense-resnet6-w8,dense-plain6-w8 --batch-size 16 --points 20 \
         --steps 10 --lr 0.05 --out kept"
    );
    let ran = run(folder.path(), &study).expect(0);
    for text in ["dense-resnet6-w8 at step 0", "dense-plain6-w8 at step 10"] {
        assert!(ran.stdout.contains(text), "{text}: {}", ran.stdout);
    }
    let kept = record(&folder.path().join("kept"));
    assert_eq!(kept["training"]["lr"], 0.05);
    let steps = |networks: &[Value]| -> Vec<Option<u64>> {
        networks.iter().map(|network| network["step"].as_u64()).collect()
    };
    let networks = kept["networks"].as_array().unwrap();
    let (residual, plain) = networks.split_at(5);
    assert_eq!(steps(residual), [0, 3, 6, 9, 10].map(Some));
    assert_eq!(steps(plain), steps(residual));
    assert!(folder.path().join("kept/gradient-ratio-over-training.svg").exists());
    // As if the networks had been named without training.
    let untrained = study.replace(" --steps 10 --lr 0.05 --out kept", " --json");
    let untrained = run(folder.path(), &untrained).expect(0).json();
    assert_eq!(untrained["networks"][0]["runs"], residual[0]["runs"]);
    assert_ne!(untrained["networks"][0]["runs"], residual[4]["runs"]);
    // The runs are there already.
    let again = run(folder.path(), &study).expect(0);
    assert_eq!(again.stderr.matches("is there already").count(), 2, "{}", again.stderr);
    let (model, with_model) = (spirals().display(), "--model dense-resnet6-w8,dense-plain6-w8");
    let ran = run(folder.path(), &study.replace(with_model, &format!("--model {model}"))).expect(2);
    let expected = format!("{model} is a trained model here");
    assert!(ran.stderr.contains(&expected), "{}", ran.stderr);
}

#[test]
fn a_training_whose_gradients_run_away_is_told_about() {
    let folder = tempfile::tempdir().unwrap();
    let study = format!(
        "study gradients {SPIRALS} --model dense-resnet4-w8-no-norm,dense-resnet6-w8 --batch-size 16 \
         --points 20 --steps 8 --lr 1e5 --out kept"
    );
    let ran = run(folder.path(), &study).expect(0);
    assert!(ran.stdout.contains("dense-resnet4-w8-no-norm diverged"), "{}", ran.stdout);
    let kept = record(&folder.path().join("kept"));
    let of = |name: &str| {
        let networks = kept["networks"].as_array().unwrap().iter();
        networks.filter(|network| network["network"] == name).count()
    };
    assert!((1..4).contains(&of("dense-resnet4-w8-no-norm")), "{}", of("dense-resnet4-w8-no-norm"));
    assert!(of("dense-resnet6-w8") > 1);
}

#[test]
fn a_folder_that_no_study_can_be_kept_in_is_refused_first() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "mine").unwrap();
    let task = "study identity-task --kind dense --depth 2 --steps 5 --seeds 1 --lr 0.1 --out";
    let ran = run(folder.path(), &format!("{task} file")).expect(2);
    assert!(ran.stderr.contains("cannot write file") && ran.stdout.is_empty(), "{}", ran.stderr);
    run(folder.path(), &format!("{task} kept")).expect(0);
    run(folder.path(), &format!("{task} kept")).expect(0);
    let model = spirals().display();
    let ran = run(folder.path(), &format!("study lesion {model} {SPIRALS} --out kept")).expect(2);
    let expected =
        "kept: holds the record of another study (identity-task), expected another folder";
    assert!(ran.stderr.contains(expected), "{}", ran.stderr);
    assert_eq!(record(&folder.path().join("kept"))["study"], "identity-task");
}

#[test]
fn stacks_learn_the_identity() {
    let folder = tempfile::tempdir().unwrap();
    let study = "study identity-task --depth 2,4 --steps 60 --width 4 --seeds 2 --lr 0.03,0.1";
    let ran = run(folder.path(), &format!("{study} --out kept")).expect(0);
    assert!(ran.stdout.contains("of the best constant"), "{}", ran.stdout);
    let kept = record(&folder.path().join("kept"));
    assert_eq!((&kept["study"], &kept["steps"]), (&"identity-task".into(), &60.into()));
    assert_eq!(kept["results"].as_array().unwrap().len(), 2 * 2 * 2);
    assert!(folder.path().join("kept/identity-task-conv-depth.svg").exists());
    let json = run(folder.path(), &format!("{study} --json --threads 1")).expect(0).json();
    assert_eq!(json["results"], kept["results"]);
    let ran = run(folder.path(), "study identity-task --depth 3").expect(2);
    assert!(ran.stderr.contains("depth: 3, expected an even number"), "{}", ran.stderr);
}
