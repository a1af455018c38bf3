//! Weights as `G g Gᵀ`, one packed matrix for each point, and gradients of them turned back.

use super::transform::POINTS;
use crate::conv2d::packing::Packing;

/// A 3×3 kernel.
type Kernel = [f32; 9];

/// `G g`, for the three columns of `g` or the three rows.
fn g([g0, g1, g2]: [f32; 3]) -> [f32; 4] {
    let (outer, inner) = ((g0 + g2) / 2.0, g1 / 2.0);
    [g0, outer + inner, outer - inner, g2]
}

/// `Gᵀ u`
fn g_t([u0, u1, u2, u3]: [f32; 4]) -> [f32; 3] {
    let (sum, difference) = ((u1 + u2) / 2.0, (u1 - u2) / 2.0);
    [u0 + sum, difference, sum + u3]
}

/// `G g Gᵀ`
fn transformed(kernel: &Kernel) -> [f32; POINTS] {
    let rows = [0, 1, 2].map(|row| g([kernel[3 * row], kernel[3 * row + 1], kernel[3 * row + 2]]));
    let columns = [0, 1, 2, 3].map(|col| g([rows[0][col], rows[1][col], rows[2][col]]));
    std::array::from_fn(|point| columns[point % 4][point / 4])
}

/// `Gᵀ u G`
fn turned_back(u: &[f32; POINTS]) -> Kernel {
    let rows =
        [0, 1, 2, 3].map(|row| g_t([u[4 * row], u[4 * row + 1], u[4 * row + 2], u[4 * row + 3]]));
    let columns =
        [0, 1, 2].map(|col| g_t([rows[0][col], rows[1][col], rows[2][col], rows[3][col]]));
    std::array::from_fn(|i| columns[i % 3][i / 3])
}

/// Row, column and place of each kernel of a matrix whose columns are whole vectors.
fn places(packing: &Packing) -> impl Iterator<Item = (usize, usize, usize)> {
    let Packing { lanes, num_rows, .. } = *packing;
    packing.blocks().flat_map(move |block| {
        let width = block.num_vectors * lanes;
        let places = (0..num_rows).flat_map(move |row| (0..width).map(move |col| (row, col)));
        places.map(move |(row, col)| (row, block.col + col, block.offset + row * width + col))
    })
}

/// Packs the transformed kernels of a matrix of them.
pub(super) fn pack(packing: &Packing, packed: &mut [f32], kernel: impl Fn(usize, usize) -> Kernel) {
    let len = packing.len();
    assert_eq!(packed.len(), POINTS * len);
    for (row, col, at) in places(packing) {
        for (point, value) in transformed(&kernel(row, col)).into_iter().enumerate() {
            packed[point * len + at] = value;
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
        let u = std::array::from_fn(|point| packed[point * len + at]);
        write(row, col, turned_back(&u));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `⟨G g Gᵀ, u⟩ = ⟨g, Gᵀ u G⟩`, on integers.
    #[test]
    fn turning_back_is_the_adjoint() {
        let kernel: Kernel = std::array::from_fn(|i| (i * i % 7) as f32 * 4.0 - 9.0);
        let u: [f32; POINTS] = std::array::from_fn(|i| (i * 5 % 11) as f32 * 4.0 - 17.0);
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        assert_eq!(dot(&transformed(&kernel), &u), dot(&kernel, &turned_back(&u)));
    }
}
