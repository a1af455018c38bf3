//! Deepened networks that are trained on.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use residua_data::OpenOptions;
use residua_format::Model;
use residua_graph::Shape;
use residua_resnet::{Architecture, Insertion, insert_blocks};
use residua_study::compare::Errors;
use residua_study::{Continuation, Continued, Kept, Trained};
use residua_train::{Length, Recipe, RunOptions, SplitSummary, Start, Trainer};

const DATA: &str = "synthetic:spirals?train=240&dev=60&test=60";

fn errors(train: f64, dev: f64) -> Errors {
    let split = |top1_error| SplitSummary { num_samples: 60, top1_error, mean_loss: 1.0 };
    Errors { train: split(train), dev: Some(split(dev)), test: None }
}

#[test]
fn the_original_of_a_deepened_network_is_trained_as_long() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = Arc::new(residua_data::open(DATA, &OpenOptions::default()).unwrap());
    let architecture = Architecture::named("dense-resnet6-w8", Shape::vector(2), 3).unwrap();
    let recipe = Recipe::new(DATA, OpenOptions::default(), &dataset, architecture);
    let recipe = Recipe { length: Length::Steps(10), batch_size: 40, ..recipe };
    let (run, stop) = (folder.path().join("run"), AtomicBool::new(false));
    let options = RunOptions::default();
    let trainer = Trainer::create(&run, false, recipe.clone(), Arc::clone(&dataset), options);
    trainer.unwrap().run(&mut (), &stop).unwrap();
    let model = Model::load(run.join("model.safetensors")).unwrap();
    let (_, start) = Start::of_run(&run).unwrap().unwrap();
    assert_eq!(start.weights, model.weights);
    assert!(start.velocity.iter().any(|&v| v != 0.0));

    let changed =
        insert_blocks(&model.architecture, &model.weights, &Insertion::new(1, 2)).unwrap();
    let mut deeper = model.clone();
    deeper.architecture = changed.architecture.clone();
    deeper.weights = changed.weights.clone();
    let velocity = changed.carry(&start.velocity);
    let refused = Continuation::new(&deeper, velocity.clone(), &recipe, folder.path()).unwrap_err();
    assert!(refused.to_string().contains("no blocks were put in"), "{refused}");

    deeper.provenance.inserted_blocks =
        changed.new_blocks().iter().map(ToString::to_string).collect();
    assert_eq!(deeper.provenance.inserted_blocks, ["layer1.2", "layer1.3"]);
    let continuation = Continuation::new(&deeper, velocity, &recipe, folder.path()).unwrap();
    assert_eq!(continuation.original_model().weights, model.weights);
    assert_eq!(continuation.original.start.as_ref().unwrap().velocity, start.velocity);
    assert_eq!(continuation.result(&deeper, &dataset, errors(1.0, 1.0)).unwrap(), None);
    for run in [&continuation.original, &continuation.deeper] {
        assert!(run.carry_out(&dataset, options, &mut (), &stop).unwrap());
    }
    let continued = continuation.result(&deeper, &dataset, errors(1.0, 1.0)).unwrap().unwrap();
    assert_eq!((continued.steps, continued.lr), (10, recipe.lr));
    assert_eq!(continued.original.architecture, "dense-resnet6-w8");
    let section = continued.section();
    let names: Vec<_> = section.charts[0].lines.lines.iter().map(|line| &*line.name).collect();
    assert!(names[0].starts_with("dense-resnet6-w8, not deepened,"), "{names:?}");
    assert_eq!(continued.deeper.curve.last().unwrap().step, 10);
    assert_eq!(continued.deeper.architecture, "dense-resnet10-w8");
    // New training: no block is one that was put in later.
    let trained = Model::load(continuation.deeper.folder.join("model.safetensors")).unwrap();
    assert!(trained.provenance.inserted_blocks.is_empty());
}

#[test]
fn what_has_the_lowest_dev_error_is_kept() {
    let trained = |architecture: &str, errors| Trained {
        architecture: architecture.to_owned(),
        num_parameters: 1,
        errors,
        curve: Vec::new(),
    };
    let continued = |before, original, deeper| Continued {
        dataset: "set".to_owned(),
        lr: 0.01,
        steps: 10,
        new_blocks: vec!["layer1.2".to_owned()],
        before: trained("a", errors(1.0, before)),
        original: trained("a", errors(2.0, original)),
        deeper: trained("b", errors(1.5, deeper)),
    };
    for (dev, kept) in [
        ([5.0, 4.0, 3.0], Kept::Deeper),
        ([5.0, 3.0, 4.0], Kept::Original),
        ([3.0, 4.0, 4.0], Kept::Before),
        ([4.0, 3.0, 3.0], Kept::Original),
    ] {
        assert_eq!(continued(dev[0], dev[1], dev[2]).kept(), kept, "{dev:?}");
    }
    let findings = continued(5.0, 3.0, 4.0).section().findings;
    assert!(findings[0].contains("training set the deeper network helped: 0.50 points"));
    assert!(findings[1].contains("dev set the deeper network did not help: 1.00 points"));
    assert!(findings[2].contains("the network without new blocks, trained on"), "{findings:?}");
}
