//! Vectors with labels: one `.csv` or `.npy`, or a folder with `train.csv` and, if there are any,
//! `dev.csv` (also `val`, `valid`, `validation`) and `test.csv`; the same with `.npy`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::dataset::{Found, Samples};
use crate::image_folder::{DEV_NAMES, is_split_name, sorted_entries};
use crate::source::name_of;
use crate::split::GivenSplits;
use crate::{Augment, DataError, csv_file, npy_file};

/// The content of one file.
pub(crate) struct Table {
    /// Features in a row.
    pub(crate) width: usize,
    /// `[row, feature]`.
    pub(crate) data: Vec<f32>,
    /// One per row, as written.
    pub(crate) labels: Vec<String>,
    /// Where they were found, for messages.
    pub(crate) label_column: String,
}

/// The most values of one file: half a GiB.
pub(crate) const MAX_VALUES: usize = 1 << 27;

const EXTENSIONS: [&str; 2] = ["csv", "npy"];

/// Whether this is a file of vectors, by its extension.
pub(crate) fn is_vector_file(path: &Path) -> bool {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    EXTENSIONS.contains(&extension.to_ascii_lowercase().as_str())
}

/// Whether a folder holds `train.csv` or `train.npy`.
pub(crate) fn is_vector_folder(folder: &Path) -> bool {
    train_file(folder).is_some()
}

fn train_file(folder: &Path) -> Option<PathBuf> {
    EXTENSIONS.iter().map(|e| folder.join(format!("train.{e}"))).find(|path| path.is_file())
}

/// Reads one file, without splits of its own.
pub(crate) fn read_file(path: &Path) -> Result<Found, DataError> {
    found(path, &[(path.to_owned(), read_table(path)?)], |ranges| {
        GivenSplits::one_pile(ranges[0].len())
    })
}

/// Reads the files of a folder, one per split.
pub(crate) fn read_folder(folder: &Path) -> Result<Found, DataError> {
    let Some(train) = train_file(folder) else {
        return Err(DataError::invalid(folder.display().to_string(), "train.csv is missing"));
    };
    let sibling = |names: &[&str]| {
        let paths = names.iter().map(|name| train.with_file_name(name));
        paths
            .map(|path| path.with_extension(train.extension().unwrap_or_default()))
            .find(|path| path.is_file())
    };
    let (dev, test) = (sibling(&DEV_NAMES), sibling(&["test"]));
    let paths = [Some(train.clone()), dev.clone(), test.clone()];
    refuse_other_splits(folder, &paths)?;
    let tables = paths
        .into_iter()
        .flatten()
        .map(|path| Ok((path.clone(), read_table(&path)?)))
        .collect::<Result<Vec<_>, DataError>>()?;
    found(folder, &tables, |ranges| {
        let mut ranges = ranges.into_iter();
        GivenSplits {
            train: ranges.next().unwrap_or_default(),
            dev: dev.and_then(|_| ranges.next()),
            test: test.and_then(|_| ranges.next()),
        }
    })
}

/// Refuses a file that is called like a split and not read: its samples were meant to be used.
fn refuse_other_splits(folder: &Path, read: &[Option<PathBuf>]) -> Result<(), DataError> {
    let is_other = |path: &PathBuf| {
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        is_vector_file(path) && is_split_name(stem) && !read.iter().flatten().any(|it| it == path)
    };
    match sorted_entries(folder)?.into_iter().find(is_other) {
        Some(path) => {
            let problem = format!(
                "holds {} beside the splits that are read, expected these as train, val and test, all as .csv \
                 or all as .npy",
                path.file_name().unwrap_or_default().display()
            );
            Err(DataError::invalid(folder.display().to_string(), problem))
        }
        None => Ok(()),
    }
}

fn read_table(path: &Path) -> Result<Table, DataError> {
    let is_npy = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("npy"));
    let table = if is_npy { npy_file::read(path)? } else { csv_file::read(path)? };
    if table.labels.is_empty() || table.width == 0 {
        let problem = format!("{} rows of {} features", table.labels.len(), table.width);
        return Err(DataError::invalid(path.display().to_string(), problem));
    }
    Ok(table)
}

fn found(
    source: &Path,
    tables: &[(PathBuf, Table)],
    given: impl FnOnce(Vec<Vec<u32>>) -> GivenSplits,
) -> Result<Found, DataError> {
    let (train_path, train) = &tables[0];
    let classes = class_names(train)
        .map_err(|problem| DataError::invalid(train_path.display().to_string(), problem))?;
    let label_of: HashMap<_, _> = classes.iter().zip(0_u32..).collect();
    let (mut data, mut labels, mut ranges) = (Vec::new(), Vec::new(), Vec::new());
    for (path, table) in tables {
        let invalid = |problem| DataError::invalid(path.display().to_string(), problem);
        if table.width != train.width {
            let problem = format!("{} features, train has {}", table.width, train.width);
            return Err(invalid(problem));
        }
        let first = labels.len() as u32;
        for (row, label) in table.labels.iter().enumerate() {
            let label = label_of.get(&class_name(label)).ok_or_else(|| {
                invalid(format!("sample {}: class `{label}` does not occur in train", row + 1))
            })?;
            labels.push(*label);
        }
        data.extend_from_slice(&table.data);
        ranges.push((first..labels.len() as u32).collect());
    }
    Ok(Found {
        name: name_of(source),
        classes,
        samples: Samples::Vectors { width: train.width, data },
        labels,
        given: given(ranges),
        augment: Augment::None,
    })
}

/// The label values in order: integers by value, names by letters.
fn class_names(table: &Table) -> Result<Vec<String>, String> {
    let mut names: Vec<_> = table.labels.iter().map(|label| class_name(label)).collect();
    names.sort_unstable();
    names.dedup();
    if let Some(value) = names.iter().find(|name| {
        let number = name.parse::<f64>();
        number.is_ok_and(|number| !(number.is_finite() && number.fract() == 0.0))
    }) {
        return Err(format!(
            "{}: got `{value}`, expected a class: a name or an integer",
            table.label_column
        ));
    }
    if names.iter().all(|name| name.parse::<i64>().is_ok()) {
        names.sort_by_key(|name| name.parse::<i64>().unwrap_or(0));
    }
    Ok(names)
}

/// `3.0` and `3` are the same class.
fn class_name(label: &str) -> String {
    match label.parse::<f64>() {
        Ok(number) if number.fract() == 0.0 && number.abs() < 1e15 => (number as i64).to_string(),
        _ => label.to_owned(),
    }
}
