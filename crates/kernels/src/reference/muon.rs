//! Muon, as `torch.optim.Muon` (Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural
//! networks"), for one matrix `[rows, columns]`:
//!
//! ```text
//! v ← momentum · v + grad
//! u ← orthogonalised(grad + momentum · v)
//! param ← param − lr · weight_decay · param − lr · √max(1, rows / columns) · u
//! ```
//!
//! `v` starts at 0. PyTorch's is `1 − momentum` times as long, which makes no difference to its direction,
//! and computes `u` in bf16.

use super::Real;

/// The hyper-parameters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Muon<T> {
    /// Learning rate.
    pub lr: T,
    /// Share of the velocity that is kept.
    pub momentum: T,
    /// Share of the parameters that is taken off, over the learning rate.
    pub weight_decay: T,
}

/// Iterations of [`orthogonalised`].
pub const NUM_ITERATIONS: usize = 5;
/// `a`, `b` and `c` of [`orthogonalised`].
pub const COEFFICIENTS: [f64; 3] = [3.4445, -4.7750, 2.0315];
/// A matrix with a smaller norm counts as one of this norm.
pub const MIN_NORM: f64 = 1e-7;

/// One step: updates `params` and `velocity`.
pub fn step<T: Real>(
    muon: &Muon<T>,
    columns: usize,
    params: &mut [T],
    grads: &[T],
    velocity: &mut [T],
) {
    assert_eq!(params.len(), grads.len(), "params and grads lengths");
    assert_eq!(params.len(), velocity.len(), "params and velocity lengths");
    let ahead: Vec<T> = grads
        .iter()
        .zip(velocity)
        .map(|(&grad, velocity)| {
            *velocity = muon.momentum * *velocity + grad;
            grad + muon.momentum * *velocity
        })
        .collect();
    let ratio = T::from_count(params.len() / columns) / T::from_count(columns);
    let scale = if ratio > T::ONE { ratio.sqrt() } else { T::ONE };
    for (param, update) in params.iter_mut().zip(orthogonalised(&ahead, columns)) {
        *param = *param - muon.lr * muon.weight_decay * *param - muon.lr * scale * update;
    }
}

/// The matrix with its singular values brought near 1 (between 0.7 and 1.2, but for the smallest): five
/// times `X ← a·X + (b·A + c·A²)·X` with `A = X·Xᵀ`, from a norm of 1 on. Of a matrix with more rows than
/// columns, the transpose of its transpose's.
pub fn orthogonalised<T: Real>(matrix: &[T], columns: usize) -> Vec<T> {
    let rows = matrix.len() / columns;
    assert_eq!(matrix.len(), rows * columns, "not a matrix of {columns} columns");
    if rows > columns {
        let transpose = orthogonalised(&transposed(matrix, columns), rows);
        return transposed(&transpose, rows);
    }
    let norm = matrix.iter().map(|&value| value * value).sum::<T>().sqrt();
    let min = T::from_f64(MIN_NORM);
    let norm = if norm < min { min } else { norm };
    let mut x: Vec<T> = matrix.iter().map(|&value| value / norm).collect();
    let [a, b, c] = COEFFICIENTS.map(T::from_f64);
    for _ in 0..NUM_ITERATIONS {
        let gram = product(&x, &transposed(&x, columns), rows);
        let square = product(&gram, &gram, rows);
        let factor: Vec<T> = gram.iter().zip(&square).map(|(&g, &s)| b * g + c * s).collect();
        let change = product(&factor, &x, columns);
        x.iter_mut().zip(change).for_each(|(x, change)| *x = a * *x + change);
    }
    x
}

fn transposed<T: Real>(matrix: &[T], columns: usize) -> Vec<T> {
    (0..columns).flat_map(|j| matrix.iter().skip(j).step_by(columns).copied()).collect()
}

/// `[m, k]` times `[k, columns]`.
fn product<T: Real>(left: &[T], right: &[T], columns: usize) -> Vec<T> {
    let k = right.len() / columns;
    let entry = |row: &[T], j: usize| {
        row.iter().zip(right.iter().skip(j).step_by(columns)).map(|(&l, &r)| l * r).sum()
    };
    left.chunks_exact(k).flat_map(|row| (0..columns).map(move |j| entry(row, j))).collect()
}
