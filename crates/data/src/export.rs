use std::fs;
use std::path::Path;

use image::ExtendedColorType;
use rayon::prelude::*;

use crate::{DataError, Dataset, Kind, OnProgress, ProgressCount, Split};

/// Folder names of the splits.
const SPLIT_FOLDERS: [(Split, &str); 3] =
    [(Split::Train, "train"), (Split::Dev, "val"), (Split::Test, "test")];

/// Everything is written here first and moved at the end.
const UNFINISHED: &str = ".unfinished-export";

/// Writes the pictures of a dataset as PNGs `train|val|test/CLASS/000000.png`, numbered as in
/// their split; a split without samples gets no folder. What [`open`](crate::open) makes of the
/// folder has the same pixels and splits, in the order of the classes.
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
    if fs::read_dir(folder).map_err(DataError::read(folder))?.next().is_some() {
        let problem = "the folder is not empty, expected a new or an empty one";
        return Err(DataError::invalid(folder.display().to_string(), problem));
    }

    let unfinished = folder.join(UNFINISHED);
    let total = Split::ALL.iter().map(|&split| dataset.len(split)).sum();
    let count = ProgressCount::new(total, on_progress);
    for (split, name) in SPLIT_FOLDERS {
        if dataset.is_empty(split) {
            continue;
        }
        let split_folder = unfinished.join(name);
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
    for (split, name) in SPLIT_FOLDERS {
        if !dataset.is_empty(split) {
            let target = folder.join(name);
            fs::rename(unfinished.join(name), &target).map_err(DataError::write(&target))?;
        }
    }
    fs::remove_dir(&unfinished).map_err(DataError::write(&unfinished))
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
            other => std::io::Error::other(other),
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
