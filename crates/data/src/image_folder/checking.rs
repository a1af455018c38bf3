use std::path::PathBuf;

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::image_file::{Encoding, Fault, Pixels, read_file};
use crate::resize::to_network_size;
use crate::statistics::ChannelHistogram;
use crate::{OnProgress, Preprocessing, ProgressCount};

/// What decoding an image has shown.
pub(crate) struct Checked {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) encoding: Encoding,
    /// Of the bytes of the file.
    pub(crate) digest: [u8; 32],
    /// Of the decoded pixels and the size; only for a report.
    pub(crate) pixel_digest: Option<[u8; 32]>,
    /// Of the pixels at the network's size, for the images that are measured.
    pub(super) histogram: Option<ChannelHistogram>,
    /// If all images so far have one small size.
    pub(super) pixels: Option<Vec<u8>>,
}

/// What to do with every image.
pub(super) struct Checking<'a> {
    /// How the images that are measured get the network's size.
    pub(super) sizing: &'a Preprocessing,
    /// Which ones those are, ascending.
    pub(super) measured: &'a [u32],
    pub(super) with_pixel_digest: bool,
    /// Height and width, if pixels of this size are to be kept.
    pub(super) kept_size: Option<[usize; 2]>,
}

impl Checking<'_> {
    /// Reads and decodes every file: a header does not tell whether the rest is there.
    pub(super) fn run(
        &self,
        paths: &[PathBuf],
        on_progress: OnProgress<'_>,
    ) -> Vec<Result<Checked, Fault>> {
        let count = ProgressCount::new(paths.len(), on_progress);
        paths
            .par_iter()
            .enumerate()
            .map(|(index, path)| {
                let checked = read_file(path).and_then(|bytes| self.check(index as u32, &bytes));
                count.add_one();
                checked
            })
            .collect()
    }

    fn check(&self, index: u32, bytes: &[u8]) -> Result<Checked, Fault> {
        let (pixels, encoding) = Pixels::decode_bytes(bytes)?;
        let (width, height) = (pixels.width, pixels.height);
        Ok(Checked {
            width,
            height,
            encoding,
            digest: Sha256::digest(bytes).into(),
            pixel_digest: self.with_pixel_digest.then(|| pixel_digest(&pixels)),
            histogram: self.measured.binary_search(&index).ok().map(|_| self.measure(&pixels)),
            pixels: (self.kept_size == Some([height, width])).then_some(pixels.data),
        })
    }

    fn measure(&self, pixels: &Pixels) -> ChannelHistogram {
        let mut histogram = ChannelHistogram::new(pixels.channels);
        let mut sized = Vec::new();
        if to_network_size(self.sizing, pixels.view(), &mut sized).is_ok() {
            histogram.add(&sized);
        }
        histogram
    }
}

/// Equal for equal pictures, whatever format they were stored in.
fn pixel_digest(pixels: &Pixels) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update((pixels.height as u64).to_le_bytes());
    hash.update((pixels.width as u64).to_le_bytes());
    hash.update(&pixels.data);
    hash.finalize().into()
}
