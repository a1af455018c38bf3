use std::cell::RefCell;

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

use crate::dataset::PixelShape;
use crate::image_file::PixelView;
use crate::{DataError, Preprocessing, Resize};

/// A part of a picture, in pixels of the picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct CropBox {
    pub(crate) left: f64,
    pub(crate) top: f64,
    pub(crate) width: f64,
    pub(crate) height: f64,
}

thread_local! {
    /// Keeps its tables and buffers between pictures.
    static RESIZER: RefCell<Resizer> = RefCell::new(Resizer::new());
}

/// The evaluation transform: channels, resize, centre crop. Overwrites `out` with HWC bytes.
pub(crate) fn to_network_size(
    preprocessing: &Preprocessing,
    picture: PixelView<'_>,
    out: &mut Vec<u8>,
) -> Result<(), DataError> {
    let (height, width) = (preprocessing.height, preprocessing.width);
    let (h, w) = (picture.height as f64, picture.width as f64);
    let crop = match preprocessing.resize {
        Resize::None | Resize::Exact => CropBox { left: 0.0, top: 0.0, width: w, height: h },
        // Resizing and then cropping the centre is one resampling of the box that is kept.
        Resize::ShortSide(short_side) => {
            let scale = h.min(w) / short_side as f64;
            // Rounding must not make it larger than the picture.
            let (crop_w, crop_h) = ((width as f64 * scale).min(w), (height as f64 * scale).min(h));
            CropBox {
                left: (w - crop_w) / 2.0,
                top: (h - crop_h) / 2.0,
                width: crop_w,
                height: crop_h,
            }
        }
    };
    let shape = PixelShape { channels: preprocessing.channels, height, width };
    crop_and_resize(picture, crop, shape, out)
}

/// Overwrites `out` with the cropped part at the size and with the channels of `shape`.
pub(crate) fn crop_and_resize(
    picture: PixelView<'_>,
    crop: CropBox,
    shape: PixelShape,
    out: &mut Vec<u8>,
) -> Result<(), DataError> {
    let whole = crop.left == 0.0
        && crop.top == 0.0
        && crop.width == picture.width as f64
        && crop.height == picture.height as f64;
    if whole && shape.height == picture.height && shape.width == picture.width {
        out.clear();
        out.extend_from_slice(picture.data);
    } else {
        out.resize(picture.channels * shape.height * shape.width, 0);
        resample(picture, crop, shape, out)?;
    }
    match (picture.channels, shape.channels) {
        (1, 3) => *out = out.iter().flat_map(|&grey| [grey; 3]).collect(),
        (3, 1) => *out = out.as_chunks().0.iter().map(luma).collect(),
        _ => {}
    }
    Ok(())
}

fn resample(
    picture: PixelView<'_>,
    crop: CropBox,
    shape: PixelShape,
    out: &mut [u8],
) -> Result<(), DataError> {
    let failed = |e: &dyn std::fmt::Display| DataError::invalid("resize", e.to_string());
    let pixel_type = if picture.channels == 1 { PixelType::U8 } else { PixelType::U8x3 };
    let (width, height) = (picture.width as u32, picture.height as u32);
    let source = ImageRef::new(width, height, picture.data, pixel_type).map_err(|e| failed(&e))?;
    let mut target = Image::from_slice_u8(shape.width as u32, shape.height as u32, out, pixel_type)
        .map_err(|e| failed(&e))?;
    let [left, crop_width] = off_filter_zeros([crop.left, crop.width], picture.width, shape.width);
    let [top, crop_height] =
        off_filter_zeros([crop.top, crop.height], picture.height, shape.height);
    let options = ResizeOptions::new()
        .resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom))
        .crop(left, top, crop_width, crop_height);
    RESIZER
        .with_borrow_mut(|resizer| resizer.resize(&source, &mut target, &options))
        .map_err(|e| failed(&e))
}

/// Moves the ends of a crop by a millionth of a pixel where the resizer would read outside of its
/// buffer. It drops weights that are exactly zero and takes the first and the last output pixel to
/// be the ones that reach furthest. That is wrong if one of these two has a source pixel where the
/// filter passes through zero, one filter radius from its centre: then its neighbours reach further.
fn off_filter_zeros([mut start, mut len]: [f64; 2], source_len: usize, out_len: usize) -> [f64; 2] {
    let last = source_len as f64 - 1.0;
    let is_source_pixel =
        |at: f64| (at - at.round()).abs() < 1e-7 && (-0.5..last + 0.5).contains(&at);
    loop {
        let step = len / out_len as f64;
        let to_zero = step.max(1.0);
        let [first_centre, last_centre] =
            [start + 0.5 * step - 0.5, start + len - 0.5 * step - 0.5];
        if !is_source_pixel(first_centre - to_zero) && !is_source_pixel(last_centre + to_zero) {
            return [start, len];
        }
        // No zero moves by less than the width of what counts as a hit, so this ends.
        start += 1e-6;
        len -= 2.7e-6;
    }
}

/// ITU-R 601-2, in the integers that PIL's `convert("L")` uses.
fn luma(&[r, g, b]: &[u8; 3]) -> u8 {
    ((u32::from(r) * 19595 + u32::from(g) * 38470 + u32::from(b) * 7471 + 0x8000) >> 16) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In this profile the resizer's unchecked reads are checked: a read outside ends the process.
    #[test]
    fn every_crop_can_be_brought_to_every_size() {
        const LEN: usize = 16;
        let mut out = Vec::new();
        for [height, width] in [[LEN, 1], [1, LEN], [LEN, LEN]] {
            let data = vec![7; 3 * height * width];
            let picture = PixelView { channels: 3, height, width, data: &data };
            // Whole pixels, as a random crop has them, and halves, as a centre crop has them.
            for start in 0..2 * LEN {
                for end in start + 1..=2 * LEN {
                    let [left, right] =
                        [start, end].map(|at| at as f64 / 2.0 * width as f64 / 16.0);
                    let [top, bottom] =
                        [start, end].map(|at| at as f64 / 2.0 * height as f64 / 16.0);
                    let crop = CropBox { left, top, width: right - left, height: bottom - top };
                    for size in (1..=12).chain([24]) {
                        let shape = PixelShape { channels: 3, height: size, width: size };
                        crop_and_resize(picture, crop, shape, &mut out).unwrap();
                        assert!(out.iter().all(|&byte| byte == 7), "{crop:?} {size} {out:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn only_what_would_fail_is_moved() {
        // From 50 pixels, 5 of 6 parts: the last centre plus the step is pixel 49, weight zero.
        let len = 5.0 * 49.0 / 6.0;
        let start = (50.0 - len) / 2.0;
        let [moved_start, moved_len] = off_filter_zeros([start, len], 50, 5);
        assert!(moved_start > start && moved_start + moved_len < start + len);
        assert!(len - moved_len < 1e-5);
        for (whole, out_len) in [(50.0, 5), (5.0, 50), (7.0, 7)] {
            assert_eq!(off_filter_zeros([0.0, whole], whole as usize, out_len), [0.0, whole]);
        }
    }
}
