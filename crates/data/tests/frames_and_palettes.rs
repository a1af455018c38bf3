//! Pictures of several frames, of palettes and of more than 8 bits.

use std::io::{Cursor, Write};

use flate2::{Compression, Crc, write::ZlibEncoder};
use image::codecs::gif::GifEncoder;
use image::{DynamicImage, Frame, ImageBuffer, ImageFormat, Rgb, Rgba, RgbaImage};
use residua_data::Pixels;

const RED: [u8; 3] = [250, 10, 20];
const BLUE: [u8; 3] = [20, 30, 230];

/// All pixels of what is decoded.
fn decode(bytes: &[u8]) -> (usize, usize, Vec<[u8; 3]>) {
    let pixels = Pixels::decode(bytes).unwrap();
    assert_eq!(pixels.channels, 3);
    (pixels.width, pixels.height, pixels.data.as_chunks::<3>().0.to_vec())
}

/// A PNG of these chunks; no encoder at hand writes palettes or animations.
fn png(chunks: &[(&[u8; 4], Vec<u8>)]) -> Vec<u8> {
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    for (kind, content) in chunks.iter().chain(&[(b"IEND", Vec::new())]) {
        let mut crc = Crc::new();
        crc.update(&kind[..]);
        crc.update(content);
        png.extend((content.len() as u32).to_be_bytes());
        png.extend(&kind[..]);
        png.extend(content);
        png.extend(crc.sum().to_be_bytes());
    }
    png
}

/// A header of 8 bits a value; `colour` is 2 for RGB, 3 for a palette.
fn header(width: u32, height: u32, colour: u8) -> (&'static [u8; 4], Vec<u8>) {
    let mut header = [width.to_be_bytes(), height.to_be_bytes()].concat();
    header.extend([8, colour, 0, 0, 0]);
    (b"IHDR", header)
}

/// Rows without a filter, compressed.
fn rows(rows: &[&[u8]]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    for row in rows {
        encoder.write_all(&[0]).unwrap();
        encoder.write_all(row).unwrap();
    }
    encoder.finish().unwrap()
}

/// Of an animation's frame of 2×1 pixels.
fn frame_control(sequence: u32) -> (&'static [u8; 4], Vec<u8>) {
    let mut control: Vec<u8> =
        [sequence, 2, 1, 0, 0].iter().flat_map(|word| word.to_be_bytes()).collect();
    control.extend([0, 1, 0, 10, 0, 0]);
    (b"fcTL", control)
}

#[test]
fn of_an_animated_gif_the_first_frame_is_taken() {
    let frame = |[r, g, b]: [u8; 3]| RgbaImage::from_pixel(6, 4, Rgba([r, g, b, 255]));
    let mut bytes = Vec::new();
    let frames = [RED, BLUE].map(|colour| Frame::new(frame(colour)));
    GifEncoder::new(&mut bytes).encode_frames(frames).unwrap();
    let (width, height, pixels) = decode(&bytes);
    assert_eq!((width, height), (6, 4));
    for pixel in pixels {
        assert!(pixel.iter().zip(RED).all(|(got, want)| got.abs_diff(want) <= 3), "{pixel:?}");
    }
}

#[test]
fn of_an_animated_png_the_picture_that_others_show_is_taken() {
    let first = rows(&[&[RED, RED].concat()]);
    let second = rows(&[&[BLUE, BLUE].concat()]);
    let animation = (b"acTL", [2_u32.to_be_bytes(), [0; 4]].concat());
    let more = |sequence: u32| (b"fdAT", [&sequence.to_be_bytes()[..], &second].concat());
    let its_first = png(&[
        header(2, 1, 2),
        animation.clone(),
        frame_control(0),
        (b"IDAT", first.clone()),
        frame_control(1),
        more(2),
    ]);
    let beside_it = png(&[
        header(2, 1, 2),
        animation,
        (b"IDAT", first),
        frame_control(0),
        more(1),
        frame_control(2),
        more(3),
    ]);
    for bytes in [its_first, beside_it] {
        assert_eq!(decode(&bytes), (2, 1, vec![RED, RED]));
    }
}

#[test]
fn a_palette_is_its_colours_whatever_their_alpha() {
    let palette = (b"PLTE", [RED, BLUE, [7, 8, 9]].concat());
    let pixels = (b"IDAT", rows(&[&[0, 1, 2], &[2, 1, 0]]));
    let want = (3, 2, vec![RED, BLUE, [7, 8, 9], [7, 8, 9], BLUE, RED]);
    let opaque = png(&[header(3, 2, 3), palette.clone(), pixels.clone()]);
    assert_eq!(decode(&opaque), want);
    let transparent = png(&[header(3, 2, 3), palette, (b"tRNS", vec![0, 100]), pixels]);
    assert_eq!(decode(&transparent), want);
}

#[test]
fn sixteen_bits_are_rounded_to_eight() {
    // 257 to a step of 8 bits.
    let values =
        [[0, 128, 129], [257 * 18 - 129, 257 * 18 - 128, 257 * 18 + 128], [65406, 65407, 65535]];
    let want = [[0, 0, 1], [17, 18, 18], [254, 255, 255]];
    let picture = ImageBuffer::from_fn(3, 1, |x, _| Rgb::<u16>(values[x as usize]));
    let mut bytes = Cursor::new(Vec::new());
    DynamicImage::ImageRgb16(picture).write_to(&mut bytes, ImageFormat::Png).unwrap();
    assert_eq!(decode(&bytes.into_inner()), (3, 1, want.to_vec()));
}
