use std::path::{Path, PathBuf};

use super::walk::{ImageFiles, is_image_name, sorted_entries};
use crate::DataError;
use crate::split::GivenSplits;

/// Names of the folder that holds the dev split.
pub(crate) const DEV_NAMES: [&str; 4] = ["val", "valid", "validation", "dev"];

/// What the folder of a split may be called elsewhere, in any case.
const SPLIT_NAMES: [&str; 8] =
    ["train", "training", "test", "testing", "val", "valid", "validation", "dev"];

const EXPECTED: &str = "expected the splits as train, val and test";

/// The images of a folder, in an order that does not depend on the file system.
pub(super) struct Listing {
    pub(super) classes: Vec<String>,
    pub(super) paths: Vec<PathBuf>,
    pub(super) labels: Vec<u32>,
    pub(super) given: GivenSplits,
    /// Files that are no images by their ending, and folders that are not looked into.
    pub(super) num_ignored: usize,
}

impl Listing {
    /// Looks for `train/`, or else for class folders.
    pub(super) fn of(root: &Path) -> Result<Self, DataError> {
        let invalid = |problem: String| DataError::invalid(root.display().to_string(), problem);
        let mut listing = Self {
            classes: Vec::new(),
            paths: Vec::new(),
            labels: Vec::new(),
            given: GivenSplits { train: Vec::new(), dev: None, test: None },
            num_ignored: 0,
        };
        let dev: Vec<_> =
            DEV_NAMES.iter().map(|name| root.join(name)).filter(|path| path.is_dir()).collect();
        let (train, test) = (root.join("train"), root.join("test"));
        if !train.is_dir() {
            if let Some(lonely) = dev.first().or(test.is_dir().then_some(&test)) {
                return Err(invalid(format!("holds {} but no train", lonely.display())));
            }
            listing.classes = class_names(root)?;
            let num_splits = listing.classes.iter().filter(|name| is_split_name(name)).count();
            if num_splits > 1 || num_splits == listing.classes.len() {
                return Err(invalid(format!("holds {}, {EXPECTED}", listing.classes.join(", "))));
            }
            listing.given.train = listing.append_split(root)?;
            return Ok(listing);
        }
        if let [one, other, ..] = &dev[..] {
            let [one, other] = [one, other].map(|path| path.display());
            return Err(invalid(format!("{one} and {other} could both be the dev split")));
        }
        let used: Vec<_> = [&train, &test].into_iter().chain(&dev).collect();
        listing.num_ignored = count_other_folders(root, &used)?;
        listing.classes = class_names(&train)?;
        listing.given.train = listing.append_split(&train)?;
        listing.given.dev = dev.first().map(|dev| listing.append_split(dev)).transpose()?;
        listing.given.test = test.is_dir().then(|| listing.append_split(&test)).transpose()?;
        Ok(listing)
    }

    /// Adds the images under the class folders of `folder` and gives their indices.
    fn append_split(&mut self, folder: &Path) -> Result<Vec<u32>, DataError> {
        let first = self.paths.len() as u32;
        for name in class_names(folder)? {
            let class_folder = folder.join(&name);
            let Ok(label) = self.classes.binary_search(&name) else {
                let problem = format!("class `{name}` does not occur in train");
                return Err(DataError::invalid(folder.display().to_string(), problem));
            };
            let ImageFiles { paths, num_ignored } = ImageFiles::find(&class_folder)?;
            if paths.is_empty() {
                let problem = "the class folder has no images (JPEG, PNG, BMP, WebP, GIF, TIFF)";
                return Err(DataError::invalid(class_folder.display().to_string(), problem));
            }
            self.paths.extend(paths);
            self.num_ignored += num_ignored;
            self.labels.resize(self.paths.len(), label as u32);
        }
        Ok((first..self.paths.len() as u32).collect())
    }
}

/// How many folders there are beside those that are used. One that is called like a split is
/// refused: its images were meant to be used.
fn count_other_folders(root: &Path, used: &[&PathBuf]) -> Result<usize, DataError> {
    let mut others = sorted_entries(root)?;
    others.retain(|path| path.is_dir() && !used.contains(&path));
    let name = |path: &PathBuf| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    match others.iter().map(name).find(|name| is_split_name(name)) {
        Some(name) => {
            let problem = format!("holds {name} beside train, {EXPECTED}");
            Err(DataError::invalid(root.display().to_string(), problem))
        }
        None => Ok(others.len()),
    }
}

pub(crate) fn is_split_name(name: &str) -> bool {
    SPLIT_NAMES.contains(&name.to_lowercase().as_str())
}

/// The names of the folders in `folder`, sorted.
fn class_names(folder: &Path) -> Result<Vec<String>, DataError> {
    let mut names = Vec::new();
    let mut has_images = false;
    for path in sorted_entries(folder)? {
        if !path.is_dir() {
            has_images |= is_image_name(&path);
            continue;
        }
        let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(|| {
            DataError::invalid(path.display().to_string(), "the class name is not valid UTF-8")
        })?;
        names.push(name.to_owned());
    }
    if names.is_empty() {
        let problem = if has_images {
            "holds images, expected class folders that hold them"
        } else {
            "holds no class folders with images, nor any other data that is known"
        };
        return Err(DataError::invalid(folder.display().to_string(), problem));
    }
    names.sort_unstable();
    Ok(names)
}
