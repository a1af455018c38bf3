//! Best time of each pass of a convolution on one thread, for every kernel:
//! `conv2d_speed n4ic16ih32oc16kh3ph1 …`

use residua_kernels::{Aligned, Conv2dProblem, bf16, conv2d};
use std::time::Instant;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for descriptor in std::env::args().skip(1) {
        let p: Conv2dProblem = descriptor.parse()?;
        if std::env::var("AMXONLY").is_err() {
            measure::<f32>(&p);
        }
        measure::<bf16>(&p);
    }
    Ok(())
}

fn data<E: conv2d::ConvElement>(len: usize) -> Aligned<E> {
    let mut data = Aligned::zeroed(len);
    for (i, x) in data.iter_mut().enumerate() {
        *x = E::from_f32((i % 17) as f32 - 8.0);
    }
    data
}

fn measure<E: conv2d::ConvElement>(p: &Conv2dProblem) {
    for kernel in conv2d::kernels::<E>().filter(|kernel| {
        kernel.supports(p)
            && (std::env::var("AMXONLY").is_err() || kernel.name().starts_with("amx"))
    }) {
        let (input, mut output) = (data::<E>(p.input_len()), data::<E>(p.output_len()));
        let (weight, mut grad_input) = (data::<f32>(p.weight_len()), data::<E>(p.input_len()));
        let mut packed = Aligned::zeroed(kernel.packed_weight_len(p));
        let mut packed_backward = Aligned::zeroed(kernel.packed_weight_backward_len(p));
        let mut packed_grad = Aligned::zeroed(kernel.packed_grad_len(p));
        kernel.pack_weight(p, &weight, &mut packed);
        kernel.pack_weight_backward(p, &weight, &mut packed_backward);
        let grad_output = data::<E>(p.output_len());
        let forward = gflop_per_s(p, || kernel.forward(p, &input, &packed, None, &mut output));
        let backward_data = gflop_per_s(p, || {
            kernel.backward_data(p, &grad_output, &packed_backward, false, &mut grad_input);
        });
        let backward_weight = gflop_per_s(p, || {
            kernel.backward_weight(p, &input, &grad_output, &mut packed_grad);
        });
        println!(
            "{p} {:26} forward {forward:6.1}  backward_data {backward_data:6.1}  backward_weight {backward_weight:6.1} GFLOP/s",
            kernel.name()
        );
    }
}

fn gflop_per_s(p: &Conv2dProblem, mut pass: impl FnMut()) -> f64 {
    let mut best = f64::MAX;
    let begin = Instant::now();
    while begin.elapsed().as_secs_f64() < 0.3 {
        let start = Instant::now();
        pass();
        best = best.min(start.elapsed().as_secs_f64());
    }
    2.0 * p.macs() as f64 / best / 1e9
}
