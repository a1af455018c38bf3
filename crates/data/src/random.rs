//! Every random choice comes from a ChaCha stream of its own, named by what it is for, so that no
//! choice depends on how many others were made before it or on which thread.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// What the numbers are for. The values are part of what a seed means: never renumber.
#[derive(Clone, Copy)]
pub(crate) enum Purpose {
    TestSplit = 1,
    DevSplit = 2,
    EpochOrder = 3,
    Augmentation = 4,
    Shapes = 5,
    Spirals = 6,
    AlternatingFlip = 7,
}

/// The generator for one thing: for example (seed, augmentation, epoch, position).
pub(crate) fn stream(seed: u64, purpose: Purpose, index: u64, stream: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&(purpose as u64).to_le_bytes());
    key[16..24].copy_from_slice(&index.to_le_bytes());
    let mut rng = ChaCha8Rng::from_seed(key);
    rng.set_stream(stream);
    rng
}
