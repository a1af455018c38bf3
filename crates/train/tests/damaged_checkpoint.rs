//! A newest checkpoint that was cut short or changed is noticed, left out, and costs nothing but
//! time.

mod small_run;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use residua_data::Dataset;
use residua_train::{Event, Observer, Recipe, Trainer};
use small_run::{Task, interrupt, model_bytes, resume_watched, train, two_threads};

/// Where the run started and what it warned of.
#[derive(Default)]
struct Start {
    first_step: Option<u64>,
    warnings: Vec<String>,
}

impl Observer for Start {
    fn on_event(&mut self, event: &Event<'_>) {
        match event {
            Event::Started(started) => self.first_step = Some(started.first_step),
            Event::Warning(warning) => self.warnings.push(warning.to_string()),
            _ => {}
        }
    }
}

const TASK: Task = Task::Spirals;

/// A run with checkpoints at 8 and 10.
fn interrupted(dataset: &Arc<Dataset>) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let dataset = Arc::clone(dataset);
    let trainer = Trainer::create(folder.path(), false, TASK.recipe(), dataset, two_threads());
    interrupt(trainer.unwrap(), 10);
    assert_eq!(checkpoints(folder.path()), ["step-00000008.ckpt", "step-00000010.ckpt"]);
    folder
}

fn checkpoints(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder.join("checkpoints")).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn file(folder: &Path, step: u64) -> PathBuf {
    folder.join("checkpoints").join(format!("step-{step:08}.ckpt"))
}

/// Resumes after `damage` was done to the newest checkpoint: it must start at `first_step`, say
/// why, and end with the right bytes.
fn resumes_at(first_step: u64, reason: &str, damage: impl Fn(&Path)) {
    let dataset = TASK.dataset();
    let whole = tempfile::tempdir().unwrap();
    train(whole.path(), TASK.recipe(), &dataset).unwrap();
    let folder = interrupted(&dataset);
    damage(folder.path());
    let mut start = Start::default();
    resume_watched(folder.path(), &dataset, &mut start).unwrap();
    assert_eq!(start.first_step, Some(first_step));
    match reason {
        "" => assert_eq!(start.warnings, [""; 0]),
        _ => {
            let warning = start.warnings.first().expect("a warning");
            assert!(warning.contains("step-00000010.ckpt is left out"), "{warning}");
            assert!(warning.contains(reason), "{warning}");
        }
    }
    assert_eq!(model_bytes(folder.path()), model_bytes(whole.path()));
}

#[test]
fn a_whole_checkpoint_is_taken() {
    resumes_at(10, "", |_| ());
}

#[test]
fn a_checkpoint_cut_short_is_left_out() {
    for keep in [0, 7, 40, 1000] {
        resumes_at(8, "cut short or changed", |folder| {
            let bytes = fs::read(file(folder, 10)).unwrap();
            fs::write(file(folder, 10), &bytes[..keep]).unwrap();
        });
    }
    resumes_at(8, "cut short or changed", |folder| {
        let bytes = fs::read(file(folder, 10)).unwrap();
        fs::write(file(folder, 10), &bytes[..bytes.len() - 1]).unwrap();
    });
}

#[test]
fn a_checkpoint_with_a_changed_bit_is_left_out() {
    for position in [0, 9, 500, 2000, 3000] {
        resumes_at(8, "cut short or changed", |folder| {
            let mut bytes = fs::read(file(folder, 10)).unwrap();
            bytes[position] ^= 1;
            fs::write(file(folder, 10), &bytes).unwrap();
        });
    }
}

#[test]
fn a_checkpoint_under_another_name_is_left_out() {
    resumes_at(8, "it is of step 8, unlike its name", |folder| {
        fs::copy(file(folder, 8), file(folder, 10)).unwrap();
    });
}

#[test]
fn without_any_good_checkpoint_it_starts_over() {
    resumes_at(0, "cut short or changed", |folder| {
        fs::write(file(folder, 8), b"").unwrap();
        fs::write(file(folder, 10), [0; 5000]).unwrap();
    });
    resumes_at(0, "", |folder| fs::remove_dir_all(folder.join("checkpoints")).unwrap());
}

#[test]
fn only_the_last_two_checkpoints_are_kept_and_other_files_left_alone() {
    let dataset = TASK.dataset();
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("checkpoints")).unwrap();
    fs::write(folder.path().join("checkpoints").join("step-1.ckpt.bak"), "mine").unwrap();
    train(folder.path(), Recipe { checkpoint_every: Some(1), ..TASK.recipe() }, &dataset).unwrap();
    let expected = ["step-00000029.ckpt", "step-00000030.ckpt", "step-1.ckpt.bak"];
    assert_eq!(checkpoints(folder.path()), expected);
}

#[test]
fn records_that_are_cut_short_are_dropped() {
    resumes_at(10, "", |folder| {
        let path = folder.join("metrics.jsonl");
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() - 20]).unwrap();
    });
}
