//! The convolution of one sample on several threads, each making a band of the output's rows: for batches
//! of fewer samples than there are threads.

use rayon::prelude::*;
use residua_kernels::conv2d::{Conv2dKernel, ConvElement, Forward, Sums};
use residua_kernels::{Conv2dProblem, Isa, Normalised, Source, batch_norm};

/// The fewest multiply-adds of a band, some 10 µs: less is done before another thread has taken it.
fn min_macs(isa: Isa) -> u64 {
    match isa {
        Isa::Amx => 1 << 22,
        _ => 1 << 20,
    }
}

/// How many bands are worth it, at most `most`.
pub(crate) fn number<E>(kernel: &dyn Conv2dKernel<E>, p: &Conv2dProblem, most: usize) -> usize {
    let worth = usize::try_from(p.macs() / min_macs(kernel.isa())).unwrap_or(usize::MAX);
    most.min(worth).min(p.oh() / kernel.row_step()).max(1)
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
        let residual = residual.map(|residual| residual.part(part.clone()));
        let from = Normalised { input: &input[part], scale, shift, residual, relu, output: None };
        batch_norm::normalise(kernel.isa(), from, output);
    });
    Source::Stored(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bands_are_worth_a_thread_and_have_rows() {
        let number = |kernel: &str, descriptor: &str, most| {
            let mut kernels = f32::all_kernels().iter();
            let kernel = kernels.find(|known| known.name() == kernel).expect("a known kernel");
            number(*kernel, &descriptor.parse().unwrap(), most)
        };
        let (direct, winograd) = ("portable_conv2d_f32_direct", "portable_conv2d_f32_winograd");
        assert_eq!(number(direct, "ic64ih56oc64kh3sh1ph1", 7), 7);
        assert_eq!(number(direct, "ic512ih5oc512kh3sh1ph1", 7), 5);
        assert_eq!(number(winograd, "ic128ih7oc128kh3sh1ph1", 7), 3);
        assert_eq!(number(direct, "ic16ih32oc16kh3sh1ph1", 7), 2);
        assert_eq!(number(direct, "ic3ih32oc16kh3sh1ph1", 7), 1);
        assert_eq!(number(direct, "ic2048ih1oc1000kh1", 7), 1);
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn tiles_do_more_in_the_same_time() {
        use residua_kernels::bf16;
        let number = |name: &str| {
            let mut kernels = bf16::all_kernels().iter();
            let kernel = kernels.find(|known| known.name() == name).expect("a known kernel");
            number(*kernel, &"ic64ih56oc64kh3sh1ph1".parse().unwrap(), 100)
        };
        assert_eq!(number("avx512bf16_conv2d_bf16_direct"), 56);
        assert_eq!(number("amx_conv2d_bf16_direct"), 27);
    }
}
