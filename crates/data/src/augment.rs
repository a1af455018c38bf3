use std::fmt;
use std::str::FromStr;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::DataError;
use crate::random::{Purpose, stream};
use crate::resize::CropBox;

/// Random changes to a training picture that leave its class as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Augment {
    /// The evaluation transform.
    None,
    /// The evaluation transform, shifted by up to `padding` pixels each way, and mirrored as `flip`
    /// says. For small images: He et al. 2015, section 4.2, with `padding` 4.
    PadCrop {
        /// Pixels, fewer than the picture has.
        padding: usize,
        /// What stands where the shift uncovers something.
        #[serde(default, skip_serializing_if = "PaddingMode::is_default")]
        padding_mode: PaddingMode,
        /// When left and right are swapped.
        flip: Flip,
    },
    /// A random part (8 % to 100 % of the area, aspect ratio 3:4 to 4:3) resized to the network's
    /// size, and mirrored as `flip` says: torchvision's `RandomResizedCrop`.
    RandomResizedCrop {
        /// When left and right are swapped.
        flip: Flip,
    },
}

/// What stands outside a picture, as in torchvision's `RandomCrop`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PaddingMode {
    /// Black.
    #[default]
    Constant,
    /// The picture mirrored at its outermost pixels (Jordan 2024, arXiv 2404.00498, section 3.1).
    Reflect,
}

impl PaddingMode {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The pixel in `0..len` that stands at `place`, which is less than `len` outside; none for black.
    pub(crate) fn pixel_at(self, place: isize, len: usize) -> Option<usize> {
        let last = len as isize - 1;
        match self {
            _ if (0..=last).contains(&place) => Some(place as usize),
            Self::Constant => None,
            Self::Reflect => Some(if place < 0 { -place } else { 2 * last - place } as usize),
        }
    }
}

/// When a training picture is mirrored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "FlipForm", into = "FlipForm")]
pub enum Flip {
    /// Never. `false` in TOML.
    Never,
    /// In each epoch with probability one half. `true` in TOML.
    Random,
    /// In every second epoch, beginning with the first or the second at random, so that two epochs
    /// always have both (Jordan 2024, arXiv 2404.00498, section 3.6). `"alternating"` in TOML.
    Alternating,
}

/// [`Flip`] in TOML.
#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "expected true, false or \"alternating\"")]
enum FlipForm {
    Random(bool),
    Named(FlipName),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum FlipName {
    Alternating,
}

impl From<FlipForm> for Flip {
    fn from(form: FlipForm) -> Self {
        match form {
            FlipForm::Random(false) => Self::Never,
            FlipForm::Random(true) => Self::Random,
            FlipForm::Named(FlipName::Alternating) => Self::Alternating,
        }
    }
}

impl From<Flip> for FlipForm {
    fn from(flip: Flip) -> Self {
        match flip {
            Flip::Never => Self::Random(false),
            Flip::Random => Self::Random(true),
            Flip::Alternating => Self::Named(FlipName::Alternating),
        }
    }
}

impl Augment {
    /// Shift by up to 4 pixels and mirror.
    pub const PAD_CROP_FLIP: Self =
        Self::PadCrop { padding: 4, padding_mode: PaddingMode::Constant, flip: Flip::Random };
    /// Random resized crop and mirror.
    pub const RANDOM_RESIZED_CROP_FLIP: Self = Self::RandomResizedCrop { flip: Flip::Random };

    /// The same for pictures of `side` pixels instead of `before`: shifts are as large a part of them.
    pub(crate) fn at_size(self, side: usize, before: usize) -> Self {
        match self {
            Self::PadCrop { padding, padding_mode, flip } => {
                let padding = (padding * side + before / 2) / before;
                let padding = padding.min(side.saturating_sub(1));
                Self::PadCrop { padding, padding_mode, flip }
            }
            other => other,
        }
    }

    fn flip(self) -> Flip {
        match self {
            Self::None => Flip::Never,
            Self::PadCrop { flip, .. } | Self::RandomResizedCrop { flip } => flip,
        }
    }
}

/// How a picture is put into the network's input; by default as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Placement {
    /// Row and column of the picture that come to stand in the first ones.
    pub(crate) shift: [isize; 2],
    /// What stands where the picture ends.
    pub(crate) padding_mode: PaddingMode,
    /// Whether left and right are swapped then.
    pub(crate) mirrored: bool,
}

/// The random change of one sample in one epoch.
pub(crate) struct Change {
    augment: Augment,
    rng: ChaCha8Rng,
    /// Whether it is the mirror image's turn, where flips alternate.
    mirrors_turn: bool,
}

impl Change {
    /// That of the sample `index` of all, which is at `position` in the epoch.
    pub(crate) fn new(augment: Augment, seed: u64, epoch: u64, position: u64, index: u32) -> Self {
        let mirrors_first =
            || -> bool { stream(seed, Purpose::AlternatingFlip, 0, u64::from(index)).random() };
        let odd_epoch = !epoch.is_multiple_of(2);
        let mirrors_turn = augment.flip() == Flip::Alternating && mirrors_first() != odd_epoch;
        let rng = stream(seed, Purpose::Augmentation, epoch, position);
        Self { augment, rng, mirrors_turn }
    }

    /// The part of the picture that is taken, if not all of it.
    pub(crate) fn crop_box(&mut self, height: usize, width: usize) -> Option<CropBox> {
        match self.augment {
            Augment::RandomResizedCrop { .. } => {
                Some(random_crop_box(height, width, &mut self.rng))
            }
            Augment::None | Augment::PadCrop { .. } => None,
        }
    }

    /// Where to put the picture, of the network's size by now.
    pub(crate) fn placement(&mut self) -> Placement {
        let (shift, padding_mode) = match self.augment {
            Augment::PadCrop { padding, padding_mode, .. } => {
                let padding = padding as i32;
                let mut shift = || self.rng.random_range(-padding..=padding) as isize;
                (std::array::from_fn(|_| shift()), padding_mode)
            }
            Augment::None | Augment::RandomResizedCrop { .. } => Default::default(),
        };
        let mirrored = match self.augment.flip() {
            Flip::Never => false,
            Flip::Random => self.rng.random(),
            Flip::Alternating => self.mirrors_turn,
        };
        Placement { shift, padding_mode, mirrored }
    }
}

impl fmt::Display for Augment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::None => "none",
            Self::PadCrop { flip: Flip::Never, .. } => "pad-crop",
            Self::PadCrop { flip: Flip::Random, .. } => "pad-crop-flip",
            Self::PadCrop { flip: Flip::Alternating, .. } => "pad-crop-alternating-flip",
            Self::RandomResizedCrop { flip: Flip::Never } => "random-resized-crop",
            Self::RandomResizedCrop { flip: Flip::Random } => "random-resized-crop-flip",
            Self::RandomResizedCrop { flip: Flip::Alternating } => {
                "random-resized-crop-alternating-flip"
            }
        })
    }
}

impl FromStr for Augment {
    type Err = DataError;

    /// `none`, `pad-crop` or `random-resized-crop`, the latter two also followed by `-flip` or
    /// `-alternating-flip`; padding is 4 black pixels.
    fn from_str(name: &str) -> Result<Self, DataError> {
        let (crop, flip) = match name.strip_suffix("-flip") {
            None => (name, Flip::Never),
            Some(rest) => match rest.strip_suffix("-alternating") {
                None => (rest, Flip::Random),
                Some(rest) => (rest, Flip::Alternating),
            },
        };
        match (crop, flip) {
            ("none", Flip::Never) => Ok(Self::None),
            ("pad-crop", flip) => {
                Ok(Self::PadCrop { padding: 4, padding_mode: PaddingMode::Constant, flip })
            }
            ("random-resized-crop", flip) => Ok(Self::RandomResizedCrop { flip }),
            _ => Err(DataError::Option {
                option: "augment",
                problem: format!(
                    "got `{name}`, expected none, pad-crop or random-resized-crop, the latter two also \
                     followed by -flip or -alternating-flip"
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
        let padding = |before, side, height| {
            let (padding_mode, flip) = (PaddingMode::Reflect, Flip::Alternating);
            let augment = Augment::PadCrop { padding: before, padding_mode, flip };
            match augment.at_size(side, height) {
                Augment::PadCrop {
                    padding,
                    padding_mode: PaddingMode::Reflect,
                    flip: Flip::Alternating,
                } => padding,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!([padding(4, 24, 32), padding(2, 24, 32), padding(4, 64, 32)], [3, 2, 8]);
        assert_eq!(padding(31, 2, 32), 1, "less than the picture");
    }

    const NAMES: [&str; 7] = [
        "none",
        "pad-crop",
        "pad-crop-flip",
        "pad-crop-alternating-flip",
        "random-resized-crop",
        "random-resized-crop-flip",
        "random-resized-crop-alternating-flip",
    ];

    #[test]
    fn names_are_read_back() {
        for name in NAMES {
            assert_eq!(name.parse::<Augment>().unwrap().to_string(), name);
        }
        for name in ["cutout", "none-flip", "pad-crop-alternating", "flip"] {
            assert!(name.parse::<Augment>().is_err(), "{name}");
        }
    }

    #[test]
    fn it_can_be_written_in_toml() {
        #[derive(Serialize, Deserialize, PartialEq, Debug)]
        struct Recipe {
            augment: Augment,
        }
        for name in NAMES {
            let recipe = Recipe { augment: name.parse().unwrap() };
            let text = toml::to_string(&recipe).unwrap();
            assert_eq!(toml::from_str::<Recipe>(&text).unwrap(), recipe, "{text}");
        }
        let text = "augment = { kind = \"pad-crop\", padding = 2, flip = true }";
        let pad_crop =
            |padding_mode| Augment::PadCrop { padding: 2, padding_mode, flip: Flip::Random };
        let augment = pad_crop(PaddingMode::Constant);
        assert_eq!(toml::from_str::<Recipe>(text).unwrap(), Recipe { augment });
        let recipe = Recipe { augment: pad_crop(PaddingMode::Reflect) };
        let reflected = text.replace("flip", "padding_mode = \"reflect\", flip");
        assert_eq!(toml::from_str::<Recipe>(&reflected).unwrap(), recipe);
        assert_eq!(toml::from_str::<Recipe>(&toml::to_string(&recipe).unwrap()).unwrap(), recipe);
        let error = toml::from_str::<Recipe>(&text.replace("true", "\"sometimes\"")).unwrap_err();
        assert!(error.message().contains("true, false or \"alternating\""), "{error}");
    }

    /// Whether each of these samples is mirrored in an epoch.
    fn mirrored(flip: Flip, seed: u64, epoch: u64) -> Vec<bool> {
        let augment = Augment::PadCrop { padding: 4, padding_mode: PaddingMode::Constant, flip };
        let change = |index| Change::new(augment, seed, epoch, 1_000 - u64::from(index), index);
        (0..1_000).map(|index| change(index).placement().mirrored).collect()
    }

    #[test]
    fn alternating_flips_show_both_sides_in_two_epochs() {
        let [first, second, third] = [0, 1, 2].map(|epoch| mirrored(Flip::Alternating, 3, epoch));
        assert!(first.iter().zip(&second).all(|(first, second)| first != second));
        assert_eq!(first, third);
        // Half of them begin with the mirror image: 500 of 1,000 give or take 16, here four times that.
        let count = |flips: &[bool]| flips.iter().filter(|&&mirrored| mirrored).count();
        assert!((436..=564).contains(&count(&first)), "{}", count(&first));
        assert_ne!(first, mirrored(Flip::Alternating, 4, 0), "another seed");
        let random = [0, 1].map(|epoch| mirrored(Flip::Random, 3, epoch));
        let both = random[0].iter().zip(&random[1]).filter(|(first, second)| first != second);
        assert!((436..=564).contains(&both.count()), "random flips are independent");
    }
}
