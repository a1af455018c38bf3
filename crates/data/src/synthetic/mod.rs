//! Built-in sources, drawn from a seed: something to train on where there is no data.

mod outline;
mod shapes;
mod spirals;

use std::str::FromStr;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::dataset::{Found, Samples};
use crate::split::GivenSplits;
use crate::{Augment, DataError, Split};

/// Total samples of a built-in source: about 1 GB of pictures.
const MAX_SAMPLES: usize = 300_000;

/// Generates `shapes` or `spirals`, with options as in `shapes?train=20000&seed=1`.
pub(crate) fn generate(name: &str) -> Result<Found, DataError> {
    let (which, query) = name.split_once('?').unwrap_or((name, ""));
    let mut query = Query::parse(name, query)?;
    match which {
        "shapes" => {
            let counts = query.counts([20_000, 2_000, 4_000])?;
            let seed = query.take("seed", 0)?;
            let difficulty: f32 = query.take("difficulty", 1.0)?;
            query.expect_empty("train, dev, test, seed, difficulty")?;
            if !(0.0..=1.0).contains(&difficulty) {
                return Err(query.refuse("difficulty", &difficulty.to_string(), "0 to 1"));
            }
            let (shape, data, labels) = shapes::draw(&counts, seed, difficulty);
            let samples = Samples::Pixels { shape, data };
            Ok(found(name, shapes::CLASSES, samples, labels, counts, Augment::PAD_CROP_FLIP))
        }
        "spirals" => {
            let counts = query.counts([3_000, 600, 600])?;
            let seed = query.take("seed", 0)?;
            let arms: usize = query.take("arms", 3)?;
            let turns: f64 = query.take("turns", 1.25)?;
            let noise: f64 = query.take("noise", 0.03)?;
            query.expect_empty("train, dev, test, seed, arms, turns, noise")?;
            if !(2..=100).contains(&arms) {
                return Err(query.refuse("arms", &arms.to_string(), "2 to 100"));
            }
            for (key, value) in [("turns", turns), ("noise", noise)] {
                if !(0.0..=100.0).contains(&value) {
                    return Err(query.refuse(key, &value.to_string(), "0 to 100"));
                }
            }
            let (data, labels) = spirals::points(&counts, seed, arms, turns, noise);
            let classes: Vec<_> = (0..arms).map(|arm| format!("arm{arm}")).collect();
            let samples = Samples::Vectors { width: 2, data };
            Ok(found(name, classes, samples, labels, counts, Augment::None))
        }
        _ => Err(DataError::NotFound { path: format!("synthetic:{name}") }),
    }
}

fn found<S: Into<String>>(
    name: &str,
    classes: impl IntoIterator<Item = S>,
    samples: Samples,
    labels: Vec<u32>,
    [train, dev, test]: [usize; 3],
    augment: Augment,
) -> Found {
    let range = |first: usize, len: usize| (first as u32..(first + len) as u32).collect();
    Found {
        name: format!("synthetic:{name}"),
        classes: classes.into_iter().map(Into::into).collect(),
        samples,
        labels,
        given: GivenSplits {
            train: range(0, train),
            dev: Some(range(train, dev)),
            test: Some(range(train + dev, test)),
        },
        augment,
    }
}

/// The split and the number within it of each sample: a split's samples do not depend on how many
/// the other splits have.
fn positions(counts: &[usize; 3]) -> impl Iterator<Item = (Split, usize)> {
    let counts = *counts;
    Split::ALL.into_iter().zip(counts).flat_map(|(split, len)| (0..len).map(move |i| (split, i)))
}

/// About normal, with mean 0 and standard deviation 1: the centred sum of four bytes.
fn noise(rng: &mut ChaCha8Rng) -> f32 {
    /// Four times the variance of a uniform byte is (256² - 1) / 3.
    const STD: f32 = 147.8;
    let sum: u32 = rng.random::<[u8; 4]>().into_iter().map(u32::from).sum();
    (sum as f32 - 510.0) / STD
}

/// The options behind `?`.
struct Query<'a> {
    name: &'a str,
    pairs: Vec<(&'a str, &'a str)>,
}

impl<'a> Query<'a> {
    fn parse(name: &'a str, query: &'a str) -> Result<Self, DataError> {
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs
            .map(|pair| pair.split_once('=').ok_or(pair))
            .collect::<Result<_, _>>()
            .map_err(|pair| {
                let problem = format!("got `{pair}`, expected key=value");
                DataError::invalid(format!("synthetic:{name}"), problem)
            })?;
        Ok(Self { name, pairs })
    }

    fn take<T: FromStr>(&mut self, key: &str, default: T) -> Result<T, DataError> {
        let Some(at) = self.pairs.iter().position(|(k, _)| *k == key) else { return Ok(default) };
        let (_, value) = self.pairs.remove(at);
        value.parse().map_err(|_| self.refuse(key, value, "a number"))
    }

    fn counts(&mut self, [train, dev, test]: [usize; 3]) -> Result<[usize; 3], DataError> {
        let counts = [self.take("train", train)?, self.take("dev", dev)?, self.take("test", test)?];
        for (split, count) in Split::ALL.into_iter().zip(counts) {
            if count > MAX_SAMPLES {
                let expected = format!("at most {MAX_SAMPLES}");
                return Err(self.refuse(&split.to_string(), &count.to_string(), &expected));
            }
        }
        Ok(counts)
    }

    fn expect_empty(&self, known: &str) -> Result<(), DataError> {
        match self.pairs.first() {
            None => Ok(()),
            Some((key, value)) => Err(self.refuse(key, value, &format!("one of {known}, once"))),
        }
    }

    fn refuse(&self, key: &str, value: &str, expected: &str) -> DataError {
        let problem = format!("got {key}={value}, expected {expected}");
        DataError::invalid(format!("synthetic:{}", self.name), problem)
    }
}
