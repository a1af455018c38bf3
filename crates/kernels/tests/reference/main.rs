//! The reference itself: its values against numbers worked out by hand and against other ways to
//! the same result, its gradients against central differences. All in `f64`.

mod gradients;
mod values;
