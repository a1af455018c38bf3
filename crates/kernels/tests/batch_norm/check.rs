//! Checks the parts of batch norm, right or wrong, against the reference in `f64`.

use residua_kernels::batch_norm::Mask;
use residua_kernels::reference::zero_pad;
use residua_kernels::zero_pad::ZeroPadded;
use residua_kernels::{Isa, NormGrad, Normalised, Residual, ZeroPadProblem};
use residua_testkit::{Case, Check, Data, EPS32, EPS64, Expected, Generator, Guarded, all, widen};

pub(crate) type Moments = fn(Isa, &[f32], usize, &mut [f64], &mut [f64]);
pub(crate) type Merge = fn(usize, &mut [f64], &mut [f64], usize, &[f64], &[f64]);
pub(crate) type Normalise = fn(Isa, Normalised<'_, f32>, &mut [f32]);
pub(crate) type BackwardSums =
    fn(Isa, Mask<'_, f32>, &mut [f32], &[f32], &[f32], &mut [f64], &mut [f64]);
pub(crate) type BackwardApply = fn(Isa, NormGrad<'_, f32>, &mut [f32]);

/// Rows and channels: around the edges of vectors and blocks, few rows and many.
fn sizes() -> impl Iterator<Item = [usize; 2]> {
    let channels = [1, 2, 3, 5, 8, 15, 16, 17, 24, 31, 32, 33, 48, 63, 64, 65, 130];
    let rows = [1, 2, 3, 7, 21, 63, 64, 65, 129];
    let by_channel = channels
        .into_iter()
        .enumerate()
        .flat_map(move |(i, c)| [[rows[i % rows.len()], c], [rows[(i + 4) % rows.len()], c]]);
    let by_rows = (0..=35).map(|rows| [rows, 19]);
    let large = [[9000, 1], [5000, 3], [700, 10], [300, 64], [3, 1030], [40, 1030]];
    by_channel.chain(by_rows).chain(large)
}

fn everywhere(check: impl Fn([usize; 2], Isa) -> Check) -> Check {
    let trials = sizes().flat_map(|size| Isa::supported().map(move |isa| (size, isa)));
    all(trials.map(|(size, isa)| check(size, isa)))
}

/// Both kinds of data at all sizes and instruction sets.
fn everywhere_with_data(check: impl Fn([usize; 2], Isa, Data) -> Check) -> Check {
    all(Data::ALL.map(|data| everywhere(|size, isa| check(size, isa, data))))
}

/// What a report says beside the numbers.
struct Trial {
    problem: String,
    kernel: String,
    shape: [usize; 2],
}

impl Trial {
    fn new([rows, c]: [usize; 2], isa: Isa) -> Self {
        let problem = format!("{rows} rows of {c} channels");
        Self { problem, kernel: isa.to_string(), shape: [rows, c] }
    }

    fn case<'a>(&'a self, pass: &'a str) -> Case<'a> {
        let Self { problem, kernel, shape } = self;
        let seed = (shape[0] + shape[1]) as u64;
        Case { pass, problem, kernel, seed, shape }
    }

    /// For a result with one element for each channel.
    fn channel_case<'a>(&'a self, pass: &'a str) -> Case<'a> {
        Case { shape: &self.shape[1..], ..self.case(pass) }
    }

    fn generator(&self) -> Generator {
        Generator::new(self.case("").seed)
    }
}

/// Mean, `m2 = Σ (x − mean)²` and largest less smallest value of every channel.
fn exact_moments(c: usize, input: &[f32]) -> [Vec<f64>; 3] {
    let count = (input.len() / c).max(1) as f64;
    let mut moments: [Vec<f64>; 3] = Default::default();
    for c_i in 0..c {
        let channel = || input.iter().skip(c_i).step_by(c).map(|&x| f64::from(x));
        let mean = channel().sum::<f64>() / count;
        let (least, most) = (channel().reduce(f64::min), channel().reduce(f64::max));
        moments[0].push(mean);
        moments[1].push(channel().map(|x| (x - mean) * (x - mean)).sum());
        moments[2].push(most.unwrap_or_default() - least.unwrap_or_default());
    }
    moments
}

/// That moments are right to the rounding of the *deviations*, wherever the mean is; `eps` is the
/// relative rounding error of what made them.
fn moments_match(trial: &Trial, input: &[f32], mean: &[f64], m2: &[f64], eps: f64) -> Check {
    let [rows, c] = trial.shape;
    let [want_mean, want_m2, range] = exact_moments(c, input);
    let of_mean: Vec<f64> =
        range.iter().zip(&want_mean).map(|(range, mean)| range + 1e-6 * mean.abs()).collect();
    let of_m2: Vec<f64> = of_mean.iter().map(|range| rows as f64 * range * range).collect();
    trial.channel_case("mean").within(mean, &want_mean, &of_mean, 4.0 * eps)?;
    trial.channel_case("m2").within(m2, &want_m2, &of_m2, 4.0 * eps)
}

/// Near 0 and far from it, in one call and in two.
pub(crate) fn check_moments(moments: Moments) -> Check {
    all([0.0, 1000.0].map(|offset| {
        everywhere(|size @ [rows, c], isa| {
            let trial = Trial::new(size, isa);
            let mut input = trial.generator().signed(rows * c);
            input.iter_mut().for_each(|x| *x += offset);
            for first in [0, rows / 3] {
                let (mut mean, mut m2) =
                    (Guarded::holding(&vec![0.0; c]), Guarded::holding(&vec![0.0; c]));
                let guarded = [&input[..first * c], &input[first * c..]].map(Guarded::holding);
                moments(isa, &guarded[0], 0, &mut mean, &mut m2);
                moments(isa, &guarded[1], first, &mut mean, &mut m2);
                trial.channel_case("mean").written(mean.check())?;
                trial.channel_case("m2").written(m2.check())?;
                moments_match(&trial, &input, &mean, &m2, EPS32)?;
            }
            Ok(())
        })
    }))
}

/// The moments of two parts make those of the whole, in `f64`.
pub(crate) fn check_merge(merge: Merge) -> Check {
    let cuts = [[0, 7], [7, 0], [0, 0], [1, 1], [1, 9], [40, 3]];
    all(cuts.map(|[count, other_count]| {
        let (c, rows) = (5, count + other_count);
        let trial = Trial::new([rows, c], Isa::Portable);
        let input = trial.generator().signed(rows * c);
        let (left, right) = input.split_at(count * c);
        let [mut mean, mut m2, _] = exact_moments(c, left);
        let [other_mean, other_m2, _] = exact_moments(c, right);
        merge(count, &mut mean, &mut m2, other_count, &other_mean, &other_m2);
        moments_match(&trial, &input, &mean, &m2, 16.0 * EPS64)
    }))
}

/// The zero-padding shortcut that is rows of `c` channels.
fn shortcut([rows, c]: [usize; 2]) -> ZeroPadProblem {
    let (ic, ih) = (c.div_ceil(2), (2 * rows).saturating_sub(1));
    let pad_before = (c - ic) / 2;
    let pad_after = c - ic - pad_before;
    ZeroPadProblem { n: 1, ic, ih, iw: 1, stride: 2, pad_before, pad_after }
}

/// Without a residual, with one that is stored and with a zero-padding shortcut; with and without a ReLU.
pub(crate) fn check_normalise(normalise: Normalise) -> Check {
    everywhere_with_data(|size @ [rows, c], isa, data| {
        let (trial, len) = (Trial::new(size, isa), rows * c);
        let mut generator = trial.generator();
        let [input, residual] = [len, len].map(|len| generator.values(data, len));
        let [scale, shift] = [c, c].map(|c| generator.values(data, c));
        let inputs = [&input[..], &scale, &shift];
        let plain =
            Expected::sum_of_products(data, inputs, len, |[input, scale, shift], output| {
                for (i, output) in output.iter_mut().enumerate() {
                    *output = input[i] * scale[i % c] + shift[i % c];
                }
            });
        let problem = shortcut(size);
        let narrow = generator.values(data, problem.input_len());
        let mut padded = vec![0.0; len];
        zero_pad::forward(&problem, &narrow, &mut padded);
        let guarded =
            [&input, &scale, &shift, &residual, &narrow].map(|values| Guarded::holding(values));
        let [input, scale, shift, stored, narrow] = guarded.each_ref().map(|x| &x[..]);
        let zero_padded = Residual::ZeroPadded(ZeroPadded::new(problem, narrow));
        let residuals = [
            ("no", None),
            ("a stored", Some((Residual::Stored(stored), &residual))),
            ("a zero-padded", Some((zero_padded, &padded))),
        ];
        for relu in [false, true] {
            for (kind, residual) in residuals {
                let mut want = plain.clone();
                if let Some((_, values)) = residual {
                    want = want.plus(values);
                }
                if relu {
                    // A ReLU makes no error larger.
                    want.values.iter_mut().for_each(|x| *x = x.max(0.0));
                }
                let residual = residual.map(|(residual, _)| residual);
                let from = Normalised { input, scale, shift, residual, relu, output: None };
                let mut output = Guarded::poisoned(len);
                normalise(isa, from, &mut output);
                let pass = format!("normalise, {kind} residual, ReLU {relu},");
                trial.case(&pass).written(output.check())?;
                trial.case(&pass).matches(&output, &want, 2.0 * EPS32)?;
            }
        }
        Ok(())
    })
}

/// With each kind of mask, adding to sums that are not 0.
pub(crate) fn check_backward_sums(backward_sums: BackwardSums) -> Check {
    everywhere_with_data(|size @ [rows, c], isa, data| {
        let (trial, len) = (Trial::new(size, isa), rows * c);
        let mut generator = trial.generator();
        let [input, grad_output, mut output] = [len; 3].map(|len| generator.values(data, len));
        let [mean, before, before_centred] = [c; 3].map(|c| generator.values(data, c));
        let [scale, shift] = [c; 2].map(|c| Guarded::holding(&generator.values(data, c)));
        // As a ReLU leaves it, with a NaN, which lets the gradient through.
        output.iter_mut().for_each(|x| *x = x.max(0.0));
        output.iter_mut().skip(5).step_by(11).for_each(|x| *x = f32::NAN);
        let output = Guarded::holding(&output);
        let normalised = Mask::Normalised { scale: &scale, shift: &shift };
        for mask in [Mask::None, Mask::Output(&output[..]), normalised] {
            let passes = |i: usize| match mask {
                Mask::None => true,
                Mask::Output(output) => output[i] > 0.0 || output[i].is_nan(),
                Mask::Normalised { .. } => input[i].mul_add(scale[i % c], shift[i % c]) > 0.0,
            };
            let masked = grad_output.iter().enumerate();
            let masked: Vec<f32> =
                masked.map(|(i, &grad)| if passes(i) { grad } else { 0.0 }).collect();
            let negative_mean: Vec<f32> = mean.iter().map(|x| -x).collect();
            let sum = Expected::sum_of_products(data, [&masked], c, |[grad], sum| {
                (0..c).for_each(|c_i| sum[c_i] = grad.iter().skip(c_i).step_by(c).sum());
            });
            let inputs = [&masked[..], &input, &negative_mean];
            let centred = Expected::sum_of_products(data, inputs, c, |[grad, input, mean], sum| {
                sum.fill(0.0);
                (0..len).for_each(|i| sum[i % c] += grad[i] * (input[i] + mean[i % c]));
            });
            let mut grad = Guarded::holding(&grad_output);
            let mut sums = [&before, &before_centred].map(|sum| Guarded::holding(&widen(sum)));
            let [sum_grad, sum_grad_centred] = &mut sums;
            backward_sums(
                isa,
                mask,
                &mut grad,
                &Guarded::holding(&input),
                &Guarded::holding(&mean),
                sum_grad,
                sum_grad_centred,
            );
            trial.case("masked gradient").written(grad.check())?;
            trial.case("masked gradient").exact(&grad, &masked)?;
            for (pass, got, want) in [
                ("sum_grad", &sums[0], sum.plus(&before)),
                ("sum_grad_centred", &sums[1], centred.plus(&before_centred)),
            ] {
                trial.channel_case(pass).written(got.check())?;
                trial.channel_case(pass).matches(got, &want, 8.0 * EPS32)?;
            }
        }
        Ok(())
    })
}

pub(crate) fn check_backward_apply(backward_apply: BackwardApply) -> Check {
    everywhere_with_data(|size @ [rows, c], isa, data| {
        let (trial, len) = (Trial::new(size, isa), rows * c);
        let mut generator = trial.generator();
        let [grad_output, input] = [len; 2].map(|len| generator.values(data, len));
        let [mean, a, b, shift] = [c; 4].map(|c| generator.values(data, c));
        let negative_mean: Vec<f32> = mean.iter().map(|x| -x).collect();
        let inputs = [&grad_output[..], &input, &negative_mean, &a, &b, &shift];
        let want =
            Expected::sum_of_products(data, inputs, len, |[grad, x, mean, a, b, c], want| {
                for (i, want) in want.iter_mut().enumerate() {
                    let c_i = i % a.len();
                    *want = a[c_i] * grad[i] + b[c_i] * (x[i] + mean[c_i]) + c[c_i];
                }
            });
        let mut grad_input = Guarded::poisoned(len);
        let guarded = [&grad_output, &input, &mean, &a, &b, &shift].map(|x| Guarded::holding(x));
        let [grad_output, input, mean, a, b, c] = guarded.each_ref().map(|x| &x[..]);
        let from = NormGrad { grad_output, input, mean, a, b, c };
        backward_apply(isa, from, &mut grad_input);
        trial.case("backward_apply").written(grad_input.check())?;
        trial.case("backward_apply").matches(&grad_input, &want, 2.0 * EPS32)
    })
}
