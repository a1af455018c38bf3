//! Maximum over square windows, as `torch.nn.MaxPool2d` with `ceil_mode=False`:
//!
//! ```text
//! output[n, oh, ow, c] = max over kh, kw of input[n, oh·s + kh − p, ow·s + kw − p, c]
//! ```
//!
//! Positions outside the input never win. The first of equal maxima wins; NaN beats every number,
//! and of several NaN the last wins.

use super::Real;
use crate::MaxPoolProblem;

/// Overwrites `output` and `index`, which has the place `kh·k + kw` of each winner in its window.
pub fn forward<T: Real>(p: &MaxPoolProblem, input: &[T], output: &mut [T], index: &mut [u8]) {
    check(p, input.len(), output.len(), index.len());
    let mut outputs = output.iter_mut().zip(index);
    for_each_output(p, |n_i, oh_i, ow_i, c_i| {
        let mut winner = None;
        for place in 0..p.k * p.k {
            let Some(i) = input_index(p, [n_i, oh_i, ow_i, c_i], place) else { continue };
            let challenger = input[i];
            let wins = |(best, _): (T, usize)| challenger > best || challenger.is_nan();
            if winner.is_none_or(wins) {
                winner = Some((challenger, place));
            }
        }
        let (output, index) = outputs.next().expect("as many as the problem says");
        let (best, place) = winner.expect("padding is at most half the window");
        *output = best;
        *index = u8::try_from(place).expect("the window has at most 15 rows");
    });
}

/// Overwrites `grad_input` with the sum of the gradients of the outputs that each input won.
pub fn backward<T: Real>(
    p: &MaxPoolProblem,
    grad_output: &[T],
    index: &[u8],
    grad_input: &mut [T],
) {
    check(p, grad_input.len(), grad_output.len(), index.len());
    grad_input.fill(T::ZERO);
    let mut outputs = grad_output.iter().zip(index);
    for_each_output(p, |n_i, oh_i, ow_i, c_i| {
        let (&grad_output, &index) = outputs.next().expect("as many as the problem says");
        let i = input_index(p, [n_i, oh_i, ow_i, c_i], usize::from(index));
        grad_input[i.expect("padding never wins")] += grad_output;
    });
}

/// Calls `visit(n, oh, ow, c)` for every element of the output, in memory order.
fn for_each_output(p: &MaxPoolProblem, mut visit: impl FnMut(usize, usize, usize, usize)) {
    for n_i in 0..p.n {
        for oh_i in 0..p.oh() {
            for ow_i in 0..p.ow() {
                for c_i in 0..p.c {
                    visit(n_i, oh_i, ow_i, c_i);
                }
            }
        }
    }
}

/// Where in the input a place of an output's window lies, unless it is padding.
fn input_index(p: &MaxPoolProblem, output: [usize; 4], place: usize) -> Option<usize> {
    let [n_i, oh_i, ow_i, c_i] = output;
    let ih_i = (oh_i * p.s + place / p.k).checked_sub(p.p).filter(|&i| i < p.ih)?;
    let iw_i = (ow_i * p.s + place % p.k).checked_sub(p.p).filter(|&i| i < p.iw)?;
    Some(((n_i * p.ih + ih_i) * p.iw + iw_i) * p.c + c_i)
}

fn check(p: &MaxPoolProblem, input_len: usize, output_len: usize, index_len: usize) {
    assert!(2 * p.p <= p.k, "{p:?}: padding is more than half the window");
    assert!(p.k <= 15, "{p:?}: the window has more than 15 rows");
    assert_eq!(input_len, p.input_len(), "{p:?}: input length");
    assert_eq!(output_len, p.output_len(), "{p:?}: output length");
    assert_eq!(index_len, p.output_len(), "{p:?}: index length");
}
