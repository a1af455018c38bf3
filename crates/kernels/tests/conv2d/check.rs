//! Checks one convolution, right or wrong, against the reference in `f64`.

use residua_kernels::reference::conv2d as reference;
use residua_kernels::{Conv2dProblem, Element};
use residua_testkit::{Case, Check, Data, EPS32, Expected, Generator, Guarded};

/// Rounding errors of a sum are far below one for each term; this many cover it.
const TOLERANCE: f64 = 8.0 * EPS32;

/// The three passes in PyTorch's layouts: of a registered kernel, or of a mutant.
pub(crate) trait Convolution {
    fn name(&self) -> &str;
    /// The relative error of what is written, where it is rounded to less than f32.
    fn rounding(&self) -> f64 {
        0.0
    }
    fn forward(
        &self,
        p: &P,
        input: &[f32],
        weight: &[f32],
        bias: Option<&[f32]>,
        output: &mut [f32],
    );
    fn backward_data(
        &self,
        p: &P,
        grad_output: &[f32],
        weight: &[f32],
        accumulate: bool,
        grad_input: &mut [f32],
    );
    /// The sum over batches of gradients.
    fn backward_weight(&self, p: &P, batches: &[(&[f32], &[f32])], grad_weight: &mut [f32]);
}

type P = Conv2dProblem;

/// What is expected of a kernel that rounds its result.
fn rounded(want: &Expected, rounding: f64) -> Expected {
    let mut want = want.clone();
    if rounding > 0.0 {
        let zeros = vec![0.0; want.values.len()];
        let magnitude = want.magnitude.get_or_insert(zeros);
        for (magnitude, value) in magnitude.iter_mut().zip(&want.values) {
            *magnitude += value.abs() * rounding / TOLERANCE;
        }
    }
    want
}

/// One problem with its data.
pub(crate) struct Trial {
    pub(crate) p: P,
    pub(crate) data: Data,
    pub(crate) seed: u64,
    pub(crate) input: Vec<f32>,
    pub(crate) weight: Vec<f32>,
    pub(crate) bias: Vec<f32>,
    pub(crate) grad_output: Vec<f32>,
    /// To what the data is rounded.
    round: fn(f32) -> f32,
}

impl Trial {
    pub(crate) fn new(p: P, data: Data, seed: u64) -> Self {
        let mut generator = Generator::new(seed);
        let mut values = |len| generator.values(data, len);
        let (input, weight) = (values(p.input_len()), values(p.weight_len()));
        let (bias, grad_output) = (values(p.oc), values(p.output_len()));
        Self { p, data, seed, input, weight, bias, grad_output, round: |x| x }
    }

    /// With data that `E` holds exactly.
    pub(crate) fn in_format<E: Element>(self) -> Self {
        self.rounded(|x| E::from_f32(x).to_f32())
    }

    fn rounded(mut self, round: fn(f32) -> f32) -> Self {
        for values in [&mut self.input, &mut self.weight, &mut self.bias, &mut self.grad_output] {
            values.iter_mut().for_each(|value| *value = round(*value));
        }
        Self { round, ..self }
    }

    fn case<'a>(&'a self, pass: &'a str, kernel: &'a str, shape: &'a [usize]) -> Case<'a> {
        Case { pass, problem: &self.p, kernel, seed: self.seed, shape }
    }

    fn input_shape(&self) -> [usize; 4] {
        [self.p.n, self.p.ih, self.p.iw, self.p.ic]
    }

    fn output_shape(&self) -> [usize; 4] {
        [self.p.n, self.p.oh(), self.p.ow(), self.p.oc]
    }

    /// Without and with a bias.
    pub(crate) fn check_forward<C: Convolution>(&self, kernels: &[C]) -> Check {
        let p = &self.p;
        let inputs = [&self.input[..], &self.weight];
        let plain = Expected::sum_of_products(
            self.data,
            inputs,
            p.output_len(),
            |[input, weight], output| {
                reference::forward(p, input, weight, None, output);
            },
        );
        let biased = plain.clone().plus(&self.bias);
        let (input, weight, bias) = self.guarded_factors(&self.input);
        for kernel in kernels {
            for (pass, bias, want) in
                [("forward", None, &plain), ("forward with bias", Some(&bias[..]), &biased)]
            {
                let shape = self.output_shape();
                let case = self.case(pass, kernel.name(), &shape);
                let mut output = Guarded::poisoned(p.output_len());
                kernel.forward(p, &input, &weight, bias, &mut output);
                case.written(output.check())?;
                case.matches(&output, &rounded(want, kernel.rounding()), TOLERANCE)?;
            }
        }
        Ok(())
    }

    /// Overwriting and accumulating.
    pub(crate) fn check_backward_data<C: Convolution>(&self, kernels: &[C]) -> Check {
        let p = &self.p;
        let inputs = [&self.grad_output[..], &self.weight];
        let overwritten = Expected::sum_of_products(
            self.data,
            inputs,
            p.input_len(),
            |[grad, weight], output| {
                reference::backward_data(p, grad, weight, output);
            },
        );
        let accumulated = overwritten.clone().plus(&self.input);
        let (grad_output, weight, _) = self.guarded_factors(&self.grad_output);
        for kernel in kernels {
            for (pass, before, want) in [
                ("backward_data", None, &overwritten),
                ("accumulating backward_data", Some(&self.input), &accumulated),
            ] {
                let shape = self.input_shape();
                let case = self.case(pass, kernel.name(), &shape);
                let mut grad_input = match before {
                    Some(before) => Guarded::holding(before),
                    None => Guarded::poisoned(p.input_len()),
                };
                kernel.backward_data(p, &grad_output, &weight, before.is_some(), &mut grad_input);
                case.written(grad_input.check())?;
                case.matches(&grad_input, &rounded(want, kernel.rounding()), TOLERANCE)?;
            }
        }
        Ok(())
    }

    /// One batch, and the sum of two different ones.
    pub(crate) fn check_backward_weight<C: Convolution>(&self, kernels: &[C]) -> Check {
        let p = &self.p;
        let other = Self::new(self.p, self.data, self.seed + 1000).rounded(self.round);
        let batches = [self, &other].map(|trial| (&trial.input[..], &trial.grad_output[..]));
        let one = self.grad_weight_of(batches[0]);
        let mut two = self.grad_weight_of(batches[1]);
        two.values.iter_mut().zip(&one.values).for_each(|(two, one)| *two += one);
        if let (Some(two), Some(one)) = (&mut two.magnitude, &one.magnitude) {
            two.iter_mut().zip(one).for_each(|(two, one)| *two += one);
        }
        let guarded = batches
            .map(|(input, grad_output)| [Guarded::holding(input), Guarded::holding(grad_output)]);
        let batches = guarded.each_ref().map(|[input, grad_output]| (&input[..], &grad_output[..]));
        for kernel in kernels {
            for (pass, batches, want) in [
                ("backward_weight", &batches[..1], &one),
                ("backward_weight of two batches", &batches, &two),
            ] {
                let shape = [p.oc, p.ic, p.kh, p.kw];
                let case = self.case(pass, kernel.name(), &shape);
                let mut grad_weight = Guarded::poisoned(p.weight_len());
                kernel.backward_weight(p, batches, &mut grad_weight);
                case.written(grad_weight.check())?;
                case.matches(&grad_weight, want, TOLERANCE)?;
            }
        }
        Ok(())
    }

    fn grad_weight_of(&self, (input, grad_output): (&[f32], &[f32])) -> Expected {
        let p = &self.p;
        let inputs = [input, grad_output];
        Expected::sum_of_products(self.data, inputs, p.weight_len(), |[input, grad], output| {
            reference::backward_weight(p, input, grad, output);
        })
    }

    fn guarded_factors(&self, left: &[f32]) -> (Guarded<f32>, Guarded<f32>, Guarded<f32>) {
        (Guarded::holding(left), Guarded::holding(&self.weight), Guarded::holding(&self.bias))
    }
}
