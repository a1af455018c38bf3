//! What a kernel is asked to do: sizes, validated once, with the operations and bytes they cost.

use std::fmt;
use std::str::FromStr;

/// Sizes of a 2-D convolution: `n` samples of `ih×iw×ic` (NHWC) to `oh×ow×oc`.
///
/// Its text form is the descriptor that tests and benchmarks share, `n128ic16ih32oc16kh3sh1ph1`:
/// `iw kw sw pw` follow `ih kh sh ph` where they are not given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Conv2dProblem {
    /// Samples.
    pub n: usize,
    /// Input channels.
    pub ic: usize,
    /// Input rows.
    pub ih: usize,
    /// Input columns.
    pub iw: usize,
    /// Output channels.
    pub oc: usize,
    /// Kernel rows.
    pub kh: usize,
    /// Kernel columns.
    pub kw: usize,
    /// Vertical stride.
    pub sh: usize,
    /// Horizontal stride.
    pub sw: usize,
    /// Zero rows at the top and at the bottom.
    pub ph: usize,
    /// Zero columns at the left and at the right.
    pub pw: usize,
}

/// A descriptor or a set of sizes that describes no convolution.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("convolution `{descriptor}`: {reason}")]
pub struct ProblemError {
    descriptor: String,
    reason: String,
}

impl Conv2dProblem {
    /// Output rows.
    pub const fn oh(&self) -> usize {
        (self.ih + 2 * self.ph - self.kh) / self.sh + 1
    }

    /// Output columns.
    pub const fn ow(&self) -> usize {
        (self.iw + 2 * self.pw - self.kw) / self.sw + 1
    }

    /// Elements of the input, all samples.
    pub const fn input_len(&self) -> usize {
        self.n * self.ih * self.iw * self.ic
    }

    /// Elements of the output, all samples.
    pub const fn output_len(&self) -> usize {
        self.n * self.oh() * self.ow() * self.oc
    }

    /// Elements of the weight, `[oc, ic, kh, kw]`.
    pub const fn weight_len(&self) -> usize {
        self.oc * self.ic * self.kh * self.kw
    }

    /// Multiply-adds of one pass (padding counted as data).
    pub const fn macs(&self) -> u64 {
        (self.output_len() * self.ic * self.kh * self.kw) as u64
    }

    /// The same problem for another number of samples.
    pub const fn with_n(self, n: usize) -> Self {
        Self { n, ..self }
    }

    /// Checks that the sizes describe a convolution.
    ///
    /// # Errors
    /// A zero size, or a kernel larger than its padded input.
    pub fn validate(self) -> Result<Self, ProblemError> {
        let error = |reason: String| ProblemError { descriptor: self.to_string(), reason };
        let sizes = [
            ("ic", self.ic),
            ("ih", self.ih),
            ("iw", self.iw),
            ("oc", self.oc),
            ("kh", self.kh),
            ("kw", self.kw),
            ("sh", self.sh),
            ("sw", self.sw),
        ];
        if let Some((name, _)) = sizes.iter().find(|(_, size)| *size == 0) {
            return Err(error(format!("{name} is 0, expected at least 1")));
        }
        for (axis, kernel, input, padding) in
            [("h", self.kh, self.ih, self.ph), ("w", self.kw, self.iw, self.pw)]
        {
            if kernel > input + 2 * padding {
                return Err(error(format!(
                    "k{axis} is {kernel}, expected at most the padded input's {}",
                    input + 2 * padding
                )));
            }
        }
        Ok(self)
    }
}

impl fmt::Display for Conv2dProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { n, ic, ih, iw, oc, kh, kw, sh, sw, ph, pw } = self;
        write!(f, "n{n}ic{ic}ih{ih}")?;
        if iw != ih {
            write!(f, "iw{iw}")?;
        }
        write!(f, "oc{oc}")?;
        for (axis, vertical, horizontal) in [("k", kh, kw), ("s", sh, sw), ("p", ph, pw)] {
            write!(f, "{axis}h{vertical}")?;
            if vertical != horizontal {
                write!(f, "{axis}w{horizontal}")?;
            }
        }
        Ok(())
    }
}

impl FromStr for Conv2dProblem {
    type Err = ProblemError;

    fn from_str(descriptor: &str) -> Result<Self, ProblemError> {
        let error = |reason: String| ProblemError { descriptor: descriptor.to_owned(), reason };
        let mut sizes = std::collections::BTreeMap::new();
        let mut rest = descriptor;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
            let (name, tail) = rest.split_at(digits);
            let end = tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len());
            let (number, tail) = tail.split_at(end);
            let size: usize = number
                .parse()
                .map_err(|_| error(format!("`{name}` has size `{number}`, expected a number")))?;
            let known = ["n", "ic", "ih", "iw", "oc", "kh", "kw", "sh", "sw", "ph", "pw"];
            if !known.contains(&name) {
                return Err(error(format!("`{name}` is unknown, expected one of {known:?}")));
            }
            sizes.insert(name, size);
            rest = tail;
        }
        let required = |name: &str| {
            sizes.get(name).copied().ok_or_else(|| error(format!("`{name}` is missing")))
        };
        let or = |name: &str, default: usize| sizes.get(name).copied().unwrap_or(default);
        let (ih, kh) = (required("ih")?, required("kh")?);
        let (sh, ph) = (or("sh", 1), or("ph", 0));
        Self {
            n: or("n", 1),
            ic: required("ic")?,
            ih,
            iw: or("iw", ih),
            oc: required("oc")?,
            kh,
            kw: or("kw", kh),
            sh,
            sw: or("sw", sh),
            ph,
            pw: or("pw", ph),
        }
        .validate()
    }
}

/// Sizes of a square max pool over `n` samples of `ih×iw×c` (NHWC).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MaxPoolProblem {
    /// Samples.
    pub n: usize,
    /// Channels.
    pub c: usize,
    /// Input rows.
    pub ih: usize,
    /// Input columns.
    pub iw: usize,
    /// Window rows and columns; at most 15, so that a position in it fits a byte.
    pub k: usize,
    /// Stride.
    pub s: usize,
    /// Positions added on each side, which never win.
    pub p: usize,
}

impl MaxPoolProblem {
    /// Output rows.
    pub const fn oh(&self) -> usize {
        (self.ih + 2 * self.p - self.k) / self.s + 1
    }

    /// Output columns.
    pub const fn ow(&self) -> usize {
        (self.iw + 2 * self.p - self.k) / self.s + 1
    }

    /// Elements of the input, all samples.
    pub const fn input_len(&self) -> usize {
        self.n * self.ih * self.iw * self.c
    }

    /// Elements of the output, all samples.
    pub const fn output_len(&self) -> usize {
        self.n * self.oh() * self.ow() * self.c
    }
}

/// Sizes of the zero-padding shortcut: `n` samples of `ih×iw×ic` (NHWC), every `stride`-th row and
/// column kept, the input's channels put between `pad_before` and `pad_after` zero channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ZeroPadProblem {
    /// Samples.
    pub n: usize,
    /// Input channels.
    pub ic: usize,
    /// Input rows.
    pub ih: usize,
    /// Input columns.
    pub iw: usize,
    /// Steps between kept rows and columns.
    pub stride: usize,
    /// Zero channels before the input's.
    pub pad_before: usize,
    /// Zero channels after the input's.
    pub pad_after: usize,
}

impl ZeroPadProblem {
    /// Output channels.
    pub const fn oc(&self) -> usize {
        self.pad_before + self.ic + self.pad_after
    }

    /// Output rows.
    pub const fn oh(&self) -> usize {
        self.ih.div_ceil(self.stride)
    }

    /// Output columns.
    pub const fn ow(&self) -> usize {
        self.iw.div_ceil(self.stride)
    }

    /// Elements of the input, all samples.
    pub const fn input_len(&self) -> usize {
        self.n * self.ih * self.iw * self.ic
    }

    /// Elements of the output, all samples.
    pub const fn output_len(&self) -> usize {
        self.n * self.oh() * self.ow() * self.oc()
    }
}
