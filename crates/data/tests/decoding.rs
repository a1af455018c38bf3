//! Pictures in every format, upright and as 8-bit RGB, and what is refused.

mod crafted;

use std::io::Cursor;

use crafted::{FlatJpeg, with_orientation};
use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use residua_data::{DataError, Pixels, Preprocessing, Resize};

/// 24×16: red, green on top, blue, white below.
fn quarters() -> RgbImage {
    RgbImage::from_fn(24, 16, |x, y| match (x < 12, y < 8) {
        (true, true) => Rgb([250, 10, 20]),
        (false, true) => Rgb([10, 240, 30]),
        (true, false) => Rgb([20, 30, 230]),
        (false, false) => Rgb([245, 250, 240]),
    })
}

fn encode(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn decode(bytes: &[u8]) -> Pixels {
    Pixels::decode(bytes).unwrap()
}

fn pixel(pixels: &Pixels, x: usize, y: usize) -> [u8; 3] {
    let at = (y * pixels.width + x) * 3;
    pixels.data[at..at + 3].try_into().unwrap()
}

fn assert_close(got: [u8; 3], want: [u8; 3], tolerance: u8, what: &str) {
    assert!(
        got.iter().zip(want).all(|(g, w)| g.abs_diff(w) <= tolerance),
        "{what}: {got:?} {want:?}"
    );
}

#[test]
fn every_format_gives_the_same_picture() {
    let image = DynamicImage::from(quarters());
    for (format, tolerance) in [
        (ImageFormat::Png, 0),
        (ImageFormat::Bmp, 0),
        (ImageFormat::WebP, 0),
        (ImageFormat::Tiff, 0),
        (ImageFormat::Gif, 3),
        (ImageFormat::Jpeg, 12),
    ] {
        let pixels = decode(&encode(&image, format));
        assert_eq!([pixels.width, pixels.height, pixels.channels], [24, 16, 3], "{format:?}");
        // The middles of the quarters, away from what chroma subsampling smears.
        for (x, y) in [(4, 3), (19, 3), (4, 12), (19, 12)] {
            let want = quarters().get_pixel(x, y).0;
            let got = pixel(&pixels, x as usize, y as usize);
            assert_close(got, want, tolerance, &format!("{format:?} at {x}, {y}"));
        }
    }
}

#[test]
fn a_file_cut_in_half_is_refused_in_every_format() {
    // Noise does not compress, so that half of the file is half of the picture.
    let mut state = 1_u32;
    let image = DynamicImage::from(RgbImage::from_fn(64, 64, |_, _| {
        Rgb(std::array::from_fn(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        }))
    }));
    for format in [
        ImageFormat::Png,
        ImageFormat::Bmp,
        ImageFormat::WebP,
        ImageFormat::Tiff,
        ImageFormat::Gif,
        ImageFormat::Jpeg,
    ] {
        let bytes = encode(&image, format);
        assert!(Pixels::decode(&bytes).is_ok(), "{format:?}");
        let error = Pixels::decode(&bytes[..bytes.len() / 2]).expect_err(&format!("{format:?}"));
        println!("{format:?}: {error}");
        for cut in [0, 1, 3, 9, 20, 40] {
            assert!(Pixels::decode(&bytes[..cut]).is_err(), "{format:?} cut to {cut}");
        }
    }
}

#[test]
fn a_jpeg_without_its_last_bytes_is_refused() {
    // The decoder itself would fill the rest with grey and call it a success.
    let bytes = encode(&quarters().into(), ImageFormat::Jpeg);
    for missing in [1, 2, 10, 40] {
        let error = Pixels::decode(&bytes[..bytes.len() - missing]).unwrap_err();
        assert!(error.to_string().contains("truncated"), "{error}");
    }
    // What follows the picture, as cameras append it, does not matter.
    let mut longer = bytes.clone();
    longer.extend_from_slice(b"appended");
    assert_eq!(decode(&longer), decode(&bytes));
}

#[test]
fn the_end_marker_of_a_thumbnail_is_not_the_end_of_the_picture() {
    let picture = encode(&quarters().into(), ImageFormat::Jpeg);
    let mut with_thumbnail = picture[..2].to_vec();
    with_thumbnail.extend_from_slice(&[0xff, 0xe2]);
    with_thumbnail.extend_from_slice(&(picture.len() as u16 + 2).to_be_bytes());
    with_thumbnail.extend_from_slice(&picture);
    with_thumbnail.extend_from_slice(&picture[2..]);
    assert_eq!(decode(&with_thumbnail), decode(&picture));
    let cut = &with_thumbnail[..with_thumbnail.len() - 30];
    assert!(Pixels::decode(cut).is_err());
}

#[test]
fn exif_orientation_turns_the_picture_upright() {
    let jpeg = encode(&quarters().into(), ImageFormat::Jpeg);
    let [red, green, blue, white] = [[250, 10, 20], [10, 240, 30], [20, 30, 230], [245, 250, 240]];
    // The corners as they must come out: top left, top right, bottom left, bottom right.
    for (orientation, corners, size) in [
        (1, [red, green, blue, white], [24, 16]),
        (2, [green, red, white, blue], [24, 16]),
        (3, [white, blue, green, red], [24, 16]),
        (4, [blue, white, red, green], [24, 16]),
        (5, [red, blue, green, white], [16, 24]),
        (6, [blue, red, white, green], [16, 24]),
        (7, [white, green, blue, red], [16, 24]),
        (8, [green, white, red, blue], [16, 24]),
    ] {
        let pixels = decode(&with_orientation(&jpeg, orientation));
        assert_eq!([pixels.width, pixels.height], size, "orientation {orientation}");
        let (right, bottom) = (pixels.width - 4, pixels.height - 4);
        for ((x, y), want) in
            [(3, 3), (right, 3), (3, bottom), (right, bottom)].into_iter().zip(corners)
        {
            let what = format!("orientation {orientation} at {x}, {y}");
            assert_close(pixel(&pixels, x, y), want, 12, &what);
        }
    }
}

/// Reference values: PIL's `Image.open(..).convert("RGB")` of the same bytes.
#[test]
fn crafted_jpegs_decode_as_in_pil() {
    let flat = |components: &[u8], adobe| FlatJpeg { components, adobe }.bytes();
    for (name, bytes, want) in [
        ("grey", flat(&[77], None), [77, 77, 77]),
        ("YCbCr", flat(&[100, 90, 200], None), [201, 62, 33]),
        // Adobe stores ink inverted: 255 is no ink.
        ("CMYK", flat(&[200, 100, 50, 220], Some(0)), [173, 86, 43]),
        ("YCCK", flat(&[100, 90, 200, 220], Some(2)), [47, 167, 192]),
    ] {
        let pixels = decode(&bytes);
        assert_eq!([pixels.width, pixels.height], [8, 8], "{name}");
        assert_close(pixel(&pixels, 4, 4), want, 2, name);
    }
}

#[test]
fn grey_alpha_and_sixteen_bits_become_rgb() {
    let grey = image::GrayImage::from_pixel(5, 4, image::Luma([99]));
    assert_eq!(pixel(&decode(&encode(&grey.into(), ImageFormat::Png)), 2, 2), [99; 3]);

    // As PIL's convert("RGB"): the colour under a transparent pixel stays, nothing is blended.
    let alpha = image::RgbaImage::from_pixel(5, 4, image::Rgba([200, 100, 50, 0]));
    assert_eq!(pixel(&decode(&encode(&alpha.into(), ImageFormat::Png)), 2, 2), [200, 100, 50]);
    let grey_alpha = image::GrayAlphaImage::from_pixel(5, 4, image::LumaA([80, 10]));
    assert_eq!(pixel(&decode(&encode(&grey_alpha.into(), ImageFormat::Png)), 2, 2), [80; 3]);

    type Rgb16 = image::ImageBuffer<Rgb<u16>, Vec<u16>>;
    let deep = Rgb16::from_pixel(5, 4, Rgb([0xffff, 0x8080, 0x0100]));
    for format in [ImageFormat::Png, ImageFormat::Tiff] {
        assert_eq!(pixel(&decode(&encode(&deep.clone().into(), format)), 2, 2), [255, 128, 1]);
    }
    type Luma16 = image::ImageBuffer<image::Luma<u16>, Vec<u16>>;
    let deep_grey = Luma16::from_pixel(5, 4, image::Luma([0x4000]));
    assert_eq!(pixel(&decode(&encode(&deep_grey.into(), ImageFormat::Png)), 2, 2), [64; 3]);
}

/// The checksum at the end of a PNG chunk.
fn png_crc(chunk: &[u8]) -> u32 {
    !chunk.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| crc >> 1 ^ (0xedb8_8320 * (crc & 1)))
    })
}

#[test]
fn bombs_and_rubbish_are_refused() {
    let refuse = |bytes: &[u8]| Pixels::decode(bytes).unwrap_err().to_string();
    assert!(refuse(b"").contains("0 bytes"));
    assert!(refuse(b"hello, this is a text").contains("not a JPEG"));

    // A PNG that claims 100,000 × 100,000 pixels in a few bytes.
    let mut bomb = encode(&quarters().into(), ImageFormat::Png);
    bomb[16..24].copy_from_slice(&[0, 1, 0x86, 0xa0, 0, 1, 0x86, 0xa0]);
    let crc = png_crc(&bomb[12..29]);
    bomb[29..33].copy_from_slice(&crc.to_be_bytes());
    println!("{}", refuse(&bomb));

    // A JPEG that claims 65,500 × 65,500.
    let mut bomb = FlatJpeg { components: &[1, 2, 3], adobe: None }.bytes();
    let frame = bomb.windows(2).position(|w| w == [0xff, 0xc0]).unwrap();
    bomb[frame + 5..frame + 9].copy_from_slice(&[0xff, 0xdc, 0xff, 0xdc]);
    assert!(refuse(&bomb).contains("65500"), "{}", refuse(&bomb));

    // Every single-byte change of a small file: an error or a picture, never a panic.
    for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Gif, ImageFormat::Bmp] {
        let bytes = encode(&RgbImage::new(4, 4).into(), format);
        for at in 0..bytes.len() {
            for change in [0x01, 0x80, 0xff] {
                let mut changed = bytes.clone();
                changed[at] ^= change;
                let _ = Pixels::decode(&changed);
            }
        }
    }
}

fn exact(height: usize, width: usize, channels: usize) -> Preprocessing {
    Preprocessing {
        channels,
        height,
        width,
        resize: Resize::Exact,
        mean: vec![0.0; channels],
        std: vec![1.0; channels],
    }
}

#[test]
fn preprocessing_resizes_crops_and_normalises() {
    let png = encode(&quarters().into(), ImageFormat::Png);
    let p =
        Preprocessing { mean: vec![0.5, 0.25, 0.75], std: vec![0.5, 0.2, 0.1], ..exact(16, 24, 3) };
    let input = p.decode(&png).unwrap();
    // (x / 255 - mean) / std in f32, one operation after the other, as torch does it.
    let want = [(250, 0.5, 0.5), (10, 0.25, 0.2), (20, 0.75, 0.1_f32)]
        .map(|(byte, mean, std): (i32, f32, f32)| (byte as f32 / 255.0 - mean) / std);
    assert_eq!(input[..3], want);

    // The centre of a picture that is wider than high: no red or blue from the left edge.
    let wide =
        RgbImage::from_fn(
            90,
            30,
            |x, _| if (25..65).contains(&x) { Rgb([9; 3]) } else { Rgb([200; 3]) },
        );
    let p = Preprocessing { resize: Resize::ShortSide(10), ..exact(8, 8, 3) };
    let input = p.decode(&encode(&wide.into(), ImageFormat::Png)).unwrap();
    assert!(input.iter().all(|&x| x == 9.0 / 255.0), "{input:?}");

    // A fine checkerboard shrinks to even grey: the filter takes in all pixels.
    let checks = RgbImage::from_fn(64, 64, |x, y| Rgb([((x + y) % 2 * 255) as u8; 3]));
    let input = exact(8, 8, 3).decode(&encode(&checks.into(), ImageFormat::Png)).unwrap();
    assert!(input.iter().all(|x| (x - 0.5).abs() < 0.01), "{input:?}");

    let grey = exact(16, 24, 1).decode(&png).unwrap();
    let luma = (250.0 * 0.299 + 10.0 * 0.587 + 20.0 * 0.114_f32) / 255.0;
    assert_eq!(grey.len(), 16 * 24);
    assert!((grey[0] - luma).abs() < 0.5 / 255.0 + 1e-6);
}

#[test]
fn every_size_can_be_brought_to_every_size() {
    for width in [1, 2, 3, 7, 12, 50, 64, 333] {
        for height in [1, 3, 32, 49, 100] {
            let png =
                encode(&RgbImage::from_pixel(width, height, Rgb([7; 3])).into(), ImageFormat::Png);
            let pixels = decode(&png);
            for size in (1..34).chain([224]) {
                for resize in [Resize::Exact, Resize::ShortSide(size), Resize::ShortSide(size + 1)]
                {
                    let input = Preprocessing { resize, ..exact(size, size, 3) }.picture(&pixels);
                    let input = input.unwrap();
                    assert_eq!(input.len(), size * size * 3);
                    assert!(input.iter().all(|&x| x == 7.0 / 255.0), "{width}×{height} {resize:?}");
                }
            }
        }
    }
}

#[test]
fn preprocessing_that_makes_no_sense_is_refused() {
    let refuse = |p: Preprocessing| match p.validate() {
        Err(DataError::Invalid { subject, .. }) => subject,
        other => panic!("{p:?} gave {other:?}"),
    };
    assert!(exact(8, 8, 3).validate().is_ok());
    let of = |field: &str| format!("preprocessing.{field}");
    assert_eq!(refuse(Preprocessing { channels: 2, ..exact(8, 8, 3) }), of("channels"));
    assert_eq!(refuse(Preprocessing { height: 0, ..exact(8, 8, 3) }), of("height"));
    assert_eq!(refuse(Preprocessing { width: 1 << 40, ..exact(8, 8, 3) }), of("width"));
    assert_eq!(refuse(Preprocessing { mean: vec![0.0], ..exact(8, 8, 3) }), of("mean"));
    assert_eq!(refuse(Preprocessing { std: vec![0.0; 3], ..exact(8, 8, 3) }), of("std"));
    assert_eq!(refuse(Preprocessing { mean: vec![f32::NAN; 3], ..exact(8, 8, 3) }), of("mean"));
    let short = Preprocessing { resize: Resize::ShortSide(7), ..exact(8, 8, 3) };
    assert_eq!(refuse(short), of("resize"));
    assert!(exact(8, 8, 3).vector(&[1.0]).is_err());
}

#[test]
fn a_vector_of_what_is_no_finite_number_is_refused() {
    let vectors = Preprocessing {
        channels: 3,
        height: 1,
        width: 1,
        resize: Resize::None,
        mean: vec![1.0; 3],
        std: vec![0.5; 3],
    };
    assert_eq!(vectors.vector(&[1.0, 0.0, 2.0]).unwrap(), [0.0, -2.0, 2.0]);
    for (value, problem) in [
        (f32::NAN, "value 2 of 3 is NaN, expected a finite number"),
        (f32::NEG_INFINITY, "value 2 of 3 is -inf, expected a finite number"),
        (3e38, "value 2 of 3 is 3e38, expected one that is not inf when normalised"),
    ] {
        let error = vectors.vector(&[1.0, value, 2.0]).unwrap_err().to_string();
        assert!(error.contains(problem), "{error}");
    }
}

#[test]
fn preprocessing_survives_json_and_toml() {
    let p = Preprocessing {
        mean: vec![0.4914, 0.4822, 0.4465],
        std: vec![0.1, 1e-3, 0.3],
        resize: Resize::ShortSide(256),
        ..exact(224, 224, 3)
    };
    let json = serde_json::to_string(&p).unwrap();
    assert_eq!(serde_json::from_str::<Preprocessing>(&json).unwrap(), p, "{json}");
    let toml = toml::to_string(&p).unwrap();
    assert_eq!(toml::from_str::<Preprocessing>(&toml).unwrap(), p, "{toml}");
}
