//! The binary form of CIFAR-10 and CIFAR-100 (Krizhevsky, "Learning multiple layers of features
//! from tiny images", 2009; <https://www.cs.toronto.edu/~kriz/cifar.html>): records of one label
//! byte (CIFAR-100: a coarse and a fine one), then the red, green and blue plane of a 32×32
//! picture.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use rayon::prelude::*;

use crate::dataset::{Found, PixelShape, Samples};
use crate::image_file::open_regular;
use crate::source::name_of;
use crate::split::GivenSplits;
use crate::{Augment, DataError};

/// The two record layouts.
struct Layout {
    train: &'static [&'static str],
    test: &'static str,
    class_names: &'static str,
    /// Bytes before the pixels; the last of them is the label.
    label_bytes: usize,
}

const CIFAR_10: Layout = Layout {
    train: &[
        "data_batch_1.bin",
        "data_batch_2.bin",
        "data_batch_3.bin",
        "data_batch_4.bin",
        "data_batch_5.bin",
    ],
    test: "test_batch.bin",
    class_names: "batches.meta.txt",
    label_bytes: 1,
};

const CIFAR_100: Layout = Layout {
    train: &["train.bin"],
    test: "test.bin",
    class_names: "fine_label_names.txt",
    label_bytes: 2,
};

const SHAPE: PixelShape = PixelShape { channels: 3, height: 32, width: 32 };
const PLANE: usize = 32 * 32;

/// A real member has at most 153.7 MB (`train.bin` of CIFAR-100).
const MAX_MEMBER_BYTES: u64 = 1 << 28;
const MAX_TOTAL_BYTES: u64 = 1 << 30;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const TAR_MAGIC_AT: usize = 257;

/// The members that matter, by the last part of their name.
type Members = HashMap<String, Vec<u8>>;

/// Reads a `.tar.gz` or `.tar`. Nothing is extracted: the names of the members only select them.
pub(crate) fn read_archive(path: &Path) -> Result<Found, DataError> {
    let file = File::open(path).map_err(DataError::read(path))?;
    let mut file = BufReader::with_capacity(1 << 16, file);
    let start = file.fill_buf().map_err(DataError::read(path))?;
    if start.starts_with(&GZIP_MAGIC) {
        assemble(path, &read_members(MultiGzDecoder::new(file), path)?)
    } else if start.get(TAR_MAGIC_AT..).is_some_and(|rest| rest.starts_with(b"ustar")) {
        assemble(path, &read_members(file, path)?)
    } else {
        let problem = "neither an archive (.tar.gz, .tar) nor a table (.csv, .npy)";
        Err(DataError::invalid(path.display().to_string(), problem))
    }
}

/// Reads the folder that such an archive extracts to.
pub(crate) fn read_folder(folder: &Path) -> Result<Found, DataError> {
    let mut members = Members::new();
    for name in wanted_names() {
        let path = folder.join(name);
        let (file, len) = match open_regular(&path) {
            Ok(opened) => opened,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(DataError::read(&path)(e)),
        };
        expect_member_size(folder, name, len)?;
        let mut bytes = Vec::new();
        file.take(len).read_to_end(&mut bytes).map_err(DataError::read(&path))?;
        members.insert(name.to_owned(), bytes);
    }
    assemble(folder, &members)
}

/// Whether a folder holds such files.
pub(crate) fn is_cifar_folder(folder: &Path) -> bool {
    [CIFAR_10, CIFAR_100].iter().any(|layout| {
        layout.train.iter().any(|name| folder.join(name).is_file())
            || folder.join(layout.class_names).is_file()
    })
}

/// The folder that the official archives bring along, if it lies in `folder`.
pub(crate) fn folder_inside(folder: &Path) -> Option<PathBuf> {
    ["cifar-10-batches-bin", "cifar-100-binary"]
        .iter()
        .map(|name| folder.join(name))
        .find(|inside| is_cifar_folder(inside))
}

fn wanted_names() -> impl Iterator<Item = &'static str> {
    [CIFAR_10, CIFAR_100]
        .into_iter()
        .flat_map(|layout| layout.train.iter().copied().chain([layout.test, layout.class_names]))
}

fn read_members(reader: impl Read, path: &Path) -> Result<Members, DataError> {
    let subject = || path.display().to_string();
    let damaged = |e: io::Error| match e.kind() {
        io::ErrorKind::UnexpectedEof => DataError::invalid(subject(), "the archive is truncated"),
        _ => DataError::invalid(subject(), format!("not a readable archive: {e}")),
    };
    let mut members = Members::new();
    let mut total = 0;
    let mut archive = tar::Archive::new(reader);
    // Raw: an entry that only holds the name of the next one may be of any length, and would be
    // read whole. The names in question are short.
    for entry in archive.entries().map_err(damaged)?.raw(true) {
        let entry = entry.map_err(damaged)?;
        let name = entry.path_bytes();
        let name = String::from_utf8_lossy(name.rsplit(|&b| b == b'/').next().unwrap_or(&name));
        let Some(name) = wanted_names().find(|&wanted| wanted == name) else { continue };
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let len = entry.size();
        expect_member_size(path, name, len)?;
        total += len;
        if total > MAX_TOTAL_BYTES {
            return Err(DataError::invalid(subject(), "holds more than CIFAR does"));
        }
        // Grows with what is there: the header may claim anything.
        let mut bytes = Vec::new();
        entry.take(len).read_to_end(&mut bytes).map_err(damaged)?;
        if (bytes.len() as u64) < len {
            return Err(DataError::invalid(subject(), "the archive is truncated"));
        }
        if members.insert(name.to_owned(), bytes).is_some() {
            return Err(DataError::invalid(subject(), format!("{name} is in it twice")));
        }
    }
    // The checksum of the compressed stream comes last.
    let rest = archive.into_inner().take(MAX_MEMBER_BYTES);
    io::copy(&mut { rest }, &mut io::sink()).map_err(damaged)?;
    Ok(members)
}

fn expect_member_size(path: &Path, name: &str, len: u64) -> Result<(), DataError> {
    if len > MAX_MEMBER_BYTES {
        let problem = format!("{name} has {len} bytes, expected at most {MAX_MEMBER_BYTES}");
        return Err(DataError::invalid(path.display().to_string(), problem));
    }
    Ok(())
}

fn assemble(path: &Path, members: &Members) -> Result<Found, DataError> {
    let layout = [CIFAR_10, CIFAR_100]
        .into_iter()
        .find(|layout| layout.train.iter().any(|&name| members.contains_key(name)))
        .ok_or_else(|| {
            let problem = "holds neither CIFAR-10 (data_batch_1.bin …) nor CIFAR-100 (train.bin)";
            DataError::invalid(path.display().to_string(), problem)
        })?;
    let member = |name: &str| {
        members.get(name).map(Vec::as_slice).ok_or_else(|| {
            DataError::invalid(path.display().to_string(), format!("{name} is missing"))
        })
    };
    let in_member = |name: &str| format!("{}: {name}", path.display());
    let classes = class_names(member(layout.class_names)?)
        .map_err(|problem| DataError::invalid(in_member(layout.class_names), problem))?;

    let (mut data, mut labels) = (Vec::new(), Vec::new());
    let mut read = |name: &str| {
        append_records(member(name)?, layout.label_bytes, classes.len(), &mut data, &mut labels)
            .map_err(|problem| DataError::invalid(in_member(name), problem))?;
        Ok::<_, DataError>(labels.len() as u32)
    };
    let mut num_train = 0;
    for name in layout.train {
        num_train = read(name)?;
    }
    let num_samples = read(layout.test)?;
    Ok(Found {
        name: name_of(path),
        classes,
        samples: Samples::Pixels { shape: SHAPE, data },
        labels,
        given: GivenSplits {
            train: (0..num_train).collect(),
            dev: None,
            test: Some((num_train..num_samples).collect()),
        },
        augment: Augment::PAD_CROP_FLIP,
    })
}

fn class_names(text: &[u8]) -> Result<Vec<String>, String> {
    let text = std::str::from_utf8(text).map_err(|e| e.to_string())?;
    let names = text.lines().map(str::trim).filter(|name| !name.is_empty());
    Ok(names.map(str::to_owned).collect())
}

fn append_records(
    bytes: &[u8],
    label_bytes: usize,
    num_classes: usize,
    data: &mut Vec<u8>,
    labels: &mut Vec<u32>,
) -> Result<(), String> {
    let record = label_bytes + SHAPE.len();
    if bytes.is_empty() || !bytes.len().is_multiple_of(record) {
        return Err(format!("{} bytes, expected a multiple of {record}", bytes.len()));
    }
    for (i, record) in bytes.chunks_exact(record).enumerate() {
        let label = u32::from(record[label_bytes - 1]);
        if label as usize >= num_classes {
            return Err(format!("record {i} has label {label}, expected less than {num_classes}"));
        }
        labels.push(label);
    }
    let first = data.len();
    data.resize(first + bytes.len() / record * SHAPE.len(), 0);
    data[first..].par_chunks_exact_mut(SHAPE.len()).zip(bytes.par_chunks_exact(record)).for_each(
        |(pixels, record)| {
            let planes = &record[label_bytes..];
            for (i, pixel) in pixels.as_chunks_mut::<3>().0.iter_mut().enumerate() {
                *pixel = [planes[i], planes[PLANE + i], planes[2 * PLANE + i]];
            }
        },
    );
    Ok(())
}
