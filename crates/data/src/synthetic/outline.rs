//! The ten kinds of shapes, as signed distances in a plane where each fits a circle of radius 1.

use std::f64::consts::TAU;

/// The edge of a shape.
pub(super) enum Outline {
    Circle { radius: f32 },
    Ring { outer: f32, inner: f32 },
    Crescent { radius: f32, bite_radius: f32, bite_x: f32 },
    Polygon(Vec<[f32; 2]>),
}

impl Outline {
    /// Distance of a point from the edge, negative inside.
    pub(super) fn distance(&self, [x, y]: [f32; 2]) -> f32 {
        let from_centre = (x * x + y * y).sqrt();
        match self {
            Self::Circle { radius } => from_centre - radius,
            Self::Ring { outer, inner } => (from_centre - outer).max(inner - from_centre),
            Self::Crescent { radius, bite_radius, bite_x } => {
                let from_bite = ((x - bite_x).powi(2) + y * y).sqrt();
                (from_centre - radius).max(bite_radius - from_bite)
            }
            Self::Polygon(corners) => polygon_distance(corners, [x, y]),
        }
    }
}

/// In the order of [`CLASSES`](super::shapes::CLASSES).
pub(super) fn all() -> [Outline; 10] {
    [
        Outline::Polygon(arrow()),
        Outline::Circle { radius: 0.88 },
        Outline::Crescent { radius: 0.98, bite_radius: 0.8, bite_x: 0.5 },
        Outline::Polygon(cross()),
        Outline::Polygon(heart()),
        Outline::Polygon(regular(5, &[0.96])),
        Outline::Ring { outer: 0.95, inner: 0.52 },
        Outline::Polygon(regular(4, &[1.0])),
        Outline::Polygon(regular(10, &[1.05, 0.48])),
        Outline::Polygon(regular(3, &[1.05])),
    ]
}

/// Corners at equal angles, at the given distances in turn.
fn regular(num_corners: usize, radii: &[f64]) -> Vec<[f32; 2]> {
    (0..num_corners)
        .map(|i| polar(radii[i % radii.len()], TAU * i as f64 / num_corners as f64))
        .collect()
}

/// Angles are f64, so that the last bit of a platform's sine is rounded away.
fn polar(radius: f64, angle: f64) -> [f32; 2] {
    [(radius * angle.sin()) as f32, (-radius * angle.cos()) as f32]
}

fn cross() -> Vec<[f32; 2]> {
    const ARM: f32 = 0.95;
    const HALF: f32 = 0.3;
    // One arm's three corners, turned by quarters.
    let arm = [[-HALF, -ARM], [HALF, -ARM], [HALF, -HALF]];
    let quarter = |[x, y]: [f32; 2], times: usize| (0..times).fold([x, y], |[x, y], _| [-y, x]);
    (0..4).flat_map(|times| arm.map(|corner| quarter(corner, times))).collect()
}

fn arrow() -> Vec<[f32; 2]> {
    let half = [[0.0, -1.0], [0.78, -0.1], [0.3, -0.1], [0.3, 0.95]];
    mirrored(&half)
}

fn heart() -> Vec<[f32; 2]> {
    const STEPS: usize = 12;
    let half: Vec<_> = (0..=STEPS)
        .map(|i| {
            let t = TAU / 2.0 * i as f64 / STEPS as f64;
            let y =
                13.0 * t.cos() - 5.0 * (2.0 * t).cos() - 2.0 * (3.0 * t).cos() - (4.0 * t).cos();
            [(t.sin().powi(3)) as f32, (-(y + 2.5) / 15.5) as f32]
        })
        .collect();
    mirrored(&half)
}

/// The corners of the right half, then those of its mirror image on the way back.
fn mirrored(half: &[[f32; 2]]) -> Vec<[f32; 2]> {
    let left = half.iter().rev().filter(|[x, _]| *x > 1e-6).map(|&[x, y]| [-x, y]);
    half.iter().copied().chain(left).collect()
}

/// Distance to the nearest edge; the sign by counting the edges that a ray crosses.
fn polygon_distance(corners: &[[f32; 2]], [x, y]: [f32; 2]) -> f32 {
    let mut nearest = f32::INFINITY;
    let mut inside = false;
    let mut previous = corners[corners.len() - 1];
    for &[bx, by] in corners {
        let [ax, ay] = previous;
        let (ex, ey, px, py) = (bx - ax, by - ay, x - ax, y - ay);
        let along = ((px * ex + py * ey) / (ex * ex + ey * ey)).clamp(0.0, 1.0);
        let (dx, dy) = (px - ex * along, py - ey * along);
        nearest = nearest.min(dx * dx + dy * dy);
        if (ay > y) != (by > y) && px < ex * py / ey {
            inside = !inside;
        }
        previous = [bx, by];
    }
    if inside { -nearest.sqrt() } else { nearest.sqrt() }
}
