//! The convolution of one sample on several threads, each making a band of the output's rows: for batches
//! of fewer samples than there are threads.

use rayon::prelude::*;
use residua_kernels::conv2d::{Conv2dKernel, ConvElement, Forward, Sums};
use residua_kernels::{Conv2dProblem, Normalised, Source, batch_norm};

/// The fewest multiply-adds of a band, some 10 µs: less is done before another thread has taken it.
const MIN_MACS: u64 = 1 << 20;

/// How many bands are worth it, at most `most`.
pub(crate) fn number(p: &Conv2dProblem, row_step: usize, most: usize) -> usize {
    let worth = usize::try_from(p.macs() / MIN_MACS).unwrap_or(usize::MAX);
    most.min(worth).min(p.oh() / row_step).max(1)
}

/// As [`Conv2dKernel::run_forward`] of one sample without sums, with the same bits.
pub(crate) fn run_forward<E: ConvElement>(
    kernel: &dyn Conv2dKernel<E>,
    p: &Conv2dProblem,
    call: Forward<'_, E>,
    num_bands: usize,
) {
    let Forward { input, packed, bias, output, .. } = call;
    let input = &stored(kernel, p, input, num_bands);
    let num_rows = p.oh().div_ceil(num_bands).next_multiple_of(kernel.row_step());
    let row_len = p.ow() * p.oc;
    let bands = output.par_chunks_mut(num_rows * row_len).with_max_len(1).enumerate();
    bands.for_each(|(i, output)| {
        let first = i * num_rows;
        let oh = first..first + output.len() / row_len;
        let call = Forward { input: input.reread(), packed, bias, output, sums: Sums::None };
        kernel.run_forward_rows(p, oh, call);
    });
}

/// What is to be stored too, stored first: several bands read the rows at their edges.
fn stored<'a, E: ConvElement>(
    kernel: &dyn Conv2dKernel<E>,
    p: &Conv2dProblem,
    input: Source<'a, E>,
    num_bands: usize,
) -> Source<'a, E> {
    let Source::Normalised(Normalised {
        input,
        scale,
        shift,
        residual,
        relu,
        output: Some(output),
    }) = input
    else {
        return input;
    };
    let len = p.ih.div_ceil(num_bands) * p.iw * p.ic;
    let bands = output.par_chunks_mut(len).with_max_len(1).enumerate();
    bands.for_each(|(i, output)| {
        let part = i * len..i * len + output.len();
        let residual = residual.map(|residual| &residual[part.clone()]);
        batch_norm::normalise(kernel.isa(), &input[part], scale, shift, residual, relu, output);
    });
    Source::Stored(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bands_are_worth_a_thread_and_have_rows() {
        let number = |descriptor: &str, most| number(&descriptor.parse().unwrap(), 2, most);
        assert_eq!(number("ic64ih56oc64kh3sh1ph1", 7), 7);
        assert_eq!(number("ic512ih7oc512kh3sh1ph1", 7), 3);
        assert_eq!(number("ic16ih32oc16kh3sh1ph1", 7), 2);
        assert_eq!(number("ic3ih32oc16kh3sh1ph1", 7), 1);
        assert_eq!(number("ic2048ih1oc1000kh1", 7), 1);
    }
}
