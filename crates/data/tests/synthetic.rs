//! The built-in sources.

use residua_data::{Dataset, OpenOptions, Split, open};

fn shapes(query: &str) -> Dataset {
    open(&format!("synthetic:shapes?{query}"), &OpenOptions::default()).unwrap()
}

fn pictures(dataset: &Dataset, split: Split) -> Vec<Vec<u8>> {
    (0..dataset.len(split)).map(|i| dataset.pixels(split, i).unwrap().data).collect()
}

#[test]
fn the_seed_decides_the_pictures_and_the_counts_do_not() {
    let dataset = shapes("train=120&dev=20&test=40&seed=1");
    assert_eq!(Split::ALL.map(|split| dataset.len(split)), [120, 20, 40]);
    assert_eq!(dataset.class_counts(Split::Test), [4; 10]);
    assert_eq!(dataset.fingerprint(), shapes("seed=1&test=40&dev=20&train=120").fingerprint());
    assert_ne!(dataset.fingerprint(), shapes("train=120&dev=20&test=40&seed=2").fingerprint());
    let more = shapes("train=200&dev=30&test=40&seed=1");
    assert_eq!(pictures(&more, Split::Test), pictures(&dataset, Split::Test));
    assert_eq!(pictures(&more, Split::Train)[..120], pictures(&dataset, Split::Train));
}

#[test]
fn no_picture_occurs_twice() {
    let dataset = shapes("train=2000&dev=500&test=500");
    let mut all: Vec<_> = Split::ALL.iter().flat_map(|&split| pictures(&dataset, split)).collect();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 3000);
}

/// Means of the pixels do not give a class away: the shape has to be seen.
#[test]
fn colours_do_not_tell_the_class() {
    let dataset = shapes("train=5000&dev=0&test=0");
    let mut sums = vec![[0.0; 3]; 10];
    for (i, pixels) in pictures(&dataset, Split::Train).iter().enumerate() {
        let sum = &mut sums[dataset.label(Split::Train, i) as usize];
        for pixel in pixels.chunks_exact(3) {
            sum.iter_mut().zip(pixel).for_each(|(sum, &byte)| *sum += f64::from(byte));
        }
    }
    for mean in sums.iter().flatten().map(|sum| sum / (500.0 * 1024.0 * 255.0)) {
        // Five standard errors of a mean over 500 colours that are uniform from 0 to 1.
        assert!((mean - 0.5).abs() < 5.0 * 0.289 / 500_f64.sqrt(), "{mean}");
    }
}

/// The nearest training picture is no help: at 1,000 pictures it is right about as often as chance.
#[test]
fn nearest_neighbours_do_not_solve_it() {
    let dataset = shapes("train=1000&dev=0&test=200");
    let (train, test) = (pictures(&dataset, Split::Train), pictures(&dataset, Split::Test));
    let distance = |a: &[u8], b: &[u8]| -> i64 {
        a.iter().zip(b).map(|(&a, &b)| (i64::from(a) - i64::from(b)).pow(2)).sum()
    };
    let right = test
        .iter()
        .enumerate()
        .filter(|(i, picture)| {
            let nearest = (0..train.len()).min_by_key(|&j| distance(&train[j], picture)).unwrap();
            dataset.label(Split::Train, nearest) == dataset.label(Split::Test, *i)
        })
        .count();
    assert!((10..60).contains(&right), "{right} of 200");
}

#[test]
fn spirals_have_arms() {
    let options = OpenOptions::default();
    let dataset = open("synthetic:spirals", &options).unwrap();
    assert_eq!(dataset.classes(), ["arm0", "arm1", "arm2"]);
    assert_eq!(Split::ALL.map(|split| dataset.len(split)), [3000, 600, 600]);
    let five = open("synthetic:spirals?arms=5&noise=0&turns=2&train=50", &options).unwrap();
    assert_eq!(five.classes().len(), 5);
}

#[test]
fn bad_options_are_named() {
    for (source, expected) in [
        ("synthetic:shapes?train=x", "got train=x, expected a number"),
        ("synthetic:shapes?train=-1", "got train=-1, expected a number"),
        ("synthetic:shapes?train=300001", "expected at most 300000"),
        ("synthetic:shapes?noise=1", "got noise=1, expected one of train, dev, test, seed"),
        ("synthetic:shapes?seed=1&seed=2", "got seed=2, expected one of"),
        ("synthetic:shapes?seed", "got `seed`, expected key=value"),
        ("synthetic:shapes?train=0", "the train split is empty"),
        ("synthetic:spirals?arms=1", "got arms=1, expected 2 to 100"),
        ("synthetic:spirals?noise=nan", "got noise=NaN, expected 0 to 100"),
    ] {
        let error = open(source, &OpenOptions::default()).unwrap_err().to_string();
        assert!(error.contains(expected), "{source}: {error}");
    }
}
