//! Walks over rows of `c` channels in whole vectors, whatever `c` is.
//!
//! A row shorter than a few vectors, or not a whole number of them, is taken together with its
//! neighbours as one wider row, and per-channel operands are repeated to match. What is left at the
//! end goes one by one.

use crate::simd::Simd;
use std::mem::MaybeUninit;

/// Elements a repeated operand has at most.
const MAX_REPEATED: usize = 1024;
/// Rows shorter than this are taken together.
const MIN_PERIOD: usize = 64;
/// Rows are summed in f32 this many at a time, then in f64.
const BLOCK_ROWS: usize = 64;

/// A walk over `len` elements, `c` channels innermost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Walk {
    c: usize,
    /// Channels of a wide row, a multiple of `c`.
    period: usize,
    /// Elements of a wide row that are walked in pairs of vectors.
    whole: usize,
}

impl Walk {
    pub(crate) fn new<S: Simd>(c: usize) -> Self {
        let pair = 2 * S::LANES;
        let even = pair / gcd(c, pair);
        let repeat = even * MIN_PERIOD.div_ceil(c * even);
        let period = if c * repeat <= MAX_REPEATED { c * repeat } else { c };
        Self { c, period, whole: period / pair * pair }
    }

    /// A per-channel operand for a wide row.
    pub(crate) fn widen<'a>(&self, operand: &'a [f32], storage: &'a mut Wide) -> &'a [f32] {
        assert_eq!(operand.len(), self.c);
        storage.widen(operand, self.period)
    }
}

/// Room for a repeated per-channel operand, at the start of a cache line: its vectors are read often.
// Not zeroed: that would take as long as a row of a few channels.
#[repr(align(64))]
pub(crate) struct Wide([MaybeUninit<f32>; MAX_REPEATED]);

impl Wide {
    pub(crate) fn new() -> Self {
        Self([MaybeUninit::uninit(); MAX_REPEATED])
    }

    /// An operand for `period` columns: itself, or repeated.
    fn widen<'a>(&'a mut self, operand: &'a [f32], period: usize) -> &'a [f32] {
        if period == operand.len() {
            return operand;
        }
        let wide = &mut self.0[..period];
        assert!(period.is_multiple_of(operand.len()));
        for row in wide.chunks_exact_mut(operand.len()) {
            row.iter_mut().zip(operand).for_each(|(to, from)| _ = to.write(*from));
        }
        // SAFETY: `wide` is of whole rows, and each was written.
        unsafe { &*(&raw const *wide as *const [f32]) }
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// An element-wise operation with per-channel operands, on two vectors at a time: formats are rounded
/// to in pairs.
pub(crate) trait Map {
    /// What belongs to two vectors of channels.
    type Operands<S: Simd>: Copy;
    /// That of the columns from `col` on.
    ///
    /// # Safety
    /// There are so many columns.
    unsafe fn operands<S: Simd>(&self, simd: S, col: usize) -> Self::Operands<S>;
    /// `2 · LANES` elements from `i` on.
    ///
    /// # Safety
    /// All operands have so many.
    unsafe fn pair<S: Simd>(&mut self, simd: S, i: usize, operands: Self::Operands<S>);
    /// One element, with the bits that [`pair`](Self::pair) gives it; `col` is its place in a wide row.
    fn scalar<S: Simd>(&mut self, simd: S, i: usize, col: usize);
}

/// Elements of rows that are walked column by column: they stay in the first-level cache.
const MAX_WALKED: usize = 4096;

/// Applies `map` to all `len` elements.
///
/// # Safety
/// Its operands have `len` elements, those per channel as many as [`Walk::widen`] gives.
// Without a check for each vector: they took more time than the arithmetic. Operands of four vectors
// of channels stay in registers for all rows.
#[inline(always)]
pub(crate) unsafe fn map<S: Simd>(simd: S, walk: Walk, len: usize, map: &mut impl Map) {
    let Walk { period, whole, .. } = walk;
    let num_rows = len / period;
    let at_once = (MAX_WALKED / period).max(1);
    let pair = 2 * S::LANES;
    for first_row in (0..num_rows).step_by(at_once) {
        let rows = first_row..num_rows.min(first_row + at_once);
        let mut col = 0;
        while col + 2 * pair <= whole {
            // SAFETY: the columns are `whole` ones.
            let operands = unsafe { [map.operands(simd, col), map.operands(simd, col + pair)] };
            for row in rows.clone() {
                let i = row * period + col;
                // SAFETY: the row lies before `len`.
                unsafe {
                    map.pair(simd, i, operands[0]);
                    map.pair(simd, i + pair, operands[1]);
                }
            }
            col += 2 * pair;
        }
        while col < whole {
            // SAFETY: as above, of both.
            unsafe {
                let operands = map.operands(simd, col);
                rows.clone().for_each(|row| map.pair(simd, row * period + col, operands));
            }
            col += pair;
        }
        for row in rows {
            (whole..period).for_each(|col| map.scalar(simd, row * period + col, col));
        }
    }
    let first = num_rows * period;
    let mut col = 0;
    while col < whole && first + col + pair <= len {
        // SAFETY: the pair lies before `len`, and in the `whole` part of a row.
        unsafe { map.pair(simd, first + col, map.operands(simd, col)) };
        col += pair;
    }
    (col..len - first).for_each(|col| map.scalar(simd, first + col, col));
}

/// Two terms of every element, to be summed for each channel.
pub(crate) trait Terms {
    /// Those of `LANES` elements from `i` on; `col` is the first one's place in a wide row.
    ///
    /// # Safety
    /// All operands have so many.
    unsafe fn vector<S: Simd>(&mut self, simd: S, i: usize, col: usize) -> [S::F32; 2];
    /// Those of one element.
    fn scalar<S: Simd>(&mut self, simd: S, i: usize, col: usize) -> [f32; 2];
}

/// A few neighbouring channels, whose sums fit on the stack and mostly in registers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ChannelBlock {
    /// The first channel.
    pub(crate) first: usize,
    /// Channels, at most [`BLOCK_CHANNELS`].
    pub(crate) len: usize,
    /// Columns of a wide row: `len`, or all channels repeated.
    period: usize,
    /// Distance of wide rows.
    stride: usize,
}

/// Channels whose sums are made together.
pub(crate) const BLOCK_CHANNELS: usize = 64;

/// Sums of two terms for each channel of a block.
pub(crate) type BlockSums = [[f64; BLOCK_CHANNELS]; 2];

impl ChannelBlock {
    /// Cuts `c` channels into blocks.
    pub(crate) fn all<S: Simd>(c: usize) -> impl Iterator<Item = Self> {
        let wide = Walk::new::<S>(c).period;
        (0..c).step_by(BLOCK_CHANNELS).map(move |first| {
            let len = BLOCK_CHANNELS.min(c - first);
            if len == c {
                Self { first, len, period: wide, stride: wide }
            } else {
                Self { first, len, period: len, stride: c }
            }
        })
    }

    /// An operand with one element for each channel of the block, for a wide row.
    pub(crate) fn widen<'a>(&self, operand: &'a [f32], storage: &'a mut Wide) -> &'a [f32] {
        assert_eq!(operand.len(), self.len);
        storage.widen(operand, self.period)
    }

    /// Rows of `c` channels that are summed in f32 before they go into f64.
    pub(crate) fn rows_at_once(&self) -> usize {
        BLOCK_ROWS * (self.period / self.len)
    }

    /// The sums over the rows `rows` (of `c` channels each), in f32 over at most
    /// [`rows_at_once`](Self::rows_at_once) of them and in f64 across.
    ///
    /// # Safety
    /// The operands of `terms` have all rows, those per channel as many elements as
    /// [`widen`](Self::widen) gives.
    #[inline(always)]
    pub(crate) unsafe fn sums<S: Simd>(
        &self,
        simd: S,
        c: usize,
        rows: std::ops::Range<usize>,
        terms: &mut impl Terms,
    ) -> BlockSums {
        let mut sums = [[0.0; BLOCK_CHANNELS]; 2];
        let mut add = |col: usize, [first, second]: [f32; 2]| {
            let channel = col % self.len;
            sums[0][channel] += f64::from(first);
            sums[1][channel] += f64::from(second);
        };
        let start = rows.start * c + self.first;
        let wide_rows = rows.len() / (self.period / self.len);
        for block in (0..wide_rows).step_by(BLOCK_ROWS) {
            let num_rows = BLOCK_ROWS.min(wide_rows - block);
            let start = start + block * self.stride;
            let mut col = 0;
            while col + 4 * S::LANES <= self.period {
                // SAFETY: the columns lie in a wide row, and that in `rows`.
                unsafe { self.sum_columns::<S, 4>(simd, num_rows, start, col, terms, &mut add) };
                col += 4 * S::LANES;
            }
            while col + S::LANES <= self.period {
                // SAFETY: as above.
                unsafe { self.sum_columns::<S, 1>(simd, num_rows, start, col, terms, &mut add) };
                col += S::LANES;
            }
            for row in 0..num_rows {
                for col in col..self.period {
                    add(col, terms.scalar(simd, start + row * self.stride + col, col));
                }
            }
        }
        for row in rows.start + wide_rows * (self.period / self.len)..rows.end {
            for col in 0..self.len {
                add(col, terms.scalar(simd, row * c + self.first + col, col));
            }
        }
        sums
    }

    /// Sums `NV` vectors of columns over some wide rows, in registers.
    ///
    /// # Safety
    /// The operands of `terms` have them.
    #[inline(always)]
    unsafe fn sum_columns<S: Simd, const NV: usize>(
        &self,
        simd: S,
        num_rows: usize,
        start: usize,
        col: usize,
        terms: &mut impl Terms,
        add: &mut impl FnMut(usize, [f32; 2]),
    ) {
        let mut acc = [[simd.splat(0.0); 2]; NV];
        for row in 0..num_rows {
            for (v, acc) in acc.iter_mut().enumerate() {
                let col = col + v * S::LANES;
                // SAFETY: the caller's promise.
                let terms = unsafe { terms.vector(simd, start + row * self.stride + col, col) };
                *acc = [simd.add(acc[0], terms[0]), simd.add(acc[1], terms[1])];
            }
        }
        for (v, [first, second]) in acc.into_iter().enumerate() {
            let mut lanes = [[0.0f32; crate::simd::MAX_LANES]; 2];
            simd.store(&mut lanes[0], first);
            simd.store(&mut lanes[1], second);
            let [first, second] = &lanes;
            for (lane, (first, second)) in first.iter().zip(second).enumerate().take(S::LANES) {
                add(col + v * S::LANES + lane, [*first, *second]);
            }
        }
    }
}
