//! Deleted blocks.

use crate::models::{SPIRALS, spirals};
use crate::program::run;

#[test]
fn each_block_of_a_trained_network_is_deleted_and_kept_in_a_record() {
    let (model, folder) = (spirals().display(), tempfile::tempdir().unwrap());
    let lesion = format!("study lesion {model} {SPIRALS} --precision f32");
    let ran = run(folder.path(), &format!("{lesion} --swaps --random 1,2 --draws 2 --json"));
    let json = ran.expect(0).json();
    assert_eq!(json["study"], "lesion");
    let network = &json["networks"][0];
    let blocks = network["blocks"].as_array().unwrap();
    let names: Vec<_> = blocks.iter().map(|block| block["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["layer1.0", "layer1.1", "layer1.2"]);
    assert_eq!(network["swaps"].as_array().unwrap().len(), 2);
    assert_eq!(network["random"].as_array().unwrap().len(), 4);
    let eval = format!("eval {model} {SPIRALS} --split test --precision f32 --json");
    let measured = run(folder.path(), &eval).expect(0).json();
    assert_eq!(network["intact"]["top1_error"], measured["top1_error"]);
    assert!(blocks.iter().any(|block| block["top1_error"] != measured["top1_error"]));

    let ran = run(folder.path(), &format!("{lesion} --out record")).expect(0);
    assert!(ran.stdout.contains("one block deleted"), "{}", ran.stdout);
    for file in ["study.json", "blocks.svg"] {
        assert!(folder.path().join("record").join(file).exists(), "{file}");
    }
}

#[test]
fn networks_of_the_same_architecture_are_called_by_their_whole_path() {
    let (model, folder) = (spirals(), tempfile::tempdir().unwrap());
    for name in ["net-wd0.001", "net-wd0.1"] {
        let path = folder.path().join(name);
        std::fs::create_dir(&path).unwrap();
        std::fs::copy(model.join("model.safetensors"), path.join("model.safetensors")).unwrap();
    }
    let lesion = format!("study lesion net-wd0.001,net-wd0.1/model.safetensors {SPIRALS} --json");
    let json = run(folder.path(), &lesion).expect(0).json();
    let names = [&json["networks"][0]["name"], &json["networks"][1]["name"]];
    assert_eq!(names, ["net-wd0.001", "net-wd0.1/model"]);
}

#[test]
fn several_networks_are_compared() {
    let (model, folder) = (spirals().display(), tempfile::tempdir().unwrap());
    let train = format!("train {SPIRALS} --model dense-plain --depth 8 --width 32 --steps 5");
    run(folder.path(), &format!("{train} --out plain")).expect(0);
    let ran = run(folder.path(), &format!("study lesion plain,{model} {SPIRALS}")).expect(0);
    for part in [
        "dense-plain8-w32: one block deleted",
        "dense-plain8-w32: one layer replaced by the identity",
        "dense-resnet8-w32: one block deleted",
        "In the median over the 3 blocks that each network can lose",
    ] {
        assert!(ran.stdout.contains(part), "{part}: {}", ran.stdout);
    }
    // Those of the same architecture go by their files.
    let ran = run(folder.path(), &format!("study lesion plain,plain {SPIRALS}")).expect(0);
    assert!(ran.stdout.contains("plain: one block deleted"), "{}", ran.stdout);
}

#[test]
fn more_blocks_than_there_are_can_not_be_deleted() {
    let (model, folder) = (spirals().display(), tempfile::tempdir().unwrap());
    let ran = run(folder.path(), &format!("study lesion {model} {SPIRALS} --random 4")).expect(2);
    let expected = "dense-resnet8-w32: 4 blocks to delete at once, expected at most 3";
    assert!(ran.stderr.contains(expected), "{}", ran.stderr);
}
