use std::fmt;
use std::str::FromStr;

use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use crate::random::{Purpose, stream};
use crate::{DataError, OpenOptions};

/// The three sets of samples, always called so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Split {
    /// What the weights are fitted to.
    Train,
    /// What choices are made on (the validation set).
    Dev,
    /// What is measured once, at the end.
    Test,
}

impl Split {
    /// All three, in order.
    pub const ALL: [Self; 3] = [Self::Train, Self::Dev, Self::Test];

    pub(crate) fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Train => "train",
            Self::Dev => "dev",
            Self::Test => "test",
        })
    }
}

impl FromStr for Split {
    type Err = DataError;

    /// `train`, `dev` (also `val`, `valid`, `validation`) or `test`.
    fn from_str(name: &str) -> Result<Self, DataError> {
        match name {
            "train" => Ok(Self::Train),
            "dev" | "val" | "valid" | "validation" => Ok(Self::Dev),
            "test" => Ok(Self::Test),
            _ => Err(DataError::Option {
                option: "split",
                problem: format!("got `{name}`, expected train, dev or test"),
            }),
        }
    }
}

/// Which samples a source itself assigns to which split.
pub(crate) struct GivenSplits {
    /// Everything that training, and what is cut from it, may use.
    pub(crate) train: Vec<u32>,
    pub(crate) dev: Option<Vec<u32>>,
    pub(crate) test: Option<Vec<u32>>,
}

impl GivenSplits {
    /// A source that does not know of splits.
    pub(crate) fn one_pile(len: usize) -> Self {
        Self { train: (0..len as u32).collect(), dev: None, test: None }
    }
}

/// The splits as they will be used, with the reason why one is empty.
pub(crate) struct Splits {
    pub(crate) indices: [Vec<u32>; 3],
    pub(crate) empty_because: [String; 3],
}

impl Splits {
    /// The split of a sample; the lists are ascending.
    pub(crate) fn split_of(&self, index: u32) -> Split {
        let is_in = |split: &Split| self.indices[split.index()].binary_search(&index).is_ok();
        Split::ALL.into_iter().find(is_in).unwrap_or(Split::Train)
    }
}

const DEFAULT_FRACTION: f64 = 0.1;

/// Cuts what `given` lacks from its training samples: stratified by class, seeded, and a function
/// of the order of the samples only.
pub(crate) fn cut(
    given: GivenSplits,
    labels: &[u32],
    options: &OpenOptions,
) -> Result<Splits, DataError> {
    let [given_dev, given_test] = [given.dev.is_some(), given.test.is_some()];
    let one_pile = given.dev.is_none() && given.test.is_none();
    let val_fraction = fraction("val_fraction", options.val_fraction, given.dev.is_some(), "dev")?
        .unwrap_or(DEFAULT_FRACTION);
    let test_fraction =
        fraction("test_fraction", options.test_fraction, given.test.is_some(), "test")?
            .unwrap_or(if one_pile { DEFAULT_FRACTION } else { 0.0 });
    let val_fraction = if given.dev.is_some() { 0.0 } else { val_fraction };
    let test_fraction = if given.test.is_some() { 0.0 } else { test_fraction };
    if val_fraction + test_fraction >= 1.0 {
        return Err(DataError::Option {
            option: "val_fraction",
            problem: format!(
                "{val_fraction} for dev and {test_fraction} for test leave nothing to train on"
            ),
        });
    }

    let [train, test] = take(given.train, labels, test_fraction, options.seed, Purpose::TestSplit);
    let share = val_fraction / (1.0 - test_fraction);
    let [train, dev] = take(train, labels, share, options.seed, Purpose::DevSplit);
    let empty_because = |is_given: bool, option: &str, fraction: f64| {
        if is_given {
            "the source has none".to_owned()
        } else {
            format!("{option} {fraction} cuts none from the training samples")
        }
    };
    Ok(Splits {
        empty_because: [
            "no training samples".to_owned(),
            empty_because(given_dev, "val_fraction", val_fraction),
            empty_because(given_test, "test_fraction", test_fraction),
        ],
        indices: [train, given.dev.unwrap_or(dev), given.test.unwrap_or(test)],
    })
}

fn fraction(
    option: &'static str,
    value: Option<f64>,
    is_given: bool,
    split: &str,
) -> Result<Option<f64>, DataError> {
    let Some(value) = value else { return Ok(None) };
    if is_given {
        return Err(DataError::Option {
            option,
            problem: format!("got {value}, but the source brings its own {split} split"),
        });
    }
    if !(0.0..1.0).contains(&value) {
        return Err(DataError::Option {
            option,
            problem: format!("got {value}, expected at least 0 and less than 1"),
        });
    }
    Ok(Some(value))
}

/// `[rest, taken]`, both ascending; a class with samples keeps at least one in the rest.
fn take(
    samples: Vec<u32>,
    labels: &[u32],
    fraction: f64,
    seed: u64,
    purpose: Purpose,
) -> [Vec<u32>; 2] {
    if fraction == 0.0 {
        return [samples, Vec::new()];
    }
    let num_classes = samples.iter().map(|&i| labels[i as usize] + 1).max().unwrap_or(0);
    let mut by_class = vec![Vec::new(); num_classes as usize];
    for &i in &samples {
        by_class[labels[i as usize] as usize].push(i);
    }
    let (mut rest, mut taken) = (Vec::new(), Vec::new());
    // Rounding the running total keeps every class within one of its share and the sum exact.
    let mut total = 0;
    let mut wanted = 0;
    for (class, mut members) in by_class.into_iter().enumerate() {
        total += members.len();
        let wanted_now = (total as f64 * fraction).round() as usize;
        let count = (wanted_now - wanted).min(members.len().saturating_sub(1));
        wanted = wanted_now;
        members.shuffle(&mut stream(seed, purpose, 0, class as u64));
        taken.extend_from_slice(&members[..count]);
        rest.extend_from_slice(&members[count..]);
    }
    rest.sort_unstable();
    taken.sort_unstable();
    [rest, taken]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut_pile(labels: &[u32], val_fraction: f64, test_fraction: f64) -> [Vec<u32>; 3] {
        let options = OpenOptions {
            val_fraction: Some(val_fraction),
            test_fraction: Some(test_fraction),
            ..Default::default()
        };
        cut(GivenSplits::one_pile(labels.len()), labels, &options).unwrap().indices
    }

    #[test]
    fn classes_keep_their_shares_and_the_sum_is_exact() {
        // 7 classes of 11, 12, … samples.
        let labels: Vec<u32> = (0..7).flat_map(|c| vec![c; 11 + c as usize]).collect();
        let [train, dev, test] = cut_pile(&labels, 0.15, 0.1);
        assert_eq!(test.len(), 10);
        assert_eq!(dev.len(), 15);
        assert_eq!(train.len() + dev.len() + test.len(), labels.len());
        for class in 0..7 {
            let count = |split: &[u32]| {
                split.iter().filter(|&&i| labels[i as usize] == class).count() as f64
            };
            let len = f64::from(11 + class);
            assert!((count(&test) - 0.1 * len).abs() <= 1.0);
            assert!((count(&dev) - 0.15 * len).abs() <= 1.0);
        }
    }

    #[test]
    fn every_class_stays_in_train() {
        let labels = [0, 0, 1, 2, 2, 2];
        let [train, ..] = cut_pile(&labels, 0.5, 0.4);
        for class in 0..3 {
            assert!(train.iter().any(|&i| labels[i as usize] == class), "{train:?}");
        }
    }

    #[test]
    fn the_share_of_one_class_does_not_move_the_others() {
        let labels: Vec<u32> = (0..100).map(|i| i % 2).collect();
        let [_, dev, _] = cut_pile(&labels, 0.2, 0.0);
        assert_eq!(dev.iter().filter(|&&i| i % 2 == 0).count(), 10);
        assert!(dev.is_sorted());
    }
}
