//! Comparisons: what is trained, what is kept, what is said about it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use residua_data::{Dataset, OpenOptions};
use residua_graph::Shape;
use residua_resnet::{Block, Family, Shortcut};
use residua_study::compare::{Compare, Comparison, CurvePoint, Ended, Errors, Network, Variants};
use residua_study::{Record, RunState, Study, section_of_folder};
use residua_train::{Length, Recipe, RunOptions, SplitSummary};

const DATA: &str = "synthetic:spirals?train=240&dev=60&test=60";

fn variants() -> Variants {
    Variants {
        input: Shape::vector(2),
        classes: 3,
        dense: true,
        width: Some(8),
        families: vec![Family::Plain, Family::Residual],
        depths: vec![4, 6],
        shortcuts: vec![],
        norms: vec![true],
        weight_decays: vec![1e-4],
    }
}

fn dataset() -> Arc<Dataset> {
    Arc::new(residua_data::open(DATA, &OpenOptions::default()).unwrap())
}

fn comparison(folder: &Path, num_seeds: u64) -> Comparison {
    let (dataset, networks) = (dataset(), variants().networks().unwrap());
    let architecture = networks[0].architecture.clone();
    let recipe = Recipe::new(DATA, OpenOptions::default(), &dataset, architecture);
    Comparison {
        recipe: Recipe { length: Length::Steps(12), batch_size: 40, ..recipe },
        networks,
        seeds: (0..num_seeds).collect(),
        folder: folder.to_owned(),
    }
}

/// Trains all that is missing.
fn carry_out(comparison: &Comparison) -> Compare {
    let keep_every = comparison.keep_every(&dataset());
    let options = RunOptions { keep_every, ..RunOptions::default() };
    for run in comparison.runs() {
        if !run.state(&dataset()).unwrap().is_over() {
            let stop = AtomicBool::new(false);
            assert!(run.carry_out(&dataset(), options, &mut (), &stop).unwrap());
        }
    }
    comparison.result(&dataset(), &|_| ()).unwrap()
}

#[test]
fn every_family_has_every_depth() {
    let names = |variants: &Variants| -> Vec<String> {
        let networks = variants.networks().unwrap();
        networks.iter().map(|network| network.architecture.name().to_owned()).collect()
    };
    let dense = variants();
    assert_eq!(
        names(&dense),
        ["dense-plain4-w8", "dense-resnet4-w8", "dense-plain6-w8", "dense-resnet6-w8"]
    );
    let images = Variants {
        input: Shape::image(3, 32, 32),
        dense: false,
        width: None,
        families: vec![Family::Plain, Family::Residual, Family::Preact],
        depths: vec![20],
        shortcuts: vec![Shortcut::ZeroPad, Shortcut::Projection],
        ..dense.clone()
    };
    assert_eq!(
        names(&images),
        [
            "plain20",
            "resnet20",
            "resnet20-projection",
            "preact-resnet20",
            "preact-resnet20-projection"
        ]
    );
    let preact = Variants { families: vec![Family::Preact], ..dense.clone() };
    let error = preact.networks().unwrap_err().to_string();
    assert_eq!(error, "families: preact for vectors, expected plain or residual");
    assert!(Variants { depths: vec![5], ..dense }.networks().is_err());
}

#[test]
fn finished_runs_are_used_again() {
    let folder = tempfile::tempdir().unwrap();
    let first = carry_out(&comparison(folder.path(), 1));
    assert_eq!((first.num_missing, first.networks.len(), first.steps), (0, 4, 12));
    let summary = comparison(folder.path(), 1).runs()[0].folder.join("summary.json");
    let written = std::fs::metadata(&summary).unwrap().modified().unwrap();

    let before = comparison(folder.path(), 2).result(&dataset(), &|_| ()).unwrap();
    assert_eq!(before.num_missing, 4);
    let second = carry_out(&comparison(folder.path(), 2));
    assert_eq!(std::fs::metadata(&summary).unwrap().modified().unwrap(), written);
    assert!(second.networks.iter().all(|network| network.runs.len() == 2));
    assert_eq!(second.networks[0].runs[0], first.networks[0].runs[0]);
    let mean = |i: usize| second.networks[i].curve.last().unwrap().train_error;
    assert!(mean(0).is_finite() && second.networks[1].curve.last().unwrap().branch_norms.is_some());

    // Other settings are not mixed with these.
    let mut other = comparison(folder.path(), 1);
    other.recipe.lr *= 2.0;
    let error = other.runs()[0].state(&dataset()).unwrap_err().to_string();
    assert!(error.contains("holds a run with other settings (lr)"), "{error}");

    // Nor are runs on other data, wherever that may be.
    let data = residua_data::open(&format!("{DATA}&seed=1"), &OpenOptions::default()).unwrap();
    let error = comparison(folder.path(), 1).runs()[0].state(&data).unwrap_err().to_string();
    assert!(error.contains("holds a run on other data"), "{error}");

    let run = &comparison(folder.path(), 1).runs()[0].folder;
    let repeated = section_of_folder(run).unwrap().commands;
    let run = run.display();
    let expected = format!("residua train '{DATA}' --config {run}/config.toml --out {run}-again");
    assert_eq!(repeated, [expected]);
}

#[test]
fn a_run_that_diverges_is_over_and_said_to_be() {
    let folder = tempfile::tempdir().unwrap();
    let mut comparison = comparison(folder.path(), 1);
    comparison.networks.truncate(1);
    comparison.recipe.lr = 1e30;
    let result = carry_out(&comparison);
    assert!(matches!(comparison.runs()[0].state(&dataset()).unwrap(), RunState::Diverged(_)));
    assert_eq!(result.networks[0].runs[0].errors, None);
    let section = Study::Compare(result).section();
    assert!(section.findings.iter().any(|finding| finding.contains("diverged")), "{section:?}");
}

fn network(family: Family, depth: usize, train_errors: &[f64]) -> Network {
    let split = |top1_error| SplitSummary { num_samples: 100, top1_error, mean_loss: 1.0 };
    let run = |(seed, &error): (usize, &f64)| Ended {
        seed: seed as u64,
        lr: 0.1,
        errors: Some(Errors {
            train: split(error),
            dev: Some(split(error + 1.0)),
            test: Some(split(error + 2.0)),
        }),
        steps: 10,
        seconds: 1.0,
    };
    Network {
        name: format!("{family:?}{depth}"),
        family,
        shortcut: if family == Family::Plain { Shortcut::None } else { Shortcut::ZeroPad },
        norm: true,
        block: Some(Block::Basic),
        depth,
        num_parameters: 7,
        macs: 9,
        weight_decay: 1e-4,
        runs: train_errors.iter().enumerate().map(run).collect(),
        curve: vec![CurvePoint {
            step: 10,
            train_error: train_errors[0],
            dev_error: None,
            branch_norms: None,
        }],
        branch_ratios: Vec::new(),
    }
}

fn compare(networks: Vec<Network>) -> Compare {
    Compare {
        dataset: "set".to_owned(),
        dataset_fingerprint: "0".to_owned(),
        recipe: String::new(),
        lr: 0.1,
        batch_size: 10,
        steps: 10,
        epochs: 1.0,
        precision: "f32".to_owned(),
        num_missing: 0,
        networks,
    }
}

#[test]
fn it_says_what_depth_does_and_whether_the_signs_differ() {
    let plain = |errors: [&[f64]; 2]| {
        [network(Family::Plain, 20, errors[0]), network(Family::Plain, 56, errors[1])]
    };
    let residual = |errors: [&[f64]; 2]| {
        [network(Family::Residual, 56, errors[1]), network(Family::Residual, 20, errors[0])]
    };
    let findings = |networks: Vec<Network>| compare(networks).section().findings;
    let found = findings(
        [plain([&[5.0, 5.2], &[9.0, 9.2]]), residual([&[4.0, 4.2], &[3.9, 4.1]])].concat(),
    );
    assert_eq!(
        found[..2],
        [
            "plain: from 20 to 56 layers the training error rose by 4.00 points, more than twice the \
             standard error over seeds (lr 0.1).",
            "residual: from 20 to 56 layers the training error fell by 0.10 points, less than twice the \
             standard error over seeds (lr 0.1).",
        ]
    );
    assert!(found[2].starts_with("The signs differ: from 20 to 56 layers"), "{found:?}");
    assert_eq!(
        found[3],
        "At 56 layers, beside plain, the training error of residual is lower by 5.10 points, more than twice \
         the standard error over seeds."
    );
    let found = findings([plain([&[5.0], &[9.0]]), residual([&[4.0], &[4.5]])].concat());
    assert_eq!(
        found[0],
        "plain: from 20 to 56 layers the training error rose by 4.00 points (lr 0.1)."
    );
    assert!(found[2].starts_with("The signs are the same"), "{found:?}");
    let found = findings([plain([&[5.0], &[9.0]]), residual([&[4.0], &[4.0]])].concat());
    assert!(found[1].contains("stayed the same (lr 0.1)"), "{found:?}");
    assert!(found[2].starts_with("One of them has no sign"), "{found:?}");

    // What is shown as 0.00 points is none, as means in another order are.
    let found = findings([plain([&[5.0], &[5.004]]), residual([&[4.0], &[3.996]])].concat());
    assert!(found[0].contains("stayed the same (lr 0.1)"), "{found:?}");
    assert!(found[2].starts_with("Neither has a sign"), "{found:?}");

    // Another kind of block is another series.
    let bottleneck =
        Network { block: Some(Block::Bottleneck), ..network(Family::Plain, 29, &[3.0]) };
    let found = findings([plain([&[5.0], &[9.0]]).to_vec(), vec![bottleneck]].concat());
    assert!(found[0].starts_with("plain: from 20 to 56 layers"), "{found:?}");
    assert!(found.iter().all(|finding| !finding.contains("29")), "{found:?}");

    // Each step of depth, then all of them.
    let course = |family, errors: [f64; 3]| {
        let of_depth = |(depth, error): (usize, f64)| network(family, depth, &[error]);
        [20, 32, 56].into_iter().zip(errors).map(of_depth).collect::<Vec<_>>()
    };
    let three = [course(Family::Plain, [5.0, 4.0, 9.0]), course(Family::Residual, [4.0, 3.5, 3.0])]
        .concat();
    let found = findings(three);
    for (finding, start) in found[4..].iter().zip([
        "The signs are the same: from 20 to 32 layers",
        "The signs differ: from 32 to 56 layers",
        "The signs differ: from 20 to 56 layers",
    ]) {
        assert!(finding.starts_with(start), "{found:?}");
    }
}

#[test]
fn the_question_is_about_what_differs() {
    let residual = |depth, shortcut| Network {
        name: format!("{shortcut} {depth}"),
        shortcut,
        ..network(Family::Residual, depth, &[5.0])
    };
    let [zero_pad, projection] = [Shortcut::ZeroPad, Shortcut::Projection];
    for (networks, title, charts) in [
        (
            vec![residual(20, zero_pad), residual(56, zero_pad)],
            "Does depth hurt?",
            &["curves-residual", "depth-train", "depth-test"][..],
        ),
        (vec![residual(20, zero_pad), residual(20, projection)], "Which shortcut", &["curves"]),
        (vec![residual(20, zero_pad)], "Compared: networks of 20 layers on set", &["curves"]),
        // One depth each, and not the same.
        (
            vec![network(Family::Plain, 20, &[5.0]), residual(56, zero_pad)],
            "Does depth hurt?",
            &["curves-plain", "curves-residual", "depth-train", "depth-test"],
        ),
        (Vec::new(), "Compared", &[]),
    ] {
        let section = compare(networks).section();
        assert!(section.title.starts_with(title), "{}", section.title);
        let names: Vec<&str> = section.charts.iter().map(|chart| chart.name.as_str()).collect();
        assert_eq!(names, charts);
    }
}

#[test]
fn a_record_comes_back_from_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let networks = vec![network(Family::Plain, 20, &[5.0, 7.0])];
    let record = Record::new("residua compare <x>", Study::Compare(compare(networks)));
    record.save(folder.path()).unwrap();
    assert_eq!(Record::load(folder.path()).unwrap(), record);
    assert!(folder.path().join("curves.svg").exists());
    let section = section_of_folder(folder.path()).unwrap();
    assert_eq!(section.tables[0].rows[0][5], "6.00 ± 1.41 %");
    let page = residua_study::report("A & B", std::slice::from_ref(&section));
    assert!(page.contains("<h1>A &#38; B</h1>") && page.contains("residua compare &#60;x&#62;"));
    assert!(page.contains("6.00 ± 1.41 %") && page.contains("<svg") && !page.contains("<script"));
    assert!(!page.contains("<details"));
    let mut long = section;
    long.tables[0].rows = vec![long.tables[0].rows[0].clone(); 13];
    let page = residua_study::report("A & B", &[long]);
    assert_eq!(page.matches("(13 rows)</summary>").count(), 1);
    assert_eq!(page.matches("6.00 ± 1.41 %").count(), 13);

    std::fs::write(folder.path().join("study.json"), "{\"study\": \"other\"}").unwrap();
    let error = Record::load(folder.path()).unwrap_err().to_string();
    assert!(error.contains("study.json: not the record of a study"), "{error}");
    let empty = tempfile::tempdir().unwrap();
    let error = section_of_folder(empty.path()).unwrap_err().to_string();
    assert!(error.contains("neither a study nor a finished run"), "{error}");
}

#[test]
fn decay_is_told_from_the_norms_of_the_last_weights_and_the_size_of_branches() {
    let folder = tempfile::tempdir().unwrap();
    let mut comparison = comparison(folder.path(), 1);
    let variants = Variants { depths: vec![4], weight_decays: vec![0.0, 0.5], ..variants() };
    comparison.networks = variants.networks().unwrap();
    let result = carry_out(&comparison);
    let norm = |i: usize| result.networks[i].curve.last().unwrap().branch_norms.unwrap().weight;
    // Plain without decay, with it; residual the same.
    assert!(norm(1) < 0.95 * norm(0) && norm(3) < 0.95 * norm(2), "{} {}", norm(1), norm(0));
    let ratios = |i: usize| &result.networks[i].branch_ratios;
    let steps: Vec<u64> = ratios(2).iter().map(|point| point.step).collect();
    assert_eq!(steps, [0, 2, 4, 6, 8, 10, 12], "twelve steps, at most eight models on the way");
    // The same initial weights; then decay without batch norm's scale leaves the branch smaller.
    assert_eq!(ratios(2)[0], ratios(3)[0]);
    let last = |i: usize| ratios(i).last().unwrap().ratio;
    assert!(last(3) < 0.95 * last(2), "{} {}", last(3), last(2));
    let section = result.section();
    let charts: Vec<&str> = section.charts.iter().map(|chart| chart.name.as_str()).collect();
    assert_eq!(charts, ["curves", "weight-norms", "bias-norms", "branch-ratios"]);
    assert!(section.title.starts_with("What weight decay does"), "{}", section.title);
    assert!(section.setting.contains(&("weight decay".to_owned(), "0, 0.5".to_owned())));
    let beside = |finding: &&String| finding.contains(", beside plain, decay");
    let besides: Vec<&String> = section.findings.iter().filter(beside).collect();
    let [without, with] = besides[..] else { panic!("residual beside plain, for each decay") };
    assert!(without.contains("plain, decay 0,") && without.contains("residual, decay 0 "));
    assert!(with.contains("plain, decay 0.5,") && with.contains("residual, decay 0.5 "));
    let finding = section.findings.iter().find(|finding| finding.contains("in place of 0"));
    let finding = finding.expect("one for each family");
    assert!(finding.contains(&format!("is {:.2} at the end, not {:.2}", norm(1), norm(0))));
}
