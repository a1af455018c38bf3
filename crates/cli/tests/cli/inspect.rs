//! `residua inspect`.

use crate::models::spirals;
use crate::program::run;

#[test]
fn the_layers_of_a_small_network_are_listed() {
    let folder = tempfile::tempdir().unwrap();
    let ran = run(folder.path(), "inspect resnet8-w4 --input 1x8x8 --classes 3").expect(0);
    insta::assert_snapshot!(ran.stdout);
}

#[test]
fn totals_are_those_of_the_literature() {
    let folder = tempfile::tempdir().unwrap();
    for (name, parameters, macs) in
        [("resnet20", 269_722, 40_551_040), ("resnet50", 25_557_032, 4_089_184_256_u64)]
    {
        let json = run(folder.path(), &format!("inspect {name} --json")).expect(0).json();
        assert_eq!(json["parameters"], parameters, "{name}");
        assert_eq!(json["macs"], macs, "{name}");
        let rows = json["rows"].as_array().unwrap();
        let sum: u64 = rows.iter().map(|row| row["parameters"].as_u64().unwrap()).sum();
        assert_eq!(sum, parameters, "{name}");
        assert!(json["model"].is_null());
    }
}

#[test]
fn all_listed_names_can_be_inspected() {
    let folder = tempfile::tempdir().unwrap();
    let list = run(folder.path(), "inspect --list --json").expect(0).json();
    let names: Vec<_> = list.as_array().unwrap().iter().map(|n| n["name"].as_str()).collect();
    assert!(names.len() > 20);
    for name in names.into_iter().flatten().filter(|name| !name.contains('1')) {
        run(folder.path(), &format!("inspect {name}")).expect(0);
    }
}

#[test]
fn an_architecture_file_can_be_inspected() {
    let folder = tempfile::tempdir().unwrap();
    let toml = r#"
        name = "narrow"
        family = "residual"
        block = "basic"
        shortcut = "projection"
        classes = 10
        input = [1, 28, 28]
        stem = { kind = "conv3x3", width = 8 }
        stages = [{ blocks = 2, width = 8 }, { blocks = 2, width = 16, stride = 2 }]
    "#;
    std::fs::write(folder.path().join("narrow.toml"), toml).unwrap();
    let ran = run(folder.path(), "inspect narrow.toml").expect(0);
    assert!(ran.stdout.starts_with("narrow: residual network, 10 layers"), "{}", ran.stdout);
    run(folder.path(), "inspect narrow.toml --classes 3").expect(2);

    let config = spirals().join("config.toml").display().to_string();
    let of_run = run(folder.path(), &format!("inspect {config} --json")).expect(0).json();
    let of_model = run(folder.path(), &format!("inspect {} --json", spirals().display()));
    assert_eq!(of_run["name"], of_model.expect(0).json()["name"]);
    std::fs::write(folder.path().join("bad.toml"), "lr = 3\n[architecture]\n").unwrap();
    let ran = run(folder.path(), "inspect bad.toml").expect(2);
    assert!(ran.stderr.contains("bad.toml") && ran.stderr.contains("missing field"));
}

#[test]
fn a_trained_network_tells_where_it_comes_from() {
    let folder = tempfile::tempdir().unwrap();
    let model = spirals().display().to_string();
    let json = run(folder.path(), &format!("inspect {model} --json")).expect(0).json();
    let trained = &json["model"];
    assert_eq!(trained["class_names"], serde_json::json!(["arm0", "arm1", "arm2"]));
    assert_eq!(trained["provenance"]["seed"], 3);
    assert_eq!(trained["preprocessing"]["channels"], 2);
    let sha256 = trained["weights_sha256"].as_str().unwrap();
    assert_eq!(sha256.len(), 64);
    let text = run(folder.path(), &format!("inspect {model}/model.safetensors")).expect(0).stdout;
    for part in [sha256, "arm0, arm1, arm2", "synthetic:spirals", "seed 3", "vectors of 2"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

/// Its operations are those of three passes over the multiply-adds, less the input's gradient that the
/// first convolution doesn't make.
#[test]
fn the_steps_of_a_plan_are_told_with_their_cost() {
    let folder = tempfile::tempdir().unwrap();
    let plan = "inspect resnet8-w4 --input 3x8x8 --plan --batch-size 4 --precision f32 --json";
    let plan = run(folder.path(), plan).expect(0).json();
    let steps = plan["steps"].as_array().unwrap();
    let sum = |field: &str| steps.iter().map(|step| step[field].as_u64().unwrap()).sum::<u64>();
    let summary = run(folder.path(), "inspect resnet8-w4 --input 3x8x8 --json").expect(0).json();
    let first = 8 * 8 * 3 * 4 * 9;
    assert_eq!(sum("operations"), 2 * 4 * (3 * summary["macs"].as_u64().unwrap() - first));
    assert!(steps.iter().all(|step| step["bytes"].as_u64() > Some(0)));
    let shares: f64 = steps.iter().map(|step| step["time_share"].as_f64().unwrap()).sum();
    assert!((0.01..=1.1).contains(&(shares + plan["rest_share"].as_f64().unwrap())), "{shares}");
    let text = |step: &serde_json::Value| step["parts"].to_string();
    assert!(text(&steps[0]).contains("conv1\",\"moments for bn1"), "{}", text(&steps[0]));
    assert!(text(&steps[1]).contains("bn1 + ReLU\",\"layer1.0.conv1"));

    let plan = "inspect plain8-w4 --input 3x8x8 --plan=infer --batch-size 4 --precision f32";
    let text = run(folder.path(), plan).expect(0).stdout;
    let of_first_block = text.lines().find(|line| line.contains("bn1 + ReLU → layer1.0.conv1"));
    assert!(of_first_block.is_some_and(|line| line.contains(" direct ")), "{text}");
    assert!(!text.contains("backward") && text.contains("4, f32"), "{text}");
}
