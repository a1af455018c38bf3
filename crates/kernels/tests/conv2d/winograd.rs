//! The error of Winograd's convolution, on pixels of very different sizes: where all are of one size, as in
//! the other tests, it is within the bound of a direct one.

use residua_kernels::conv2d::{Conv2dKernel, kernels};
use residua_kernels::{Conv2dProblem, reference::conv2d as reference};
use residua_testkit::{EPS32, Generator, widen};

/// As [`crate::check`]'s: so many roundings for each term.
const TOLERANCE: f64 = 8.0 * EPS32;

/// Rows of `|Bᵀ|`, `|G|` and `|Aᵀ|`.
const B_T: [[f64; 4]; 4] = [[1., 0., 1., 0.], [0., 1., 1., 0.], [0., 1., 1., 0.], [0., 1., 0., 1.]];
const G: [[f64; 3]; 4] = [[1., 0., 0.], [0.5, 0.5, 0.5], [0.5, 0.5, 0.5], [0., 0., 1.]];
const A_T: [[f64; 4]; 2] = [[1., 1., 1., 0.], [0., 1., 1., 1.]];

/// `m x mᵀ`
fn both_sides<const R: usize, const C: usize>(
    m: &[[f64; C]; R],
    x: impl Fn(usize, usize) -> f64,
) -> [[f64; R]; R] {
    std::array::from_fn(|i| {
        std::array::from_fn(|j| {
            let terms = (0..C).flat_map(|k| (0..C).map(move |l| (k, l)));
            terms.map(|(k, l)| m[i][k] * x(k, l) * m[j][l]).sum()
        })
    })
}

/// For each output the sum of the absolute values of all that is added up on the way to it: the algorithm on
/// absolute values.
fn magnitude(p: &Conv2dProblem, input: &[f64], weight: &[f64]) -> Vec<f64> {
    let mut magnitude = vec![0.0; p.output_len()];
    let pixel = |n_i: usize, y: usize, x: usize, ic_i: usize| {
        let (y, x) = (y.wrapping_sub(p.ph), x.wrapping_sub(p.pw));
        match y < p.ih && x < p.iw {
            true => input[((n_i * p.ih + y) * p.iw + x) * p.ic + ic_i].abs(),
            false => 0.0,
        }
    };
    for (i, out) in magnitude.iter_mut().enumerate() {
        let (pixel_i, oc_i) = (i / p.oc, i % p.oc);
        let (row, n_i) = (pixel_i / p.ow() % p.oh(), pixel_i / p.ow() / p.oh());
        let col = pixel_i % p.ow();
        let mut products = [[0.0; 4]; 4];
        for ic_i in 0..p.ic {
            let first = (oc_i * p.ic + ic_i) * 9;
            let u = both_sides(&G, |k, l| weight[first + 3 * k + l].abs());
            let v = both_sides(&B_T, |k, l| pixel(n_i, row / 2 * 2 + k, col / 2 * 2 + l, ic_i));
            for (k, products) in products.iter_mut().enumerate() {
                for (l, product) in products.iter_mut().enumerate() {
                    *product += u[k][l] * v[k][l];
                }
            }
        }
        *out = both_sides(&A_T, |k, l| products[k][l])[row % 2][col % 2];
    }
    magnitude
}

fn winograd() -> impl Iterator<Item = &'static dyn Conv2dKernel<f32>> {
    kernels::<f32>().filter(|kernel| kernel.name().ends_with("winograd"))
}

/// Pixels from a thousandth to a thousand, all channels of one alike.
fn uneven(p: &Conv2dProblem, seed: u64) -> (Vec<f32>, Vec<f32>) {
    let mut generator = Generator::new(seed);
    let (mut input, weight) = (generator.signed(p.input_len()), generator.signed(p.weight_len()));
    for (i, pixel) in input.chunks_exact_mut(p.ic).enumerate() {
        let scale = 10_f32.powi((i * i % 7) as i32 - 3);
        pixel.iter_mut().for_each(|x| *x *= scale);
    }
    (input, weight)
}

#[test]
fn the_error_is_relative_to_what_the_patch_holds() {
    let p: Conv2dProblem = "n2ic32ih9iw10oc32kh3sh1ph1".parse().unwrap();
    let (input, weight) = uneven(&p, 3);
    let (wide_input, wide_weight) = (widen(&input), widen(&weight));
    let mut want = vec![0.0; p.output_len()];
    reference::forward(&p, &wide_input, &wide_weight, None, &mut want);
    let magnitude = magnitude(&p, &wide_input, &wide_weight);
    // It can't be less than a direct convolution's.
    let mut direct = vec![0.0; p.output_len()];
    let absolute = |values: &[f64]| -> Vec<f64> { values.iter().map(|x| x.abs()).collect() };
    let (wide_input, wide_weight) = (absolute(&wide_input), absolute(&wide_weight));
    reference::forward(&p, &wide_input, &wide_weight, None, &mut direct);
    assert!(magnitude.iter().zip(&direct).all(|(ours, direct)| *ours >= direct * (1.0 - 1e-12)));
    for kernel in winograd() {
        assert!(kernel.supports(&p));
        let mut packed = vec![0.0; kernel.packed_weight_len(&p)];
        kernel.pack_weight(&p, &weight, &mut packed);
        let mut got = vec![f32::NAN; p.output_len()];
        kernel.forward(&p, &input, &packed, None, &mut got);
        let fits = |got: &[f32], tolerance: f64| {
            got.iter().zip(&want).zip(&magnitude).all(|((got, want), magnitude)| {
                (f64::from(*got) - want).abs() <= tolerance * magnitude
            })
        };
        assert!(fits(&got, TOLERANCE), "{}", kernel.name());
        // An error of a ten-thousandth is found out.
        let wrong: Vec<f32> = got.iter().map(|x| x * (1.0 + 1e-4)).collect();
        assert!(!fits(&wrong, TOLERANCE), "{}: the bound says nothing", kernel.name());
    }
}
