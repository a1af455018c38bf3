//! `residua bench kernels`: every kernel of a convolution, alone.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use residua_engine::{Isa, Precision};
use residua_kernels::conv2d::{self, Conv2dKernel, ConvElement};
use residua_kernels::{Aligned, Conv2dProblem, bf16};
use serde::Serialize;

use super::hardware::peak_rate;
use crate::failure::Outcome;
use crate::{output, table};

/// Time every kernel of a convolution on one thread, all three passes
///
/// A descriptor names the sizes: samples, input channels and rows, output channels, kernel, stride and
/// padding, n8ic16ih32oc16kh3sh1ph1; columns are as rows unless iw, kw, sw or pw say otherwise. The
/// kernel that a network would use is marked with *.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  residua bench kernels
  residua bench kernels n8ic64ih56oc64kh3ph1 n1ic3ih224oc64kh7sh2ph3
  residua bench kernels --shapes bench/shapes/resnet50.txt --json")]
pub(crate) struct KernelsBench {
    /// Convolutions to time [default: those of ResNet-20's three stages]
    #[arg(value_name = "DESCRIPTOR")]
    descriptors: Vec<Conv2dProblem>,
    /// File with a descriptor in each line
    #[arg(long, value_name = "FILE")]
    shapes: Option<PathBuf>,
    /// Print JSON, one object in each line
    #[arg(long)]
    json: bool,
}

const DEFAULT: [&str; 3] =
    ["n8ic16ih32oc16kh3sh1ph1", "n8ic32ih16oc32kh3sh1ph1", "n8ic64ih8oc64kh3sh1ph1"];
const MEASURED: Duration = Duration::from_millis(100);

/// One kernel on one convolution, in GFLOP/s.
#[derive(Debug, Serialize)]
#[serde(tag = "task", rename = "kernels")]
struct Measured {
    descriptor: String,
    precision: String,
    kernel: &'static str,
    /// Whether a network would use it here.
    chosen: bool,
    forward: f64,
    backward_data: f64,
    backward_weight: f64,
    /// What the kernel's instructions can do at most.
    peak: f64,
}

impl KernelsBench {
    pub(super) fn run(&self) -> Result<Outcome> {
        let mut peaks = BTreeMap::new();
        let mut rows = table::new([
            "Convolution",
            "Kernel",
            ">forward",
            ">backward data",
            ">backward weight",
            ">GFLOP/s at most",
        ]);
        for problem in self.problems()? {
            let mut measured = measure::<f32>(&problem, Precision::F32, &mut peaks)?;
            measured.extend(measure::<bf16>(&problem, Precision::Bf16, &mut peaks)?);
            for measured in measured {
                if self.json {
                    output::json_line(&measured)?;
                } else {
                    rows.add_row(measured.row());
                }
            }
        }
        if !self.json {
            output::line(table::text(&rows))?;
            output::line(
                "GFLOP/s on one thread and their share of the most; * is what networks use",
            )?;
        }
        Ok(Outcome::Done)
    }

    fn problems(&self) -> Result<Vec<Conv2dProblem>> {
        let mut problems = self.descriptors.clone();
        if let Some(path) = &self.shapes {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("{}: can't be read", path.display()))?;
            for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
                let problem = line.parse().with_context(|| path.display().to_string())?;
                problems.push(problem);
            }
        }
        if problems.is_empty() {
            problems = DEFAULT.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
        }
        Ok(problems)
    }
}

impl Measured {
    fn row(&self) -> [String; 6] {
        let rate = |gflop: f64| format!("{gflop:.0}  {:2.0} %", gflop / self.peak * 100.0);
        [
            self.descriptor.clone(),
            format!("{} {}", if self.chosen { '*' } else { ' ' }, self.kernel),
            rate(self.forward),
            rate(self.backward_data),
            rate(self.backward_weight),
            table::grouped(self.peak.round() as u64),
        ]
    }
}

fn measure<E: ConvElement>(
    p: &Conv2dProblem,
    precision: Precision,
    peaks: &mut BTreeMap<Isa, f64>,
) -> Result<Vec<Measured>> {
    let chosen = conv2d::choose::<E>(p, Isa::best()?).name();
    let kernels = conv2d::kernels::<E>().filter(|kernel| kernel.supports(p));
    Ok(kernels
        .map(|kernel| {
            let isa = kernel.isa();
            let peak = *peaks.entry(isa).or_insert_with(|| peak_rate(isa) / 1e9);
            let [forward, backward_data, backward_weight] = passes(p, kernel);
            Measured {
                descriptor: p.to_string(),
                precision: precision.to_string(),
                kernel: kernel.name(),
                chosen: kernel.name() == chosen,
                forward,
                backward_data,
                backward_weight,
                peak,
            }
        })
        .collect())
}

/// GFLOP/s of the three passes.
fn passes<E: ConvElement>(p: &Conv2dProblem, kernel: &dyn Conv2dKernel<E>) -> [f64; 3] {
    let (input, mut output) = (data::<E>(p.input_len()), data::<E>(p.output_len()));
    let (weight, mut grad_input) = (data::<f32>(p.weight_len()), data::<E>(p.input_len()));
    let grad_output = data::<E>(p.output_len());
    let mut packed = Aligned::zeroed(kernel.packed_weight_len(p));
    let mut packed_backward = Aligned::zeroed(kernel.packed_weight_backward_len(p));
    let mut packed_grad = Aligned::zeroed(kernel.packed_grad_len(p));
    kernel.pack_weight(p, &weight, &mut packed);
    kernel.pack_weight_backward(p, &weight, &mut packed_backward);
    [
        gflop_per_s(p, || kernel.forward(p, &input, &packed, None, &mut output)),
        gflop_per_s(p, || {
            kernel.backward_data(p, &grad_output, &packed_backward, false, &mut grad_input);
        }),
        gflop_per_s(p, || kernel.backward_weight(p, &input, &grad_output, &mut packed_grad)),
    ]
}

fn data<E: ConvElement>(len: usize) -> Aligned<E> {
    let mut data = Aligned::zeroed(len);
    for (i, x) in data.iter_mut().enumerate() {
        *x = E::from_f32((i % 17) as f32 - 8.0);
    }
    data
}

/// Of the fastest of some runs.
fn gflop_per_s(p: &Conv2dProblem, mut pass: impl FnMut()) -> f64 {
    let (begin, mut best) = (Instant::now(), f64::MAX);
    while begin.elapsed() < MEASURED {
        let start = Instant::now();
        pass();
        best = best.min(start.elapsed().as_secs_f64());
    }
    2.0 * p.macs() as f64 / best / 1e9
}
