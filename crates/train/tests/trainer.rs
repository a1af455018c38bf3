//! A run from its start to its end: what it leaves, what it tells, and what it refuses.

mod small_run;

use std::fs;
use std::num::NonZeroU64;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use residua_data::{LoaderOptions, Split, TrainLoader};
use residua_engine::{Isa, Precision};
use residua_format::Model;
use residua_resnet::{InitOptions, Shape, init_weights};
use residua_train::{
    EarlyImages, EvalOptions, Event, Observer, Outcome, Recipe, RunOptions, TrainStep, Trainer,
    evaluate, kept_models, read_metrics,
};
use small_run::{
    Task, interrupt, message, model, model_bytes, resume, train, train_watched, two_threads,
};

/// Notes what happened, in words.
#[derive(Default)]
struct Notes(Vec<String>);

impl Observer for Notes {
    fn on_event(&mut self, event: &Event<'_>) {
        self.0.push(match event {
            Event::Started(started) => {
                format!("started at {} of {}", started.first_step, started.total_steps)
            }
            Event::Step(report) => format!("step {}", report.step),
            Event::Recorded(record) => format!("recorded {}", record.step),
            Event::Evaluated { step, split, .. } => format!("evaluated {split} at {step}"),
            Event::Checkpointed { step, .. } => format!("checkpointed {step}"),
            Event::Warning(warning) => format!("warning: {warning}"),
            Event::Finished(_) => "finished".to_owned(),
            _ => unreachable!("an event this test does not know"),
        });
    }
}

#[test]
fn a_run_leaves_its_record() {
    for task in Task::ALL {
        let folder = tempfile::tempdir().unwrap();
        let (recipe, dataset) = (task.recipe(), task.dataset());
        let summary = train(folder.path(), recipe.clone(), &dataset).unwrap();

        assert_eq!(Recipe::load(folder.path().join("config.toml")).unwrap(), recipe);
        let written = fs::read(folder.path().join("summary.json")).unwrap();
        assert_eq!(serde_json::from_slice::<residua_train::Summary>(&written).unwrap(), summary);
        let curves = fs::read_to_string(folder.path().join("curves.svg")).unwrap();
        assert!(curves.contains(recipe.architecture.name()));
        let model = model(folder.path());
        assert_eq!(model.weights_sha256().unwrap(), summary.weights_sha256);
        assert_eq!((model.provenance.steps, model.provenance.seed), (30, 5));
        assert_eq!(model.provenance.dataset_fingerprint, dataset.fingerprint());

        // What the summary says is what a later evaluation finds.
        for (split, found) in [
            (Split::Train, Some(summary.train)),
            (Split::Dev, summary.dev),
            (Split::Test, summary.test),
        ] {
            let found = found.expect("all splits have samples");
            let evaluation = evaluate(&model, &dataset, split, &EvalOptions::new(7)).unwrap();
            assert_eq!(evaluation.num_samples, found.num_samples);
            assert_eq!(evaluation.top1_error, found.top1_error);
            assert!((evaluation.mean_loss - found.mean_loss).abs() < 1e-9);
        }
    }
}

#[test]
fn the_metrics_have_a_line_for_every_evaluation() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = Task::Spirals.recipe();
    train(folder.path(), recipe.clone(), &Task::Spirals.dataset()).unwrap();
    let records = read_metrics(&folder.path().join("metrics.jsonl")).unwrap();
    let steps: Vec<_> = records.iter().map(|record| record.step).collect();
    assert_eq!(steps, (1..=30).collect::<Vec<_>>());
    for record in &records {
        assert_eq!(record.dev_error.is_some(), record.step % 5 == 0, "{record:?}");
        assert_eq!(record.epoch, record.step as f64 / 12.0);
        assert_eq!(record.lr, recipe.lr_at(record.step - 1, 30));
        assert!(record.loss > 0.0 && (0.0..=100.0).contains(&record.train_error), "{record:?}");
    }
}

#[test]
fn the_test_split_is_touched_at_the_end_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (mut notes, task) = (Notes::default(), Task::Spirals);
    train_watched(folder.path(), task.recipe(), &task.dataset(), two_threads(), &mut notes)
        .unwrap();
    let Notes(notes) = notes;
    assert_eq!(notes[0], "started at 0 of 30");
    let position = |note: &str| {
        notes.iter().position(|n| n == note).unwrap_or_else(|| {
            panic!("{note} is missing in {notes:?}");
        })
    };
    // A record relies on its evaluation, a checkpoint on the record.
    assert!(position("step 20") < position("evaluated dev at 20"));
    assert!(position("evaluated dev at 20") < position("recorded 20"));
    assert!(position("recorded 20") < position("checkpointed 20"));
    assert!(position("checkpointed 20") < position("step 21"));
    let expected = [
        "checkpointed 30",
        "evaluated train at 30",
        "evaluated dev at 30",
        "evaluated test at 30",
        "finished",
    ];
    assert_eq!(notes[notes.len() - 5..], expected);
    assert_eq!(notes.iter().filter(|note| note.contains("test")).count(), 1);
}

fn in_both_precisions() -> impl Iterator<Item = (Task, Recipe)> {
    let with = |task: Task, precision| (task, Recipe { precision, ..task.recipe() });
    Task::ALL
        .into_iter()
        .flat_map(move |task| [Precision::F32, Precision::Bf16].map(|p| with(task, p)))
}

#[test]
fn weights_have_the_same_bits_on_any_number_of_threads() {
    for (task, recipe) in in_both_precisions() {
        let dataset = task.dataset();
        let digests = [1, 2, 7].map(|threads| {
            let folder = tempfile::tempdir().unwrap();
            let threads = Some(threads);
            let options = RunOptions { threads, workers: threads, ..RunOptions::default() };
            train_watched(folder.path(), recipe.clone(), &dataset, options, &mut ()).unwrap();
            model_bytes(folder.path())
        });
        let same = digests[0] == digests[1] && digests[0] == digests[2];
        assert!(same, "{task:?} in {}", recipe.precision);
        // Another seed gives other weights: the comparison can tell.
        let folder = tempfile::tempdir().unwrap();
        train(folder.path(), Recipe { seed: 6, ..recipe }, &dataset).unwrap();
        assert_ne!(model(folder.path()).weights, Model::from_bytes(&digests[0]).unwrap().weights);
    }
}

#[test]
fn interrupted_runs_resume_to_the_same_bits() {
    for (task, recipe) in in_both_precisions() {
        let dataset = task.dataset();
        let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let uninterrupted = train(whole.path(), recipe.clone(), &dataset).unwrap();

        let trainer =
            Trainer::create(parts.path(), false, recipe, Arc::clone(&dataset), two_threads());
        assert_eq!(interrupt(trainer.unwrap(), 7), Outcome::Interrupted { step: 7 });
        for step in [8, 21] {
            let trainer = Trainer::resume(parts.path(), Arc::clone(&dataset), two_threads());
            assert_eq!(interrupt(trainer.unwrap(), step), Outcome::Interrupted { step });
        }
        let summary = resume(parts.path(), &dataset).unwrap();

        assert_eq!(model_bytes(parts.path()), model_bytes(whole.path()));
        assert_eq!(summary.test, uninterrupted.test);
        // The records are the same too, but for the times.
        let records = [whole.path(), parts.path()].map(|folder| {
            let mut records = read_metrics(&folder.join("metrics.jsonl")).unwrap();
            for record in &mut records {
                (record.images_per_s, record.data_wait_share, record.seconds) = (0.0, 0.0, 0.0);
            }
            records
        });
        assert_eq!(records[0], records[1]);
        // A run that is over can be finished again.
        assert_eq!(resume(parts.path(), &dataset).unwrap().train, uninterrupted.train);
        assert_eq!(model_bytes(parts.path()), model_bytes(whole.path()));
    }
}

#[test]
fn models_on_the_way_are_kept_and_are_those_of_an_interrupted_run() {
    let task = Task::Shapes;
    let (dataset, recipe) = (task.dataset(), task.recipe());
    let options = RunOptions { keep_every: NonZeroU64::new(10), ..two_threads() };
    let create = |folder: &Path, overwrite, options| {
        Trainer::create(folder, overwrite, recipe.clone(), Arc::clone(&dataset), options).unwrap()
    };
    let kept = |folder: &Path| -> Vec<(u64, Vec<u8>)> {
        let models = kept_models(folder).unwrap().into_iter();
        models.map(|(step, path)| (step, fs::read(path).unwrap())).collect()
    };
    let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    create(whole.path(), false, options).run(&mut (), &AtomicBool::new(false)).unwrap();
    assert_eq!(
        interrupt(create(parts.path(), false, options), 13),
        Outcome::Interrupted { step: 13 }
    );
    let resumed = Trainer::resume(parts.path(), Arc::clone(&dataset), options).unwrap();
    resumed.run(&mut (), &AtomicBool::new(false)).unwrap();

    assert_eq!(kept(parts.path()), kept(whole.path()));
    let steps: Vec<u64> = kept(whole.path()).iter().map(|(step, _)| *step).collect();
    assert_eq!(steps, [0, 10, 20]);
    for (step, bytes) in kept(whole.path()) {
        let kept = Model::from_bytes(&bytes).unwrap();
        assert_eq!(kept.provenance.steps, step);
        assert_ne!(kept.weights, model(whole.path()).weights);
    }
    // Keeping them changes nothing, and they go with the run.
    let without = tempfile::tempdir().unwrap();
    train(without.path(), recipe.clone(), &dataset).unwrap();
    assert_eq!(model_bytes(without.path()), model_bytes(whole.path()));
    drop(create(whole.path(), true, two_threads()));
    assert_eq!(kept(whole.path()), []);
}

#[test]
fn the_first_steps_are_on_smaller_images() {
    let (task, folder) = (Task::Shapes, tempfile::tempdir().unwrap());
    let early_images = Some(EarlyImages { size: 20, share: 0.4 });
    let recipe = Recipe { whiten_stem: false, early_images, ..task.recipe() };
    let dataset = task.dataset();
    train(folder.path(), recipe.clone(), &dataset).unwrap();

    let by_hand = |early_steps| {
        let graph = recipe.architecture.to_graph().unwrap();
        let small = recipe.architecture.with_input(Shape::image(3, 20, 20)).unwrap();
        let options = InitOptions { seed: recipe.seed, ..Default::default() };
        let weights = init_weights(&recipe.architecture, &graph, &options);
        let mut train_step =
            TrainStep::new(&small.to_graph().unwrap(), weights, &recipe, Isa::best().unwrap())
                .unwrap();
        for (steps, image_size) in [(0..early_steps, Some(20)), (early_steps..30, None)] {
            if image_size.is_none() {
                train_step.take_graph(&graph).unwrap();
            }
            let Recipe { batch_size, seed, augment, .. } = recipe;
            let options = LoaderOptions { batch_size, seed, augment, image_size, workers: 1 };
            let mut loader = TrainLoader::new(&dataset, &options, steps.start).unwrap();
            for step in steps {
                let batch = loader.next().unwrap();
                let lr = recipe.lr_at(step, 30) as f32;
                train_step.run(&batch.input, &batch.labels, lr);
            }
        }
        train_step.weights().clone()
    };
    assert_eq!(model(folder.path()).weights, by_hand(12));
    assert_ne!(model(folder.path()).weights, by_hand(13), "no comparison at all");
}

#[test]
fn a_run_is_not_overwritten_by_accident() {
    let task = Task::Spirals;
    let (folder, dataset) = (tempfile::tempdir().unwrap(), task.dataset());
    train(folder.path(), task.recipe(), &dataset).unwrap();
    fs::write(folder.path().join("notes.txt"), "mine").unwrap();
    let before = model_bytes(folder.path());

    let error = train(folder.path(), task.recipe(), &dataset).unwrap_err();
    assert!(message(&error).contains("holds a run already (config.toml): resume it"), "{error}");
    assert_eq!(model_bytes(folder.path()), before);

    let recipe = Recipe { seed: 9, ..task.recipe() };
    let trainer =
        Trainer::create(folder.path(), true, recipe, Arc::clone(&dataset), two_threads()).unwrap();
    assert!(!folder.path().join("model.safetensors").exists());
    assert_eq!(fs::read_dir(folder.path().join("checkpoints")).unwrap().count(), 0);
    trainer.run(&mut (), &false.into()).unwrap();
    assert_ne!(model_bytes(folder.path()), before);
    assert_eq!(fs::read(folder.path().join("notes.txt")).unwrap(), b"mine");
}

#[test]
fn a_folder_is_locked_while_it_is_trained_in() {
    let task = Task::Spirals;
    let (folder, dataset) = (tempfile::tempdir().unwrap(), task.dataset());
    let create = |overwrite| {
        let (recipe, dataset) = (task.recipe(), Arc::clone(&dataset));
        Trainer::create(folder.path(), overwrite, recipe, dataset, two_threads())
    };
    let trainer = create(false).unwrap();
    for error in [
        create(true).unwrap_err(),
        Trainer::resume(folder.path(), Arc::clone(&dataset), two_threads()).unwrap_err(),
    ] {
        assert!(message(&error).contains("in use by another training process"), "{error}");
    }
    drop(trainer);
    create(true).unwrap();
}

#[test]
fn there_must_be_something_to_resume() {
    let (folder, dataset) = (tempfile::tempdir().unwrap(), Task::Spirals.dataset());
    let error = resume(folder.path(), &dataset).unwrap_err();
    assert!(message(&error).contains("holds no run: there is no config.toml"), "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
}

#[test]
fn a_folder_that_can_not_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let path = file.join("run");
    let error = train(&path, Task::Spirals.recipe(), &Task::Spirals.dataset()).unwrap_err();
    let text = message(&error);
    assert!(text.contains(&format!("cannot write {}", path.display())), "{text}");
}

#[test]
fn other_data_or_another_recipe_is_not_resumed() {
    let task = Task::Spirals;
    let (folder, dataset) = (tempfile::tempdir().unwrap(), task.dataset());
    let recipe = task.recipe();
    let trainer =
        Trainer::create(folder.path(), false, recipe.clone(), Arc::clone(&dataset), two_threads());
    interrupt(trainer.unwrap(), 6);

    let open = Default::default();
    let other = residua_data::open("synthetic:spirals?train=200&dev=50&test=60&seed=1", &open);
    let error = resume(folder.path(), &Arc::new(other.unwrap())).unwrap_err();
    let text = message(&error);
    assert!(text.contains("step-00000006.ckpt: trained on data with fingerprint"), "{text}");
    assert!(text.contains(dataset.fingerprint()), "{text}");

    let config = folder.path().join("config.toml");
    Recipe { weight_decay: 0.25, ..recipe.clone() }.save(&config).unwrap();
    let text = message(&resume(folder.path(), &dataset).unwrap_err());
    assert!(text.contains("its recipe differs from config.toml in weight_decay"), "{text}");

    // The data may have moved, though.
    Recipe { data: "elsewhere".into(), ..recipe }.save(&config).unwrap();
    resume(folder.path(), &dataset).unwrap();
}

#[test]
fn a_dataset_that_does_not_fit_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let text = message(&train(&run, Task::Shapes.recipe(), &Task::Spirals.dataset()).unwrap_err());
    assert!(text.contains("samples of shape [2, 1, 1], expected [3, 32, 32]"), "{text}");
    let recipe = Recipe { batch_size: 201, ..Task::Spirals.recipe() };
    let text = message(&train(&run, recipe, &Task::Spirals.dataset()).unwrap_err());
    assert!(text.contains("number of training samples 200, expected at least 201"), "{text}");
    assert!(!run.exists(), "nothing is made for a run that can't start");
}
