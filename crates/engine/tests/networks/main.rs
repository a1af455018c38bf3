//! Whole networks: the interpreter against PyTorch and finite differences, plans against both.

mod architectures;
mod batch_size;
mod bf16;
mod by_kernels;
mod case;
mod goldens;
mod gradients;
mod hand_built;
mod identity;
mod muon;
mod plan_matches_reference;
mod random_graphs;
mod rounding;
mod rounding_mutants;
mod update;
