use crate::PlanError;
use residua_kernels::Isa;
use std::fmt;
use std::str::FromStr;

/// What a plan is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Batch statistics, and everything kept that the backward needs.
    Train,
    /// Running statistics, forward only, in little memory.
    Eval,
}

/// The number format of activations and packed weights. Parameters, their gradients, statistics and
/// losses are f32 (or wider) in every precision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Precision {
    /// IEEE single precision.
    #[default]
    F32,
    /// bfloat16: 8 bits of precision, the range of f32. Sums are f32.
    Bf16,
}

impl Precision {
    /// The fastest for an instruction set: bf16 where it has fast products of bf16, else f32.
    pub fn fastest(isa: Isa) -> Self {
        if isa >= Isa::Avx512Bf16 && isa.is_fast() { Self::Bf16 } else { Self::F32 }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        })
    }
}

/// A name that is no precision.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("precision is `{0}`, expected f32 or bf16")]
pub struct PrecisionError(String);

impl FromStr for Precision {
    type Err = PrecisionError;

    fn from_str(name: &str) -> Result<Self, PrecisionError> {
        match name {
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            _ => Err(PrecisionError(name.to_owned())),
        }
    }
}

/// What a plan is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanOptions {
    /// Samples of a batch: exactly so many in training, at most so many in evaluation.
    pub batch_size: usize,
    /// Training or evaluation.
    pub mode: Mode,
    /// Number format.
    pub precision: Precision,
    /// The most that kernels may use.
    pub isa: Isa,
}

impl PlanOptions {
    /// Training in f32 with the best instruction set there is (capped by `RESIDUA_ISA`).
    ///
    /// # Errors
    /// `RESIDUA_ISA` names no instruction set.
    pub fn train(batch_size: usize) -> Result<Self, PlanError> {
        let isa = Isa::best()?;
        Ok(Self { batch_size, mode: Mode::Train, precision: Precision::F32, isa })
    }

    /// Evaluation in f32 with the best instruction set there is (capped by `RESIDUA_ISA`).
    ///
    /// # Errors
    /// `RESIDUA_ISA` names no instruction set.
    pub fn eval(batch_size: usize) -> Result<Self, PlanError> {
        Ok(Self { mode: Mode::Eval, ..Self::train(batch_size)? })
    }
}
