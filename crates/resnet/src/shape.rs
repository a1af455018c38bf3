//! The input's shape in the data form: `[channels, rows, columns]`, or `[features]` of a vector.

use residua_graph::Shape;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// `[c, h, w]`, or `[c]` of a vector.
pub(crate) fn dims(shape: Shape) -> Vec<usize> {
    match shape.num_pixels() {
        1 => vec![shape.c],
        _ => vec![shape.c, shape.h, shape.w],
    }
}

pub(crate) fn serialize<S: Serializer>(shape: &Shape, serializer: S) -> Result<S::Ok, S::Error> {
    dims(*shape).serialize(serializer)
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Shape, D::Error> {
    let dims = Vec::<usize>::deserialize(deserializer)?;
    match dims[..] {
        [len] => Ok(Shape::vector(len)),
        [c, h, w] => Ok(Shape::image(c, h, w)),
        _ => Err(D::Error::invalid_length(
            dims.len(),
            &"[channels, rows, columns], or [features] of a vector",
        )),
    }
}
