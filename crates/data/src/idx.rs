//! The IDX files of MNIST and its successors (<http://yann.lecun.com/exdb/mnist/>): a big-endian
//! header and bytes, with or without gzip.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use crate::dataset::{Found, PixelShape, Samples};
use crate::source::name_of;
use crate::split::GivenSplits;
use crate::{Augment, DataError, Flip, PaddingMode};

/// Third byte: unsigned bytes; fourth: the number of dimensions.
const IMAGES_MAGIC: u32 = 0x0000_0803;
const LABELS_MAGIC: u32 = 0x0000_0801;

const MAX_SIDE: usize = 4096;
/// A sample of a byte takes eight more for its label and its place in a split.
const MAX_SAMPLES: usize = 1 << 26;
const MAX_DATA_BYTES: u64 = 1 << 31;

/// Whether a folder holds such files.
pub(crate) fn is_idx_folder(folder: &Path) -> bool {
    find(folder, "train", "images-idx3").is_some()
}

/// Reads `{train,t10k}-{images-idx3,labels-idx1}-ubyte[.gz]`. Classes are the label values
/// up to the largest of train.
pub(crate) fn read_folder(folder: &Path) -> Result<Found, DataError> {
    let (shape, mut data, mut labels) = read_pair(folder, "train")?;
    let num_train = labels.len();
    let num_classes = labels.iter().copied().max().map_or(0, |max| max + 1);
    let mut test = None;
    // `test-` is how some successors of MNIST call it.
    if let Some(prefix) = ["t10k", "test"].into_iter().find(|prefix| has_part(folder, prefix)) {
        let (test_shape, test_data, test_labels) = read_pair(folder, prefix)?;
        if test_shape != shape {
            let [h, w, test_h, test_w] =
                [shape.height, shape.width, test_shape.height, test_shape.width];
            let problem = format!("{prefix} images are {test_h}×{test_w}, train ones {h}×{w}");
            return Err(DataError::invalid(folder.display().to_string(), problem));
        }
        if let Some(i) = test_labels.iter().position(|&label| label >= num_classes) {
            let problem = format!(
                "{prefix} sample {i} has label {}, expected less than {num_classes} as in train",
                test_labels[i]
            );
            return Err(DataError::invalid(folder.display().to_string(), problem));
        }
        data.extend(test_data);
        labels.extend(test_labels);
        test = Some((num_train as u32..labels.len() as u32).collect());
    }
    Ok(Found {
        name: name_of(folder),
        classes: (0..num_classes).map(|class| class.to_string()).collect(),
        samples: Samples::Pixels { shape, data },
        labels,
        given: GivenSplits { train: (0..num_train as u32).collect(), dev: None, test },
        // Digits and letters change their meaning in a mirror, and fill most of the picture.
        augment: Augment::PadCrop {
            padding: 2,
            padding_mode: PaddingMode::Constant,
            flip: Flip::Never,
        },
    })
}

/// Whether there are images or labels, of which one without the other is missing something.
fn has_part(folder: &Path, prefix: &str) -> bool {
    ["images-idx3", "labels-idx1"]
        .into_iter()
        .any(|content| find(folder, prefix, content).is_some())
}

fn read_pair(folder: &Path, prefix: &str) -> Result<(PixelShape, Vec<u8>, Vec<u32>), DataError> {
    let images = expect_file(folder, prefix, "images-idx3")?;
    let labels = expect_file(folder, prefix, "labels-idx1")?;
    let ([num_images, height, width], data) = read_idx::<3>(&images, IMAGES_MAGIC)?;
    let ([num_labels], label_bytes) = read_idx::<1>(&labels, LABELS_MAGIC)?;
    if num_labels != num_images {
        let problem = format!("{num_labels} labels, but {num_images} images");
        return Err(DataError::invalid(labels.display().to_string(), problem));
    }
    let shape = PixelShape { channels: 1, height, width };
    Ok((shape, data, label_bytes.into_iter().map(u32::from).collect()))
}

/// `train-images-idx3-ubyte`, also with `.idx3` as it is often unpacked, with or without `.gz`.
fn find(folder: &Path, prefix: &str, content: &str) -> Option<PathBuf> {
    let dotted = content.replace('-', ".");
    [content, &dotted]
        .into_iter()
        .flat_map(|content| ["", ".gz"].map(|gz| format!("{prefix}-{content}-ubyte{gz}")))
        .map(|name| folder.join(name))
        .find(|path| path.is_file())
}

fn expect_file(folder: &Path, prefix: &str, content: &str) -> Result<PathBuf, DataError> {
    find(folder, prefix, content).ok_or_else(|| {
        let problem = format!("{prefix}-{content}-ubyte is missing (with or without .gz)");
        DataError::invalid(folder.display().to_string(), problem)
    })
}

/// Dimensions and bytes; the header is believed only as far as there are bytes.
fn read_idx<const N: usize>(path: &Path, magic: u32) -> Result<([usize; N], Vec<u8>), DataError> {
    let invalid = |problem: String| DataError::invalid(path.display().to_string(), problem);
    let file = BufReader::new(File::open(path).map_err(DataError::read(path))?);
    let is_gzip = path.extension().is_some_and(|extension| extension == "gz");
    let mut reader: Box<dyn Read> =
        if is_gzip { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };

    let mut word = || {
        let mut bytes = [0; 4];
        reader.read_exact(&mut bytes).map(|()| u32::from_be_bytes(bytes))
    };
    let found = word().map_err(|e| invalid(format!("no IDX header: {e}")))?;
    if found != magic {
        return Err(invalid(format!("magic number {found:#010x}, expected {magic:#010x}")));
    }
    let mut dims = [0; N];
    for dim in &mut dims {
        *dim = word().map_err(|e| invalid(format!("no IDX header: {e}")))? as usize;
    }
    if let Some(side) = dims[1..].iter().find(|side| !(1..=MAX_SIDE).contains(*side)) {
        return Err(invalid(format!("a side of {side} pixels, expected 1 to {MAX_SIDE}")));
    }
    if dims[0] > MAX_SAMPLES {
        return Err(invalid(format!("{} samples, expected at most {MAX_SAMPLES}", dims[0])));
    }
    let len = dims.iter().try_fold(1_u64, |len, &dim| len.checked_mul(dim as u64));
    let Some(len) = len.filter(|&len| len <= MAX_DATA_BYTES) else {
        return Err(invalid(format!("{dims:?} bytes, expected at most {MAX_DATA_BYTES}")));
    };
    let mut bytes = Vec::new();
    let mut limited = reader.take(len + 1);
    limited.read_to_end(&mut bytes).map_err(|e| invalid(format!("can't be unpacked: {e}")))?;
    if bytes.len() as u64 != len {
        let found = if bytes.len() as u64 > len { "more".into() } else { bytes.len().to_string() };
        return Err(invalid(format!("{found} bytes after the header, which says {len}")));
    }
    Ok((dims, bytes))
}
