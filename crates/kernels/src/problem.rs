//! What a kernel is asked to do: sizes, with the operations and bytes they cost.

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
    /// A zero size, a kernel larger than its padded input, or so many multiply-adds that their
    /// count, and with it an index, could overflow.
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
            let padded = padding.saturating_mul(2).saturating_add(input);
            if kernel > padded {
                return Err(error(format!(
                    "k{axis} is {kernel}, expected at most the padded input's {padded}"
                )));
            }
        }
        self.check_products().ok_or_else(|| error("sizes are too large".to_owned()))?;
        Ok(self)
    }

    /// # Panics
    /// The sizes describe no convolution, so that neither would what is computed from them.
    pub(crate) fn assert_valid(&self) {
        if let Err(error) = self.validate() {
            panic!("{error}");
        }
    }
}

impl Conv2dProblem {
    /// None if a product of sizes that something is counted or indexed with overflows, where channels are
    /// filled up to whole vectors or tiles, too.
    fn check_products(&self) -> Option<()> {
        const MAX: usize = usize::MAX >> 10;
        let padded_h = self.ph.checked_mul(2)?.checked_add(self.ih)?;
        let padded_w = self.pw.checked_mul(2)?.checked_add(self.iw)?;
        let pixels = self.n.max(1).checked_mul(padded_h)?.checked_mul(padded_w)?;
        let taps = self.kh.checked_mul(self.kw)?;
        let macs = pixels.checked_mul(self.ic)?.checked_mul(self.oc)?.checked_mul(taps)?;
        (macs <= MAX).then_some(())
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
            if sizes.insert(name, size).is_some() {
                return Err(error(format!("`{name}` is given twice")));
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    const STEM: Conv2dProblem = Conv2dProblem {
        n: 2,
        ic: 3,
        ih: 224,
        iw: 200,
        oc: 64,
        kh: 7,
        kw: 5,
        sh: 2,
        sw: 1,
        ph: 3,
        pw: 2,
    };

    #[test]
    fn sizes_follow_from_each_other() {
        assert_eq!((STEM.oh(), STEM.ow()), (112, 200));
        assert_eq!(STEM.input_len(), 2 * 224 * 200 * 3);
        assert_eq!(STEM.output_len(), 2 * 112 * 200 * 64);
        assert_eq!(STEM.weight_len(), 64 * 3 * 7 * 5);
        assert_eq!(STEM.macs(), 2 * 112 * 200 * 64 * 3 * 7 * 5);
        assert_eq!(STEM.with_n(5).input_len(), 5 * 224 * 200 * 3);
        let pool = MaxPoolProblem { n: 2, c: 5, ih: 7, iw: 8, k: 3, s: 2, p: 1 };
        assert_eq!((pool.oh(), pool.ow()), (4, 4));
        assert_eq!((pool.input_len(), pool.output_len()), (2 * 7 * 8 * 5, 2 * 4 * 4 * 5));
        let (pad_before, pad_after) = (1, 2);
        let pad = ZeroPadProblem { n: 2, ic: 4, ih: 5, iw: 6, stride: 2, pad_before, pad_after };
        assert_eq!((pad.oc(), pad.oh(), pad.ow()), (7, 3, 3));
        assert_eq!((pad.input_len(), pad.output_len()), (2 * 5 * 6 * 4, 2 * 3 * 3 * 7));
    }

    #[test]
    fn descriptors_are_read_back() {
        for (descriptor, full) in [
            ("n128ic16ih32oc16kh3sh1ph1", "n128ic16ih32oc16kh3sh1ph1"),
            ("n2ic3ih224iw200oc64kh7kw5sh2sw1ph3pw2", "n2ic3ih224iw200oc64kh7kw5sh2sw1ph3pw2"),
            ("ic16ih8oc32kh1", "n1ic16ih8oc32kh1sh1ph0"),
            ("kh3kw3oc4ih5iw5ic2n0", "n0ic2ih5oc4kh3sh1ph0"),
        ] {
            let problem: Conv2dProblem = descriptor.parse().unwrap();
            assert_eq!(problem.to_string(), full);
            assert_eq!(full.parse(), Ok(problem));
        }
        assert_eq!(STEM.to_string().parse(), Ok(STEM));
    }

    #[test]
    fn what_is_no_convolution_is_refused() {
        for (descriptor, reason) in [
            ("", "`ih` is missing"),
            ("ih5kh3oc2", "`ic` is missing"),
            ("ic1ih5oc2kh3dh2", "`dh` is unknown"),
            ("ic1ih5oc2kh3ic2", "`ic` is given twice"),
            ("ic1ih5oc2kh", "`kh` has size ``, expected a number"),
            ("7", "`` is unknown"),
            ("ic1ih99999999999999999999oc2kh3", "`ih` has size `99999999999999999999`"),
            ("ic0ih5oc2kh3", "ic is 0, expected at least 1"),
            ("ic1ih5oc2kh3sh2sw0", "sw is 0, expected at least 1"),
            ("ic1ih5oc2kh8ph1", "kh is 8, expected at most the padded input's 7"),
            ("ic1ih5iw2oc2kh3", "kw is 3, expected at most the padded input's 2"),
            ("ic1ih5oc2kh3ph9223372036854775807", "sizes are too large"),
            ("n4000000ic4000000ih4000000oc2kh3", "sizes are too large"),
            // Filled up to a vector, so many channels would overflow.
            ("ic4294967295ih1oc4294967295kh1", "sizes are too large"),
        ] {
            let message = descriptor.parse::<Conv2dProblem>().unwrap_err().to_string();
            assert!(message.contains(reason), "{descriptor}: {message}");
            assert!(message.starts_with("convolution `"), "{message}");
        }
    }
}
