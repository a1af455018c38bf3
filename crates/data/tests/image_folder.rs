//! Folders of images: listing, splitting, checking, exporting.

mod crafted;

use std::fs;
use std::path::Path;
use std::sync::Mutex;

use crafted::{FlatJpeg, with_orientation};
use image::{Rgb, RgbImage};
use residua_data::{
    DataError, Dataset, Issue, Kind, OpenOptions, Progress, Report, Split, check,
    export_image_folder, open, open_with_progress,
};
use tempfile::TempDir;

/// A picture that differs from those of other numbers.
fn picture(width: u32, height: u32, number: u8) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| Rgb([number, (x * 5) as u8, (y * 5) as u8]))
}

fn save(root: &Path, name: &str, image: &RgbImage) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    image.save(path).unwrap();
}

fn source(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn open_path(path: &Path) -> Result<Dataset, DataError> {
    open(source(path), &OpenOptions { image_size: Some(16), ..Default::default() })
}

fn refusal(path: &Path) -> String {
    open_path(path).unwrap_err().to_string()
}

/// Two classes with pictures of two sizes, too different to be kept in memory.
fn fill(root: &Path, per_class: u8) {
    for (class, offset) in [("a", 0), ("b", 100)] {
        for i in 0..per_class {
            let width = if i % 2 == 0 { 24 } else { 40 };
            save(root, &format!("{class}/{i:03}.png"), &picture(width, 30, offset + i));
        }
    }
}

#[test]
fn split_folders_under_all_their_names() {
    for dev_name in ["val", "valid", "validation", "dev"] {
        let root = TempDir::new().unwrap();
        fill(&root.path().join("train"), 6);
        fill(&root.path().join(dev_name), 3);
        let dataset = open_path(root.path()).unwrap();
        assert_eq!(dataset.kind(), Kind::ImageFolder);
        assert_eq!(dataset.classes(), ["a", "b"]);
        assert_eq!(dataset.sample_shape(), [3, 16, 16]);
        assert_eq!(Split::ALL.map(|split| dataset.len(split)), [12, 6, 0]);
        assert_eq!(dataset.class_counts(Split::Dev), [3, 3]);
        let error = dataset.expect_samples(Split::Test).unwrap_err().to_string();
        assert!(error.contains("the test split is empty"), "{error}");
        let dev_path = dataset.path(Split::Dev, 0).unwrap();
        assert!(dev_path.ends_with(format!("{dev_name}/a/000.png")), "{dev_path:?}");
    }
    let root = TempDir::new().unwrap();
    fill(&root.path().join("train"), 10);
    fill(&root.path().join("test"), 4);
    let dataset = open_path(root.path()).unwrap();
    assert_eq!(Split::ALL.map(|split| dataset.len(split)), [18, 2, 8]);
}

fn files(dataset: &Dataset, split: Split) -> Vec<String> {
    let name = |i| {
        let path = dataset.path(split, i).unwrap();
        let class = path.parent().unwrap().file_name().unwrap().to_str().unwrap();
        format!("{class}/{}", path.file_name().unwrap().to_str().unwrap())
    };
    (0..dataset.len(split)).map(name).collect()
}

#[test]
fn class_folders_alone_are_split_reproducibly() {
    let [one, other] = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    fill(one.path(), 30);
    // The same files, made in another order.
    for class in ["b", "a"] {
        let from = one.path().join(class);
        let to = other.path().join(class);
        fs::create_dir(&to).unwrap();
        let mut names: Vec<_> =
            fs::read_dir(&from).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort_by_key(|name| std::cmp::Reverse(name.clone()));
        for name in names {
            fs::copy(from.join(&name), to.join(&name)).unwrap();
        }
    }
    let options = |seed| OpenOptions {
        val_fraction: Some(0.2),
        test_fraction: Some(0.1),
        seed,
        image_size: Some(16),
        ..Default::default()
    };
    let dataset = open(source(one.path()), &options(3)).unwrap();
    assert_eq!(Split::ALL.map(|split| dataset.len(split)), [42, 12, 6]);
    assert_eq!(dataset.class_counts(Split::Dev), [6, 6]);
    assert_eq!(dataset.class_counts(Split::Test), [3, 3]);
    let mut all: Vec<_> = Split::ALL.iter().flat_map(|&split| files(&dataset, split)).collect();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 60);

    let same = open(source(other.path()), &options(3)).unwrap();
    assert_eq!(files(&same, Split::Dev), files(&dataset, Split::Dev));
    assert_eq!(same.fingerprint(), dataset.fingerprint());
    let different = open(source(one.path()), &options(4)).unwrap();
    assert_ne!(files(&different, Split::Dev), files(&dataset, Split::Dev));
    assert_ne!(different.fingerprint(), dataset.fingerprint());

    // A bad file that is left out moves no other file to another split.
    let victim = dataset.path(Split::Train, 0).unwrap();
    fs::write(victim, b"").unwrap();
    let without = open(source(one.path()), &OpenOptions { skip_bad: true, ..options(3) }).unwrap();
    assert_eq!(files(&without, Split::Dev), files(&dataset, Split::Dev));
    assert_eq!(files(&without, Split::Train), files(&dataset, Split::Train)[1..]);
}

/// What a folder of photographs may come with.
fn with_bad_files(root: &Path) {
    fill(&root.join("train"), 8);
    fill(&root.join("val"), 4);
    let photo = root.join("train/a/photo.jpg");
    picture(60, 50, 9).save(&photo).unwrap();
    let bytes = fs::read(&photo).unwrap();
    // The header is whole: only decoding the picture finds this out.
    fs::write(root.join("train/a/cut.jpg"), &bytes[..bytes.len() - 100]).unwrap();
    fs::write(root.join("train/b/empty.png"), b"").unwrap();
    fs::write(root.join("val/b/text.gif"), b"not a picture").unwrap();
}

#[test]
fn bad_images_are_listed_all_at_once_or_skipped() {
    let root = TempDir::new().unwrap();
    with_bad_files(root.path());
    let seen = Mutex::new(Vec::new());
    let on_progress = |Progress { done, total }| seen.lock().unwrap().push((done, total));
    let options = OpenOptions { image_size: Some(16), ..Default::default() };
    let error = open_with_progress(source(root.path()), &options, &on_progress).unwrap_err();
    let message = error.to_string();
    assert!(message.starts_with("3 of 28 images can't be used:"), "{message}");
    assert!(error.hint().unwrap().contains("--skip-bad"));
    let DataError::BadImages { bad, checked: 28 } = error else { panic!("{error:?}") };
    let found: Vec<_> = bad
        .iter()
        .map(|b| (b.path.file_name().unwrap().to_str().unwrap(), b.split, b.issue))
        .collect();
    let expected = [
        ("cut.jpg", Split::Train, Issue::Truncated),
        ("empty.png", Split::Train, Issue::ZeroSized),
        ("text.gif", Split::Dev, Issue::Unreadable),
    ];
    assert_eq!(found, expected);
    let mut seen = seen.into_inner().unwrap();
    seen.sort();
    assert_eq!(seen, (1..=28).map(|done| (done, 28)).collect::<Vec<_>>());

    let skipping = OpenOptions { skip_bad: true, ..options };
    let dataset = open(source(root.path()), &skipping).unwrap();
    assert_eq!(Split::ALL.map(|split| dataset.len(split)), [17, 8, 0]);
    assert_eq!(dataset.skipped(), bad);
}

#[test]
fn folders_that_make_no_sense_are_refused() {
    let root = TempDir::new().unwrap();
    let path = root.path();
    assert!(refusal(path).contains("holds no class folders"));
    save(path, "loose.png", &picture(8, 8, 0));
    assert!(refusal(path).contains("holds images, expected class folders"));
    fs::create_dir_all(path.join("train/empty")).unwrap();
    assert!(refusal(path).contains("the class folder has no images"));
    fs::remove_dir(path.join("train/empty")).unwrap();
    save(path, "train/a/0.png", &picture(8, 8, 0));
    assert!(refusal(path).contains("found 1 class, expected at least 2"));
    save(path, "train/b/0.png", &picture(9, 8, 1));
    save(path, "val/c/0.png", &picture(8, 8, 2));
    assert!(refusal(path).contains("class `c` does not occur in train"));
    fs::rename(path.join("val/c"), path.join("val/b")).unwrap();
    assert_eq!(open_path(path).unwrap().len(Split::Dev), 1);
    save(path, "dev/a/0.png", &picture(8, 8, 3));
    assert!(refusal(path).contains("could both be the dev split"));
    fs::remove_dir_all(path.join("train")).unwrap();
    assert!(refusal(path).contains("but no train"));
}

#[test]
fn folders_that_are_called_like_splits_are_not_taken_for_anything_else() {
    for names in
        [&["Train", "Test"][..], &["training", "testing"], &["TRAIN", "Validation", "Extra"]]
    {
        let root = TempDir::new().unwrap();
        names.iter().for_each(|name| fill(&root.path().join(name), 2));
        let error = refusal(root.path());
        assert!(error.contains("expected the splits as train, val and test"), "{error}");
        assert!(names.iter().all(|name| error.contains(name)), "{error}");
    }
    for name in ["Val", "testing", "TEST", "training"] {
        let root = TempDir::new().unwrap();
        fill(&root.path().join("train"), 2);
        fill(&root.path().join(name), 2);
        let error = refusal(root.path());
        let expected = format!("holds {name} beside train, expected the splits as train, val");
        assert!(error.contains(&expected), "{error}");
    }
    // One class may be called so.
    let root = TempDir::new().unwrap();
    fill(root.path(), 8);
    fs::rename(root.path().join("a"), root.path().join("Train")).unwrap();
    assert_eq!(open_path(root.path()).unwrap().classes(), ["Train", "b"]);
}

#[cfg(unix)]
#[test]
fn folders_that_are_not_looked_into_are_counted() {
    let root = TempDir::new().unwrap();
    let train = root.path().join("train");
    fill(&train, 12);
    fs::create_dir(root.path().join("annotations")).unwrap();
    fs::create_dir(root.path().join(".hidden")).unwrap();
    std::os::unix::fs::symlink(train.join("a"), train.join("b/round")).unwrap();
    let options = OpenOptions { image_size: Some(16), ..Default::default() };
    let report = check(source(root.path()), &options, &|_| {}).unwrap();
    assert_eq!(report.ignored_files, 2);
}

#[cfg(unix)]
#[test]
fn pipes_and_devices_are_bad_images() {
    let root = TempDir::new().unwrap();
    fill(root.path(), 4);
    let pipe = root.path().join("a/pipe.png");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    std::os::unix::fs::symlink("/dev/null", root.path().join("b/null.png")).unwrap();
    let error = open_path(root.path()).unwrap_err();
    let DataError::BadImages { bad, .. } = error else { panic!("{error:?}") };
    let found: Vec<_> = bad.iter().map(|b| (b.issue, b.reason.as_str())).collect();
    assert_eq!(found, [(Issue::Unreadable, "not a regular file"); 2]);
}

#[test]
fn check_reports_what_is_odd_about_each_image() {
    let root = TempDir::new().unwrap();
    with_bad_files(root.path());
    let train = root.path().join("train/a");
    fs::write(
        train.join("cmyk.jpg"),
        FlatJpeg { components: &[9, 8, 7, 6], adobe: Some(0) }.bytes(),
    )
    .unwrap();
    fs::write(train.join("grey.jpg"), FlatJpeg { components: &[77], adobe: None }.bytes()).unwrap();
    type Rgb16 = image::ImageBuffer<Rgb<u16>, Vec<u16>>;
    Rgb16::from_pixel(5, 4, Rgb([1, 2, 3])).save(train.join("deep.png")).unwrap();
    let mut alpha = image::RgbaImage::from_pixel(5, 4, image::Rgba([1, 2, 3, 255]));
    alpha.put_pixel(1, 1, image::Rgba([1, 2, 3, 0]));
    alpha.save(train.join("alpha.png")).unwrap();
    picture(30, 30, 50).save(train.join("plain.gif")).unwrap();
    // The same picture in another format, in another split, under another class.
    picture(30, 30, 51).save(train.join("first.png")).unwrap();
    picture(30, 30, 51).save(root.path().join("val/b/second.bmp")).unwrap();
    // Within a split it is the dataset's own business.
    picture(30, 30, 51).save(train.join("third.tiff")).unwrap();
    fs::write(train.join("notes.txt"), "hello").unwrap();
    fs::write(train.join(".hidden.png"), "hello").unwrap();

    let options = OpenOptions { image_size: Some(16), ..Default::default() };
    let report = check(source(root.path()), &options, &|_| {}).unwrap();
    let findings: Vec<_> = report
        .findings
        .iter()
        .map(|f| (f.issue, f.split, f.sample.rsplit('/').next().unwrap()))
        .collect();
    assert_eq!(
        findings,
        [
            (Issue::Unreadable, Split::Dev, "text.gif"),
            (Issue::Truncated, Split::Train, "cut.jpg"),
            (Issue::ZeroSized, Split::Train, "empty.png"),
            (Issue::Cmyk, Split::Train, "cmyk.jpg"),
            (Issue::SixteenBit, Split::Train, "deep.png"),
            (Issue::Greyscale, Split::Train, "grey.jpg"),
            (Issue::Alpha, Split::Train, "alpha.png"),
            // fill() gives both splits the same first pictures.
            (Issue::DuplicateAcrossSplits, Split::Dev, "000.png"),
            (Issue::DuplicateAcrossSplits, Split::Dev, "001.png"),
            (Issue::DuplicateAcrossSplits, Split::Dev, "002.png"),
            (Issue::DuplicateAcrossSplits, Split::Dev, "003.png"),
            (Issue::DuplicateAcrossSplits, Split::Dev, "000.png"),
            (Issue::DuplicateAcrossSplits, Split::Dev, "001.png"),
            (Issue::DuplicateAcrossSplits, Split::Dev, "002.png"),
            (Issue::DuplicateAcrossSplits, Split::Dev, "003.png"),
            (Issue::DuplicateAcrossSplits, Split::Dev, "second.bmp"),
        ]
    );
    assert!(report.has_faults());
    assert!(report.findings[6].detail.contains("1 of 20 pixels"), "{}", report.findings[6]);
    let second = &report.findings[15].detail;
    assert!(second.contains("first.png in train, but of class b instead of a"), "{second}");
    assert_eq!(report.ignored_files, 1);
    assert_eq!((report.image_width.unwrap().min, report.image_width.unwrap().max), (5, 60));
    assert_eq!(report.image_height.unwrap().median, 30);

    let json = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
    println!("{report}");
}

#[test]
fn images_of_one_small_size_are_kept_in_memory() {
    let root = TempDir::new().unwrap();
    for (class, offset) in [("a", 0), ("b", 100)] {
        for i in 0..10 {
            save(root.path(), &format!("{class}/{i}.png"), &picture(32, 32, offset + i));
        }
    }
    let dataset = open(source(root.path()), &OpenOptions::default()).unwrap();
    assert_eq!(dataset.kind(), Kind::SmallImages);
    assert_eq!(dataset.sample_shape(), [3, 32, 32]);
    // One picture of another size, last in order, and all of them stay files.
    save(root.path(), "b/other.png", &picture(33, 32, 0));
    let dataset = open(source(root.path()), &OpenOptions::default()).unwrap();
    assert_eq!(dataset.kind(), Kind::ImageFolder);
    assert_eq!(dataset.sample_shape(), [3, 224, 224]);
}

#[test]
fn an_upright_picture_has_its_sides_swapped() {
    let root = TempDir::new().unwrap();
    fill(root.path(), 4);
    let wide = root.path().join("a/wide.jpg");
    picture(90, 60, 1).save(&wide).unwrap();
    fs::write(&wide, with_orientation(&fs::read(&wide).unwrap(), 6)).unwrap();
    let report = check(source(root.path()), &OpenOptions::default(), &|_| {}).unwrap();
    assert_eq!(report.image_width.unwrap().max, 60);
    assert_eq!(report.image_height.unwrap().max, 90);
}

#[test]
fn an_exported_dataset_opens_with_the_same_pixels() {
    let shapes = "synthetic:shapes?train=200&dev=20&test=30&seed=5";
    let dataset = open(shapes, &OpenOptions::default()).unwrap();
    let root = TempDir::new().unwrap();
    let folder = root.path().join("new/shapes");
    export_image_folder(&dataset, &folder, &|_| {}).unwrap();
    let names: Vec<_> = {
        let entries = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = entries.collect();
        names.sort();
        names
    };
    assert_eq!(names, ["test", "train", "val"]);

    let opened = open(source(&folder), &OpenOptions::default()).unwrap();
    assert_eq!(opened.classes(), dataset.classes());
    assert_eq!(opened.preprocessing(), dataset.preprocessing());
    assert_eq!(opened.default_augment(), dataset.default_augment());
    for split in Split::ALL {
        assert_eq!(opened.len(split), dataset.len(split));
        let all = |dataset: &Dataset| {
            let sample = |i| (dataset.label(split, i), dataset.pixels(split, i).unwrap().data);
            let mut samples: Vec<_> = (0..dataset.len(split)).map(sample).collect();
            samples.sort();
            samples
        };
        assert!(all(&opened) == all(&dataset), "{split}");
    }

    let error = export_image_folder(&dataset, &folder, &|_| {}).unwrap_err().to_string();
    assert!(error.contains("not empty"), "{error}");
    let file = root.path().join("file");
    fs::write(&file, "").unwrap();
    let error = export_image_folder(&dataset, &file.join("inside"), &|_| {}).unwrap_err();
    assert!(matches!(error, DataError::Write { .. }), "{error}");
    let vectors = open("synthetic:spirals?train=30", &OpenOptions::default()).unwrap();
    assert!(export_image_folder(&vectors, &root.path().join("vectors"), &|_| {}).is_err());
    assert!(!root.path().join("vectors").exists());
}

#[test]
fn an_export_that_failed_or_was_interrupted_can_be_repeated() {
    let root = TempDir::new().unwrap();
    let (images, target) = (root.path().join("images"), root.path().join("target"));
    fill(&images, 10);
    let dataset = open_path(&images).unwrap();
    // As a killed process leaves it.
    save(&target, ".unfinished-export/train/a/000099.png", &picture(8, 8, 0));
    let (victim, aside) = (dataset.path(Split::Train, 3).unwrap(), root.path().join("aside"));
    fs::rename(victim, &aside).unwrap();
    export_image_folder(&dataset, &target, &|_| {}).unwrap_err();
    assert_eq!(fs::read_dir(&target).unwrap().count(), 0);
    fs::rename(&aside, victim).unwrap();
    save(&target, ".unfinished-export/train/a/000099.png", &picture(8, 8, 0));
    export_image_folder(&dataset, &target, &|_| {}).unwrap();
    assert_eq!(fs::read_dir(&target).unwrap().count(), 3);
    let exported = open_path(&target).unwrap();
    for split in Split::ALL {
        assert_eq!(exported.len(split), dataset.len(split));
    }
}

#[test]
fn class_names_that_are_no_folder_names_are_not_exported() {
    let root = TempDir::new().unwrap();
    let archive = root.path().join("cifar");
    fs::create_dir(&archive).unwrap();
    let names = (0..9).map(|i| format!("class{i}\n")).collect::<String>() + "../../escaped\n";
    fs::write(archive.join("batches.meta.txt"), names).unwrap();
    let record = |label: u8| [vec![label], vec![label; 3072]].concat();
    let records: Vec<u8> = (0..10).flat_map(record).collect();
    for i in 1..=5 {
        fs::write(archive.join(format!("data_batch_{i}.bin")), &records).unwrap();
    }
    fs::write(archive.join("test_batch.bin"), &records).unwrap();
    let dataset = open(source(&archive), &OpenOptions::default()).unwrap();
    let error = export_image_folder(&dataset, &root.path().join("out"), &|_| {}).unwrap_err();
    assert!(error.to_string().contains("can't be the name of a folder"), "{error}");

    let report = check(source(&archive), &OpenOptions::default(), &|_| {}).unwrap();
    // Every record occurs five times in the training files and once in the test file.
    let test = report.findings.iter().filter(|f| f.split == Split::Test).count();
    assert_eq!(test, 10);
    assert!(report.findings.iter().any(|f| f.detail.starts_with("same as train ")));
}
