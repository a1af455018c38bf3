use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::TrainError;

/// A folder of files that are named after steps: `step-00000500.ckpt`.
#[derive(Debug, Clone)]
pub(crate) struct StepFiles {
    folder: PathBuf,
    /// What names end with, without the dot.
    ending: &'static str,
}

impl StepFiles {
    pub(crate) fn new(folder: PathBuf, ending: &'static str) -> Self {
        Self { folder, ending }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file of a step.
    pub(crate) fn path(&self, step: u64) -> PathBuf {
        self.folder.join(self.name(step))
    }

    fn name(&self, step: u64) -> String {
        format!("step-{step:08}.{}", self.ending)
    }

    /// The step that a file is named after.
    fn step(&self, name: &str) -> Option<u64> {
        let step = name.strip_prefix("step-")?.strip_suffix(self.ending)?;
        let step = step.strip_suffix('.')?.parse().ok()?;
        (self.name(step) == name).then_some(step)
    }

    /// Step and file of all that are there, the first step first.
    pub(crate) fn list(&self) -> Result<Vec<(u64, PathBuf)>, TrainError> {
        let read_error = |source| TrainError::Read { path: self.folder.clone(), source };
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(read_error(source)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.map_err(read_error)?;
            if let Some(step) = entry.file_name().to_str().and_then(|name| self.step(name)) {
                found.push((step, entry.path()));
            }
        }
        found.sort_unstable();
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_files_are_listed() {
        let folder = tempfile::tempdir().unwrap();
        let files = StepFiles::new(folder.path().join("checkpoints"), "ckpt");
        assert_eq!(files.list().unwrap(), []);
        fs::create_dir(files.folder()).unwrap();
        for name in [
            "step-00000020.ckpt",
            "step-00000003.ckpt",
            "step-3.ckpt",
            "step-ckpt",
            "step-00000004.ckpt.damaged",
        ] {
            fs::write(files.folder().join(name), "").unwrap();
        }
        assert_eq!(files.list().unwrap(), [(3, files.path(3)), (20, files.path(20))]);
    }
}
