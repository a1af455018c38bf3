//! `residua bench`, on networks so small that it takes no time.

use std::fs;
use std::path::Path;

use image::{Rgb, RgbImage};
use serde_json::Value;

use crate::program::run;

#[test]
fn training_and_inference_are_measured() {
    let folder = tempfile::tempdir().unwrap();
    for task in ["train", "infer"] {
        let flags =
            "--model resnet8-w4,plain8-w4 --batch-size 4 --steps 2 --threads 1 --precision f32";
        let ran = run(folder.path(), &format!("bench {task} {flags} --json")).expect(0);
        let lines: Vec<Value> =
            ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2, "{}", ran.stdout);
        for (line, model) in lines.iter().zip(["resnet8-w4", "plain8-w4"]) {
            assert_eq!(line["task"], task);
            assert_eq!(line["model"], model);
            assert_eq!((&line["batch"], &line["threads"]), (&4.into(), &1.into()));
            let ms = line["ms_p50"].as_f64().unwrap();
            let rate = line["images_per_s"].as_f64().unwrap();
            assert!((rate * ms / 4e3 - 1.0).abs() < 1e-9, "{rate} images/s at {ms} ms");
            let number = |field: &str| line[field].as_f64().unwrap();
            assert!(number("tflop_per_s") > 0.0);
            let limit = number("tflop_per_s") / number("limit_share");
            assert!((limit / number("limit_tflop_per_s") - 1.0).abs() < 1e-9, "{line}");
        }
        let table = run(folder.path(), &format!("bench {task} {flags}")).expect(0);
        for part in ["resnet8-w4", "of the limit", "\nf32, ", "the limit is "] {
            assert!(table.stdout.contains(part), "{part}: {}", table.stdout);
        }
    }
}

#[test]
fn a_batch_that_no_memory_holds_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for task in ["train", "infer"] {
        // More than a process can address.
        let bench = format!("bench {task} --model resnet18 --batch-size 4000000000 --steps 1");
        let ran = run(folder.path(), &bench).expect(2);
        assert!(ran.stderr.contains("4000000000 samples at once"), "{}", ran.stderr);
    }
}

#[test]
fn the_cost_of_growing_is_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let flags = "--model plain8-w4,resnet14-w4 --batch-size 2,5 --steps 1 --precision f32";
    let ran = run(folder.path(), &format!("bench train {flags} --plot cost.svg --json")).expect(0);
    let batches: Vec<Value> = ran
        .stdout
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["batch"].clone())
        .collect();
    assert_eq!(batches, [2, 5, 2, 5].map(Value::from));
    let svg = std::fs::read_to_string(folder.path().join("cost.svg")).unwrap();
    for text in ["plain8-w4", "resnet14-w4", "batch 2", "batch 5", "multiply-adds"] {
        assert!(svg.contains(text), "{text}");
    }
    let flags = "--model plain8-w4 --batch-size 1 --steps 1";
    run(folder.path(), &format!("bench infer {flags} --plot cost.png")).expect(0);
    let png = fs::read(folder.path().join("cost.png")).unwrap();
    assert!(png.starts_with(b"\x89PNG"), "not a PNG");
    // What was measured is told although it can't be drawn.
    let ran = run(folder.path(), &format!("bench infer {flags} --plot nowhere/cost.svg")).expect(2);
    assert!(ran.stderr.contains("nowhere/cost.svg"), "{}", ran.stderr);
    assert!(ran.stdout.contains("plain8-w4"), "{}", ran.stdout);
}

#[test]
fn the_input_of_training_is_measured_as_training_has_it() {
    let folder = tempfile::tempdir().unwrap();
    write_photographs(&folder.path().join("photographs"));
    for (data, flags, input, augment, batch) in [
        ("synthetic:shapes?train=80&dev=10&test=10", "", "3x32x32", "pad-crop-flip", 20),
        ("photographs", "--image-size 24", "3x24x24", "random-resized-crop-flip", 5),
        ("photographs", "--augment none --batch-size 3", "3x224x224", "none", 3),
        ("synthetic:spirals?train=60&dev=10&test=10", "--threads 1", "2x1x1", "none", 15),
    ] {
        let command = format!("bench data {data} {flags} --steps 7");
        let json = run(folder.path(), &format!("{command} --json")).expect(0);
        assert_eq!(json.stdout.lines().count(), 1, "{}", json.stdout);
        let json = json.json();
        let told = ["task", "data", "input", "augment"].map(|field| &json[field]);
        assert_eq!(told, ["data", data, input, augment]);
        assert_eq!((&json["batch"], &json["steps"]), (&batch.into(), &7.into()));
        let number = |field: &str| json[field].as_f64().unwrap();
        assert!(number("ms_p10") <= number("ms_p50") && number("ms_p50") <= number("ms_p90"));
        let rate = f64::from(batch) / number("ms_p50") * 1e3;
        assert!((number("images_per_s") / rate - 1.0).abs() < 1e-9, "{json}");
        let cores = number("images_per_s") / number("images_per_s_per_core");
        assert!(cores >= 1.0 && cores <= number("threads"), "{json}");
        assert!(json.get("peak_bytes").is_some(), "{json}");

        let table = run(folder.path(), &command).expect(0).stdout;
        let things = if input == "2x1x1" { "samples" } else { "images" };
        for part in
            [data, &format!("{things}/s a core"), &format!("{input}, {augment}, batch {batch}")]
        {
            assert!(table.contains(part), "{part}: {table}");
        }
    }
}

/// Two classes of JPEGs of several sizes, too large to be kept in memory.
fn write_photographs(root: &Path) {
    for class in ["a", "b"] {
        fs::create_dir_all(root.join(class)).unwrap();
        for i in 0..12 {
            let colour = |x, y| Rgb([x as u8, y as u8, 7 * i as u8]);
            let picture = RgbImage::from_fn(90 + 5 * i, 120 - 3 * i, colour);
            picture.save(root.join(class).join(format!("{i}.jpg"))).unwrap();
        }
    }
}

#[test]
fn every_kernel_is_measured_and_one_of_each_format_chosen() {
    let folder = tempfile::tempdir().unwrap();
    let shapes = folder.path().join("shapes.txt");
    fs::write(&shapes, "n1ic3ih5oc4kh3ph1\n\n").unwrap();
    let ran = run(folder.path(), "bench kernels n1ic2ih4oc2kh1 --shapes shapes.txt --json");
    let lines: Vec<Value> =
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
    fs::write(&shapes, "n1ic2ih4oc2kh9\n").unwrap();
    let ran = run(folder.path(), "bench kernels --shapes shapes.txt").expect(2);
    assert!(ran.stderr.contains("shapes.txt") && ran.stderr.contains("kh is 9"), "{}", ran.stderr);
}

#[test]
fn an_unknown_network_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let ran = run(folder.path(), "bench train --model resnet21").expect(2);
    assert!(ran.stderr.contains("resnet21"), "{}", ran.stderr);
}
