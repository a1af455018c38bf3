//! A batch norm of a plan: what is reduced over the batch, and what the passes need of it.

use residua_graph::Weights;
use residua_kernels::batch_norm::merge_moments;
use std::ops::Range;

/// One batch norm. Per-channel vectors.
#[derive(Debug)]
pub(crate) struct Norm {
    pub(crate) name: String,
    pub(crate) eps: f64,
    pub(crate) momentum: f64,
    /// Positions of one sample.
    pub(crate) num_pixels: usize,
    /// Places among the parameters.
    pub(crate) weight: Range<usize>,
    pub(crate) bias: Range<usize>,
    /// Places among the running statistics.
    pub(crate) running_mean: Range<usize>,
    pub(crate) running_var: Range<usize>,

    batch_mean: Vec<f64>,
    batch_m2: Vec<f64>,
    invstd: Vec<f64>,
    /// `output = input · scale + shift`
    pub(crate) scale: Vec<f32>,
    pub(crate) shift: Vec<f32>,
    /// `grad_input = a · grad_output + b · (input − mean) + c`
    pub(crate) mean: Vec<f32>,
    pub(crate) a: Vec<f32>,
    pub(crate) b: Vec<f32>,
    pub(crate) c: Vec<f32>,
}

/// Where a batch norm's tensors are.
#[derive(Debug)]
pub(crate) struct NormTensors {
    pub(crate) weight: Range<usize>,
    pub(crate) bias: Range<usize>,
    pub(crate) running_mean: Range<usize>,
    pub(crate) running_var: Range<usize>,
}

/// A group's share of a batch norm's reductions, for each channel.
#[derive(Debug, Default)]
pub(crate) struct NormPartial {
    /// Rows seen.
    pub(crate) count: usize,
    pub(crate) mean: Vec<f64>,
    pub(crate) m2: Vec<f64>,
    pub(crate) sum_grad: Vec<f64>,
    pub(crate) sum_grad_centred: Vec<f64>,
}

impl NormPartial {
    pub(crate) fn new(channels: usize) -> Self {
        let zeros = || vec![0.0; channels];
        Self { count: 0, mean: zeros(), m2: zeros(), sum_grad: zeros(), sum_grad_centred: zeros() }
    }

    /// Forgets the moments of the batch before.
    pub(crate) fn reset_moments(&mut self) {
        self.count = 0;
    }

    /// Forgets the sums of the backward before.
    pub(crate) fn reset_grad_sums(&mut self) {
        self.sum_grad.fill(0.0);
        self.sum_grad_centred.fill(0.0);
    }
}

impl Norm {
    pub(crate) fn new(
        name: String,
        (eps, momentum): (f32, f32),
        num_pixels: usize,
        tensors: NormTensors,
    ) -> Self {
        let channels = tensors.weight.len();
        let NormTensors { weight, bias, running_mean, running_var } = tensors;
        Self {
            name,
            eps: f64::from(eps),
            momentum: f64::from(momentum),
            num_pixels,
            weight,
            bias,
            running_mean,
            running_var,
            batch_mean: vec![0.0; channels],
            batch_m2: vec![0.0; channels],
            invstd: vec![0.0; channels],
            scale: vec![0.0; channels],
            shift: vec![0.0; channels],
            mean: vec![0.0; channels],
            a: vec![0.0; channels],
            b: vec![0.0; channels],
            c: vec![0.0; channels],
        }
    }

    /// Statistics of the batch from the groups' moments, in order; updates the running ones.
    pub(crate) fn take_moments<'a>(
        &mut self,
        partials: impl Iterator<Item = &'a NormPartial>,
        weights: &mut Weights,
    ) {
        let mut count = 0;
        for partial in partials {
            merge_moments(
                count,
                &mut self.batch_mean,
                &mut self.batch_m2,
                partial.count,
                &partial.mean,
                &partial.m2,
            );
            count += partial.count;
        }
        let (n, momentum) = (count as f64, self.momentum);
        let update = |running: &mut f32, batch: f64| {
            *running = ((1.0 - momentum) * f64::from(*running) + momentum * batch) as f32;
        };
        for (running, mean) in
            weights.buffers[self.running_mean.clone()].iter_mut().zip(&self.batch_mean)
        {
            update(running, *mean);
        }
        for (running, m2) in
            weights.buffers[self.running_var.clone()].iter_mut().zip(&self.batch_m2)
        {
            update(running, m2 / (n - 1.0));
        }
        for i in 0..self.invstd.len() {
            self.set_scale(i, self.batch_mean[i], self.batch_m2[i] / n, &weights.params);
        }
    }

    /// Takes the running statistics instead of a batch's.
    pub(crate) fn take_running(&mut self, weights: &Weights) {
        for i in 0..self.invstd.len() {
            let mean = f64::from(weights.buffers[self.running_mean.start + i]);
            let var = f64::from(weights.buffers[self.running_var.start + i]);
            self.set_scale(i, mean, var, &weights.params);
        }
    }

    fn set_scale(&mut self, i: usize, mean: f64, var: f64, params: &[f32]) {
        let weight = f64::from(params[self.weight.start + i]);
        let bias = f64::from(params[self.bias.start + i]);
        let invstd = (var + self.eps).sqrt().recip();
        self.invstd[i] = invstd;
        self.mean[i] = mean as f32;
        self.scale[i] = (weight * invstd) as f32;
        self.shift[i] = (bias - mean * weight * invstd) as f32;
    }

    /// Writes zeros as the gradients of weight and bias.
    pub(crate) fn zero_grads(&self, grads: &mut [f32]) {
        [&self.weight, &self.bias].into_iter().for_each(|range| grads[range.clone()].fill(0.0));
    }

    /// Writes the gradients of weight and bias from the groups' sums, in order, and prepares the
    /// gradient of the input (Ioffe & Szegedy 2015).
    pub(crate) fn take_grad_sums<'a>(
        &mut self,
        partials: impl Iterator<Item = &'a NormPartial> + Clone,
        params: &[f32],
        grads: &mut [f32],
    ) {
        let n = partials.clone().map(|partial| partial.count).sum::<usize>() as f64;
        for i in 0..self.invstd.len() {
            let sum_grad: f64 = partials.clone().map(|partial| partial.sum_grad[i]).sum();
            let centred: f64 = partials.clone().map(|partial| partial.sum_grad_centred[i]).sum();
            // The passes subtract the mean rounded to f32.
            let rounding = f64::from(self.mean[i]) - self.batch_mean[i];
            let sum_grad_centred = centred + rounding * sum_grad;
            let invstd = self.invstd[i];
            grads[self.weight.start + i] = (sum_grad_centred * invstd) as f32;
            grads[self.bias.start + i] = sum_grad as f32;
            let a = f64::from(params[self.weight.start + i]) * invstd;
            self.a[i] = a as f32;
            let b = -a * invstd * invstd * sum_grad_centred / n;
            self.b[i] = b as f32;
            self.c[i] = (b * rounding - a * sum_grad / n) as f32;
        }
    }
}
