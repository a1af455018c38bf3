//! Rows made one part after another have the bits that they have when all are made at once.

use std::ops::Range;

use residua_kernels::conv2d::{Conv2dKernel, Forward, Sums, kernels};
use residua_kernels::zero_pad::ZeroPadded;
use residua_kernels::{Conv2dProblem, Element, Normalised, Residual, Source, bf16, convert};
use residua_testkit::Generator;

use crate::packed::Format;
use crate::problems;

/// A kernel's forward of some rows.
type Rows<E> = fn(&dyn Conv2dKernel<E>, &Conv2dProblem, Range<usize>, Forward<'_, E>);

fn right<E>(
    kernel: &dyn Conv2dKernel<E>,
    p: &Conv2dProblem,
    oh: Range<usize>,
    call: Forward<'_, E>,
) {
    kernel.run_forward_rows(p, oh, call);
}

/// As many rows from one further down, where there are so many.
fn one_too_far<E>(
    kernel: &dyn Conv2dKernel<E>,
    p: &Conv2dProblem,
    oh: Range<usize>,
    call: Forward<'_, E>,
) {
    let shift = usize::from(oh.end < p.oh());
    kernel.run_forward_rows(p, oh.start + shift..oh.end + shift, call);
}

fn forward<'a, E: Element>(
    source: &'a Source<'_, E>,
    packed: &'a [f32],
    bias: Option<&'a [f32]>,
    output: &'a mut [E],
) -> Forward<'a, E> {
    Forward { input: source.reread(), packed, bias, output, sums: Sums::None }
}

/// Whether `rows` makes the same bits in parts of each of these heights as all at once.
fn same_bits<E: Format>(
    kernel: &dyn Conv2dKernel<E>,
    p: &Conv2dProblem,
    heights: &[usize],
    rows: Rows<E>,
) -> bool {
    let mut generator = Generator::new(3);
    let mut values = |len: usize| {
        let mut stored = vec![E::from_f32(0.0); len];
        convert(&generator.signed(len), &mut stored);
        stored
    };
    let (input, residual) = (values(p.input_len()), values(p.input_len()));
    let shortcut = problems::shortcut(p);
    let narrow = values(shortcut.input_len());
    let [scale, shift] = std::array::from_fn(|_| generator.signed(p.ic));
    let bias = generator.signed(p.oc);
    let mut packed = vec![0.0; kernel.packed_weight_len(p)];
    kernel.pack_weight(p, &generator.signed(p.weight_len()), &mut packed);
    let normalised = |residual| {
        let (input, scale, shift) = (&input[..], &scale[..], &shift[..]);
        Source::Normalised(Normalised { input, scale, shift, residual, relu: true, output: None })
    };
    let sources = [
        Source::Stored(&input[..]),
        normalised(None),
        normalised(Some(Residual::Stored(&residual[..]))),
        normalised(Some(Residual::ZeroPadded(ZeroPadded::new(shortcut, &narrow)))),
    ];
    sources.iter().zip([None, Some(&bias[..]), None, None]).all(|(source, bias)| {
        let mut want = vec![E::from_f32(0.0); p.output_len()];
        kernel.run_forward(p, forward(source, &packed, bias, &mut want));
        let row_len = p.ow() * p.oc;
        heights.iter().all(|height| {
            let mut output = vec![E::from_f32(7.0); p.output_len()];
            for (i, part) in output.chunks_mut(height * row_len).enumerate() {
                let oh = i * height..i * height + part.len() / row_len;
                rows(kernel, p, oh, forward(source, &packed, bias, part));
            }
            let bits =
                |values: &[E]| values.iter().map(|x| x.to_f32().to_bits()).collect::<Vec<_>>();
            bits(&output) == bits(&want)
        })
    })
}

fn check<E: Format>() {
    for p in problems::all().into_iter().filter(|p| p.n > 0) {
        let p = p.with_n(1);
        for kernel in kernels::<E>().filter(|kernel| kernel.supports(&p)) {
            let step = kernel.row_step();
            let heights = [step, 2 * step, p.oh().div_ceil(2).next_multiple_of(step)];
            assert!(same_bits(kernel, &p, &heights, right), "{p} by {}", kernel.name());
        }
    }
}

#[test]
fn rows_have_the_bits_of_all_at_once() {
    check::<f32>();
    check::<bf16>();
}

#[test]
fn the_check_rejects_other_rows() {
    let p = "ic16ih8oc32kh3sh1ph1".parse().unwrap();
    for kernel in kernels::<f32>().filter(|kernel| kernel.supports(&p)) {
        assert!(same_bits(kernel, &p, &[2], right));
        assert!(!same_bits(kernel, &p, &[2], one_too_far), "{}", kernel.name());
    }
}

#[test]
#[should_panic(expected = "has no rows 6..9")]
fn rows_that_are_not_there_are_refused() {
    let p = "ic3ih8oc5kh3sh1ph1".parse().unwrap();
    let kernel = kernels::<f32>().next().unwrap();
    let (input, packed) = (vec![0.0; 192], vec![0.0; kernel.packed_weight_len(&p)]);
    let (input, output) = (Source::Stored(&input[..]), &mut [0.0; 120][..]);
    let call = Forward { input, packed: &packed, bias: None, output, sums: Sums::None };
    kernel.run_forward_rows(&p, 6..9, call);
}
