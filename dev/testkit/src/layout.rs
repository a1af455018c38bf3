/// From PyTorch's order of an image batch `[n, c, h, w]` to channels last, `[n, h, w, c]`.
pub fn nchw_to_nhwc<T: Copy>([n, c, h, w]: [usize; 4], nchw: &[T]) -> Vec<T> {
    transpose_inner(n, c, h * w, nchw)
}

/// From channels last to PyTorch's order; the shape is given in PyTorch's order.
pub fn nhwc_to_nchw<T: Copy>([n, c, h, w]: [usize; 4], nhwc: &[T]) -> Vec<T> {
    transpose_inner(n, h * w, c, nhwc)
}

/// `[n, rows, columns]` to `[n, columns, rows]`.
fn transpose_inner<T: Copy>(n: usize, rows: usize, columns: usize, from: &[T]) -> Vec<T> {
    assert_eq!(from.len(), n * rows * columns, "length of {n} matrices of {rows}×{columns}");
    let place = |i: usize| {
        let (n_i, column, row) = (i / (rows * columns), i / rows % columns, i % rows);
        (n_i * rows + row) * columns + column
    };
    (0..from.len()).map(|i| from[place(i)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_go_last_and_back() {
        // Sample, channel, row and column in decimal digits.
        let digits = |n: u32, c: u32, h: u32, w: u32| 1000 * n + 100 * c + 10 * h + w;
        let mut nchw = Vec::new();
        for n in 0..2 {
            for c in 0..3 {
                for h in 0..4 {
                    nchw.extend((0..5).map(|w| digits(n, c, h, w)));
                }
            }
        }
        let nhwc = nchw_to_nhwc([2, 3, 4, 5], &nchw);
        assert_eq!(nhwc[..4], [0, 100, 200, 1]);
        assert_eq!(nhwc[((4 + 3) * 5 + 2) * 3 + 1], digits(1, 1, 3, 2));
        assert_eq!(nhwc_to_nchw([2, 3, 4, 5], &nhwc), nchw);
    }
}
