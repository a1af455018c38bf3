//! Muon: an update of weight matrices whose singular values are all about as large.

use std::mem::swap;

use rayon::prelude::*;
use residua_kernels::conv2d::{Conv2dKernel, choose};
use residua_kernels::reference::muon::{COEFFICIENTS, MIN_NORM, NUM_ITERATIONS};
use residua_kernels::{Aligned, Conv2dProblem, Isa, scratch};

/// Hyper-parameters of one update of [`MuonStep`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Muon {
    /// Learning rate.
    pub lr: f32,
    /// Share of the velocity that is kept.
    pub momentum: f32,
    /// Share of the parameters that is taken off, over the learning rate.
    pub weight_decay: f32,
}

/// Updates of weight matrices as `torch.optim.Muon` makes them (Jordan et al. 2024), in f32; the reference
/// is [`residua_kernels::reference::muon`]. A convolution's weight is a matrix with a row for each output
/// channel.
///
/// The iteration is not on the matrix but on the smaller of its two products with itself, as all its
/// factors are polynomials of that one: for `[n, 9·n]` about a third of the multiply-adds.
///
/// ```
/// use residua_engine::{Isa, Muon, MuonStep};
///
/// let mut step = MuonStep::new(Isa::Portable, [[2, 2]]);
/// let muon = Muon { lr: 0.1, momentum: 0.0, weight_decay: 0.0 };
/// let (mut params, mut velocity) = ([0.0; 4], [0.0; 4]);
/// // However long the gradient, the step in every direction is 0.68 to 1.14 times the learning rate.
/// step.run(&muon, [2, 2], &mut params, &[1000.0, 0.0, 0.0, -700.0], &mut velocity);
/// assert!((0.068..0.114).contains(&-params[0]) && (0.068..0.114).contains(&params[3]));
/// ```
#[derive(Debug)]
pub struct MuonStep {
    isa: Isa,
    /// The direction, `[short, long]`, and the same with all singular values near 1.
    direction: Vec<f32>,
    update: Vec<f32>,
    /// `X·Xᵀ` of the iteration's `X`, `[short, short]`.
    gram: Vec<f32>,
    /// Polynomial of `gram` that an iteration multiplies `X` by, and the product of all so far.
    factor: Vec<f32>,
    factors: Vec<f32>,
    product: Vec<f32>,
    packed: Aligned<f32>,
    /// What threads are to have before the first update; 0 after it.
    scratch_len: usize,
}

impl MuonStep {
    /// Room for matrices of these shapes, `[rows, columns]`.
    pub fn new(isa: Isa, shapes: impl IntoIterator<Item = [usize; 2]>) -> Self {
        let [mut matrix_len, mut gram_len, mut packed_len, mut scratch_len] = [0; 4];
        for [rows, columns] in shapes {
            let [short, long] = [rows.min(columns), rows.max(columns)];
            matrix_len = matrix_len.max(short * long);
            gram_len = gram_len.max(short * short);
            for ic in [short, long] {
                let (problem, kernel) = linear(isa, ic, short);
                packed_len = packed_len
                    .max(kernel.packed_weight_len(&problem))
                    .max(kernel.packed_weight_backward_len(&problem));
                scratch_len = scratch_len.max(kernel.scratch_len(&problem));
            }
        }
        let [direction, update] = [(); 2].map(|()| vec![0.0; matrix_len]);
        let [gram, factor, factors, product] = [(); 4].map(|()| vec![0.0; gram_len]);
        let packed = Aligned::zeroed(packed_len);
        Self { isa, direction, update, gram, factor, factors, product, packed, scratch_len }
    }

    /// One update of a matrix. Runs on the threads of the [`ThreadPool`](crate::ThreadPool) it is called
    /// in, with the same bits on any number of them.
    ///
    /// # Panics
    /// Slices that are not of the shape, or a shape that there was no room made for.
    pub fn run(
        &mut self,
        muon: &Muon,
        [rows, columns]: [usize; 2],
        params: &mut [f32],
        grads: &[f32],
        velocity: &mut [f32],
    ) {
        let len = rows * columns;
        assert_eq!([params.len(), grads.len(), velocity.len()], [len; 3]);
        if self.scratch_len > 0 {
            // On every thread, as any may get its first rows in a later step.
            rayon::broadcast(|_| scratch::reserve(self.scratch_len));
            self.scratch_len = 0;
        }
        let direction = &mut self.direction[..len];
        for ((direction, velocity), grad) in direction.iter_mut().zip(velocity).zip(grads) {
            *velocity = muon.momentum * *velocity + grad;
            *direction = grad + muon.momentum * *velocity;
        }
        let tall = rows > columns;
        if tall {
            transpose(&self.direction[..len], columns, &mut self.update);
            swap(&mut self.direction, &mut self.update);
        }
        self.orthogonalise(rows.min(columns), rows.max(columns));
        if tall {
            transpose(&self.update[..len], rows, &mut self.direction);
            swap(&mut self.direction, &mut self.update);
        }
        let scale = (rows as f32 / columns as f32).max(1.0).sqrt();
        let (kept, lr) = (1.0 - muon.lr * muon.weight_decay, muon.lr * scale);
        for (param, update) in params.iter_mut().zip(&self.update) {
            *param = kept * *param - lr * update;
        }
    }

    /// `direction`, `[short, long]`, with its singular values near 1, to `update`.
    fn orthogonalise(&mut self, short: usize, long: usize) {
        let [a, b, c] = COEFFICIENTS.map(|coefficient| coefficient as f32);
        let isa = self.isa;
        let direction = &mut self.direction[..short * long];
        let norm = direction.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
        let scale = (1.0 / norm.max(MIN_NORM)) as f32;
        direction.iter_mut().for_each(|x| *x *= scale);

        let square = 0..short * short;
        let [gram, factor, factors, product] =
            [&mut self.gram, &mut self.factor, &mut self.factors, &mut self.product]
                .map(|buffer| &mut buffer[square.clone()]);
        let packed = &mut self.packed;
        multiply_transposed(isa, long, direction, direction, packed, gram);
        for i in 0..NUM_ITERATIONS {
            // All of these are symmetric, and so their own transposes.
            multiply_transposed(isa, short, gram, gram, packed, factor);
            factor.iter_mut().zip(&*gram).for_each(|(f, g)| *f = b * g + c * *f);
            factor.iter_mut().step_by(short + 1).for_each(|diagonal| *diagonal += a);
            if i == 0 {
                factors.copy_from_slice(factor);
            } else {
                multiply_transposed(isa, short, factor, factors, packed, product);
                factors.copy_from_slice(product);
            }
            if i + 1 < NUM_ITERATIONS {
                multiply_transposed(isa, short, factor, gram, packed, product);
                multiply_transposed(isa, short, product, factor, packed, gram);
            }
        }
        multiply(isa, long, factors, direction, packed, &mut self.update[..short * long]);
    }
}

/// Rows of a product that a thread makes at a time.
const NUM_ROWS: usize = 64;

/// The product of some rows `[NUM_ROWS, ic]` with a weight `[oc, ic]`, and its kernel.
fn linear(isa: Isa, ic: usize, oc: usize) -> (Conv2dProblem, &'static dyn Conv2dKernel<f32>) {
    let (iw, one) = (NUM_ROWS, 1);
    let problem = Conv2dProblem {
        n: one,
        ic,
        ih: one,
        iw,
        oc,
        kh: one,
        kw: one,
        sh: one,
        sw: one,
        ph: 0,
        pw: 0,
    };
    (problem, choose(&problem, isa))
}

/// `left · rightᵀ`, where both have rows of `k`.
fn multiply_transposed(
    isa: Isa,
    k: usize,
    left: &[f32],
    right: &[f32],
    packed: &mut [f32],
    product: &mut [f32],
) {
    let columns = right.len() / k;
    let (problem, kernel) = linear(isa, k, columns);
    let packed = &mut packed[..kernel.packed_weight_len(&problem)];
    kernel.pack_weight(&problem, right, packed);
    in_parallel(left, k, product, columns, |rows, left, product| {
        kernel.forward(&Conv2dProblem { iw: rows, ..problem }, left, packed, None, product);
    });
}

/// `left · right`, where `right` has rows of `columns`.
fn multiply(
    isa: Isa,
    columns: usize,
    left: &[f32],
    right: &[f32],
    packed: &mut [f32],
    product: &mut [f32],
) {
    let k = right.len() / columns;
    let (problem, kernel) = linear(isa, columns, k);
    let packed = &mut packed[..kernel.packed_weight_backward_len(&problem)];
    kernel.pack_weight_backward(&problem, right, packed);
    in_parallel(left, k, product, columns, |rows, left, product| {
        kernel.backward_data(&Conv2dProblem { iw: rows, ..problem }, left, packed, false, product);
    });
}

/// Hands each thread some rows of `left`, of `k`, and those of the product, of `columns`.
fn in_parallel(
    left: &[f32],
    k: usize,
    product: &mut [f32],
    columns: usize,
    multiply_rows: impl Fn(usize, &[f32], &mut [f32]) + Sync,
) {
    left.par_chunks(NUM_ROWS * k)
        .zip(product.par_chunks_mut(NUM_ROWS * columns))
        .for_each(|(left, product)| multiply_rows(left.len() / k, left, product));
}

/// Writes a matrix's transpose.
fn transpose(matrix: &[f32], columns: usize, transposed: &mut [f32]) {
    let rows = matrix.len() / columns;
    for (i, row) in matrix.chunks_exact(columns).enumerate() {
        for (j, &value) in row.iter().enumerate() {
            transposed[j * rows + i] = value;
        }
    }
}
