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
            let (crop_w, crop_h) = (width as f64 * scale, height as f64 * scale);
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
    let options = ResizeOptions::new()
        .resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom))
        .crop(crop.left, crop.top, crop.width, crop.height);
    RESIZER
        .with_borrow_mut(|resizer| resizer.resize(&source, &mut target, &options))
        .map_err(|e| failed(&e))
}

/// ITU-R 601-2, in the integers that PIL's `convert("L")` uses.
fn luma(&[r, g, b]: &[u8; 3]) -> u8 {
    ((u32::from(r) * 19595 + u32::from(g) * 38470 + u32::from(b) * 7471 + 0x8000) >> 16) as u8
}
