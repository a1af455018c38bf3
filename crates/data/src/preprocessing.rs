use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::DataError;
use crate::augment::Placement;
use crate::image_file::Pixels;
use crate::resize;

/// Everything that turns a picture, or a vector, into the network's input; stored with the model.
///
/// A picture is brought to `height` × `width` as [`Resize`] says, its channels to `channels` (1 is
/// grey, 3 is RGB), its bytes to `0..=1` by dividing by 255; then `(x - mean) / std` per channel.
/// A vector has one channel per feature and is not divided by 255.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocessing {
    /// Channels of a picture, or features of a vector.
    pub channels: usize,
    /// Height fed to the network; 1 for a vector.
    pub height: usize,
    /// Width fed to the network; 1 for a vector.
    pub width: usize,
    /// How a picture gets that size.
    pub resize: Resize,
    /// Per channel, over the training split.
    pub mean: Vec<f32>,
    /// Per channel, over the training split; 1 where the channel is constant.
    pub std: Vec<f32>,
}

/// How a picture gets the network's size (CatmullRom filter, antialiased).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resize {
    /// Not a picture.
    None,
    /// Resized to exactly that size; the aspect ratio is not kept. For small images.
    Exact,
    /// The short side is resized to this length, then the centre is cropped.
    ShortSide(usize),
}

/// The largest side of a picture that is fed to a network.
pub(crate) const MAX_SIDE: usize = 4096;
/// The longest vector.
const MAX_FEATURES: usize = 1 << 20;

impl Preprocessing {
    /// Number of values of one input: NHWC with N = 1.
    pub fn input_len(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// The same for pictures of `side` × `side`.
    pub(crate) fn at_size(&self, side: usize) -> Self {
        let resize = match self.resize {
            Resize::ShortSide(length) => Resize::ShortSide((length * side).div_ceil(self.height)),
            other => other,
        };
        Self { height: side, width: side, resize, ..self.clone() }
    }

    /// Reads a picture and gives the network's input, NHWC.
    ///
    /// # Errors
    /// If the file can't be read or decoded, or the model takes vectors.
    pub fn load_image(&self, path: impl AsRef<Path>) -> Result<Vec<f32>, DataError> {
        self.expect_picture()?;
        self.picture(&Pixels::load(path.as_ref())?)
    }

    /// Decodes a picture from the bytes of a file and gives the network's input, NHWC.
    ///
    /// # Errors
    /// If the bytes can't be decoded, or the model takes vectors.
    pub fn decode(&self, bytes: &[u8]) -> Result<Vec<f32>, DataError> {
        self.expect_picture()?;
        self.picture(&Pixels::decode(bytes)?)
    }

    /// The network's input, NHWC, for a decoded picture.
    ///
    /// # Errors
    /// If the model takes vectors.
    pub fn picture(&self, pixels: &Pixels) -> Result<Vec<f32>, DataError> {
        self.expect_picture()?;
        self.validate()?;
        let mut sized = Vec::new();
        resize::to_network_size(self, pixels.view(), &mut sized)?;
        let mut input = vec![0.0; self.input_len()];
        Normalizer::new(self).write(&sized, Placement::default(), &mut input);
        Ok(input)
    }

    /// The network's input for a vector.
    ///
    /// # Errors
    /// If the model takes pictures, or vectors of another length, or a value is no finite number, or
    /// none that stays finite when it is normalised.
    pub fn vector(&self, values: &[f32]) -> Result<Vec<f32>, DataError> {
        self.validate()?;
        if self.resize != Resize::None {
            return Err(DataError::invalid("input", "got a vector, the model takes pictures"));
        }
        if values.len() != self.channels {
            let problem = format!("got {} values, expected {}", values.len(), self.channels);
            return Err(DataError::invalid("input", problem));
        }
        let mut input = vec![0.0; values.len()];
        self.normalize_vector(values, &mut input);
        if let Some(i) = input.iter().position(|x| !x.is_finite()) {
            let (at, of, value, normalised) = (i + 1, values.len(), values[i], input[i]);
            let expected = match value.is_finite() {
                true => format!("one that is not {normalised} when normalised"),
                false => "a finite number".to_owned(),
            };
            let problem = format!("value {at} of {of} is {value:?}, expected {expected}");
            return Err(DataError::invalid("input", problem));
        }
        Ok(input)
    }

    /// Refuses values that no dataset can have given: it may come from a file that someone sent.
    ///
    /// # Errors
    /// Names the field.
    pub fn validate(&self) -> Result<(), DataError> {
        let refuse = |field: &str, problem: String| {
            Err(DataError::invalid(format!("preprocessing.{field}"), problem))
        };
        let is_vector = self.resize == Resize::None;
        let (max_channels, max_side) = if is_vector { (MAX_FEATURES, 1) } else { (3, MAX_SIDE) };
        if !(1..=max_channels).contains(&self.channels) || (!is_vector && self.channels == 2) {
            let expected = if is_vector { "1 to 1048576" } else { "1 or 3" };
            return refuse("channels", format!("got {}, expected {expected}", self.channels));
        }
        for (field, side) in [("height", self.height), ("width", self.width)] {
            if side == 0 || side > max_side {
                return refuse(field, format!("got {side}, expected 1 to {max_side}"));
            }
        }
        if let Resize::ShortSide(side) = self.resize
            && !(self.height.max(self.width)..=2 * MAX_SIDE).contains(&side)
        {
            let least = self.height.max(self.width);
            return refuse("resize", format!("got short-side {side}, expected at least {least}"));
        }
        for (field, values) in [("mean", &self.mean), ("std", &self.std)] {
            if values.len() != self.channels {
                let problem = format!("got {} values, expected {}", values.len(), self.channels);
                return refuse(field, problem);
            }
            if let Some(value) = values.iter().find(|v| !v.is_finite()) {
                return refuse(field, format!("got {value}, expected a finite number"));
            }
        }
        if let Some(value) = self.std.iter().find(|&&v| v <= 0.0) {
            return refuse("std", format!("got {value}, expected more than 0"));
        }
        Ok(())
    }

    pub(crate) fn normalize_vector(&self, values: &[f32], input: &mut [f32]) {
        for (((y, x), mean), std) in input.iter_mut().zip(values).zip(&self.mean).zip(&self.std) {
            *y = (x - mean) / std;
        }
    }

    fn expect_picture(&self) -> Result<(), DataError> {
        if self.resize == Resize::None {
            let problem = format!("got a picture, the model takes vectors of {}", self.channels);
            return Err(DataError::invalid("input", problem));
        }
        Ok(())
    }
}

/// Bytes to normalised values by table: the same f32 steps as torchvision's `ToTensor` and
/// `Normalize`, so the same bits.
pub(crate) struct Normalizer {
    tables: Vec<[f32; 256]>,
    height: usize,
    width: usize,
}

impl Normalizer {
    pub(crate) fn new(preprocessing: &Preprocessing) -> Self {
        let tables = preprocessing
            .mean
            .iter()
            .zip(&preprocessing.std)
            .map(|(mean, std)| std::array::from_fn(|byte| (byte as f32 / 255.0 - mean) / std))
            .collect();
        Self { tables, height: preprocessing.height, width: preprocessing.width }
    }

    /// Writes `pixels` (HWC, the network's size) normalised, at their place.
    pub(crate) fn write(&self, pixels: &[u8], placement: Placement, out: &mut [f32]) {
        match self.tables.as_slice() {
            [grey] => self.write_channels(&[grey], pixels, placement, out),
            [r, g, b] => self.write_channels(&[r, g, b], pixels, placement, out),
            _ => unreachable!("a validated picture has 1 or 3 channels"),
        }
    }

    fn write_channels<const C: usize>(
        &self,
        tables: &[&[f32; 256]; C],
        pixels: &[u8],
        Placement { shift: [dy, dx], padding_mode, mirrored }: Placement,
        out: &mut [f32],
    ) {
        assert_eq!(pixels.len(), out.len());
        let (pixels, _) = pixels.as_chunks::<C>();
        let (out, _) = out.as_chunks_mut::<C>();
        let black = tables.map(|table| table[0]);
        for (y, out_row) in out.chunks_exact_mut(self.width).enumerate() {
            let Some(row) = padding_mode.pixel_at(y as isize + dy, self.height) else {
                out_row.fill(black);
                continue;
            };
            let row = &pixels[row * self.width..][..self.width];
            for (x, out_pixel) in out_row.iter_mut().enumerate() {
                let x = if mirrored { self.width - 1 - x } else { x };
                *out_pixel = match padding_mode.pixel_at(x as isize + dx, self.width) {
                    Some(x) => std::array::from_fn(|c| tables[c][row[x][c] as usize]),
                    None => black,
                };
            }
        }
    }
}
