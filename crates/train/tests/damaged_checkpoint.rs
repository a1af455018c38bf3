//! A newest checkpoint that was cut short or changed is noticed, left out, and costs nothing but
//! time.

mod small_run;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use residua_data::Dataset;
use residua_train::{Event, Observer, Recipe, Trainer};
use sha2::{Digest, Sha256};
use small_run::{Task, interrupt, message, model_bytes, resume_watched, train, two_threads};

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
    let aside = file(folder.path(), 10).with_extension("ckpt.damaged");
    assert_eq!(aside.exists(), !reason.is_empty(), "what is left out is not lost");
}

#[test]
fn a_checkpoint_of_a_later_version_is_refused() {
    let dataset = TASK.dataset();
    let folder = interrupted(&dataset);
    resign(&file(folder.path(), 10), |bytes| {
        let at = bytes.windows(8).position(|part| part == b"progress").unwrap();
        bytes[at] = b'P';
    });
    let text = message(&resume_watched(folder.path(), &dataset, &mut ()).unwrap_err());
    assert!(text.contains("step-00000010.ckpt: its metadata can't be read: "), "{text}");
    assert_eq!(checkpoints(folder.path()).len(), 2);
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

/// Resuming is exact because every part of the state comes back: a checkpoint that verifies but
/// lacks one of them leads elsewhere. So the comparison above can fail.
#[test]
fn a_state_without_one_of_its_parts_would_show() {
    let dataset = TASK.dataset();
    let whole = tempfile::tempdir().unwrap();
    train(whole.path(), TASK.recipe(), &dataset).unwrap();
    for forgotten in ["velocity", "buffers"] {
        let folder = interrupted(&dataset);
        resign(&file(folder.path(), 10), |bytes| {
            let range = tensor_range(bytes, forgotten);
            bytes[range].fill(0);
        });
        let mut start = Start::default();
        resume_watched(folder.path(), &dataset, &mut start).unwrap();
        assert_eq!((start.first_step, start.warnings.len()), (Some(10), 0));
        assert_ne!(model_bytes(folder.path()), model_bytes(whole.path()), "{forgotten}");
    }
}

/// Changes a checkpoint and makes its digest fit again.
fn resign(path: &Path, change: impl Fn(&mut [u8])) {
    let mut bytes = fs::read(path).unwrap();
    bytes.truncate(bytes.len() - 32);
    change(&mut bytes);
    let digest = Sha256::digest(&bytes);
    fs::write(path, [&bytes[..], &digest].concat()).unwrap();
}

/// Where a safetensors file has the values of a tensor.
fn tensor_range(bytes: &[u8], name: &str) -> std::ops::Range<usize> {
    let header_len = u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + header_len]).unwrap();
    let offset = |i: usize| header[name]["data_offsets"][i].as_u64().unwrap() as usize;
    8 + header_len + offset(0)..8 + header_len + offset(1)
}
