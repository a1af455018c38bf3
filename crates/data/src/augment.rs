use std::fmt;
use std::str::FromStr;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::DataError;
use crate::resize::CropBox;

/// Random changes to a training picture that leave its class as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Augment {
    /// The evaluation transform.
    None,
    /// The evaluation transform, shifted by up to `padding` pixels each way (black where that
    /// uncovers something), mirrored half of the time if `flip`. For small images: He et al. 2015,
    /// section 4.2, with `padding` 4.
    PadCrop {
        /// Pixels.
        padding: usize,
        /// Whether left and right may be swapped.
        flip: bool,
    },
    /// A random part (8 % to 100 % of the area, aspect ratio 3:4 to 4:3) resized to the network's
    /// size, mirrored half of the time if `flip`: torchvision's `RandomResizedCrop`.
    RandomResizedCrop {
        /// Whether left and right may be swapped.
        flip: bool,
    },
}

impl Augment {
    /// Shift by up to 4 pixels and mirror.
    pub const PAD_CROP_FLIP: Self = Self::PadCrop { padding: 4, flip: true };
    /// Random resized crop and mirror.
    pub const RANDOM_RESIZED_CROP_FLIP: Self = Self::RandomResizedCrop { flip: true };

    /// Where to shift the picture, and whether to mirror it.
    pub(crate) fn shift_and_flip(self, rng: &mut ChaCha8Rng) -> ([isize; 2], bool) {
        match self {
            Self::None => ([0, 0], false),
            Self::PadCrop { padding, flip } => {
                let padding = padding as i32;
                let dy = rng.random_range(-padding..=padding) as isize;
                let dx = rng.random_range(-padding..=padding) as isize;
                ([dy, dx], flip && rng.random())
            }
            Self::RandomResizedCrop { flip } => ([0, 0], flip && rng.random()),
        }
    }
}

impl fmt::Display for Augment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.pad("none"),
            Self::PadCrop { flip: true, .. } => f.pad("pad-crop-flip"),
            Self::PadCrop { flip: false, .. } => f.pad("pad-crop"),
            Self::RandomResizedCrop { flip: true } => f.pad("random-resized-crop-flip"),
            Self::RandomResizedCrop { flip: false } => f.pad("random-resized-crop"),
        }
    }
}

impl FromStr for Augment {
    type Err = DataError;

    /// `none`, `pad-crop`, `pad-crop-flip`, `random-resized-crop` or `random-resized-crop-flip`;
    /// padding is 4 pixels.
    fn from_str(name: &str) -> Result<Self, DataError> {
        match name {
            "none" => Ok(Self::None),
            "pad-crop" => Ok(Self::PadCrop { padding: 4, flip: false }),
            "pad-crop-flip" => Ok(Self::PAD_CROP_FLIP),
            "random-resized-crop" => Ok(Self::RandomResizedCrop { flip: false }),
            "random-resized-crop-flip" => Ok(Self::RANDOM_RESIZED_CROP_FLIP),
            _ => Err(DataError::Option {
                option: "augment",
                problem: format!(
                    "got `{name}`, expected none, pad-crop, pad-crop-flip, random-resized-crop or \
                     random-resized-crop-flip"
                ),
            }),
        }
    }
}

const AREA: std::ops::RangeInclusive<f64> = 0.08..=1.0;
const ASPECT_RATIO: [f64; 2] = [3.0 / 4.0, 4.0 / 3.0];

/// A box of whole pixels as torchvision's `RandomResizedCrop` picks it: ten tries, then the
/// largest centred box of an allowed aspect ratio.
pub(crate) fn random_crop_box(height: usize, width: usize, rng: &mut ChaCha8Rng) -> CropBox {
    let (h, w) = (height as f64, width as f64);
    let [least, most] = ASPECT_RATIO;
    for _ in 0..10 {
        let area = h * w * rng.random_range(AREA);
        let aspect_ratio = rng.random_range(least.ln()..=most.ln()).exp();
        let crop_w = (area * aspect_ratio).sqrt().round() as usize;
        let crop_h = (area / aspect_ratio).sqrt().round() as usize;
        if (1..=width).contains(&crop_w) && (1..=height).contains(&crop_h) {
            return CropBox {
                top: rng.random_range(0..=height - crop_h) as f64,
                left: rng.random_range(0..=width - crop_w) as f64,
                width: crop_w as f64,
                height: crop_h as f64,
            };
        }
    }
    let crop_w = w.min((h * most).round()).max(1.0);
    let crop_h = h.min((w / least).round()).max(1.0);
    CropBox {
        left: ((w - crop_w) / 2.0).floor(),
        top: ((h - crop_h) / 2.0).floor(),
        width: crop_w,
        height: crop_h,
    }
}
