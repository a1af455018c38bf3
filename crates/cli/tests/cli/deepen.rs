//! Blocks in a trained network.

use crate::models::{SPIRALS, spirals};
use crate::program::run;

#[test]
fn models_of_runs_and_other_files_are_not_replaced() {
    let (model, folder) = (spirals(), tempfile::tempdir().unwrap());
    let run_folder = folder.path().join("run");
    std::fs::create_dir(&run_folder).unwrap();
    for file in ["model.safetensors", "config.toml"] {
        std::fs::copy(model.join(file), run_folder.join(file)).unwrap();
    }
    std::fs::write(folder.path().join("data.csv"), "x,label\n").unwrap();
    let model = model.display();
    for (out, expected) in
        [("run/model.safetensors", "is the model of a run"), ("data.csv", "is there and no model")]
    {
        for change in ["deepen --stage 1", "convert --strip-shortcuts"] {
            let ran = run(folder.path(), &format!("{change} {model} --out {out}")).expect(2);
            assert!(ran.stderr.contains(expected), "{}", ran.stderr);
        }
    }
    let ran = run(folder.path(), &format!("report {model} --out data.csv")).expect(2);
    assert!(ran.stderr.contains("data.csv: is there and no page"), "{}", ran.stderr);
    for _ in 0..2 {
        run(folder.path(), &format!("deepen --stage 1 {model} --out deeper")).expect(0);
        run(folder.path(), &format!("report {model} --out page.html")).expect(0);
    }
}

#[test]
fn a_deeper_network_gives_the_same_answers() {
    let (model, folder) = (spirals().display(), tempfile::tempdir().unwrap());
    for at in ["middle", "end"] {
        let deepen = format!("deepen {model} --stage 1 --blocks 3 --at {at} --out deeper");
        let ran = run(folder.path(), &format!("{deepen} --verify {SPIRALS} --json")).expect(0);
        let json = ran.json();
        assert_eq!(json["before"], "dense-resnet8-w32");
        assert_eq!(json["after"], "dense-resnet14-w32");
        let verified = json["verified"].as_array().unwrap();
        assert_eq!(verified.len(), 2, "f32 and bf16");
        for one in verified {
            assert_eq!(one["num_samples"], 300);
            assert_eq!((&one["num_different"], &one["max_abs"]), (&0.into(), &0.0.into()));
            assert_eq!(one["top1_error_before"], one["top1_error_after"]);
        }
        let text = run(folder.path(), &format!("{deepen} --verify {SPIRALS}")).expect(0).stdout;
        assert!(text.contains("f32: max |Δlogit| = 0 over 300 test samples"), "{text}");
        run(folder.path(), &format!("eval deeper {SPIRALS}")).expect(0);
    }
    let deepen = format!("deepen {model} --stage 1 --out deeper --verify {SPIRALS} --record kept");
    run(folder.path(), &deepen).expect(0);
    run(folder.path(), "report kept --out page.html").expect(0);
    let page = std::fs::read_to_string(folder.path().join("page.html")).unwrap();
    for part in
        ["dense-resnet8-w32, deepened to dense-resnet10-w32", "same bit for bit, in f32 and bf16"]
    {
        assert!(page.contains(part), "{part}");
    }
    assert!(folder.path().join("kept/changed.svg").exists());
}

#[test]
fn a_plain_network_is_refused_or_changed() {
    let folder = tempfile::tempdir().unwrap();
    let train = format!("train {SPIRALS} --model dense-plain --depth 4 --width 8 --steps 5");
    run(folder.path(), &format!("{train} --out plain")).expect(0);
    let deepen = "deepen plain --stage 1 --out deeper";
    let ran = run(folder.path(), deepen).expect(2);
    assert!(ran.stderr.contains("no block can be inserted without changing the outputs"));
    assert!(ran.stderr.contains("hint: `--plain random`"), "{}", ran.stderr);
    assert!(!folder.path().join("deeper").exists());
    let ran = run(folder.path(), &format!("{deepen} --plain random --verify {SPIRALS}")).expect(1);
    assert!(!ran.stdout.contains("|Δlogit| = 0 "), "{}", ran.stdout);
    run(folder.path(), &format!("eval deeper {SPIRALS}")).expect(0);
}
