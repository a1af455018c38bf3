//! Deleted blocks.

use std::sync::Mutex;

use residua_data::{Progress, Split};
use residua_engine::Precision;
use residua_format::Model;
use residua_resnet::{pass_through, remove_blocks, silence_block, swap_blocks, swap_layers};
use residua_study::{
    Deleted, Left, Lesion, LesionOptions, Record, Study, StudyError, Subject, difference, lesion,
};
use residua_train::{EvalOptions, evaluate};

use crate::models::{changed, shapes, untrained};

fn options() -> LesionOptions {
    LesionOptions {
        split: Split::Test,
        eval: EvalOptions::new(20),
        random: Vec::new(),
        draws: 3,
        swaps: false,
        seed: 4,
    }
}

fn study(names: &[&str], options: &LesionOptions) -> Result<Lesion, StudyError> {
    let dataset = shapes();
    let models: Vec<Model> = names.iter().map(|name| untrained(name)).collect();
    let subjects = names.iter().zip(&models).map(|(name, model)| Subject { name, model });
    lesion(&subjects.collect::<Vec<_>>(), &dataset, options, &|_| {})
}

#[test]
fn a_silenced_block_is_a_removed_one_where_the_shortcut_is_the_identity() {
    let dataset = shapes();
    for name in [
        "resnet14-w4",
        "resnet14-w4-projection",
        "resnet14-w4-no-norm",
        "preact-resnet14-w4",
        "resnet20-w4-bottleneck",
    ] {
        let model = untrained(name);
        let spans = model.architecture.blocks();
        let identities = spans.iter().filter(|span| span.has_identity_shortcut());
        let mut num_blocks = 0;
        for span in identities {
            let (architecture, weights) = (&model.architecture, &model.weights);
            let silenced = silence_block(architecture, weights, span.block()).unwrap();
            let silenced = Model { weights: silenced, ..model.clone() };
            let removed = remove_blocks(architecture, weights, &[span.block()]).unwrap();
            let removed = changed(&model, removed);
            for precision in [Precision::F32, Precision::Bf16] {
                let options = EvalOptions { precision, ..EvalOptions::new(8) };
                let found =
                    |a, b| difference(a, b, &dataset, Split::Test, &options, &|_| ()).unwrap();
                assert!(found(&silenced, &removed).is_none(), "{name}, {}", span.name);
                assert!(!found(&silenced, &model).is_none(), "{name}, {}", span.name);
            }
            num_blocks += 1;
        }
        assert!(num_blocks >= 3, "{name}: {num_blocks}");
    }
}

#[test]
fn every_block_of_a_residual_network_is_deleted_in_turn() {
    let name = "resnet14-w4-projection";
    let found = study(&[name], &LesionOptions { swaps: true, ..options() }).unwrap();
    let network = &found.networks[0];
    let left: Vec<_> = network.blocks.iter().map(|block| (&*block.name, block.left)).collect();
    assert_eq!(
        left,
        [
            ("layer1.0", Left::Input),
            ("layer1.1", Left::Input),
            ("layer2.0", Left::Projection),
            ("layer2.1", Left::Input),
            ("layer3.0", Left::Projection),
            ("layer3.1", Left::Input),
        ]
    );
    assert!(network.layers.is_empty() && network.left_out.is_empty());
    let dataset = shapes();
    let model = untrained(name);
    let score = |weights| {
        let model = Model { weights, ..model.clone() };
        let evaluation = evaluate(&model, &dataset, Split::Test, &EvalOptions::new(20)).unwrap();
        (evaluation.top1_error, evaluation.mean_loss)
    };
    let (architecture, weights) = (&model.architecture, &model.weights);
    assert_eq!((network.intact.top1_error, network.intact.mean_loss), score(weights.clone()));
    for Deleted { name, score: found, .. } in &network.blocks {
        let silenced = silence_block(architecture, weights, name.parse().unwrap()).unwrap();
        assert_eq!((found.top1_error, found.mean_loss), score(silenced), "{name}");
    }
    let [swap] = &network.swaps[..] else { panic!("{:?}", network.swaps) };
    let [a, b] = swap.parts.each_ref().map(|block| block.parse().unwrap());
    let swapped = swap_blocks(architecture, weights, a, b).unwrap();
    assert_eq!((swap.score.top1_error, swap.score.mean_loss), score(swapped));
}

#[test]
fn of_a_plain_network_goes_what_does_not_change_shapes() {
    let found = study(&["plain14-w4", "resnet14-w4"], &options()).unwrap();
    let [plain, residual] = &found.networks[..] else { panic!("{found:?}") };
    let names =
        |parts: &[Deleted]| -> Vec<_> { parts.iter().map(|part| part.name.clone()).collect() };
    assert_eq!(names(&plain.blocks), ["layer1.0", "layer1.1", "layer2.1", "layer3.1"]);
    let left_out: Vec<_> = plain.left_out.iter().map(|part| part.name.as_str()).collect();
    assert_eq!(left_out, ["layer2.0", "layer3.0", "layer2.0.conv1", "layer3.0.conv1"]);
    assert_eq!(plain.layers.len(), 10);
    assert_eq!(residual.blocks.len(), 6);
    assert_eq!(residual.blocks[2].left, Left::ZeroPad);
    // Both layers of a block replaced by the identity: the block is gone.
    let dataset = shapes();
    let only_block = study(&["plain8-w4"], &options()).unwrap();
    assert!(only_block.networks[0].blocks.is_empty());
    let reasons = &only_block.networks[0].left_out;
    assert_eq!(reasons[0].reason, "it is the only one of its stage");
    let model = untrained("plain14-w4");
    let block = "layer2.1".parse().unwrap();
    let rest = remove_blocks(&model.architecture, &model.weights, &[block]).unwrap();
    let rest = changed(&model, rest);
    let evaluation = evaluate(&rest, &dataset, Split::Test, &EvalOptions::new(20)).unwrap();
    assert_eq!(plain.blocks[2].score.mean_loss, evaluation.mean_loss);
}

#[test]
fn random_sets_follow_the_seed_and_fit_the_network() {
    let with =
        |random: &[usize], seed| LesionOptions { random: random.to_vec(), seed, ..options() };
    let sets = |found: &Lesion, network: usize| -> Vec<Vec<String>> {
        found.networks[network].random.iter().map(|one| one.parts.clone()).collect()
    };
    let names = ["resnet14-w4", "plain14-w4"];
    let found = study(&names, &with(&[1, 3], 4)).unwrap();
    assert_eq!(found, study(&names, &with(&[1, 3], 4)).unwrap());
    assert_ne!(sets(&found, 0), sets(&study(&names, &with(&[1, 3], 5)).unwrap(), 0));
    for network in 0..2 {
        let sizes: Vec<usize> = sets(&found, network).iter().map(Vec::len).collect();
        assert_eq!(sizes, [1, 1, 1, 3, 3, 3]);
        for set in sets(&found, network) {
            let mut unique = set.clone();
            unique.dedup();
            assert_eq!(set, unique, "no block is deleted twice");
        }
    }
    // All six at once; of the plain one a block of each stage stays.
    study(&names[..1], &with(&[6], 4)).unwrap();
    let refused = |number| study(&names, &with(&[number], 4)).unwrap_err().to_string();
    assert_eq!(refused(7), "resnet14-w4: 7 blocks to delete at once, expected at most 6");
    assert_eq!(refused(4), "plain14-w4: 4 blocks to delete at once, expected at most 3");
}

#[test]
fn random_sets_and_swaps_of_a_plain_network_are_of_its_layers_too() {
    let options = LesionOptions { random: vec![2], swaps: true, ..options() };
    let found = study(&["plain14-w4", "resnet14-w4"], &options).unwrap();
    let [plain, residual] = &found.networks[..] else { panic!("{found:?}") };
    assert!(residual.random_layers.is_empty() && residual.layer_swaps.is_empty());
    let (dataset, model) = (shapes(), untrained("plain14-w4"));
    let (architecture, intact) = (&model.architecture, &model.weights);
    let score = |weights| {
        let model = Model { weights, ..model.clone() };
        evaluate(&model, &dataset, Split::Test, &EvalOptions::new(20)).unwrap().mean_loss
    };
    assert_eq!(plain.random_layers.len(), 3);
    for set in &plain.random_layers {
        let [a, b] = &set.parts[..] else { panic!("{set:?}") };
        let passed = pass_through(architecture, intact, a).unwrap();
        let passed = pass_through(architecture, &passed, b).unwrap();
        assert_eq!(set.score.mean_loss, score(passed), "{a} and {b}");
    }
    // Of the four layers of each stage, the first of the second and the third has another shape.
    assert_eq!(plain.layer_swaps.len(), 3 + 2 + 2);
    for swap in &plain.layer_swaps {
        let [a, b] = &swap.parts;
        let swapped = swap_layers(architecture, intact, a, b).unwrap();
        assert_eq!(swap.score.mean_loss, score(swapped), "{a} and {b}");
    }
}

#[test]
fn records_from_before_there_were_sets_of_layers_are_read() {
    let all = LesionOptions { random: vec![1], swaps: true, ..options() };
    let found = study(&["resnet14-w4"], &all).unwrap();
    let mut record = serde_json::to_value(&found).unwrap();
    let network = &mut record["networks"][0];
    for kind in ["random", "swaps"] {
        for one in network[kind].as_array_mut().unwrap() {
            let one = one.as_object_mut().unwrap();
            let parts = one.remove("parts").unwrap();
            one.insert("blocks".to_owned(), parts);
        }
    }
    let network = network.as_object_mut().unwrap();
    assert!(network.remove("random_layers").is_some() && network.remove("layer_swaps").is_some());
    assert_eq!(serde_json::from_value::<Lesion>(record).unwrap(), found);
}

#[test]
fn progress_counts_to_its_end() {
    let (dataset, seen) = (shapes(), Mutex::new(Vec::new()));
    let model = untrained("resnet8-w4");
    let subject = Subject { name: "it", model: &model };
    let on_progress = |progress: Progress| seen.lock().unwrap().push(progress);
    lesion(&[subject, subject], &dataset, &options(), &on_progress).unwrap();
    let seen = seen.into_inner().unwrap();
    let expected: Vec<_> = (1..=8).map(|done| Progress { done, total: 8 }).collect();
    assert_eq!(seen, expected);
}

#[test]
fn a_record_of_it_can_be_read_again_and_shown() {
    let all = LesionOptions { random: vec![1, 2], swaps: true, ..options() };
    let found = study(&["plain14-w4", "resnet14-w4"], &all).unwrap();
    let section = found.section();
    let charts: Vec<_> = section.charts.iter().map(|chart| chart.name.as_str()).collect();
    let expected = ["blocks", "layers", "random", "swaps", "random-layers", "swaps-layers"];
    assert_eq!(charts, expected);
    let blocks = &section.charts[0].lines;
    let names = ["layer1.0", "layer1.1", "layer2.0", "layer2.1", "layer3.0", "layer3.1"];
    assert_eq!(blocks.x_names, names);
    let places: Vec<f64> = blocks.lines[0].points.iter().map(|point| point.0).collect();
    assert_eq!(places, [1.0, 2.0, 4.0, 6.0], "the plain network's blocks under their names");
    assert_eq!(section.tables.len(), 2 + 1 + 1 + 2 + 1 + 1);
    assert!(
        section
            .findings
            .iter()
            .any(|finding| finding.starts_with("In the median over the 4 blocks"))
    );
    let record = Record::new("residua study lesion", Study::Lesion(found));
    let folder = tempfile::tempdir().unwrap();
    record.save(folder.path()).unwrap();
    assert_eq!(Record::load(folder.path()).unwrap(), record);
    assert!(folder.path().join("swaps.svg").exists());
}
