//! Registered kernels, with the packing that they ask for.

use residua_kernels::conv2d::{
    Backward, Conv2dKernel, ConvElement, GradWeight, KeptOperands, PART_CHANNELS, kernels,
};
use residua_kernels::{Conv2dProblem, Isa, Source, bf16, convert};
use residua_testkit::{Guard, Guarded};

use crate::check::Convolution;

type P = Conv2dProblem;

/// Number formats under test.
pub(crate) trait Format: ConvElement + Guard {
    /// The relative error of activations and their gradients.
    const ERROR: f64;
}

impl Format for f32 {
    const ERROR: f64 = 0.0;
}

impl Format for bf16 {
    const ERROR: f64 = <Self as residua_kernels::Element>::ROUNDING;
}

/// A kernel for activations stored as `E`.
pub(crate) struct Packed<E: 'static>(pub(crate) &'static dyn Conv2dKernel<E>);

/// The kernels that can do a problem; there has to be one for every instruction set.
pub(crate) fn supporting<E: Format>(p: &P) -> Vec<Packed<E>> {
    let kernels = kernels::<E>().filter(|kernel| kernel.supports(p));
    let kernels: Vec<_> = kernels.map(Packed).collect();
    for isa in Isa::supported() {
        assert!(kernels.iter().any(|kernel| kernel.0.isa() <= isa), "{p}: no kernel for {isa}");
    }
    kernels
}

fn stored<E: Format>(values: &[f32]) -> Guarded<E> {
    let mut stored = Guarded::holding(&vec![E::from_f32(0.0); values.len()]);
    convert(values, &mut stored);
    stored
}

impl<E: Format> Packed<E> {
    fn packed(&self, p: &P, len: usize, pack: impl Fn(&mut [f32])) -> Guarded<f32> {
        let mut packed = Guarded::poisoned(len);
        pack(&mut packed);
        self.assert_written(p, &packed);
        packed
    }

    fn assert_written<T: Guard>(&self, p: &P, buffer: &Guarded<T>) {
        buffer.check().map_err(|failure| failure.of(&format!("{} on {p}", self.name()))).unwrap();
    }
}

impl<E: Format> Convolution for Packed<E> {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn rounding(&self) -> f64 {
        E::ERROR
    }

    fn forward(
        &self,
        p: &P,
        input: &[f32],
        weight: &[f32],
        bias: Option<&[f32]>,
        output: &mut [f32],
    ) {
        let len = self.0.packed_weight_len(p);
        let packed = self.packed(p, len, |packed| self.0.pack_weight(p, weight, packed));
        let mut written = Guarded::<E>::poisoned(output.len());
        self.0.forward(p, &stored(input), &packed, bias, &mut written);
        self.assert_written(p, &written);
        convert(&written, output);
    }

    fn backward_data(
        &self,
        p: &P,
        grad_output: &[f32],
        weight: &[f32],
        accumulate: bool,
        grad_input: &mut [f32],
    ) {
        let len = self.0.packed_weight_backward_len(p);
        let packed = self.packed(p, len, |packed| self.0.pack_weight_backward(p, weight, packed));
        let mut written = match accumulate {
            true => stored(grad_input),
            false => Guarded::<E>::poisoned(grad_input.len()),
        };
        self.0.backward_data(p, &stored(grad_output), &packed, accumulate, &mut written);
        self.assert_written(p, &written);
        convert(&written, grad_input);
    }

    fn backward_weight(&self, p: &P, batches: &[(&[f32], &[f32])], grad_weight: &mut [f32]) {
        let mut packed = Guarded::holding(&vec![0.0; self.0.packed_grad_len(p)]);
        for (input, grad_output) in batches {
            self.0.backward_weight(p, &stored(input), &stored(grad_output), &mut packed);
        }
        self.assert_written(p, &packed);
        self.0.unpack_grad(p, &packed, grad_weight);
    }
}

/// A kernel that makes gradients of weights of kept operands.
pub(crate) struct OfKept<E: 'static>(Packed<E>);

/// Those that can.
pub(crate) fn keeping<E: Format>(p: &P) -> Vec<OfKept<E>> {
    let keeps = |kernel: &Packed<E>| kernel.0.kept_len(p).is_some();
    supporting::<E>(p).into_iter().filter(keeps).map(OfKept).collect()
}

impl<E: Format> OfKept<E> {
    /// Of the first sample, then of the others.
    fn keep(&self, p: &P, input: &[f32], grad_output: &[f32]) -> KeptOperands {
        let kernel = self.0.0;
        let first = p.n.min(1);
        let parts = [p.with_n(first), p.with_n(p.n - first)];
        let lens = parts.map(|p| kernel.kept_len(&p).expect("one that keeps"));
        let mut kept = KeptOperands::with_len(lens.iter().sum());
        let (first_input, input) = input.split_at(parts[0].input_len());
        let (first_grad, grad_output) = grad_output.split_at(parts[0].output_len());
        for (p, (input, grad_output)) in
            parts.iter().zip([(first_input, first_grad), (input, grad_output)])
        {
            let call = Backward {
                input: Source::Stored(&stored(input)),
                grad_output: Source::Stored(&stored(grad_output)),
                packed_backward: &[],
                grad_input: None,
                grad_weight: Some(GradWeight::Kept(&mut kept)),
            };
            kernel.run_backward(p, call);
        }
        kept
    }
}

impl<E: Format> Convolution for OfKept<E> {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn rounding(&self) -> f64 {
        self.0.rounding()
    }

    fn forward(
        &self,
        p: &P,
        input: &[f32],
        weight: &[f32],
        bias: Option<&[f32]>,
        output: &mut [f32],
    ) {
        self.0.forward(p, input, weight, bias, output);
    }

    fn backward_data(
        &self,
        p: &P,
        grad_output: &[f32],
        weight: &[f32],
        accumulate: bool,
        grad_input: &mut [f32],
    ) {
        self.0.backward_data(p, grad_output, weight, accumulate, grad_input);
    }

    fn backward_weight(&self, p: &P, batches: &[(&[f32], &[f32])], grad_weight: &mut [f32]) {
        let kernel = self.0.0;
        let kept: Vec<_> =
            batches.iter().map(|(input, grad_output)| self.keep(p, input, grad_output)).collect();
        let kept: Vec<_> = kept.iter().collect();
        // The smallest part, and one of all that is left.
        let middle = PART_CHANNELS.min(p.oc);
        for oc in [0..middle, middle..p.oc].into_iter().filter(|oc| !oc.is_empty()) {
            let part = P { oc: oc.len(), ..*p };
            let first = oc.start * p.ic * p.kh * p.kw;
            let mut packed = Guarded::poisoned(kernel.packed_grad_len(&part));
            kernel.grad_weight_of_kept(p, oc, &kept, &mut packed);
            self.0.assert_written(p, &packed);
            let grad_weight = &mut grad_weight[first..first + part.weight_len()];
            kernel.unpack_grad(&part, &packed, grad_weight);
        }
    }
}
