//! Networks without some of their blocks.

mod lesion;
mod models;
mod pass_through;
mod prune;
#[path = "../untrained/mod.rs"]
mod untrained;
