//! A loss or weights that are not finite stop the run at once, and never reach a checkpoint.

mod small_run;

use std::path::Path;
use std::sync::Arc;

use residua_data::OpenOptions;
use residua_resnet::{Architecture, Block, Shape, StemKind};
use residua_train::{Recipe, Schedule, TrainError};
use small_run::{Task, message, resume, train};

/// A dense network without batch norms whose learning rate explodes after six steps.
fn recipe(gamma: f64, checkpoint_every: u64) -> Recipe {
    let architecture = Architecture::builder(Shape::vector(2), 3)
        .block(Block::Dense)
        .norm(false)
        .stem(StemKind::Linear, 16)
        .stage(2, 16, 1)
        .build()
        .unwrap();
    Recipe {
        architecture,
        lr: 0.01,
        warmup_steps: 0,
        clip_grad_norm: None,
        schedule: Schedule::Step { milestones: vec![6], gamma },
        checkpoint_every: Some(checkpoint_every),
        ..Task::Spirals.recipe()
    }
}

fn checkpoints(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = folder.join("checkpoints").read_dir().unwrap();
    let read = |path: &Path| {
        (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(path).unwrap())
    };
    let mut files: Vec<_> = entries.map(|entry| read(&entry.unwrap().path())).collect();
    files.sort();
    files
}

#[test]
fn a_loss_that_is_not_finite_keeps_the_last_good_checkpoint() {
    let (folder, dataset) = (tempfile::tempdir().unwrap(), Task::Spirals.dataset());
    let error = train(folder.path(), recipe(1e22, 3), &dataset).unwrap_err();
    let TrainError::NotFinite { what, step, lr, last_loss, ref checkpoint } = error else {
        panic!("{error:?}");
    };
    // The seventh step is the first with the learning rate 1e20; the loss after it tells.
    assert_eq!((what, step, lr), ("loss", 8, 1e20));
    assert!(last_loss.is_some_and(|loss| loss.is_finite() && loss > 0.0));
    let path = folder.path().join("checkpoints").join("step-00000006.ckpt");
    assert_eq!(checkpoint.as_ref(), Some(&path));
    let text = message(&error);
    for part in [
        "the loss is not finite at step 8 (lr 100000000000000000000, last finite loss ",
        "): try a lower lr, warm-up or clip_grad_norm; the last good checkpoint is ",
        "step-00000006.ckpt",
    ] {
        assert!(text.contains(part), "{text}");
    }
    assert!(!folder.path().join("model.safetensors").exists());

    // The checkpoint resumes, into the same failure, and is still there.
    let before = checkpoints(folder.path());
    let again = resume(folder.path(), &dataset).unwrap_err();
    assert!(matches!(again, TrainError::NotFinite { step: 8, .. }), "{again:?}");
    assert_eq!(checkpoints(folder.path()), before);
    let names: Vec<_> = before.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["step-00000003.ckpt", "step-00000006.ckpt"]);
}

#[test]
fn outputs_that_are_not_finite_on_the_dev_set_end_the_run_as_a_loss_does() {
    let (folder, dataset) = (tempfile::tempdir().unwrap(), Task::Spirals.dataset());
    let error = train(folder.path(), Recipe { eval_every: Some(1), ..recipe(1e22, 3) }, &dataset);
    let TrainError::NotFinite { what, step, lr, checkpoint, .. } = error.unwrap_err() else {
        panic!("not this error");
    };
    assert_eq!((what, step, lr), ("output", 7, 1e20));
    assert_eq!(checkpoint, Some(folder.path().join("checkpoints").join("step-00000006.ckpt")));
}

#[test]
fn weights_that_are_not_finite_do_not_reach_the_metrics() {
    let folder = tempfile::tempdir().unwrap();
    // Without a dev set no output tells before the weights are recorded.
    let source = "synthetic:spirals?train=300&dev=0&test=50";
    let dataset = Arc::new(residua_data::open(source, &OpenOptions::default()).unwrap());
    let recipe = Recipe { lr: 1e-6, weight_decay: 1e4, eval_every: Some(1), ..recipe(1e44, 3) };
    let error = train(folder.path(), recipe, &dataset).unwrap_err();
    let TrainError::NotFinite { what: "state of the weights", step: 7, .. } = error else {
        panic!("{error:?}");
    };
    let again = resume(folder.path(), &dataset).unwrap_err();
    assert!(matches!(again, TrainError::NotFinite { step: 7, .. }), "{again:?}");
}

#[test]
fn weights_that_are_not_finite_do_not_reach_a_checkpoint() {
    let (folder, dataset) = (tempfile::tempdir().unwrap(), Task::Spirals.dataset());
    // One step takes the weights past the largest f32, while its own loss is still fine.
    let recipe = Recipe { lr: 1e38, weight_decay: 1e4, ..recipe(1.0, 1) };
    let error = train(folder.path(), recipe, &dataset).unwrap_err();
    let text = message(&error);
    let TrainError::NotFinite { what, step, ref checkpoint, .. } = error else {
        panic!("{error:?}");
    };
    assert_eq!((what, step, checkpoint), ("state of the weights", 1, &None));
    assert!(text.ends_with("there was no checkpoint yet"), "{text}");
    assert!(!folder.path().join("checkpoints").exists());
}

#[test]
fn without_the_explosion_the_same_run_finishes() {
    let (folder, dataset) = (tempfile::tempdir().unwrap(), Task::Spirals.dataset());
    train(folder.path(), recipe(1.0, 3), &dataset).unwrap();
}
