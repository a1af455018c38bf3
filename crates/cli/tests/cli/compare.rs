//! Comparisons, and pages of them.

use crate::program::run;

const COMPARE: &str = "compare synthetic:spirals?train=240&dev=60&test=60 --depths 4,6 --width 8 \
                       --steps 12 --batch-size 40";

#[test]
fn a_comparison_goes_on_and_becomes_a_page() {
    let folder = tempfile::tempdir().unwrap();
    let json = run(folder.path(), &format!("{COMPARE} --out depth --json")).expect(0).json();
    assert_eq!(json["study"], "compare");
    let networks = json["networks"].as_array().unwrap();
    assert_eq!(networks.len(), 4);
    assert_eq!(json["num_missing"], 0);
    assert!(networks.iter().all(|network| network["runs"][0]["lr"] == 0.1));

    let again = run(folder.path(), &format!("{COMPARE} --out depth --seeds 2")).expect(0);
    assert_eq!(again.stderr.matches("is there already").count(), 4, "{}", again.stderr);
    assert!(again.stderr.contains("left for all"), "{}", again.stderr);
    assert!(again.stdout.contains("Network") && again.stdout.contains("±"), "{}", again.stdout);
    assert!(again.stdout.contains("plain: from 4 to 6 layers the training error"));

    let other = run(folder.path(), &format!("{COMPARE} --out depth --lr 0.01")).expect(2);
    assert!(other.stderr.contains("holds a run with other settings"), "{}", other.stderr);

    let other = COMPARE.replace("test=60", "test=60&seed=7");
    let other = run(folder.path(), &format!("{other} --out depth")).expect(2);
    assert!(other.stderr.contains("holds a run on other data"), "{}", other.stderr);

    run(folder.path(), "report depth depth/dense-plain4-w8-wd0.0001-s0 --out page.html").expect(0);
    let page = std::fs::read_to_string(folder.path().join("page.html")).unwrap();
    assert!(page.contains("Does depth hurt?") && page.contains("Training of dense-plain4-w8"));
    assert!(page.contains("residua compare") && !page.contains("<script"));
    assert!(folder.path().join("page-1-depth-train.svg").exists());
    assert!(!page.contains(" (depth)</h2>"));

    run(folder.path(), "report depth ./depth --out twice.html").expect(0);
    let page = std::fs::read_to_string(folder.path().join("twice.html")).unwrap();
    assert!(page.contains(" (depth)</h2>") && page.contains(" (./depth)</h2>"), "told apart");
}

#[test]
fn weight_decays_are_compared_from_depth_2_on() {
    let folder = tempfile::tempdir().unwrap();
    let compare = COMPARE.replace("4,6", "2,4") + " --weight-decay 0,0.5 --out decay";
    let json = run(folder.path(), &format!("{compare} --json")).expect(0).json();
    let networks = json["networks"].as_array().unwrap();
    let of = |name: &str| networks.iter().find(|network| network["name"] == name).unwrap();
    let errors = |name: &str| of(name)["runs"][0]["errors"]["train"]["top1_error"].as_f64();
    // Without a block there is nothing to go around.
    let [plain, residual] = ["dense-plain2-w8, decay 0", "dense-resnet2-w8, decay 0"];
    assert_eq!(errors(plain), errors(residual));
    assert!(of(residual)["branch_ratios"].is_null(), "{}", of(residual));
    let ratios = of("dense-resnet4-w8, decay 0.5")["branch_ratios"].as_array().unwrap();
    assert_eq!(ratios.len(), 7);
    assert!(folder.path().join("decay/branch-ratios.svg").exists());
    let ran = run(folder.path(), &compare).expect(0);
    assert!(ran.stdout.contains("‖F(x)‖/‖x‖"), "{}", ran.stdout);
}

#[test]
fn a_network_whose_outputs_are_not_finite_does_not_end_the_comparison() {
    let folder = tempfile::tempdir().unwrap();
    let compare = COMPARE.replace("--depths 4,6", "--depths 4 --norm off") + " --eval-every 1";
    let ran = run(folder.path(), &format!("{compare} --lr 1e25 --out stuck")).expect(0);
    assert!(ran.stdout.contains("diverged"), "{}", ran.stdout);
}

#[test]
fn what_is_no_study_makes_no_page() {
    let folder = tempfile::tempdir().unwrap();
    let ran = run(folder.path(), "report missing").expect(2);
    assert!(ran.stderr.contains("missing: neither a study nor a finished run"), "{}", ran.stderr);
    assert!(!folder.path().join("report.html").exists());
    let ran = run(folder.path(), "compare synthetic:spirals --depths 5").expect(2);
    assert!(ran.stderr.contains("error:"), "{}", ran.stderr);
}

#[test]
fn what_can_not_be_trained_is_refused_first() {
    let folder = tempfile::tempdir().unwrap();
    let compare = format!("{COMPARE} --weight-decay 1e-4,-1 --out wrong");
    let ran = run(folder.path(), &compare).expect(2);
    assert!(ran.stderr.contains("weight_decay is -1, expected 0 or more"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("run 1"), "{}", ran.stderr);
}

#[test]
fn moments_whose_outputs_are_no_numbers_are_left_out() {
    let folder = tempfile::tempdir().unwrap();
    // In evaluation its first running statistics let so many blocks run away.
    let compare = "compare synthetic:spirals?train=64&dev=20&test=20 --depths 302 --families residual \
                   --width 4 --steps 3 --batch-size 16 --weight-decay 0,1e-4 --out deep --json";
    let json = run(folder.path(), compare).expect(0).json();
    for network in json["networks"].as_array().unwrap() {
        assert!(network["branch_ratios"].as_array().map_or(0, Vec::len) < 4, "{network}");
        assert!(network["runs"][0]["errors"].is_object(), "{network}");
    }
}

#[test]
fn a_network_grows_while_it_is_trained() {
    let folder = tempfile::tempdir().unwrap();
    let grow = COMPARE.replace("4,6", "6,4,10") + " --grow --out grown";
    let grow = grow + " --schedule constant --warmup-steps 2";
    let ran = run(folder.path(), &format!("{grow} --json")).expect(0);
    for told in ["run 1 of 4: grown-", "run 4 of 4: scratch-", " left for all"] {
        assert!(ran.stderr.contains(told), "{told}: {}", ran.stderr);
    }
    let json = ran.json();
    assert_eq!(json["study"], "grown");
    let stages = json["stages"].as_array().unwrap();
    let names: Vec<_> = stages.iter().map(|stage| stage["architecture"].clone()).collect();
    assert_eq!(names, ["dense-resnet4-w8", "dense-resnet6-w8", "dense-resnet10-w8"]);
    // A third of the computation each, and all of it from scratch.
    let macs = |stage: &serde_json::Value| stage["tera_macs"].as_f64().unwrap();
    let whole = macs(&json["scratch"]);
    assert_eq!(json["scratch"]["steps"], 12);
    for stage in stages {
        let one_step = macs(stage) / stage["steps"].as_f64().unwrap();
        assert!((macs(stage) - whole / 3.0).abs() <= one_step / 2.0 + 1e-12, "{stage}");
    }
    // What grows is warm.
    for (name, steps) in
        [("grown-dense-resnet4", 2), ("grown-dense-resnet6", 0), ("scratch-dense-resnet10", 2)]
    {
        let config = folder.path().join(format!("grown/{name}-w8-s0/config.toml"));
        let config = std::fs::read_to_string(config).unwrap();
        assert!(config.contains(&format!("warmup_steps = {steps}\n")), "{name}: {config}");
    }
    let again = run(folder.path(), &grow).expect(0);
    assert_eq!(again.stderr.matches("is there already").count(), 4, "{}", again.stderr);
    assert!(again.stdout.contains("from scratch"), "{}", again.stdout);
    run(folder.path(), "report grown").expect(0);
    let ran = run(folder.path(), &grow.replace("6,4,10", "4")).expect(2);
    assert!(ran.stderr.contains("two or more depths"), "{}", ran.stderr);
    let wrong = grow.replace("constant", "one-cycle").replace("out grown", "out wrong");
    let ran = run(folder.path(), &wrong).expect(2);
    assert!(ran.stderr.contains("warmup_steps is 2"), "{}", ran.stderr);
    assert_eq!(std::fs::read_dir(folder.path().join("wrong")).unwrap().count(), 0, "trained");
}
