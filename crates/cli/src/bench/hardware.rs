//! `residua bench hardware`: the rates that everything else is measured against.

use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use residua_engine::{Isa, Precision, ThreadPool};
use residua_kernels::{Aligned, peak};
use serde::Serialize;

use super::caches;
use crate::arguments::ThreadArgs;
use crate::failure::Outcome;
use crate::{output, table};

/// Measure the peak of multiply-adds and of reading, by instruction set and cache level
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  residua bench hardware
  residua bench hardware --threads 1 --json")]
pub(crate) struct HardwareBench {
    /// Print JSON, one object in each line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    threads: ThreadArgs,
}

const MEASURED: Duration = Duration::from_millis(200);

/// At least so many bytes are read between two looks at the clock, which takes as long as some kilobytes
/// of the first-level cache.
const READ_BYTES: usize = 4 << 20;

#[derive(Debug, Serialize)]
#[serde(tag = "task", rename = "hardware")]
struct Measured {
    measure: &'static str,
    isa: String,
    threads: usize,
    /// Where the bytes come from: `L1` to `L3`, or `memory`.
    #[serde(skip_serializing_if = "Option::is_none")]
    level: Option<String>,
    /// Bytes that a thread reads.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gflop_per_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gb_per_s: Option<f64>,
}

impl HardwareBench {
    pub(super) fn run(&self) -> Result<Outcome> {
        let pool = ThreadPool::new(self.threads.number())?;
        let threads = pool.num_threads();
        let mut rows = table::new(["Measure", "Instructions", ">all threads"]);
        let mut tell = |measured: Measured| -> Result<()> {
            if self.json {
                output::json_line(&measured)?;
            } else {
                rows.add_row(measured.row());
            }
            Ok(())
        };
        for isa in Isa::supported() {
            let measure = match isa {
                Isa::Amx => "bf16 products of tiles",
                Isa::Avx512Bf16 => "bf16 products of pairs",
                _ => "f32 multiply-adds",
            };
            let flop: f64 = pool.install(|| rayon::broadcast(|_| peak_rate(isa)).iter().sum());
            tell(Measured {
                measure,
                isa: isa.to_string(),
                threads,
                level: None,
                bytes: None,
                gflop_per_s: Some(flop / 1e9),
                gb_per_s: None,
            })?;
        }
        let isa = Isa::best()?;
        for caches::Level { name, bytes } in caches::levels(threads) {
            let read = pool.install(|| {
                let rates = rayon::broadcast(|_| {
                    let mut data = Aligned::<f32>::zeroed(bytes / 4);
                    // Pages that were never written may all be the same one.
                    data.fill(1.0);
                    let passes = (READ_BYTES / bytes).max(1);
                    single_rate(|| {
                        let mut sum = 0.0;
                        peak::read(isa, &data, passes, &mut sum);
                        std::hint::black_box(sum);
                        (passes * bytes) as u64
                    })
                });
                rates.iter().sum::<f64>()
            });
            tell(Measured {
                measure: "reading",
                isa: isa.to_string(),
                threads,
                level: Some(name),
                bytes: Some(bytes),
                gflop_per_s: None,
                gb_per_s: Some(read / 1e9),
            })?;
        }
        if !self.json {
            output::line(table::text(&rows))?;
            output::line(format_args!("{threads} threads, each on its own data"))?;
        }
        Ok(Outcome::Done)
    }
}

impl Measured {
    fn row(&self) -> [String; 3] {
        let measure = match (&self.level, self.bytes) {
            (Some(level), Some(bytes)) => {
                format!("{} {level}, {} KiB", self.measure, table::grouped(bytes as u64 >> 10))
            }
            _ => self.measure.to_owned(),
        };
        let rate = match (self.gflop_per_s, self.gb_per_s) {
            (Some(gflop), _) => format!("{} GFLOP/s", table::grouped(gflop.round() as u64)),
            (_, Some(gb)) => format!("{} GB/s", table::grouped(gb.round() as u64)),
            _ => String::new(),
        };
        [measure, self.isa.clone(), rate]
    }
}

/// The most floating-point operations a second that the pool's threads do of those that kernels for an
/// instruction set take in a precision.
pub(super) fn limit(pool: &ThreadPool, precision: Precision, isa: Isa) -> f64 {
    let isa = match (precision, isa) {
        (Precision::F32, Isa::Amx | Isa::Avx512Bf16) => Isa::Avx512,
        _ => isa,
    };
    pool.install(|| rayon::broadcast(|_| peak_rate(isa)).iter().sum())
}

/// The most floating-point operations a second that this thread does: of tiles, of pairs, or of
/// vectors.
pub(super) fn peak_rate(isa: Isa) -> f64 {
    match isa {
        Isa::Amx => return single_rate(tiles),
        Isa::Avx512Bf16 => return single_rate(pairs),
        _ => (),
    }
    let rate = |few: bool| {
        single_rate(|| {
            let mut flop = 0;
            peak::multiply_add(isa, 10_000, few, &mut flop);
            flop
        })
    };
    rate(false).max(rate(true))
}

/// Floating-point operations of some rounds of tiles.
fn tiles() -> u64 {
    let mut flop = 0;
    #[cfg(target_arch = "x86_64")]
    peak::multiply_tiles(2_000, &mut flop);
    flop
}

/// Floating-point operations of some rounds of pairs.
fn pairs() -> u64 {
    let mut flop = 0;
    #[cfg(target_arch = "x86_64")]
    peak::multiply_pairs(10_000, &mut flop);
    flop
}

/// Work a second of this thread.
fn single_rate(work: impl Fn() -> u64) -> f64 {
    work();
    let (start, mut done) = (Instant::now(), 0);
    while start.elapsed() < MEASURED {
        done += work();
    }
    done as f64 / start.elapsed().as_secs_f64()
}
