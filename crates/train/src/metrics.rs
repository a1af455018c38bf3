use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use residua_format::write_whole;
use serde::{Deserialize, Serialize};

use crate::error::write_error;
use crate::{BranchNorms, TrainError};

/// One line of `metrics.jsonl`: the steps since the line before it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricsRecord {
    /// Steps made so far.
    pub step: u64,
    /// Epochs made so far.
    pub epoch: f64,
    /// Learning rate of the last step.
    pub lr: f64,
    /// Mean training loss, label smoothing included.
    pub loss: f64,
    /// Errors on the training batches as they were fed in, augmented, in percent.
    pub train_error: f64,
    /// Error on the dev set in percent, in the lines that follow an evaluation.
    pub dev_error: Option<f64>,
    /// Training images a second, evaluations and checkpoints left out.
    pub images_per_s: f64,
    /// Share of the training time spent waiting for batches.
    pub data_wait_share: f64,
    /// Seconds the run has taken so far, over all its sessions.
    pub seconds: f64,
    /// How near each block is to its shortcut, in the lines that follow an evaluation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub branch_norms: Vec<BranchNorms>,
}

/// Reads a run's records. A last line that a killed process left unfinished is dropped.
///
/// # Errors
/// A file that can't be read, or a line before the last that is no record. A file that is not
/// there has no records.
pub fn read_metrics(path: &Path) -> Result<Vec<MetricsRecord>, TrainError> {
    Ok(read_lines(path)?.into_iter().map(|(_, record)| record).collect())
}

/// Every line with the record in it.
fn read_lines(path: &Path) -> Result<Vec<(String, MetricsRecord)>, TrainError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(TrainError::Read { path: path.to_owned(), source }),
    };
    // What follows the last line feed was cut short, whether or not it happens to parse.
    let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
    let lines = String::from_utf8_lossy(&bytes[..whole]).into_owned();
    let parse = |(line_idx, line): (usize, &str)| match serde_json::from_str(line) {
        Ok(record) => Ok((line.to_owned(), record)),
        Err(source) => {
            Err(TrainError::Metrics { path: path.to_owned(), line: line_idx + 1, source })
        }
    };
    lines.lines().enumerate().map(parse).collect()
}

/// The open `metrics.jsonl` of a run.
#[derive(Debug)]
pub(crate) struct MetricsLog {
    path: PathBuf,
    file: File,
    records: Vec<MetricsRecord>,
}

impl MetricsLog {
    /// Opens the log and drops the records after `step`, which the run will make again.
    pub(crate) fn open(path: &Path, step: u64) -> Result<Self, TrainError> {
        let mut lines = read_lines(path)?;
        lines.retain(|(_, record)| record.step <= step);
        write_whole(path, |file| lines.iter().try_for_each(|(line, _)| writeln!(file, "{line}")))?;
        let file = OpenOptions::new().append(true).open(path);
        let file = file.map_err(|source| write_error(path, source))?;
        let records = lines.into_iter().map(|(_, record)| record).collect();
        Ok(Self { path: path.to_owned(), file, records })
    }

    /// All records, oldest first.
    pub(crate) fn records(&self) -> &[MetricsRecord] {
        &self.records
    }

    /// Adds a record as one line, written at once.
    pub(crate) fn append(&mut self, record: MetricsRecord) -> Result<(), TrainError> {
        let mut line = serde_json::to_vec(&record).expect("a record of numbers is valid JSON");
        line.push(b'\n');
        self.file.write_all(&line).map_err(|source| write_error(&self.path, source))?;
        self.records.push(record);
        Ok(())
    }

    /// Waits until the records are on the disk. A checkpoint may then rely on them.
    pub(crate) fn sync(&self) -> Result<(), TrainError> {
        self.file.sync_data().map_err(|source| write_error(&self.path, source))
    }
}
