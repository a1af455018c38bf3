//! `residua bench`, on networks so small that it takes no time.

use crate::program::run;

#[test]
fn training_and_inference_are_measured() {
    let folder = tempfile::tempdir().unwrap();
    for task in ["train", "infer"] {
        let flags =
            "--model resnet8-w4,plain8-w4 --batch-size 4 --steps 2 --threads 1 --precision f32";
        let ran = run(folder.path(), &format!("bench {task} {flags} --json")).expect(0);
        let lines: Vec<serde_json::Value> =
            ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2, "{}", ran.stdout);
        for (line, model) in lines.iter().zip(["resnet8-w4", "plain8-w4"]) {
            assert_eq!(line["task"], task);
            assert_eq!(line["model"], model);
            assert_eq!((&line["batch"], &line["threads"]), (&4.into(), &1.into()));
            let ms = line["ms_p50"].as_f64().unwrap();
            let rate = line["images_per_s"].as_f64().unwrap();
            assert!((rate * ms / 4e3 - 1.0).abs() < 1e-9, "{rate} images/s at {ms} ms");
            assert!(line["tflop_per_s"].as_f64().unwrap() > 0.0);
        }
        let table = run(folder.path(), &format!("bench {task} {flags}")).expect(0);
        assert!(table.stdout.contains("resnet8-w4") && table.stdout.contains("batch 4, f32"));
    }
}

#[test]
fn every_kernel_is_measured_and_one_of_each_format_chosen() {
    let folder = tempfile::tempdir().unwrap();
    let shapes = folder.path().join("shapes.txt");
    std::fs::write(&shapes, "n1ic3ih5oc4kh3ph1\n\n").unwrap();
    let ran = run(folder.path(), "bench kernels n1ic2ih4oc2kh1 --shapes shapes.txt --json");
    let lines: Vec<serde_json::Value> =
        ran.expect(0).stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for descriptor in ["n1ic2ih4oc2kh1sh1ph0", "n1ic3ih5oc4kh3sh1ph1"] {
        for precision in ["f32", "bf16"] {
            let of_it = |line: &&serde_json::Value| {
                line["descriptor"] == descriptor && line["precision"] == precision
            };
            let chosen = lines.iter().filter(of_it).filter(|line| line["chosen"] == true);
            assert_eq!(chosen.count(), 1, "{descriptor} {precision}");
        }
    }
    for line in &lines {
        for pass in ["forward", "backward_data", "backward_weight", "peak"] {
            assert!(line[pass].as_f64().unwrap() > 0.0, "{line}");
        }
    }
    std::fs::write(&shapes, "n1ic2ih4oc2kh9\n").unwrap();
    let ran = run(folder.path(), "bench kernels --shapes shapes.txt").expect(2);
    assert!(ran.stderr.contains("shapes.txt") && ran.stderr.contains("kh is 9"), "{}", ran.stderr);
}

#[test]
fn an_unknown_network_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let ran = run(folder.path(), "bench train --model resnet21").expect(2);
    assert!(ran.stderr.contains("resnet21"), "{}", ran.stderr);
}
