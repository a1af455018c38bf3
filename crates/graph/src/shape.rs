use std::fmt;

/// Shape of one sample: `c` channels of `h` rows and `w` columns. A vector is `1×1` with `c`
/// features. In memory the order is `h, w, c` (NHWC).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Channels, or features of a vector.
    pub c: usize,
    /// Rows.
    pub h: usize,
    /// Columns.
    pub w: usize,
}

impl Shape {
    /// An image of `c` channels, `h` rows, `w` columns.
    pub const fn image(c: usize, h: usize, w: usize) -> Self {
        Self { c, h, w }
    }

    /// A vector of `len` features.
    pub const fn vector(len: usize) -> Self {
        Self { c: len, h: 1, w: 1 }
    }

    /// Number of elements of one sample.
    pub const fn len(&self) -> usize {
        self.c * self.h * self.w
    }

    /// Whether one sample has no element at all.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of positions, `h·w`.
    pub const fn num_pixels(&self) -> usize {
        self.h * self.w
    }
}

/// `16x32x32` (channels, rows, columns), or `10` for a vector.
impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.num_pixels() == 1 {
            write!(f, "{}", self.c)
        } else {
            write!(f, "{}x{}x{}", self.c, self.h, self.w)
        }
    }
}
