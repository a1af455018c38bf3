//! The likeliest mistakes, and what is said about them.

use std::fs;

use crate::models::spirals;
use crate::program::{run, transcript};

/// All that is said about some mistakes, one after the other. Each ends with the code 2.
fn mistakes(folder: &std::path::Path, commands: &[&str]) -> String {
    let mut text = String::new();
    for command in commands {
        let transcript = transcript(folder, command);
        assert!(transcript.ends_with("[2]\n"), "{transcript}");
        assert!(transcript.contains("residua: error: "), "{transcript}");
        text += &(transcript + "\n");
    }
    text
}

#[test]
fn mistakes_in_arguments() {
    let folder = tempfile::tempdir().unwrap();
    insta::assert_snapshot!(mistakes(
        folder.path(),
        &[
            "trian synthetic:shapes",
            "train",
            "train synthetic:shapes --learning-rate 0.1",
            "train synthetic:shapes --schedule cosin",
            "train synthetic:shapes --epochs 1 --steps 2",
            "train synthetic:shapes --schedule step",
            "train synthetic:shapes --decay-bias maybe",
            "train synthetic:shapes --lr -1",
            "train synthetic:shapes --seed -1",
            "train --from a.ckpt --whiten-stem",
            "inspect a.ckpt",
            "train synthetic:shapes --threads 0",
            "train synthetic:shapes --threads 100000",
            "inspect",
            "inspect resnet20 --input 3x32",
            "eval a.safetensors b --split validate",
            "eval a.safetensors b --plot confusion.jpg",
        ]
    ));
}

#[test]
fn mistakes_in_names_and_values() {
    let folder = tempfile::tempdir().unwrap();
    let small = "synthetic:spirals?train=60&dev=12&test=12";
    let commands = [
        "inspect resnt20".to_owned(),
        "inspect vgg16".to_owned(),
        "inspect resnet21".to_owned(),
        "inspect resnet20 --input 3x2x2".to_owned(),
        "inspect plain20 --shortcut projection".to_owned(),
        "train nowhere".to_owned(),
        "train synthetic:shape".to_owned(),
        format!("train {small}&trian=3"),
        format!("train {small} --model resnet20"),
        format!("train {small} --lr 0"),
        format!("train {small} --epochs 0"),
        format!("train {small} --batch-size 100"),
        format!("train {small} --warmup-steps 5"),
        format!("train {small} --milestones 5,6"),
        format!("train {small} --image-size 32"),
        format!("train {small} --augment pad-crop"),
        "bench data nowhere".to_owned(),
        format!("bench data {small} --batch-size 0"),
        format!("bench data {small} --batch-size 100"),
        format!("bench data {small} --augment pad-crop"),
    ];
    let commands: Vec<_> = commands.iter().map(String::as_str).collect();
    insta::assert_snapshot!(mistakes(folder.path(), &commands));
    assert!(!folder.path().join("runs").exists(), "nothing is written before all is checked");
}

#[test]
fn mistakes_in_folders() {
    let folder = tempfile::tempdir().unwrap();
    let train = "train synthetic:spirals?train=60&dev=12&test=12 --depth 4 --width 8 --steps 2";
    run(folder.path(), &format!("{train} --out there")).expect(0);
    fs::write(folder.path().join("file"), "x").unwrap();
    fs::write(folder.path().join("config.toml"), "data = 3\n").unwrap();
    let commands = [
        format!("{train} --out there"),
        format!("{train} --out file/below"),
        "train --resume".to_owned(),
        "train --resume --out nowhere".to_owned(),
        "train --resume --out there --lr 0.5 --depth 6".to_owned(),
        "train --config nowhere.toml".to_owned(),
        "train --config config.toml".to_owned(),
    ];
    let commands: Vec<_> = commands.iter().map(String::as_str).collect();
    insta::assert_snapshot!(mistakes(folder.path(), &commands));
}

#[test]
fn mistakes_with_models() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("empty")).unwrap();
    fs::write(folder.path().join("text.safetensors"), "not a model").unwrap();
    fs::copy(spirals().join("model.safetensors"), folder.path().join("m.safetensors")).unwrap();
    insta::assert_snapshot!(mistakes(
        folder.path(),
        &[
            "eval nowhere.safetensors synthetic:spirals",
            "eval empty synthetic:spirals",
            "eval text.safetensors synthetic:spirals",
            "eval m.safetensors synthetic:spirals?arms=4",
            "eval m.safetensors synthetic:shapes?train=20&dev=10&test=10",
            "eval m.safetensors synthetic:spirals?train=60&dev=0&test=12 --split dev",
            "predict m.safetensors picture.png",
            "predict nowhere.safetensors picture.png",
            "inspect m.safetensors --depth 8",
            "inspect nowhere.safetensors",
        ]
    ));
}

#[test]
fn an_unknown_instruction_set_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let model = spirals().display().to_string();
    let output = crate::program::program(folder.path())
        .args(["predict", &model, "--vector", "0,0"])
        .env("RESIDUA_ISA", "sse9")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("sse9") && stderr.contains("portable"), "{stderr}");
}
