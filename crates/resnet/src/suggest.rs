//! "Did you mean": the known name nearest to a mistyped one.

use crate::names::NAMES;

/// The nearest known name, if it is near.
pub(crate) fn name(wrong: &str) -> Option<String> {
    // Longer ones are no slips, and would take long to compare.
    let wrong: Vec<char> = wrong.trim().to_lowercase().replace('_', "-").chars().collect();
    if wrong.len() > 64 {
        return None;
    }
    NAMES
        .iter()
        .map(|known| (distance(&wrong, known.name), known.name))
        .filter(|&(distance, known)| distance <= (known.len() / 4).max(2))
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, known)| known.to_owned())
}

/// Levenshtein distance: insertions, deletions and replacements that make `a` into `b`.
fn distance(a: &[char], b: &str) -> usize {
    let mut row: Vec<usize> = (0..=a.len()).collect();
    for (i, cb) in b.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &ca) in a.iter().enumerate() {
            let replaced = diagonal + usize::from(ca != cb);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[a.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits() {
        let distance = |a: &str, b: &str| distance(&a.chars().collect::<Vec<_>>(), b);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", ""), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("resnet20", "resnet20"), 0);
        assert_eq!(distance("ab", "ba"), 2);
    }

    #[test]
    fn slips_find_their_name_and_strange_words_none() {
        for (slip, meant) in [
            ("ResNet20", "resnet20"),
            ("resnet-20", "resnet20"),
            ("resent50", "resnet50"),
            ("resnext50", "resnet50"),
            ("plain-56", "plain56"),
            ("preact_resnet164", "preact-resnet164"),
            ("wide-resnet-28-10", "wide-resnet28-10"),
            ("dense_plain", "dense-plain"),
        ] {
            assert_eq!(name(slip).as_deref(), Some(meant), "{slip}");
        }
        for strange in ["", "vgg16", "mobilenet", "é", &"x".repeat(1000)] {
            assert_eq!(name(strange), None, "{strange}");
        }
    }
}
