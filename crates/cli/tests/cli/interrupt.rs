//! Ctrl-C.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::program::{program, run};

const TRAIN: &str = "train synthetic:spirals?train=600&dev=60&test=60 --depth 8 --width 32 \
                     --batch-size 32 --steps 4000 --eval-every 200 --checkpoint-every 1000 \
                     --threads 2";

/// Starts a run and sends it `signals` once it has trained for a while.
fn interrupted(folder: &Path, signals: &[&str]) -> (Option<i32>, String) {
    let mut child = program(folder)
        .args(TRAIN.split_whitespace())
        .args(["--out", "cut"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    // Until the first row of the table of measurements.
    while !line.trim_start().starts_with(|c: char| c.is_ascii_digit()) || !line.contains('%') {
        line.clear();
        assert_ne!(stderr.read_line(&mut line).unwrap(), 0, "it ended before it began");
    }
    for signal in signals {
        let pid = child.id().to_string();
        assert!(Command::new("kill").args([signal, &*pid]).status().unwrap().success());
    }
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    (child.wait().unwrap().code(), rest)
}

#[test]
fn an_interrupted_run_goes_on_to_the_same_model() {
    let folder = tempfile::tempdir().unwrap();
    let (code, stderr) = interrupted(folder.path(), &["-INT"]);
    assert_eq!(code, Some(130), "{stderr}");
    assert!(stderr.contains("hint: go on with `residua train --resume --out cut`"), "{stderr}");
    assert!(!folder.path().join("cut/model.safetensors").exists());

    let resumed = run(folder.path(), "train --resume --out cut --threads 1").expect(0);
    assert!(resumed.stderr.contains("resumed after step"), "{}", resumed.stderr);
    run(folder.path(), &format!("{TRAIN} --out whole")).expect(0);
    let model = |run| fs::read(folder.path().join(run).join("model.safetensors")).unwrap();
    assert!(model("cut") == model("whole"), "resuming changed the model");
}

#[test]
fn terminating_a_run_saves_it_too() {
    let folder = tempfile::tempdir().unwrap();
    let (code, stderr) = interrupted(folder.path(), &["-TERM"]);
    assert_eq!(code, Some(130), "{stderr}");
    // Repeating the command with --resume is as good as naming only the folder.
    run(folder.path(), &format!("{TRAIN} --out cut --resume")).expect(0);
}
