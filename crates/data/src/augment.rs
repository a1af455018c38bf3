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

    /// The same for pictures of `side` pixels instead of `before`: shifts are as large a part of them.
    pub(crate) fn at_size(self, side: usize, before: usize) -> Self {
        match self {
            Self::PadCrop { padding, flip } => {
                let padding = (padding * side + before / 2) / before;
                Self::PadCrop { padding: padding.min(side.saturating_sub(1)), flip }
            }
            other => other,
        }
    }

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, stream};

    #[test]
    fn crop_boxes_follow_torchvision() {
        let mut rng = stream(0, Purpose::Augmentation, 0, 0);
        let (height, width) = (300, 400);
        let (mut areas, mut ratios) = (Vec::new(), Vec::new());
        for _ in 0..10_000 {
            let crop = random_crop_box(height, width, &mut rng);
            assert!(crop.left >= 0.0 && crop.left + crop.width <= width as f64);
            assert!(crop.top >= 0.0 && crop.top + crop.height <= height as f64);
            areas.push(crop.width * crop.height / (height * width) as f64);
            ratios.push(crop.width / crop.height);
        }
        let range = |values: &[f64]| {
            values.iter().fold([f64::INFINITY, 0.0_f64], |[a, b], &v| [a.min(v), b.max(v)])
        };
        let [least, most] = range(&areas);
        assert!((0.078..0.1).contains(&least) && (0.97..=1.0).contains(&most), "{least} {most}");
        let [least, most] = range(&ratios);
        assert!((0.74..0.77).contains(&least) && (1.31..1.35).contains(&most), "{least} {most}");
        // A large box fits less often; torchvision's own picks average 0.431 here.
        let mean = areas.iter().sum::<f64>() / areas.len() as f64;
        assert!((0.42..0.44).contains(&mean), "{mean}");
    }

    #[test]
    fn a_crop_box_fits_the_narrowest_picture() {
        let mut rng = stream(0, Purpose::Augmentation, 0, 0);
        for (height, width) in [(1, 1), (1, 1000), (1000, 1), (2, 3)] {
            for _ in 0..100 {
                let crop = random_crop_box(height, width, &mut rng);
                assert!(crop.width >= 1.0 && crop.left + crop.width <= width as f64, "{crop:?}");
                assert!(crop.height >= 1.0 && crop.top + crop.height <= height as f64, "{crop:?}");
            }
        }
    }

    #[test]
    fn shifts_stay_as_large_a_part_of_the_picture() {
        let padding =
            |before, side, height| match (Augment::PadCrop { padding: before, flip: true })
                .at_size(side, height)
            {
                Augment::PadCrop { padding, flip: true } => padding,
                other => panic!("{other}"),
            };
        assert_eq!([padding(4, 24, 32), padding(2, 24, 32), padding(4, 64, 32)], [3, 2, 8]);
        assert_eq!(padding(31, 2, 32), 1, "less than the picture");
    }

    #[test]
    fn names_are_read_back() {
        for name in
            ["none", "pad-crop", "pad-crop-flip", "random-resized-crop", "random-resized-crop-flip"]
        {
            assert_eq!(name.parse::<Augment>().unwrap().to_string(), name);
        }
        assert!("cutout".parse::<Augment>().is_err());
    }

    #[test]
    fn it_can_be_written_in_toml() {
        #[derive(Serialize, Deserialize, PartialEq, Debug)]
        struct Recipe {
            augment: Augment,
        }
        for augment in [Augment::None, Augment::PAD_CROP_FLIP, Augment::RANDOM_RESIZED_CROP_FLIP] {
            let text = toml::to_string(&Recipe { augment }).unwrap();
            assert_eq!(toml::from_str::<Recipe>(&text).unwrap(), Recipe { augment }, "{text}");
        }
    }
}
