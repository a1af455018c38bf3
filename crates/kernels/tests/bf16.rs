//! Kernels on bf16 compute in f32 and round once: on the same numbers they give exactly the rounded
//! results of the f32 kernels, which have tests of their own against the reference.

use residua_kernels::batch_norm::{self, Mask};
use residua_kernels::{
    Element, Isa, MaxPoolProblem, NormGrad, Normalised, Residual, ZeroPadProblem, add, bf16,
    convert, global_avg_pool, max_pool, relu, zero_pad,
};
use residua_testkit::{Generator, Guarded};

/// The same numbers in both formats.
struct Both {
    wide: Vec<f32>,
    narrow: Guarded<bf16>,
}

impl Both {
    fn random(generator: &mut Generator, len: usize) -> Self {
        let rounded = |x: f32| <bf16 as Element>::from_f32(x).to_f32();
        let wide: Vec<f32> = generator.signed(len).into_iter().map(rounded).collect();
        let mut narrow = Guarded::holding(&vec![bf16::ZERO; len]);
        convert(&wide, &mut narrow);
        Self { wide, narrow }
    }

    fn poisoned(len: usize) -> Self {
        Self { wide: vec![f32::NAN; len], narrow: Guarded::poisoned(len) }
    }

    #[track_caller]
    fn assert_same(&self, what: &str) {
        self.narrow.check().unwrap();
        for (i, (wide, narrow)) in self.wide.iter().zip(self.narrow.iter()).enumerate() {
            let want = <bf16 as Element>::from_f32(*wide);
            assert_eq!(narrow.to_bits(), want.to_bits(), "{what}, element {i}: {wide} {narrow}");
        }
    }
}

/// Channels around the edges of vectors, and rows.
const SHAPES: [(usize, usize); 7] = [(1, 5), (3, 7), (16, 9), (17, 4), (33, 3), (64, 70), (130, 2)];

#[test]
fn batch_norm_rounds_once() {
    for isa in Isa::supported() {
        for (c, rows) in SHAPES {
            let mut generator = Generator::new(c as u64);
            let mut values = |len| Both::random(&mut generator, len);
            let (input, residual, mut grad) =
                (values(c * rows), values(c * rows), values(c * rows));
            let [scale, shift, mean, a] = [(); 4].map(|()| values(c).wide);
            let what = format!("{c} channels, {isa}");

            let mut moments = [vec![0.0; c], vec![0.0; c], vec![0.0; c], vec![0.0; c]];
            let [wide_mean, wide_m2, narrow_mean, narrow_m2] = &mut moments;
            batch_norm::moments(isa, &input.wide, 0, wide_mean, wide_m2);
            batch_norm::moments(isa, &input.narrow, 0, narrow_mean, narrow_m2);
            assert_eq!((wide_mean, wide_m2), (narrow_mean, narrow_m2), "{what}");

            for (relu, with_residual) in
                [(false, false), (false, true), (true, false), (true, true)]
            {
                let mut output = Both::poisoned(c * rows);
                let (scale, shift) = (&scale[..], &shift[..]);
                let wide = Normalised {
                    input: &input.wide[..],
                    scale,
                    shift,
                    residual: with_residual.then_some(Residual::Stored(&residual.wide[..])),
                    relu,
                    output: None,
                };
                let narrow = Normalised {
                    input: &input.narrow[..],
                    scale,
                    shift,
                    residual: with_residual.then_some(Residual::Stored(&residual.narrow[..])),
                    relu,
                    output: None,
                };
                batch_norm::normalise(isa, wide, &mut output.wide);
                batch_norm::normalise(isa, narrow, &mut output.narrow);
                output.assert_same(&what);
            }

            let mut sums = [vec![0.0; c], vec![0.0; c], vec![0.0; c], vec![0.0; c]];
            let [wide_sum, wide_centred, narrow_sum, narrow_centred] = &mut sums;
            let masks = (Mask::Output(&residual.wide[..]), Mask::Output(&residual.narrow[..]));
            batch_norm::backward_sums(
                isa,
                masks.0,
                &mut grad.wide,
                &input.wide,
                &mean,
                wide_sum,
                wide_centred,
            );
            batch_norm::backward_sums(
                isa,
                masks.1,
                &mut grad.narrow,
                &input.narrow,
                &mean,
                narrow_sum,
                narrow_centred,
            );
            grad.assert_same(&what);
            assert_eq!((wide_sum, wide_centred), (narrow_sum, narrow_centred), "{what}");

            let mut grad_input = Both::poisoned(c * rows);
            let (mean, a, b, c) = (&mean, &a, &scale, &shift);
            let (grad_output, input) = (&grad, &input);
            let wide =
                NormGrad { grad_output: &grad_output.wide, input: &input.wide, mean, a, b, c };
            batch_norm::backward_apply(isa, wide, &mut grad_input.wide);
            let (grad_output, input) = (&grad_output.narrow, &input.narrow);
            let narrow = NormGrad { grad_output, input, mean, a, b, c };
            batch_norm::backward_apply(isa, narrow, &mut grad_input.narrow);
            grad_input.assert_same(&what);
        }
    }
}

#[test]
fn sums_and_relu_round_once() {
    for isa in Isa::supported() {
        for len in [1, 15, 16, 33, 100] {
            let mut generator = Generator::new(len as u64);
            let mut values = || Both::random(&mut generator, len);
            let (left, right, mut grad, mut sum) = (values(), values(), values(), values());
            for relu in [false, true] {
                let mut output = Both::poisoned(len);
                add::add_relu(isa, &left.wide, &right.wide, relu, &mut output.wide);
                add::add_relu(isa, &left.narrow, &right.narrow, relu, &mut output.narrow);
                output.assert_same("add_relu");
            }
            add::add_assign(isa, &mut sum.wide, &right.wide);
            add::add_assign(isa, &mut sum.narrow, &right.narrow);
            sum.assert_same("add_assign");

            let mut output = Both::poisoned(len);
            relu::forward(isa, &left.wide, &mut output.wide);
            relu::forward(isa, &left.narrow, &mut output.narrow);
            output.assert_same("relu");
            relu::backward(isa, &left.wide, &mut grad.wide);
            relu::backward(isa, &left.narrow, &mut grad.narrow);
            grad.assert_same("relu backward");
        }
    }
}

#[test]
fn pools_and_zero_padding_round_once() {
    for isa in Isa::supported() {
        let mut generator = Generator::new(1);
        let mut values = |len| Both::random(&mut generator, len);

        // Windows that do not overlap, so that the backward adds nothing up.
        let p = MaxPoolProblem { n: 2, c: 19, ih: 7, iw: 6, k: 2, s: 2, p: 1 };
        let (input, grad_output) = (values(p.input_len()), values(p.output_len()));
        let mut output = Both::poisoned(p.output_len());
        let mut index = [vec![0; p.output_len()], vec![0; p.output_len()]];
        max_pool::forward(isa, &p, &input.wide, &mut output.wide, &mut index[0]);
        max_pool::forward(isa, &p, &input.narrow, &mut output.narrow, &mut index[1]);
        output.assert_same("max_pool");
        assert_eq!(index[0], index[1]);
        let mut grad_input = Both::poisoned(p.input_len());
        max_pool::backward(isa, &p, &grad_output.wide, &index[0], &mut grad_input.wide);
        max_pool::backward(isa, &p, &grad_output.narrow, &index[1], &mut grad_input.narrow);
        grad_input.assert_same("max_pool backward");

        let (n, pixels, c) = (3, 21, 37);
        let (input, grad_output) = (values(n * pixels * c), values(n * c));
        let (mut output, mut grad_input) = (Both::poisoned(n * c), Both::poisoned(n * pixels * c));
        global_avg_pool::forward(isa, pixels, c, &input.wide, &mut output.wide);
        global_avg_pool::forward(isa, pixels, c, &input.narrow, &mut output.narrow);
        output.assert_same("global_avg_pool");
        let (wide, narrow) = (&mut grad_input.wide, &mut grad_input.narrow);
        global_avg_pool::backward(isa, pixels, c, &grad_output.wide, wide);
        global_avg_pool::backward(isa, pixels, c, &grad_output.narrow, narrow);
        grad_input.assert_same("global_avg_pool backward");

        let p =
            ZeroPadProblem { n: 2, ic: 5, ih: 5, iw: 7, stride: 2, pad_before: 2, pad_after: 3 };
        let (input, grad_output) = (values(p.input_len()), values(p.output_len()));
        let (mut output, mut grad_input) = (Both::poisoned(p.output_len()), values(p.input_len()));
        zero_pad::forward(isa, &p, &input.wide, &mut output.wide);
        zero_pad::forward(isa, &p, &input.narrow, &mut output.narrow);
        output.assert_same("zero_pad");
        zero_pad::backward(isa, &p, &grad_output.wide, true, &mut grad_input.wide);
        zero_pad::backward(isa, &p, &grad_output.narrow, true, &mut grad_input.narrow);
        grad_input.assert_same("zero_pad backward");
    }
}
