use std::fs;
use std::path::Path;

use residua_format::write_whole;
use serde::{Deserialize, Serialize};

use crate::{
    Changed, Compare, Continued, GradientStudy, Grown, Identity, IdentityTask, Lesion, Prune,
    Section, StudyError,
};

/// What a record is called in the folder of a study.
pub const RECORD_FILE: &str = "study.json";

/// A finished study with what it takes to repeat it: the `study.json` of its folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Version of Residua.
    pub residua_version: String,
    /// The command line.
    pub command: String,
    /// What was found.
    #[serde(flatten)]
    pub study: Study,
}

/// What a study found, by its kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "study", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Study {
    /// Plain against residual networks.
    Compare(Compare),
    /// A deepened network, trained on.
    Continued(Box<Continued>),
    /// A network with other blocks or shortcuts, beside the one before.
    Changed(Changed),
    /// A network that was deepened while it was trained.
    Grown(Box<Grown>),
    /// Deleted and swapped blocks.
    Lesion(Lesion),
    /// Blocks removed for good.
    Prune(Box<Prune>),
    /// How near blocks are to passing their input on.
    Identity(Identity),
    /// Gradients over depth and between neighbouring inputs.
    Gradients(GradientStudy),
    /// How well stacks of layers learn to put out their input.
    IdentityTask(IdentityTask),
}

impl Study {
    /// What was found, as a person reads it.
    pub fn section(&self) -> Section {
        match self {
            Self::Compare(compare) => compare.section(),
            Self::Continued(continued) => continued.section(),
            Self::Changed(changed) => changed.section(),
            Self::Grown(grown) => grown.section(),
            Self::Lesion(lesion) => lesion.section(),
            Self::Prune(prune) => prune.section(),
            Self::Identity(identity) => identity.section(),
            Self::Gradients(gradients) => gradients.section(),
            Self::IdentityTask(task) => task.section(),
        }
    }
}

impl Record {
    /// A study that this version has made by a command line.
    pub fn new(command: impl Into<String>, study: Study) -> Self {
        let residua_version = env!("CARGO_PKG_VERSION").to_owned();
        Self { residua_version, command: command.into(), study }
    }

    /// What was found, with the command line.
    pub fn section(&self) -> Section {
        Section { commands: vec![self.command.clone()], ..self.study.section() }
    }

    /// Writes it into a folder, which is made if it is not there, with its plots as SVG beside it.
    ///
    /// # Errors
    /// Files that can't be written.
    pub fn save(&self, folder: &Path) -> Result<(), StudyError> {
        let write_error = |source| StudyError::Write { path: folder.to_owned(), source };
        fs::create_dir_all(folder).map_err(write_error)?;
        for chart in self.section().charts {
            let svg = chart.lines.figure().svg();
            let path = folder.join(format!("{}.svg", chart.name));
            write_whole(path, |file| file.write_all(svg.as_bytes()))?;
        }
        let json = serde_json::to_vec_pretty(self).expect("a study is valid JSON");
        Ok(write_whole(folder.join(RECORD_FILE), |file| file.write_all(&json))?)
    }

    /// Makes a folder that a study of this kind, as `study.json` calls it, can be written into, before
    /// there is one.
    ///
    /// # Errors
    /// A folder that can't be made or written to, or that holds the record of another kind of study.
    pub fn prepare(folder: &Path, kind: &str) -> Result<(), StudyError> {
        #[derive(Deserialize)]
        struct Kind {
            study: String,
        }
        let write_error = |source| StudyError::Write { path: folder.to_owned(), source };
        fs::create_dir_all(folder).map_err(write_error)?;
        let probe = folder.join(".study");
        fs::write(&probe, "").and_then(|()| fs::remove_file(&probe)).map_err(write_error)?;
        let record = fs::read(folder.join(RECORD_FILE)).ok();
        match record.and_then(|bytes| serde_json::from_slice::<Kind>(&bytes).ok()) {
            Some(Kind { study }) if study != kind => Err(StudyError::Unsuitable {
                subject: folder.display().to_string(),
                got: format!("holds the record of another study ({study})"),
                expected: "another folder".to_owned(),
            }),
            _ => Ok(()),
        }
    }

    /// Reads the record in the folder of a study.
    ///
    /// # Errors
    /// A file that can't be read, or is no record.
    pub fn load(folder: &Path) -> Result<Self, StudyError> {
        let path = folder.join(RECORD_FILE);
        let read = |source| StudyError::Read { path: path.clone(), source };
        let bytes = fs::read(&path).map_err(read)?;
        serde_json::from_slice(&bytes)
            .map_err(|source| StudyError::Record { path: path.clone(), source })
    }
}
