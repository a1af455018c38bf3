//! A call that can't be right panics, and says why, before anything is read or written.

use std::panic::{AssertUnwindSafe, catch_unwind};

use residua_kernels::conv2d::{Conv2dKernel, ConvElement, kernels};
use residua_kernels::{Conv2dProblem, Isa, bf16};

/// What each pass says of a problem, whatever its slices are.
fn messages<E: ConvElement>(
    kernel: &dyn Conv2dKernel<E>,
    p: &Conv2dProblem,
    [input_len, output_len, packed_len]: [usize; 3],
) -> [String; 3] {
    let zeros = |len| vec![E::from_f32(0.0); len];
    let (input, output, packed) = (zeros(input_len), zeros(output_len), vec![0.0; packed_len]);
    let passes: [&dyn Fn(); 3] = [
        &|| kernel.forward(p, &input, &packed, None, &mut output.clone()),
        &|| kernel.backward_data(p, &output, &packed, false, &mut input.clone()),
        &|| kernel.backward_weight(p, &input, &output, &mut packed.clone()),
    ];
    passes.map(|pass| {
        let panic = catch_unwind(AssertUnwindSafe(pass)).expect_err("the call is refused");
        *panic.downcast::<String>().expect("a message that is put together")
    })
}

fn check_sizes<E: ConvElement>() {
    let p = Conv2dProblem {
        n: 1,
        ic: 1,
        ih: 4,
        iw: 4,
        oc: 1,
        kh: 2,
        kw: 1,
        sh: 1,
        sw: 1,
        ph: 0,
        pw: 0,
    };
    // The lengths of its slices, modulo 2⁶⁴, are those given here.
    let wrapping = Conv2dProblem { ih: (1 << 60) + 2, iw: 16, ..p };
    for kernel in kernels::<E>() {
        for (p, lens, reason) in [
            (wrapping, [32, 16, 16], "sizes are too large"),
            (Conv2dProblem { kh: 5, ..p }, [16, 0, 16], "kh is 5, expected at most"),
            (Conv2dProblem { sw: 0, ..p }, [16, 12, 16], "sw is 0, expected at least 1"),
        ] {
            for message in messages(kernel, &p, lens) {
                assert!(message.contains(reason), "{p:?} by {}: {message}", kernel.name());
            }
        }
    }
}

#[test]
fn sizes_of_no_convolution_are_refused() {
    check_sizes::<f32>();
    check_sizes::<bf16>();
}

#[test]
fn a_problem_that_a_kernel_does_not_support_is_refused() {
    let p: Conv2dProblem = "n1ic32ih8oc32kh3sh1ph4".parse().unwrap();
    for kernel in kernels::<f32>().filter(|kernel| !kernel.supports(&p)) {
        for message in messages(kernel, &p, [2048, 6272, 16384]) {
            assert!(message.contains("can't do n1ic32ih8oc32kh3sh1ph4"), "{message}");
        }
    }
}

/// Kernels are registered for every machine; this goes over none where there is everything.
fn check_missing<E: ConvElement>() {
    let p: Conv2dProblem = "n1ic32ih8oc32kh3sh1ph1".parse().unwrap();
    let all = E::all_kernels().iter();
    for kernel in all.filter(|kernel| kernel.supports(&p) && !kernel.isa().is_supported()) {
        let lens = [p.input_len(), p.output_len(), kernel.packed_weight_len(&p)];
        for message in messages(*kernel, &p, lens) {
            assert_eq!(message, format!("this machine has no {}", kernel.isa()));
        }
    }
}

#[test]
fn a_kernel_for_another_machine_is_refused() {
    check_missing::<f32>();
    check_missing::<bf16>();
}

#[test]
fn an_instruction_set_that_is_not_there_is_refused() {
    for isa in Isa::ALL.into_iter().filter(|isa| !isa.is_supported() && *isa != Isa::Amx) {
        let add = || residua_kernels::add::add_assign(isa, &mut [0.0f32; 4], &[0.0; 4]);
        assert!(catch_unwind(add).is_err(), "{isa}");
    }
}
