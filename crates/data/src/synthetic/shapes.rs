use std::f64::consts::TAU;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::outline::{self, Outline};
use super::{noise, positions};
use crate::dataset::PixelShape;
use crate::random::{Purpose, stream};

pub(super) const CLASSES: [&str; 10] = [
    "arrow", "circle", "crescent", "cross", "heart", "pentagon", "ring", "square", "star",
    "triangle",
];

const SIZE: usize = 32;
const SHAPE: PixelShape = PixelShape { channels: 3, height: SIZE, width: SIZE };

type Colour = [f32; 3];

/// Red, green and blue from 0 to 1.
struct Canvas([[Colour; SIZE]; SIZE]);

/// How hard the shapes are to tell apart.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// The smallest radius, in pixels.
    radius: f32,
    /// The least distance of the shape's colour to the background's.
    contrast: f32,
    /// The most noise, a standard deviation.
    noise: f32,
}

impl Limits {
    /// From 0, where small networks learn fast, to 1, where good ones reach 95 to 99 %.
    fn of(difficulty: f32) -> Self {
        Self {
            radius: 9.0 - 2.0 * difficulty,
            contrast: 0.6 - 0.3 * difficulty,
            noise: 0.09 + 0.06 * difficulty,
        }
    }
}

/// Draws the three splits one after the other; the classes take turns.
pub(super) fn draw(
    counts: &[usize; 3],
    seed: u64,
    difficulty: f32,
) -> (PixelShape, Vec<u8>, Vec<u32>) {
    let limits = Limits::of(difficulty);
    let outlines = outline::all();
    let positions: Vec<_> = positions(counts).collect();
    let mut data = vec![0; positions.len() * SHAPE.len()];
    data.par_chunks_exact_mut(SHAPE.len()).zip(&positions).for_each(|(pixels, &(split, i))| {
        let rng = stream(seed, Purpose::Shapes, split as u64, i as u64);
        draw_picture(&outlines[i % CLASSES.len()], &limits, rng, pixels);
    });
    let labels = positions.iter().map(|&(_, i)| (i % CLASSES.len()) as u32).collect();
    (SHAPE, data, labels)
}

fn draw_picture(outline: &Outline, limits: &Limits, mut rng: ChaCha8Rng, pixels: &mut [u8]) {
    let rng = &mut rng;
    let ground: Colour = rng.random();
    let mut canvas = Canvas([[ground; SIZE]; SIZE]);
    paint_background(&mut canvas, ground, rng);
    for _ in 0..rng.random_range(0..4) {
        paint_clutter(&mut canvas, rng);
    }
    paint_shape(&mut canvas, outline, ground, limits, rng);
    // What covers the shape is small, so that it stays recognisable.
    for _ in 0..rng.random_range(0..2) {
        paint_clutter(&mut canvas, rng);
    }
    let amplitude = rng.random_range(0.0..limits.noise);
    for (pixel, colour) in pixels.as_chunks_mut().0.iter_mut().zip(canvas.0.as_flattened()) {
        *pixel = colour.map(|c| ((c + amplitude * noise(rng)) * 255.0).round() as u8);
    }
}

/// Plain, a gradient, stripes, checks, or clouds.
fn paint_background(canvas: &mut Canvas, ground: Colour, rng: &mut ChaCha8Rng) {
    let other = near(ground, 0.22, rng);
    let [ux, uy] = direction(rng);
    let period = rng.random_range(3.0..9.0);
    match rng.random_range(0..5) {
        0 => {}
        1 => canvas.paint(other, |x, y| 0.5 + (ux * (x - 16.0) + uy * (y - 16.0)) / 40.0),
        2 => canvas.paint(other, |x, y| stripe((ux * x + uy * y) / period)),
        3 => canvas.paint(other, |x, y| {
            let (a, b) = (stripe((ux * x + uy * y) / period), stripe((ux * y - uy * x) / period));
            a + b - 2.0 * a * b
        }),
        _ => {
            let grid: [[f32; 6]; 6] = rng.random();
            canvas.paint(other, |x, y| clouds(&grid, x / 6.4, y / 6.4));
        }
    }
}

/// 0 and 1 in turn, with soft edges.
fn stripe(at: f32) -> f32 {
    let to_edge = (at - at.floor() - 0.5).abs();
    ((to_edge - 0.25) * 8.0 + 0.5).clamp(0.0, 1.0)
}

/// Bilinear between random values.
fn clouds(grid: &[[f32; 6]; 6], x: f32, y: f32) -> f32 {
    let (column, row) = (x as usize, y as usize);
    let (fx, fy) = (x - column as f32, y - row as f32);
    let across = |row: &[f32; 6]| row[column] * (1.0 - fx) + row[column + 1] * fx;
    across(&grid[row]) * (1.0 - fy) + across(&grid[row + 1]) * fy
}

/// A dot, a short line, or a line through the whole picture.
fn paint_clutter(canvas: &mut Canvas, rng: &mut ChaCha8Rng) {
    let colour: Colour = rng.random();
    let [cx, cy] = [rng.random_range(0.0..32.0), rng.random_range(0.0..32.0)];
    let [ux, uy] = direction(rng);
    let half_length = match rng.random_range(0..4) {
        0 => 0.0,
        1 | 2 => rng.random_range(1.0..4.0),
        _ => 40.0,
    };
    let longest = if half_length > 4.0 { 0.8 } else { 1.6 };
    let radius = rng.random_range(0.4..longest);
    canvas.paint(colour, |x, y| {
        let (x, y) = (x - cx, y - cy);
        let along = (ux * x + uy * y).clamp(-half_length, half_length);
        let (dx, dy) = (x - ux * along, y - uy * along);
        coverage((dx * dx + dy * dy).sqrt() - radius, 1.0)
    });
}

fn paint_shape(
    canvas: &mut Canvas,
    outline: &Outline,
    ground: Colour,
    limits: &Limits,
    rng: &mut ChaCha8Rng,
) {
    let radius = rng.random_range(limits.radius..14.0);
    let squash = rng.random_range(0.8..1.0_f32);
    let softness = rng.random_range(1.0..2.2);
    let margin = 0.85 * radius;
    let cx = rng.random_range(margin..32.0 - margin);
    let cy = rng.random_range(margin..32.0 - margin);
    let [ux, uy] = direction(rng);
    // Turned, squashed along a direction of its own, and turned again.
    let [vx, vy] = direction(rng);
    let colour = contrasting(ground, limits.contrast, rng);
    let shade = near(colour, 0.25, rng);
    let [gx, gy] = direction(rng);

    let cover = |x: f32, y: f32| {
        let (x, y) = ((x - cx) / radius, (y - cy) / radius);
        let (x, y) = (ux * x + uy * y, (ux * y - uy * x) / squash);
        let distance = outline.distance([vx * x + vy * y, vx * y - vy * x]);
        coverage(distance * radius * squash, softness)
    };
    let colour_at = |x: f32, y: f32| {
        let share = (0.5 + (gx * (x - cx) + gy * (y - cy)) / (2.0 * radius)).clamp(0.0, 1.0);
        mix(colour, shade, share)
    };
    canvas.paint_with(colour_at, cover);
}

impl Canvas {
    fn paint(&mut self, colour: Colour, cover: impl Fn(f32, f32) -> f32) {
        self.paint_with(|_, _| colour, cover);
    }

    /// Blends each pixel with a colour as far as it is covered at its centre.
    fn paint_with(&mut self, colour: impl Fn(f32, f32) -> Colour, cover: impl Fn(f32, f32) -> f32) {
        for (y, row) in self.0.iter_mut().enumerate() {
            for (x, pixel) in row.iter_mut().enumerate() {
                let (x, y) = (x as f32 + 0.5, y as f32 + 0.5);
                let share = cover(x, y);
                if share > 0.0 {
                    *pixel = mix(*pixel, colour(x, y), share.min(1.0));
                }
            }
        }
    }
}

/// How much of a pixel lies inside an edge that is `softness` pixels wide: anti-aliasing.
fn coverage(distance: f32, softness: f32) -> f32 {
    (0.5 - distance / softness).clamp(0.0, 1.0)
}

fn direction(rng: &mut ChaCha8Rng) -> [f32; 2] {
    let (sin, cos) = rng.random_range(0.0..TAU).sin_cos();
    [cos as f32, sin as f32]
}

fn mix(a: Colour, b: Colour, share: f32) -> Colour {
    std::array::from_fn(|c| a[c] + (b[c] - a[c]) * share)
}

/// A colour that differs by at most `range` in each channel.
fn near(colour: Colour, range: f32, rng: &mut ChaCha8Rng) -> Colour {
    colour.map(|c| (c + rng.random_range(-range..range)).clamp(0.0, 1.0))
}

/// A colour that stands out, if only just.
fn contrasting(ground: Colour, least: f32, rng: &mut ChaCha8Rng) -> Colour {
    loop {
        let colour: Colour = rng.random();
        let squares: f32 = colour.iter().zip(ground).map(|(a, b)| (a - b) * (a - b)).sum();
        if squares > least * least {
            return colour;
        }
    }
}
