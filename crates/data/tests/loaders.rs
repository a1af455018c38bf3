//! Batches: the same bits whatever the number of workers, from any step.

use std::collections::HashSet;
use std::fs;
use std::sync::Arc;

use image::{Rgb, RgbImage};
use residua_data::{
    Augment, Batch, DataError, Dataset, EvalLoader, Flip, LoaderOptions, OpenOptions, PaddingMode,
    Preprocessing, Resize, Split, TrainLoader, open,
};
use tempfile::TempDir;

fn shapes() -> Arc<Dataset> {
    let source = "synthetic:shapes?train=130&dev=25&test=10&seed=3";
    Arc::new(open(source, &OpenOptions::default()).unwrap())
}

/// Pictures of many sizes, all different.
fn photographs(root: &TempDir) -> Arc<Dataset> {
    for (class, first) in [("a", 0), ("b", 100)] {
        let folder = root.path().join(class);
        fs::create_dir(&folder).unwrap();
        for i in 0..16_u32 {
            let image = RgbImage::from_fn(40 + i * 3, 70 - i, |x, y| {
                Rgb([(first + i) as u8, (x * 3) as u8, (y * 3) as u8])
            });
            image.save(folder.join(format!("{i:02}.png"))).unwrap();
        }
    }
    let options = OpenOptions {
        image_size: Some(24),
        val_fraction: Some(0.25),
        test_fraction: Some(0.0),
        ..Default::default()
    };
    Arc::new(open(root.path().to_str().unwrap(), &options).unwrap())
}

fn options(dataset: &Dataset, batch_size: usize, workers: usize) -> LoaderOptions {
    LoaderOptions {
        batch_size,
        seed: 7,
        augment: dataset.default_augment(),
        image_size: None,
        workers,
    }
}

fn batches(dataset: &Arc<Dataset>, options: &LoaderOptions, first: u64, count: u64) -> Vec<Batch> {
    let mut loader = TrainLoader::new(dataset, options, first).unwrap();
    (0..count).map(|_| loader.next().unwrap()).collect()
}

#[test]
fn batches_do_not_depend_on_the_number_of_workers_or_the_first_step() {
    let root = TempDir::new().unwrap();
    for (dataset, batch_size) in [(shapes(), 20), (photographs(&root), 5)] {
        let reference = batches(&dataset, &options(&dataset, batch_size, 1), 0, 15);
        for (step, batch) in reference.iter().enumerate() {
            assert_eq!(batch.step, step as u64);
            assert_eq!(batch.len(), batch_size);
            assert_eq!(batch.input.len(), batch_size * dataset.preprocessing().input_len());
        }
        for workers in [2, 5] {
            let got = batches(&dataset, &options(&dataset, batch_size, workers), 0, 15);
            assert!(got == reference, "{workers} workers, {:?}", dataset.kind());
        }
        // From the middle of the first epoch, and from the last step of it.
        for first in [4, 5, 11] {
            let count = 15 - first;
            let got = batches(&dataset, &options(&dataset, batch_size, 2), first, count);
            assert!(got == reference[first as usize..], "from {first}, {:?}", dataset.kind());
        }
        let other = LoaderOptions { seed: 8, ..options(&dataset, batch_size, 2) };
        assert!(batches(&dataset, &other, 0, 1)[0] != reference[0]);
    }
}

#[test]
fn recycled_memory_does_not_change_a_batch() {
    let dataset = shapes();
    let options = options(&dataset, 20, 2);
    let reference = batches(&dataset, &options, 0, 12);
    let mut loader = TrainLoader::new(&dataset, &options, 0).unwrap();
    for expected in &reference {
        let mut batch = loader.next().unwrap();
        assert!(batch == *expected, "step {}", expected.step);
        batch.input.fill(f32::NAN);
        batch.labels.fill(u32::MAX);
        loader.recycle(batch);
    }
    assert!(loader.wait_seconds() >= 0.0);
}

#[test]
fn an_epoch_is_a_permutation_and_differs_from_the_next() {
    let dataset = shapes();
    let options = LoaderOptions { augment: Augment::None, ..options(&dataset, 10, 2) };
    let mut loader = TrainLoader::new(&dataset, &options, 0).unwrap();
    assert_eq!(options.steps_per_epoch(&dataset), 13);
    let len = dataset.preprocessing().input_len();
    let mut orders = Vec::new();
    for _ in 0..2 {
        let mut order = Vec::new();
        for _ in 0..13 {
            let batch = loader.next().unwrap();
            let bits = |sample: &[f32]| sample.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            order.extend(batch.input.chunks_exact(len).map(bits));
        }
        assert_eq!(order.iter().collect::<HashSet<_>>().len(), 130);
        orders.push(order);
    }
    assert_ne!(orders[0], orders[1]);
    orders.iter_mut().for_each(|order| order.sort());
    assert_eq!(orders[0], orders[1]);
}

/// Every augmented sample is one of the shifts and mirror images of its picture.
#[test]
fn pad_crop_flip_shifts_and_mirrors() {
    shifts_and_mirrors(PaddingMode::Constant);
}

#[test]
fn what_a_shift_uncovers_can_be_reflected() {
    shifts_and_mirrors(PaddingMode::Reflect);
}

fn shifts_and_mirrors(padding_mode: PaddingMode) {
    let dataset = shapes();
    let p = dataset.preprocessing();
    let (height, width, padding) = (32_isize, 32_isize, 4);
    let value = |pixels: &[u8], y: isize, x: isize, c: usize| {
        let inside = (0..height).contains(&y) && (0..width).contains(&x);
        let reflect = |i: isize, last: isize| last - (last - i.abs()).abs();
        let byte = |y, x| pixels[((y * width + x) * 3) as usize + c];
        let byte = match padding_mode {
            PaddingMode::Constant if !inside => 0,
            PaddingMode::Constant => byte(y, x),
            PaddingMode::Reflect => byte(reflect(y, height - 1), reflect(x, width - 1)),
        };
        (f32::from(byte) / 255.0 - p.mean[c]) / p.std[c]
    };
    let variant = |pixels: &[u8], dy: isize, dx: isize, flip: bool| -> Vec<u32> {
        let mut out = Vec::with_capacity(3072);
        for y in 0..height {
            for x in 0..width {
                let sx = if flip { width - 1 - x } else { x } + dx;
                out.extend((0..3).map(|c| value(pixels, y + dy, sx, c).to_bits()));
            }
        }
        out
    };
    let pictures: Vec<_> =
        (0..6).map(|i| dataset.pixels(Split::Train, i * 20).unwrap().data).collect();
    let mut variants = std::collections::HashMap::new();
    for (i, pixels) in pictures.iter().enumerate() {
        for dy in -padding..=padding {
            for dx in -padding..=padding {
                for flip in [false, true] {
                    variants.insert(variant(pixels, dy, dx, flip), (i, dy, dx, flip));
                }
            }
        }
    }
    let mut seen = HashSet::new();
    let augment = Augment::PadCrop { padding: 4, padding_mode, flip: Flip::Random };
    let options = LoaderOptions { augment, ..options(&dataset, 130, 2) };
    let mut loader = TrainLoader::new(&dataset, &options, 0).unwrap();
    for _ in 0..20 {
        let batch = loader.next().unwrap();
        let samples = batch.input.chunks_exact(3072);
        seen.extend(samples.filter_map(|sample| {
            let bits: Vec<_> = sample.iter().map(|x| x.to_bits()).collect();
            variants.get(&bits).copied()
        }));
        loader.recycle(batch);
    }
    // Six of 130 pictures in each of 20 epochs: 120, of which some coincide.
    assert!(seen.len() > 90, "{}", seen.len());
    for (what, is_so) in [
        ("a mirror image", seen.iter().any(|s| s.3)),
        ("no mirror image", seen.iter().any(|s| !s.3)),
        ("the largest shift up", seen.iter().any(|s| s.1 == -padding)),
        ("the largest shift right", seen.iter().any(|s| s.2 == padding)),
    ] {
        assert!(is_so, "{what}");
    }
}

#[test]
fn random_resized_crop_takes_many_parts() {
    let root = TempDir::new().unwrap();
    let dataset = photographs(&root);
    assert_eq!(dataset.default_augment(), Augment::RANDOM_RESIZED_CROP_FLIP);
    let p = dataset.preprocessing();
    let mut loader = TrainLoader::new(&dataset, &options(&dataset, 24, 2), 0).unwrap();
    let mut widths = Vec::new();
    let mut mirrored = 0;
    for _ in 0..10 {
        let batch = loader.next().unwrap();
        for sample in batch.input.chunks_exact(p.input_len()) {
            // Green grows by 3 with every column of the file: the ends of a row give its part.
            let green = |x: usize| (sample[x * 3 + 1] * p.std[1] + p.mean[1]) * 255.0 / 3.0;
            widths.push((green(23) - green(0)).abs());
            mirrored += usize::from(green(0) > green(23));
        }
    }
    let [least, most] = [f32::min, f32::max].map(|f| widths.iter().copied().reduce(f).unwrap());
    assert!(least < 20.0 && most > 45.0, "{least} to {most}");
    assert!((80..160).contains(&mirrored), "{mirrored} of 240");
}

#[test]
fn evaluation_goes_through_a_split_in_order() {
    let dataset = shapes();
    for workers in [1, 2, 5] {
        let mut loader = EvalLoader::new(&dataset, Split::Dev, 10, workers, None).unwrap();
        assert_eq!(loader.num_samples(), 25);
        let mut lens = Vec::new();
        let mut at = 0;
        while let Some(batch) = loader.next().unwrap() {
            lens.push(batch.len());
            for (sample, &label) in batch.input.chunks_exact(3072).zip(&batch.labels) {
                let pixels = dataset.pixels(Split::Dev, at).unwrap();
                assert_eq!(dataset.preprocessing().picture(&pixels).unwrap(), sample);
                assert_eq!(label, dataset.label(Split::Dev, at));
                at += 1;
            }
            loader.recycle(batch);
        }
        assert_eq!(lens, [10, 10, 5]);
        assert!(loader.next().unwrap().is_none());
    }
    let none = Arc::new(open("synthetic:shapes?train=20&test=0", &OpenOptions::default()).unwrap());
    let error = EvalLoader::new(&none, Split::Test, 10, 1, None).err().unwrap().to_string();
    assert!(error.ends_with("the test split is empty (the source has none)"), "{error}");
}

#[test]
fn a_model_brings_its_own_preprocessing() {
    let dataset = shapes();
    let model = Preprocessing {
        channels: 1,
        height: 28,
        width: 20,
        resize: Resize::Exact,
        mean: vec![0.1],
        std: vec![0.3],
    };
    let mut loader = EvalLoader::new(&dataset, Split::Test, 4, 2, Some(&model)).unwrap();
    let batch = loader.next().unwrap().unwrap();
    assert_eq!(batch.input.len(), 4 * 28 * 20);
    let pixels = dataset.pixels(Split::Test, 0).unwrap();
    assert_eq!(batch.input[..560], model.picture(&pixels).unwrap());

    let vectors = Preprocessing { resize: Resize::None, height: 1, width: 1, ..model.clone() };
    let error = EvalLoader::new(&dataset, Split::Test, 4, 2, Some(&vectors)).err().unwrap();
    assert!(error.to_string().contains("holds pictures, expected vectors"), "{error}");
    let spirals = Arc::new(open("synthetic:spirals", &OpenOptions::default()).unwrap());
    for preprocessing in [&model, &vectors] {
        assert!(EvalLoader::new(&spirals, Split::Test, 4, 2, Some(preprocessing)).is_err());
    }
}

#[test]
fn pictures_of_another_size_are_those_of_its_preprocessing() {
    let root = TempDir::new().unwrap();
    for (dataset, side) in [(shapes(), 24), (photographs(&root), 16)] {
        let mut preprocessing =
            Preprocessing { height: side, width: side, ..dataset.preprocessing().clone() };
        if let Resize::ShortSide(length) = &mut preprocessing.resize {
            *length = (*length * side).div_ceil(24);
        }
        let all: Vec<Vec<f32>> = (0..dataset.len(Split::Train))
            .map(|i| preprocessing.picture(&dataset.pixels(Split::Train, i).unwrap()).unwrap())
            .collect();
        let augment = Augment::None;
        let sized = LoaderOptions { augment, image_size: Some(side), ..options(&dataset, 5, 2) };
        for batch in batches(&dataset, &sized, 0, 3) {
            assert_eq!(batch.input.len(), 5 * side * side * 3);
            for input in batch.input.chunks_exact(side * side * 3) {
                assert_eq!(all.iter().filter(|&one| one == input).count(), 1);
            }
        }
        // The order is that of the dataset's own size.
        let own = LoaderOptions { image_size: None, ..sized.clone() };
        let labels = |options| batches(&dataset, options, 2, 1).remove(0).labels;
        assert_eq!(labels(&own), labels(&sized));
    }
}

#[test]
fn vectors_are_normalised_by_feature() {
    let dataset = Arc::new(open("synthetic:spirals?train=600", &OpenOptions::default()).unwrap());
    let options = LoaderOptions { augment: Augment::None, ..options(&dataset, 600, 2) };
    let batch = batches(&dataset, &options, 0, 1).remove(0);
    for feature in 0..2 {
        let values: Vec<_> = batch.input.iter().skip(feature).step_by(2).collect();
        let mean = values.iter().copied().sum::<f32>() / 600.0;
        let variance = values.iter().map(|&&x| (x - mean).powi(2)).sum::<f32>() / 600.0;
        assert!(mean.abs() < 1e-5 && (variance - 1.0).abs() < 1e-4, "{mean} {variance}");
    }
}

#[test]
fn options_that_do_not_fit_are_refused() {
    let dataset = shapes();
    let refuse = |dataset: &Arc<Dataset>, options: LoaderOptions| {
        TrainLoader::new(dataset, &options, 0).err().unwrap().to_string()
    };
    let good = options(&dataset, 10, 1);
    for batch_size in [0, 131] {
        let error = refuse(&dataset, LoaderOptions { batch_size, ..good.clone() });
        assert!(error.contains(&format!("got {batch_size}, expected 1 to 130")), "{error}");
    }
    let augment =
        Augment::PadCrop { padding: 32, padding_mode: PaddingMode::Reflect, flip: Flip::Never };
    assert!(refuse(&dataset, LoaderOptions { augment, ..good.clone() }).contains("padding 32"));
    let spirals = Arc::new(open("synthetic:spirals", &OpenOptions::default()).unwrap());
    assert!(refuse(&spirals, good.clone()).contains("vectors can only take none"));
    let sized = LoaderOptions { augment: Augment::None, image_size: Some(8), ..good.clone() };
    assert!(refuse(&spirals, sized).contains("got a size, but vectors have none"));
    let nothing = refuse(&dataset, LoaderOptions { image_size: Some(0), ..good });
    assert!(nothing.contains("height"), "{nothing}");
}

#[test]
fn a_file_that_disappears_is_an_error_that_names_it() {
    let root = TempDir::new().unwrap();
    let dataset = photographs(&root);
    let victim = dataset.path(Split::Train, 5).unwrap();
    fs::remove_file(victim).unwrap();
    let mut loader = TrainLoader::new(&dataset, &options(&dataset, 4, 2), 0).unwrap();
    let error = loop {
        match loader.next() {
            Ok(batch) => assert!(batch.step < 6, "the whole epoch went by"),
            Err(error) => break error.to_string(),
        }
    };
    assert!(error.contains(victim.to_str().unwrap()), "{error}");
    assert!(matches!(loader.next(), Err(DataError::Worker(_))));
}

#[test]
fn dropping_a_loader_ends_its_threads() {
    let dataset = shapes();
    for step in 0..50 {
        let mut loader = TrainLoader::new(&dataset, &options(&dataset, 50, 2), step).unwrap();
        if step % 2 == 0 {
            loader.next().unwrap();
        }
    }
    // The jobs of all loaders held a reference.
    assert_eq!(Arc::strong_count(&dataset), 1);
}
