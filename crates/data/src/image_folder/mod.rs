//! Folders of images: `train/`, `val/` and `test/` with class folders, or class folders alone.

mod checking;
mod listing;
mod walk;

use std::path::{Path, PathBuf};

use crate::dataset::{PixelShape, Samples};
use crate::image_file::{Fault, Pixels};
use crate::source::{measure_and_finish, name_of};
use crate::split::{self, Splits};
use crate::statistics::ChannelHistogram;
use crate::{
    Augment, BadSample, DataError, Dataset, OnProgress, OpenOptions, Preprocessing, Resize,
};

pub(crate) use checking::Checked;
use checking::Checking;
use listing::Listing;
pub(crate) use listing::{DEV_NAMES, is_split_name};
pub use walk::ImageFiles;
pub(crate) use walk::sorted_entries;

/// The usual size for photographs.
const DEFAULT_SIZE: usize = 224;

/// Images that all have one size, with sides up to this, are kept in memory.
const MAX_KEPT_SIDE: usize = 64;
const MAX_KEPT_BYTES: usize = 1 << 30;

/// The statistics of photographs are those of this many training images.
const MAX_MEASURED: usize = 1000;

/// A dataset, and what decoding each of its samples has shown.
pub(crate) struct OpenedFolder {
    pub(crate) dataset: Dataset,
    /// In the order of the dataset's samples.
    pub(crate) checked: Vec<Checked>,
    pub(crate) paths: Vec<PathBuf>,
    pub(crate) num_ignored: usize,
}

/// Lists, splits and decodes the images of a folder.
pub(crate) fn open(
    root: &Path,
    options: &OpenOptions,
    with_pixel_digest: bool,
    on_progress: OnProgress<'_>,
) -> Result<OpenedFolder, DataError> {
    let mut listing = Listing::of(root)?;
    let size = options.image_size.unwrap_or(DEFAULT_SIZE);
    let mut preprocessing = photograph_preprocessing(size);
    preprocessing.validate()?;
    // Before the bad ones are known: leaving one out does not move any other.
    let mut splits = split::cut(listing.given, &listing.labels, options)?;

    let measured = spread(&splits.indices[0], MAX_MEASURED);
    let kept_size = small_size(&listing.paths);
    let checking =
        Checking { sizing: &preprocessing, measured: &measured, with_pixel_digest, kept_size };
    let results = checking.run(&listing.paths, on_progress);

    let num_images = results.len();
    let (mut checked, faults) = sort_out(results);
    let bad: Vec<_> = faults
        .into_iter()
        .map(|(i, Fault { issue, reason })| {
            let (path, split) = (listing.paths[i].clone(), splits.split_of(i as u32));
            BadSample { path, split, issue, reason }
        })
        .collect();
    leave_out(&bad, &mut listing.paths, &mut listing.labels, &mut splits);
    if !bad.is_empty() && (!options.skip_bad || splits.indices[0].is_empty()) {
        return Err(DataError::BadImages { bad, checked: num_images });
    }

    let (name, labels, paths) = (name_of(root), listing.labels, listing.paths.clone());
    let mut dataset = match all_pixels(&mut checked, kept_size) {
        Some(samples) => measure_and_finish(
            name,
            listing.classes,
            samples,
            labels,
            splits,
            Augment::PAD_CROP_FLIP,
            options.image_size,
        )?,
        None => {
            let histogram = checked
                .iter()
                .filter_map(|image| image.histogram.as_ref())
                .fold(ChannelHistogram::new(preprocessing.channels), ChannelHistogram::merge);
            (preprocessing.mean, preprocessing.std) = histogram.mean_std();
            let digests = checked.iter().map(|image| image.digest).collect();
            let samples = Samples::Files { paths: listing.paths, digests };
            let augment = Augment::RANDOM_RESIZED_CROP_FLIP;
            Dataset::new(name, listing.classes, samples, labels, splits, preprocessing, augment)?
        }
    };
    dataset.skipped = bad;
    Ok(OpenedFolder { dataset, checked, paths, num_ignored: listing.num_ignored })
}

/// Resize to 256/224 of the size, centre crop; the statistics are filled in later.
fn photograph_preprocessing(size: usize) -> Preprocessing {
    Preprocessing {
        channels: 3,
        height: size,
        width: size,
        resize: Resize::ShortSide((size * 256 + 112) / 224),
        mean: vec![0.0; 3],
        std: vec![1.0; 3],
    }
}

/// `count` of the indices, evenly spaced; all of them if there are no more.
fn spread(indices: &[u32], count: usize) -> Vec<u32> {
    let count = count.min(indices.len());
    (0..count).map(|i| indices[i * indices.len() / count]).collect()
}

/// The size of the first image that can be decoded, if all images of that size fit in memory.
fn small_size(paths: &[PathBuf]) -> Option<[usize; 2]> {
    let first = paths.iter().find_map(|path| Pixels::load(path).ok())?;
    let bytes = first.data.len().checked_mul(paths.len())?;
    let is_small = first.height.max(first.width) <= MAX_KEPT_SIDE && bytes <= MAX_KEPT_BYTES;
    is_small.then_some([first.height, first.width])
}

/// Takes the pixels of all images together, if all have the one size.
fn all_pixels(checked: &mut [Checked], size: Option<[usize; 2]>) -> Option<Samples> {
    let [height, width] = size?;
    if checked.iter().any(|image| image.pixels.is_none()) {
        return None;
    }
    let shape = PixelShape { channels: 3, height, width };
    let mut data = Vec::with_capacity(checked.len() * shape.len());
    for pixels in checked.iter_mut().filter_map(|image| image.pixels.take()) {
        data.extend_from_slice(&pixels);
    }
    Some(Samples::Pixels { shape, data })
}

/// The images that can be used, and the faults of the others with their indices.
fn sort_out(results: Vec<Result<Checked, Fault>>) -> (Vec<Checked>, Vec<(usize, Fault)>) {
    let (mut checked, mut faults) = (Vec::new(), Vec::new());
    for (i, result) in results.into_iter().enumerate() {
        match result {
            Ok(image) => checked.push(image),
            Err(fault) => faults.push((i, fault)),
        }
    }
    (checked, faults)
}

/// Takes the bad images, which are in the order of the listing, out of it and of the splits.
fn leave_out(
    bad: &[BadSample],
    paths: &mut Vec<PathBuf>,
    labels: &mut Vec<u32>,
    splits: &mut Splits,
) {
    let mut bad = bad.iter().peekable();
    let is_good: Vec<_> =
        paths.iter().map(|path| bad.next_if(|b| b.path == *path).is_none()).collect();
    let mut num_good = 0;
    let new_index: Vec<_> = is_good
        .iter()
        .map(|&is_good| {
            num_good += u32::from(is_good);
            is_good.then(|| num_good - 1)
        })
        .collect();
    for indices in &mut splits.indices {
        *indices = indices.iter().filter_map(|&i| new_index[i as usize]).collect();
    }
    let mut keep = is_good.iter();
    paths.retain(|_| keep.next() == Some(&true));
    let mut keep = is_good.iter();
    labels.retain(|_| keep.next() == Some(&true));
}
