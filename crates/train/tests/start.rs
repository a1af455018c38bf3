//! Runs that go on from another run's weights and momentum.

mod small_run;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use residua_data::Dataset;
use residua_engine::PlanError;
use residua_train::{EarlyImages, Recipe, Start, TrainError, Trainer};
use small_run::{Task, interrupt, model, model_bytes, resume, train, two_threads};

/// The state of a run that is over, and the recipe to go on with.
fn start(folder: &Path, task: Task, dataset: &Arc<Dataset>) -> (Start, Recipe) {
    train(folder, task.recipe(), dataset).unwrap();
    let (_, start) = Start::of_run(folder).unwrap().expect("a run that is over has a checkpoint");
    assert!(start.velocity.iter().any(|&velocity| velocity != 0.0));
    let start_sha256 = Some(model(folder).weights_sha256().unwrap());
    (start, Recipe { start_sha256, lr: 0.01, whiten_stem: false, ..task.recipe() })
}

fn begin(
    folder: &Path,
    (start, recipe): &(Start, Recipe),
    dataset: &Arc<Dataset>,
) -> Result<Trainer, TrainError> {
    let dataset = Arc::clone(dataset);
    Trainer::create_from(folder, false, recipe.clone(), dataset, two_threads(), start)
}

#[test]
fn runs_from_a_start_resume_to_the_same_bits() {
    for task in Task::ALL {
        let dataset = task.dataset();
        let [before, whole, resumed] = [(); 3].map(|()| tempfile::tempdir().unwrap());
        let start = start(before.path(), task, &dataset);
        interrupt(begin(whole.path(), &start, &dataset).unwrap(), 30);
        resume(whole.path(), &dataset).unwrap();
        // Before its first own checkpoint, and between two.
        for step in [2, 9] {
            let _ = fs::remove_dir_all(resumed.path());
            interrupt(begin(resumed.path(), &start, &dataset).unwrap(), step);
            resume(resumed.path(), &dataset).unwrap();
            assert_eq!(model_bytes(resumed.path()), model_bytes(whole.path()), "{task:?} {step}");
        }
        assert_ne!(model_bytes(before.path()), model_bytes(whole.path()));
    }
}

#[test]
fn a_run_killed_before_its_config_was_written_can_be_started_again() {
    let (task, dataset) = (Task::Spirals, Task::Spirals.dataset());
    let [before, folder] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let start = start(before.path(), task, &dataset);
    drop(begin(folder.path(), &start, &dataset).unwrap());
    // As long as it has a config it is a run.
    let error = begin(folder.path(), &start, &dataset).unwrap_err();
    assert!(matches!(error, TrainError::RunExists { found: "config.toml", .. }), "{error:?}");
    fs::remove_file(folder.path().join("config.toml")).unwrap();
    begin(folder.path(), &start, &dataset).unwrap();
    // Checkpoints of steps are a run's own, also without its config.
    fs::remove_file(folder.path().join("config.toml")).unwrap();
    let checkpoints = folder.path().join("checkpoints");
    fs::rename(checkpoints.join("step-00000000.ckpt"), checkpoints.join("step-00000004.ckpt"))
        .unwrap();
    let error = begin(folder.path(), &start, &dataset).unwrap_err();
    assert!(matches!(error, TrainError::RunExists { found: "checkpoints", .. }), "{error:?}");
}

#[test]
fn a_run_that_cannot_start_overwrites_nothing() {
    let (task, dataset) = (Task::Spirals, Task::Spirals.dataset());
    let folder = tempfile::tempdir().unwrap();
    let (_, on) = start(folder.path(), task, &dataset);
    let before = model_bytes(folder.path());
    let overwrite = |recipe| {
        Trainer::create(folder.path(), true, recipe, Arc::clone(&dataset), two_threads())
            .unwrap_err()
    };
    let error = overwrite(on);
    assert!(matches!(error, TrainError::NoStart { .. }), "{error:?}");
    let error = overwrite(Recipe { batch_size: 1, ..task.recipe() });
    assert!(matches!(error, TrainError::Plan(PlanError::SingleValue { .. })), "{error:?}");
    assert!(model_bytes(folder.path()) == before);

    // Nor one that can't go on after its first part, on images of another size.
    let (task, dataset) = (Task::Shapes, Task::Shapes.dataset());
    let folder = tempfile::tempdir().unwrap();
    start(folder.path(), task, &dataset);
    let before = model_bytes(folder.path());
    let early_images = Some(EarlyImages { size: 2, share: 0.5 });
    let recipe = Recipe { early_images, ..task.recipe() };
    let error = Trainer::create(folder.path(), true, recipe, Arc::clone(&dataset), two_threads());
    let error = error.unwrap_err();
    assert!(matches!(error, TrainError::Architecture(_)), "{error:?}");
    assert!(model_bytes(folder.path()) == before);
}
