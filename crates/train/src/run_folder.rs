use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use crate::TrainError;
use crate::checkpoint::CheckpointFolder;
use crate::error::write_error;
use crate::step_files::StepFiles;

/// What a run leaves in its folder, in the order in which it is removed when the run is overwritten:
/// without `config.toml` there is nothing to resume.
const FILES: [&str; 5] =
    ["config.toml", "summary.json", "model.safetensors", "curves.svg", "metrics.jsonl"];
pub(crate) const CHECKPOINTS: &str = "checkpoints";
/// Models that were kept on the way.
const MODELS: &str = "models";
const LOCK: &str = ".lock";

/// The folder of a run, locked against other processes as long as this lives.
#[derive(Debug)]
pub(crate) struct RunFolder {
    path: PathBuf,
    _lock: File,
}

impl RunFolder {
    /// Makes the folder for a new run; one that holds a run is refused, or with `overwrite` rid of
    /// that run's files.
    pub(crate) fn create(path: &Path, overwrite: bool) -> Result<Self, TrainError> {
        fs::create_dir_all(path).map_err(|source| write_error(path, source))?;
        let folder = Self::lock(path)?;
        if overwrite {
            folder.remove_run()?;
        }
        if !path.join("config.toml").exists() {
            // All that a run which goes on from other weights wrote before it was killed.
            remove_if_there(&folder.checkpoints().of_start())?;
        }
        let no_checkpoint = folder.checkpoints().is_empty()?;
        let found = FILES.into_iter().find(|file| path.join(file).exists());
        match found.or((!no_checkpoint).then_some(CHECKPOINTS)) {
            Some(found) => Err(TrainError::RunExists { path: path.to_owned(), found }),
            None => Ok(folder),
        }
    }

    /// Opens the folder of a run that was started before.
    pub(crate) fn open(path: &Path) -> Result<Self, TrainError> {
        if !path.join("config.toml").exists() {
            return Err(TrainError::NoRun { path: path.to_owned() });
        }
        let folder = Self::lock(path)?;
        folder.remove_temporaries()?;
        Ok(folder)
    }

    /// The lock goes with the process, however that ends.
    fn lock(path: &Path) -> Result<Self, TrainError> {
        let lock_path = path.join(LOCK);
        let lock = OpenOptions::new().create(true).append(true).open(&lock_path);
        let lock = lock.map_err(|source| write_error(&lock_path, source))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(TrainError::RunLocked { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => Err(write_error(&lock_path, source)),
        }
    }

    fn remove_run(&self) -> Result<(), TrainError> {
        for file in FILES {
            remove_if_there(&self.path.join(file))?;
        }
        let is_checkpoint = |name: &str| {
            name.starts_with("step-") && [".ckpt", ".damaged"].iter().any(|end| name.ends_with(end))
        };
        remove_matching(&self.path.join(CHECKPOINTS), is_checkpoint)?;
        for (_, model) in self.models().list()? {
            remove_if_there(&model)?;
        }
        self.remove_temporaries()
    }

    /// Removes what a killed process left half-written: `.{file}.XXXXXX.tmp`.
    fn remove_temporaries(&self) -> Result<(), TrainError> {
        let is_ours = |name: &str| {
            let mut starts = FILES.iter().copied().chain(["step-"]);
            name.ends_with(".tmp")
                && name.strip_prefix('.').is_some_and(|rest| starts.any(|s| rest.starts_with(s)))
        };
        ["", CHECKPOINTS, MODELS]
            .into_iter()
            .try_for_each(|folder| remove_matching(&self.path.join(folder), is_ours))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn file(&self, name: &'static str) -> PathBuf {
        debug_assert!(FILES.contains(&name), "{name} is not removed with a run");
        self.path.join(name)
    }

    pub(crate) fn checkpoints(&self) -> CheckpointFolder {
        CheckpointFolder::new(self.path.join(CHECKPOINTS))
    }

    pub(crate) fn models(&self) -> StepFiles {
        models(&self.path)
    }
}

fn models(run: &Path) -> StepFiles {
    StepFiles::new(run.join(MODELS), "safetensors")
}

/// Steps and files of the models that a run kept on its way ([`RunOptions::keep_every`]), the first one
/// first.
///
/// # Errors
/// A folder that can't be read. One that is not there has no models.
///
/// [`RunOptions::keep_every`]: crate::RunOptions::keep_every
pub fn kept_models(run: &Path) -> Result<Vec<(u64, PathBuf)>, TrainError> {
    models(run).list()
}

/// Removes the files of a folder, if it is there, whose names match.
fn remove_matching(folder: &Path, matches: impl Fn(&str) -> bool) -> Result<(), TrainError> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for entry in entries.flatten() {
        if entry.file_name().to_str().is_some_and(&matches) {
            remove_if_there(&entry.path())?;
        }
    }
    Ok(())
}

fn remove_if_there(path: &Path) -> Result<(), TrainError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(write_error(path, error)),
        _ => Ok(()),
    }
}
