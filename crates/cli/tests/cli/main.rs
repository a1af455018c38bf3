//! The real program, on real small data.

mod bench;
mod compare;
mod data;
mod deepen;
mod errors;
mod from;
mod help;
mod inspect;
mod interrupt;
mod models;
mod pipes;
mod program;
mod quickstart;
