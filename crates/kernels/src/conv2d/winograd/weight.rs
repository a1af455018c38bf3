//! Weights as `G g Gᵀ`, one packed matrix for each point, and gradients of them turned back.

use super::transform::POINTS;
use crate::conv2d::packing::Packing;

/// A 3×3 kernel.
type Kernel = [f32; 9];

/// Columns of the matrix that are taken at once, so that whole cache lines are read and written at each point:
/// those of all points lie at a power of two from each other.
const COLUMNS: usize = 8;

/// A number for each of them.
type Numbers = [f32; COLUMNS];

/// `f` of each.
fn each(f: impl Fn(usize) -> f32) -> Numbers {
    std::array::from_fn(f)
}

/// `G g`, for the three columns of `g` or the three rows.
fn g([g0, g1, g2]: [Numbers; 3]) -> [Numbers; 4] {
    let outer = each(|i| (g0[i] + g2[i]) / 2.0);
    let inner = each(|i| g1[i] / 2.0);
    [g0, each(|i| outer[i] + inner[i]), each(|i| outer[i] - inner[i]), g2]
}

/// `Gᵀ u`
fn g_t([u0, u1, u2, u3]: [Numbers; 4]) -> [Numbers; 3] {
    let sum = each(|i| (u1[i] + u2[i]) / 2.0);
    let difference = each(|i| (u1[i] - u2[i]) / 2.0);
    [each(|i| u0[i] + sum[i]), difference, each(|i| sum[i] + u3[i])]
}

/// `G g Gᵀ`
fn transformed(taps: &[Numbers; 9]) -> [Numbers; POINTS] {
    let rows = [0, 1, 2].map(|row| g([taps[3 * row], taps[3 * row + 1], taps[3 * row + 2]]));
    let columns = [0, 1, 2, 3].map(|col| g([rows[0][col], rows[1][col], rows[2][col]]));
    std::array::from_fn(|point| columns[point % 4][point / 4])
}

/// `Gᵀ u G`
fn turned_back(u: &[Numbers; POINTS]) -> [Numbers; 9] {
    let rows =
        [0, 1, 2, 3].map(|row| g_t([u[4 * row], u[4 * row + 1], u[4 * row + 2], u[4 * row + 3]]));
    let columns =
        [0, 1, 2].map(|col| g_t([rows[0][col], rows[1][col], rows[2][col], rows[3][col]]));
    std::array::from_fn(|i| columns[i % 3][i / 3])
}

/// Row, first column and place of the kernels of a matrix, [`COLUMNS`] at once.
fn places(packing: &Packing) -> impl Iterator<Item = (usize, usize, usize)> {
    let Packing { lanes, num_rows, num_cols } = *packing;
    assert!(num_cols.is_multiple_of(COLUMNS) && (2 * lanes).is_multiple_of(COLUMNS));
    packing.blocks().flat_map(move |block| {
        let width = block.num_vectors * lanes;
        let places = (0..num_rows)
            .flat_map(move |row| (0..width).step_by(COLUMNS).map(move |col| (row, col)));
        places.map(move |(row, col)| (row, block.col + col, block.offset + row * width + col))
    })
}

/// Packs the transformed kernels of a matrix of them, whose columns are whole vectors.
pub(super) fn pack(packing: &Packing, packed: &mut [f32], kernel: impl Fn(usize, usize) -> Kernel) {
    let len = packing.len();
    assert_eq!(packed.len(), POINTS * len);
    for (row, col, at) in places(packing) {
        let kernels: [Kernel; COLUMNS] = std::array::from_fn(|i| kernel(row, col + i));
        let taps = std::array::from_fn(|tap| each(|i| kernels[i][tap]));
        for (point, values) in transformed(&taps).iter().enumerate() {
            packed[point * len + at..][..COLUMNS].copy_from_slice(values);
        }
    }
}

/// Calls `write(row, col, gradient)` with the gradient of each kernel of the matrix.
pub(super) fn unpack(
    packing: &Packing,
    packed: &[f32],
    mut write: impl FnMut(usize, usize, Kernel),
) {
    let len = packing.len();
    assert_eq!(packed.len(), POINTS * len);
    for (row, col, at) in places(packing) {
        let u = std::array::from_fn(|point| each(|i| packed[point * len + at + i]));
        let taps = turned_back(&u);
        for i in 0..COLUMNS {
            write(row, col + i, taps.map(|numbers| numbers[i]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `⟨G g Gᵀ, u⟩ = ⟨g, Gᵀ u G⟩`, on integers.
    #[test]
    fn turning_back_is_the_adjoint() {
        let taps: [Numbers; 9] =
            std::array::from_fn(|tap| each(|i| ((tap * tap + i) % 7) as f32 * 4.0 - 9.0));
        let u: [Numbers; POINTS] =
            std::array::from_fn(|point| each(|i| ((point * 5 + i * i) % 11) as f32 * 4.0 - 17.0));
        let dot = |a: &[Numbers], b: &[Numbers]| {
            a.iter().flatten().zip(b.iter().flatten()).map(|(a, b)| a * b).sum::<f32>()
        };
        assert_eq!(dot(&transformed(&taps), &u), dot(&taps, &turned_back(&u)));
    }
}
