//! Blocks out of a trained network.

use crate::models::{SPIRALS, spirals};
use crate::program::{program, run};

#[test]
fn the_block_that_does_nothing_goes_first() {
    let (model, folder) = (spirals().display(), tempfile::tempdir().unwrap());
    let deepen = format!("deepen {model} --stage 1 --at middle --out deeper");
    run(folder.path(), &deepen).expect(0);
    let prune = format!("prune deeper {SPIRALS} --blocks 1 --out pruned --precision f32");
    let json = run(folder.path(), &format!("{prune} --record kept --json")).expect(0).json();
    let rounds = json["rounds"].as_array().unwrap();
    assert_eq!(rounds.len(), 1);
    assert_eq!(rounds[0]["removed"], "layer1.2", "the new one");
    assert_eq!(rounds[0]["tried"].as_array().unwrap().len(), 4);
    for set in ["score", "test"] {
        assert_eq!(json["before"][set], json["after"][set], "the error on the {set} set");
    }
    assert_eq!(json["after"]["architecture"], "dense-resnet8-w32");
    assert_eq!(json["latencies"].as_array().unwrap().len(), 2);
    for file in ["study.json", "pruned.svg"] {
        assert!(folder.path().join("kept").join(file).exists(), "{file}");
    }
    let model = format!("{model}/model.safetensors");
    assert!(
        std::fs::read(model).unwrap() == std::fs::read(folder.path().join("pruned")).unwrap(),
        "what is left is not the network before"
    );
}

#[test]
fn the_smaller_network_is_there_even_if_nobody_reads_about_it() {
    let (model, folder) = (spirals().display(), tempfile::tempdir().unwrap());
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let args = format!("prune {model} {SPIRALS} --blocks 1 --out pruned");
    let status = program(folder.path()).args(args.split(' ')).stdout(writer).status().unwrap();
    assert_eq!(status.code(), Some(0));
    assert!(folder.path().join("pruned").exists());
}

#[test]
fn nothing_is_removed_beyond_the_limit() {
    let (model, folder) = (spirals().display(), tempfile::tempdir().unwrap());
    let prune = format!("prune {model} {SPIRALS} --out pruned");
    let ran = run(folder.path(), &format!("{prune} --max-error-increase 0")).expect(1);
    assert!(ran.stdout.contains("No block could be removed."), "{}", ran.stdout);
    assert!(ran.stdout.contains("above the limit of"), "{}", ran.stdout);
    assert!(!folder.path().join("pruned").exists());
    let ran = run(folder.path(), &format!("{prune} --blocks 2")).expect(0);
    assert!(ran.stdout.contains("Without 2 of 3 blocks"), "{}", ran.stdout);
    run(folder.path(), &format!("eval pruned {SPIRALS}")).expect(0);
    let tuned = format!("{prune} --blocks 2 --fine-tune-steps 5 --precision f32 --json");
    let tuned = run(folder.path(), &tuned).expect(0).json();
    assert_eq!(
        (&tuned["fine_tuned"]["steps"], &tuned["fine_tuned"]["lr"]),
        (&5.into(), &0.01.into())
    );
    assert!(folder.path().join("pruned.run/summary.json").exists());
    let measured =
        run(folder.path(), &format!("eval pruned {SPIRALS} --split test --json")).expect(0);
    assert_eq!(measured.json()["top1_error"], tuned["fine_tuned"]["test_error"]);
    let ran = run(folder.path(), &format!("{prune} --blocks 3")).expect(2);
    assert!(ran.stderr.contains("3 blocks to remove, expected at most 2"), "{}", ran.stderr);
    for wrong in ["--blocks 1 --max-error-increase 1", "", "--max-error-increase -1"] {
        run(folder.path(), &format!("{prune} {wrong}")).expect(2);
    }
}
