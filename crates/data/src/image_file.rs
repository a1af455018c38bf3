use std::fs::{self, File};
use std::io::{self, Cursor, Read};
use std::path::Path;

use image::{DynamicImage, ExtendedColorType, ImageDecoder, ImageFormat, ImageReader, Limits};

use crate::jpeg_markers::JpegMarkers;
use crate::{DataError, Issue};

/// A decoded picture: 8 bits, `channels` 1 (grey) or 3 (RGB), rows of interleaved channels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pixels {
    /// 1 or 3.
    pub channels: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// `height * width * channels` bytes, HWC.
    pub data: Vec<u8>,
}

/// [`Pixels`] that live elsewhere.
#[derive(Clone, Copy)]
pub(crate) struct PixelView<'a> {
    pub(crate) channels: usize,
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) data: &'a [u8],
}

/// What the file held before it became 8-bit RGB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Encoding {
    pub(crate) cmyk: bool,
    pub(crate) sixteen_bit: bool,
    pub(crate) greyscale: bool,
    /// An alpha channel, and how many pixels are not opaque.
    pub(crate) transparent_pixels: Option<usize>,
}

/// Why a picture can't be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) issue: Issue,
    pub(crate) reason: String,
}

/// A decompression bomb is refused from its header: 128 Mi pixels is more than any camera makes.
const MAX_PIXELS: u64 = 1 << 27;
const MAX_DECODED_BYTES: u64 = 1 << 29;
const MAX_FILE_BYTES: u64 = 1 << 29;

impl Pixels {
    /// Reads a picture from a file, as RGB. See [`decode`](Self::decode).
    ///
    /// # Errors
    /// If the file can't be read or decoded.
    pub fn load(path: &Path) -> Result<Self, DataError> {
        let bytes = read_file(path)
            .map_err(|fault| DataError::invalid(path.display().to_string(), fault.reason))?;
        Self::decode_bytes(&bytes)
            .map(|(pixels, _)| pixels)
            .map_err(|fault| DataError::invalid(path.display().to_string(), fault.reason))
    }

    /// Decodes JPEG, PNG, BMP, WebP, GIF (first frame) or TIFF to 8-bit RGB, upright.
    ///
    /// As with PIL's `convert("RGB")`, which torchvision uses: grey is repeated, alpha is dropped
    /// and not blended with a background, CMYK is multiplied out. 16 bits are rounded to 8 (PIL
    /// clips some of them), and unlike there the EXIF orientation is applied.
    ///
    /// # Errors
    /// If the bytes are no such picture, are cut short, or ask for too much memory.
    pub fn decode(bytes: &[u8]) -> Result<Self, DataError> {
        Self::decode_bytes(bytes)
            .map(|(pixels, _)| pixels)
            .map_err(|fault| DataError::invalid("image", fault.reason))
    }

    pub(crate) fn view(&self) -> PixelView<'_> {
        PixelView {
            channels: self.channels,
            height: self.height,
            width: self.width,
            data: &self.data,
        }
    }

    pub(crate) fn decode_bytes(bytes: &[u8]) -> Result<(Self, Encoding), Fault> {
        let (image, encoding) = decode_image(bytes)?;
        let image = image.into_rgb8();
        let (width, height) = (image.width() as usize, image.height() as usize);
        Ok((Self { channels: 3, height, width, data: image.into_raw() }, encoding))
    }
}

/// Reads a file of bounded size.
pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>, Fault> {
    let failed = |e: io::Error| Fault::new(Issue::Unreadable, e.to_string());
    let (file, len) = open_regular(path).map_err(failed)?;
    if len > MAX_FILE_BYTES {
        let reason = format!("{len} bytes, expected at most {MAX_FILE_BYTES}");
        return Err(Fault::new(Issue::TooLarge, reason));
    }
    let mut bytes = Vec::with_capacity(len as usize);
    file.take(len).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// A file and its length. Opening a pipe would wait for a writer, and a device may have no end.
pub(crate) fn open_regular(path: &Path) -> io::Result<(File, u64)> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    Ok((File::open(path)?, metadata.len()))
}

fn decode_image(bytes: &[u8]) -> Result<(DynamicImage, Encoding), Fault> {
    if bytes.is_empty() {
        return Err(Fault::new(Issue::ZeroSized, "the file is empty (0 bytes)"));
    }
    let reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|e| Fault::new(Issue::Unreadable, e.to_string()))?;
    let Some(format) = reader.format() else {
        let reason = "not a JPEG, PNG, BMP, WebP, GIF or TIFF";
        return Err(Fault::new(Issue::Unreadable, reason));
    };
    let markers = (format == ImageFormat::Jpeg).then(|| JpegMarkers::scan(bytes));
    if let Some(JpegMarkers { complete: false, .. }) = markers {
        return Err(Fault::new(Issue::Truncated, "truncated: the JPEG has no end marker"));
    }
    decode_format(reader, markers).map_err(|error| Fault::from_image(&error, bytes.len()))?
}

fn decode_format(
    mut reader: ImageReader<Cursor<&[u8]>>,
    markers: Option<JpegMarkers>,
) -> Result<Result<(DynamicImage, Encoding), Fault>, image::ImageError> {
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_DECODED_BYTES);
    let is_gif = reader.format() == Some(ImageFormat::Gif);
    reader.limits(limits);
    let mut decoder = reader.into_decoder()?;

    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 {
        return Ok(Err(Fault::new(Issue::ZeroSized, format!("{width}×{height} pixels"))));
    }
    if pixels > MAX_PIXELS || decoder.total_bytes() > MAX_DECODED_BYTES {
        let reason = format!("{width}×{height} pixels, expected at most {MAX_PIXELS} in all");
        return Ok(Err(Fault::new(Issue::TooLarge, reason)));
    }
    let orientation = decoder.orientation()?;
    let stored = decoder.original_color_type();
    let decoded = decoder.color_type();
    let mut image = DynamicImage::from_decoder(decoder)?;
    let transparent_pixels = decoded.has_alpha().then(|| count_transparent(&image));
    image.apply_orientation(orientation);
    let encoding = Encoding {
        cmyk: stored == ExtendedColorType::Cmyk8
            || stored == ExtendedColorType::Cmyk16
            || markers.is_some_and(|m| m.components == 4),
        sixteen_bit: decoded.bytes_per_pixel() / decoded.channel_count() > 1,
        greyscale: !decoded.has_color(),
        // Every GIF is decoded with an alpha channel.
        transparent_pixels: transparent_pixels.filter(|&count| !is_gif || count > 0),
    };
    Ok(Ok((image, encoding)))
}

fn count_transparent(image: &DynamicImage) -> usize {
    match image {
        DynamicImage::ImageRgba8(image) => image.pixels().filter(|p| p[3] < u8::MAX).count(),
        DynamicImage::ImageLumaA8(image) => image.pixels().filter(|p| p[1] < u8::MAX).count(),
        DynamicImage::ImageRgba16(image) => image.pixels().filter(|p| p[3] < u16::MAX).count(),
        DynamicImage::ImageLumaA16(image) => image.pixels().filter(|p| p[1] < u16::MAX).count(),
        DynamicImage::ImageRgba32F(image) => image.pixels().filter(|p| p[3] < 1.0).count(),
        _ => 0,
    }
}

impl Fault {
    fn new(issue: Issue, reason: impl Into<String>) -> Self {
        Self { issue, reason: reason.into() }
    }

    fn from_image(error: &image::ImageError, len: usize) -> Self {
        use image::ImageError::{IoError, Limits};
        let reason = error.to_string();
        let ends_early = matches!(error, IoError(e) if e.kind() == std::io::ErrorKind::UnexpectedEof)
            || mentions_end(&reason);
        match error {
            Limits(_) => Self::new(Issue::TooLarge, reason),
            _ if ends_early => {
                Self::new(Issue::Truncated, format!("truncated after {len} bytes: {reason}"))
            }
            _ => Self::new(Issue::Unreadable, reason),
        }
    }
}

/// The decoders wrap the end of the file in errors of their own, with no kind to ask for.
fn mentions_end(reason: &str) -> bool {
    let reason = reason.to_lowercase();
    ["unexpected end", "unexpected eof", "failed to fill whole buffer"]
        .iter()
        .any(|phrase| reason.contains(phrase))
}
