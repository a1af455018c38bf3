//! The files of a folder.

use std::fs;
use std::path::{Path, PathBuf};

use crate::DataError;

/// Files with another ending are not looked at.
const EXTENSIONS: [&str; 11] =
    ["jpg", "jpeg", "jpe", "jfif", "png", "bmp", "webp", "gif", "tif", "tiff", "apng"];

/// How deep folders may be nested below the first.
const MAX_DEPTH: usize = 16;

/// The images in a folder and below, by their endings, in an order that does not depend on the file system.
/// Hidden files and folders are passed over; links to folders are not followed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageFiles {
    /// The images, by folder and name.
    pub paths: Vec<PathBuf>,
    /// Other files, and folders that were not looked into.
    pub num_ignored: usize,
}

impl ImageFiles {
    /// Looks for them.
    ///
    /// # Errors
    /// A folder that can't be read.
    pub fn find(folder: &Path) -> Result<Self, DataError> {
        let mut found = Self::default();
        found.append(folder, 0)?;
        Ok(found)
    }

    fn append(&mut self, folder: &Path, depth: usize) -> Result<(), DataError> {
        for path in sorted_entries(folder)? {
            let is_folder = path.is_dir();
            // A link to a folder may lead round in a circle.
            if is_folder && depth < MAX_DEPTH && !path.is_symlink() {
                self.append(&path, depth + 1)?;
            } else if !is_folder && is_image_name(&path) {
                self.paths.push(path);
            } else {
                self.num_ignored += 1;
            }
        }
        Ok(())
    }
}

/// Without the hidden ones.
pub(crate) fn sorted_entries(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(DataError::read(folder))? {
        let entry = entry.map_err(DataError::read(folder))?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            paths.push(entry.path());
        }
    }
    paths.sort_unstable();
    Ok(paths)
}

/// Whether a name ends as an image's.
pub(super) fn is_image_name(path: &Path) -> bool {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    EXTENSIONS.contains(&extension.to_ascii_lowercase().as_str())
}
