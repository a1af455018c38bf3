//! Plain loops, generic over `f32` and `f64`: the oracle and the documentation of every operation.
