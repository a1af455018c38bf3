//! Which instruction sets this machine has, and which one to use.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

/// An instruction set that kernels are compiled for, each beside those before it.
///
/// A value only says which; whether the machine has it, [`Isa::is_supported`] tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Isa {
    /// What every machine has.
    Portable,
    /// AVX2 with FMA, 8 f32 lanes.
    Avx2,
    /// AVX-512 F, BW, DQ and VL, 16 f32 lanes.
    Avx512,
    /// AVX-512 with products of pairs of bf16.
    Avx512Bf16,
    /// AMX with bf16 tiles beside AVX-512 with bf16.
    Amx,
}

/// A name that is no instruction set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("instruction set is `{0}`, expected portable, avx2, avx512, avx512bf16 or amx")]
pub struct IsaError(String);

impl Isa {
    /// Every instruction set that kernels exist for.
    pub const ALL: [Self; 5] =
        [Self::Portable, Self::Avx2, Self::Avx512, Self::Avx512Bf16, Self::Amx];

    /// Whether this machine has it.
    pub fn is_supported(self) -> bool {
        match self {
            Self::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                Self::Avx2.is_supported()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16 => {
                Self::Avx512.is_supported() && is_x86_feature_detected!("avx512bf16")
            }
            #[cfg(target_arch = "x86_64")]
            Self::Amx => Self::Avx512Bf16.is_supported() && crate::amx::is_available(),
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }

    /// # Panics
    /// The machine lacks it. What goes on may run its instructions.
    pub(crate) fn assert_supported(self) {
        assert!(self.is_supported(), "this machine has no {self}");
    }

    /// Whether kernels for it are faster than those of the level below, where the machine has it.
    ///
    /// Products of pairs are not on cores like Sapphire Rapids', known by AVX512-FP16: they start a
    /// `vdpbf16ps` every other cycle, but two FMAs of half its work in each.
    pub fn is_fast(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16 => !is_x86_feature_detected!("avx512fp16"),
            _ => true,
        }
    }

    /// The best one that this machine has and the environment variable `RESIDUA_ISA` allows; one that
    /// [isn't fast](Self::is_fast) only if the variable names it.
    ///
    /// # Errors
    /// `RESIDUA_ISA` holds something that is no instruction set.
    pub fn best() -> Result<Self, IsaError> {
        static BEST: OnceLock<Result<Isa, IsaError>> = OnceLock::new();
        BEST.get_or_init(|| {
            let cap = match std::env::var("RESIDUA_ISA") {
                Ok(name) => name.parse()?,
                Err(_) => Self::Amx,
            };
            let allowed = |isa: &Self| *isa == cap || *isa < cap && isa.is_fast();
            Ok(Self::supported().filter(allowed).max().unwrap_or(Self::Portable))
        })
        .clone()
    }

    /// Every one that this machine has: what tests go through.
    pub fn supported() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|isa| isa.is_supported())
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Avx512Bf16 => "avx512bf16",
            Self::Amx => "amx",
        })
    }
}

impl FromStr for Isa {
    type Err = IsaError;

    fn from_str(name: &str) -> Result<Self, IsaError> {
        let known = Self::ALL.into_iter().find(|isa| isa.to_string() == name);
        known.ok_or_else(|| IsaError(name.to_owned()))
    }
}
