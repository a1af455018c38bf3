use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::Split;
use crate::dataset::Samples;
use crate::split::Splits;

/// Samples are hashed in blocks, so that threads can share the work; the size is part of the
/// definition of a fingerprint.
const BLOCK: usize = 1024;

/// See [`Dataset::fingerprint`](crate::Dataset::fingerprint).
pub(crate) fn fingerprint(
    classes: &[String],
    samples: &Samples,
    labels: &[u32],
    splits: &Splits,
) -> String {
    let mut hash = Sha256::new();
    hash.update(b"residua data 1\0");
    for class in classes {
        hash.update((class.len() as u64).to_le_bytes());
        hash.update(class);
    }
    match samples {
        Samples::Pixels { shape, .. } => {
            hash.update(b"pixels");
            for size in [shape.channels, shape.height, shape.width] {
                hash.update((size as u64).to_le_bytes());
            }
        }
        Samples::Vectors { width, .. } => {
            hash.update(b"vectors");
            hash.update((*width as u64).to_le_bytes());
        }
        Samples::Files { .. } => hash.update(b"files"),
    }
    for split in Split::ALL {
        let indices = &splits.indices[split.index()];
        hash.update((indices.len() as u64).to_le_bytes());
        let blocks: Vec<_> = indices
            .par_chunks(BLOCK)
            .map(|block| {
                let mut hash = Sha256::new();
                for &i in block {
                    hash.update(labels[i as usize].to_le_bytes());
                    update_sample(&mut hash, samples, i as usize);
                }
                hash.finalize()
            })
            .collect();
        for block in blocks {
            hash.update(block);
        }
    }
    hex(&hash.finalize())
}

/// Feeds the content of sample `i`.
pub(crate) fn update_sample(hash: &mut Sha256, samples: &Samples, i: usize) {
    match samples {
        Samples::Pixels { shape, data } => hash.update(&data[i * shape.len()..][..shape.len()]),
        Samples::Vectors { width, data } => {
            for value in &data[i * width..][..*width] {
                hash.update(value.to_le_bytes());
            }
        }
        Samples::Files { digests, .. } => hash.update(digests[i]),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
