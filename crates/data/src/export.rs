use std::fs;
use std::io;
use std::path::Path;

use image::ExtendedColorType;
use rayon::prelude::*;

use crate::{DataError, Dataset, Kind, OnProgress, ProgressCount, Split};

/// Folder names of the splits. They are moved to their place in this order: without `train` what an
/// interruption leaves is no dataset.
const SPLIT_FOLDERS: [(Split, &str); 3] =
    [(Split::Test, "test"), (Split::Dev, "val"), (Split::Train, "train")];

/// Everything is written here first and moved at the end. It lies inside the folder, which may be
/// the current one or a disk of its own: nothing can be renamed onto these.
const UNFINISHED: &str = ".unfinished-export";

/// Writes the pictures of a dataset as PNGs `train|val|test/CLASS/000000.png`, numbered as in
/// their split; a split without samples gets no folder. What [`open`](crate::open) makes of the
/// folder has the same pixels and splits, in the order of the classes. What an interrupted export
/// has left in the folder is removed first.
///
/// # Errors
/// If the dataset holds vectors, a class name is no file name, or `folder` is not empty or can't
/// be written.
pub fn export_image_folder(
    dataset: &Dataset,
    folder: &Path,
    on_progress: OnProgress<'_>,
) -> Result<(), DataError> {
    if dataset.kind() == Kind::Vectors {
        return Err(DataError::invalid(dataset.name(), "holds vectors, expected pictures"));
    }
    if let Some(class) = dataset.classes().iter().find(|name| !is_folder_name(name)) {
        let problem = format!("class `{class}` can't be the name of a folder");
        return Err(DataError::invalid(dataset.name(), problem));
    }
    fs::create_dir_all(folder).map_err(DataError::write(folder))?;
    for entry in fs::read_dir(folder).map_err(DataError::read(folder))? {
        if entry.map_err(DataError::read(folder))?.file_name() != UNFINISHED {
            let problem = "the folder is not empty, expected a new or an empty one";
            return Err(DataError::invalid(folder.display().to_string(), problem));
        }
    }
    let unfinished = folder.join(UNFINISHED);
    remove(&unfinished)?;
    if let Err(error) = write_splits(dataset, &unfinished, on_progress) {
        // The first error is the one to tell.
        let _ = remove(&unfinished);
        return Err(error);
    }
    for (split, name) in SPLIT_FOLDERS {
        if !dataset.is_empty(split) {
            let target = folder.join(name);
            fs::rename(unfinished.join(name), &target).map_err(DataError::write(&target))?;
        }
    }
    remove(&unfinished)
}

/// A folder with all that is in it, if it is there.
fn remove(folder: &Path) -> Result<(), DataError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(DataError::write(folder)(error))
        }
        _ => Ok(()),
    }
}

fn write_splits(
    dataset: &Dataset,
    folder: &Path,
    on_progress: OnProgress<'_>,
) -> Result<(), DataError> {
    let total = Split::ALL.iter().map(|&split| dataset.len(split)).sum();
    let count = ProgressCount::new(total, on_progress);
    for (split, name) in SPLIT_FOLDERS {
        if dataset.is_empty(split) {
            continue;
        }
        let split_folder = folder.join(name);
        for (class, &num_samples) in dataset.classes().iter().zip(&dataset.class_counts(split)) {
            if num_samples > 0 {
                let class_folder = split_folder.join(class);
                fs::create_dir_all(&class_folder).map_err(DataError::write(&class_folder))?;
            }
        }
        (0..dataset.len(split)).into_par_iter().try_for_each(|i| {
            write_png(dataset, split, i, &split_folder)?;
            count.add_one();
            Ok(())
        })?;
    }
    Ok(())
}

fn write_png(
    dataset: &Dataset,
    split: Split,
    i: usize,
    split_folder: &Path,
) -> Result<(), DataError> {
    let pixels = dataset.pixels(split, i)?;
    let class = &dataset.classes()[dataset.label(split, i) as usize];
    let path = split_folder.join(class).join(format!("{i:06}.png"));
    let colour = if pixels.channels == 1 { ExtendedColorType::L8 } else { ExtendedColorType::Rgb8 };
    let (width, height) = (pixels.width as u32, pixels.height as u32);
    image::save_buffer(&path, &pixels.data, width, height, colour).map_err(|error| {
        let source = match error {
            image::ImageError::IoError(source) => source,
            other => io::Error::other(other),
        };
        DataError::Write { path: path.clone(), source }
    })
}

/// One plain component of a path, on any system.
fn is_folder_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('.')
        && !name.contains(|c: char| c.is_control() || r#"/\:*?"<>|"#.contains(c))
}
