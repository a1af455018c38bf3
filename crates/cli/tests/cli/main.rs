//! The real program, on real small data.

mod bench;
mod compare;
mod convert;
mod data;
mod deepen;
mod errors;
mod from;
mod help;
mod inspect;
mod interrupt;
mod lesion;
mod models;
mod pipes;
mod program;
mod prune;
mod quickstart;
mod study;
