//! Archives, IDX, CSV and npy files: what they become, and what is refused.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use residua_data::{Dataset, Kind, OpenOptions, Split, open};
use tempfile::TempDir;

fn open_path(path: &Path) -> Dataset {
    open(path.to_str().unwrap(), &OpenOptions::default()).unwrap()
}

fn refusal(path: &Path) -> String {
    open(path.to_str().unwrap(), &OpenOptions::default()).unwrap_err().to_string()
}

fn write(folder: &TempDir, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.path().join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, bytes).unwrap();
    path
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

type Members = Vec<(String, Vec<u8>)>;

/// Names are written as they are, also those that `tar` would rather not.
fn tar(members: &Members) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in members {
        let mut header = tar::Header::new_ustar();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append(&header, bytes.as_slice()).unwrap();
    }
    builder.into_inner().unwrap()
}

/// Pixel values that tell the record, the plane and the place: a mix-up can't go unnoticed.
fn value(record: usize, channel: usize, y: usize, x: usize) -> u8 {
    (record * 7 + channel * 100 + y * 3 + x) as u8
}

fn records(labels: impl IntoIterator<Item = (usize, Vec<u8>)>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (record, label) in labels {
        bytes.extend(label);
        for channel in 0..3 {
            for y in 0..32 {
                bytes.extend((0..32).map(|x| value(record, channel, y, x)));
            }
        }
    }
    bytes
}

fn cifar_10() -> Members {
    let names: String = (0..10).map(|i| format!("class{i}\n")).collect();
    let mut members = vec![("cifar/batches.meta.txt".to_owned(), (names + "\n").into_bytes())];
    for batch in 0..5 {
        let batch_records = (0..20).map(|i| (batch * 20 + i, vec![(i % 10) as u8]));
        members.push((format!("cifar/data_batch_{}.bin", batch + 1), records(batch_records)));
    }
    let test = (0..10).map(|i| (100 + i, vec![i as u8]));
    members.push(("cifar/test_batch.bin".to_owned(), records(test)));
    members
}

fn cifar_100() -> Members {
    let names = |count: usize| (0..count).map(|i| format!("n{i}\n")).collect::<String>();
    let train = (0..200).map(|i| (i, vec![(i % 20) as u8, (i % 100) as u8]));
    let test = (0..10).map(|i| (200 + i, vec![0, i as u8]));
    vec![
        ("c/coarse_label_names.txt".to_owned(), names(20).into_bytes()),
        ("c/fine_label_names.txt".to_owned(), names(100).into_bytes()),
        ("c/train.bin".to_owned(), records(train)),
        ("c/test.bin".to_owned(), records(test)),
    ]
}

fn expect_pixels(dataset: &Dataset, split: Split, i: usize, record: usize) {
    let pixels = dataset.pixels(split, i).unwrap();
    for y in 0..32 {
        for x in 0..32 {
            for channel in 0..3 {
                let got = pixels.data[(y * 32 + x) * 3 + channel];
                assert_eq!(got, value(record, channel, y, x), "{split} {i} at {channel} {y} {x}");
            }
        }
    }
}

#[test]
fn cifar_10_from_archives_and_folders() {
    let folder = TempDir::new().unwrap();
    let members = cifar_10();
    let compressed = open_path(&write(&folder, "cifar.tar.gz", gzip(&tar(&members))));
    assert_eq!(compressed.name(), "cifar.tar.gz");
    assert_eq!(compressed.kind(), Kind::SmallImages);
    assert_eq!(compressed.sample_shape(), [3, 32, 32]);
    assert_eq!(compressed.classes()[9], "class9");
    assert_eq!(Split::ALL.map(|split| compressed.len(split)), [90, 10, 10]);
    // Stratified: one of each class in dev, and nothing lost.
    assert_eq!(compressed.class_counts(Split::Dev), [1; 10]);
    assert_eq!(compressed.class_counts(Split::Train), [9; 10]);
    for i in 0..10 {
        assert_eq!(compressed.label(Split::Test, i), i as u32);
        expect_pixels(&compressed, Split::Test, i, 100 + i);
    }

    let plain = open_path(&write(&folder, "cifar.tar", tar(&members)));
    for (name, bytes) in &members {
        write(&folder, &format!("extracted/{name}"), bytes);
        write(&folder, &format!("outer/cifar-10-batches-bin/{}", &name[6..]), bytes);
    }
    let extracted = open_path(&folder.path().join("extracted/cifar"));
    let outer = open_path(&folder.path().join("outer"));
    for other in [plain, extracted, outer] {
        assert_eq!(other.fingerprint(), compressed.fingerprint());
    }
}

#[test]
fn cifar_100_is_told_by_its_files() {
    let folder = TempDir::new().unwrap();
    let dataset = open_path(&write(&folder, "c.tar.gz", gzip(&tar(&cifar_100()))));
    assert_eq!(dataset.classes().len(), 100);
    assert_eq!(Split::ALL.map(|split| dataset.len(split)), [180, 20, 10]);
    for i in 0..10 {
        // The fine label, not the coarse one.
        assert_eq!(dataset.label(Split::Test, i), i as u32);
        expect_pixels(&dataset, Split::Test, i, 200 + i);
    }
}

#[test]
fn the_dev_split_follows_the_seed_and_the_fraction() {
    let folder = TempDir::new().unwrap();
    let path = write(&folder, "cifar.tar", tar(&cifar_10()));
    let source = path.to_str().unwrap();
    let with = |seed, val_fraction| {
        let options = OpenOptions { seed, val_fraction, ..Default::default() };
        open(source, &options).unwrap()
    };
    assert_eq!(with(1, None).fingerprint(), with(1, None).fingerprint());
    assert_ne!(with(1, None).fingerprint(), with(2, None).fingerprint());
    assert_eq!(with(1, Some(0.25)).len(Split::Dev), 25);
    let without = with(1, Some(0.0));
    assert_eq!([without.len(Split::Train), without.len(Split::Dev)], [100, 0]);
    let error = without.expect_samples(Split::Dev).unwrap_err().to_string();
    assert!(error.contains("the dev split is empty (val_fraction 0 "), "{error}");

    for options in [
        OpenOptions { test_fraction: Some(0.1), ..Default::default() },
        OpenOptions { val_fraction: Some(1.0), ..Default::default() },
        OpenOptions { val_fraction: Some(f64::NAN), ..Default::default() },
        OpenOptions { image_size: Some(0), ..Default::default() },
        OpenOptions { image_size: Some(usize::MAX), ..Default::default() },
    ] {
        println!("{}", open(source, &options).expect_err(&format!("{options:?}")));
    }
}

#[test]
fn damaged_archives_are_refused() {
    let folder = TempDir::new().unwrap();
    let archive =
        |name: &str, members: &Members| refusal(&write(&folder, name, gzip(&tar(members))));
    let good = gzip(&tar(&cifar_10()));
    for keep in [1, 100, good.len() / 2, good.len() - 20, good.len() - 1] {
        let error = refusal(&write(&folder, "cut.tar.gz", &good[..keep]));
        println!("{keep}: {error}");
        assert!(error.contains("cut.tar.gz"), "{error}");
    }
    let uncompressed = tar(&cifar_10());
    let error = refusal(&write(&folder, "cut.tar", &uncompressed[..uncompressed.len() / 2]));
    assert!(error.contains("truncated"), "{error}");
    let mut flipped = good.clone();
    flipped[good.len() - 5] ^= 1;
    let error = refusal(&write(&folder, "checksum.tar.gz", flipped));
    assert!(error.contains("checksum"), "{error}");

    let mut members = cifar_10();
    members[2].1.pop();
    let error = archive("size.tar.gz", &members);
    assert!(
        error.contains("data_batch_2.bin: 61459 bytes, expected a multiple of 3073"),
        "{error}"
    );

    let mut members = cifar_10();
    members[3].1[3073 * 4] = 10;
    let error = archive("label.tar.gz", &members);
    assert!(error.contains("data_batch_3.bin: record 4 has label 10"), "{error}");

    let mut members = cifar_10();
    members.remove(4);
    assert!(archive("missing.tar.gz", &members).contains("data_batch_4.bin is missing"));
    let mut members = cifar_10();
    members.remove(0);
    assert!(archive("names.tar.gz", &members).contains("batches.meta.txt is missing"));
    let mut members = cifar_10();
    members.push(members[1].clone());
    assert!(archive("twice.tar.gz", &members).contains("data_batch_1.bin is in it twice"));
    assert!(archive("empty.tar.gz", &Members::new()).contains("neither CIFAR-10"));
    let error = refusal(&write(&folder, "text.tar.gz", "no archive"));
    assert!(error.contains("neither an archive (.tar.gz, .tar) nor a table"), "{error}");
}

#[test]
fn hostile_archives_write_nothing_and_allocate_little() {
    let folder = TempDir::new().unwrap();
    let mut members = cifar_10();
    members.push(("../../escaped".to_owned(), b"x".to_vec()));
    members.push(("/tmp/residua-escaped/data_batch_9.bin".to_owned(), b"x".to_vec()));
    open_path(&write(&folder, "inner/deep/paths.tar", tar(&members)));
    assert!(!folder.path().join("escaped").exists());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);

    // A header that claims a terabyte.
    let mut header = tar::Header::new_ustar();
    header.set_path("data_batch_1.bin").unwrap();
    header.set_size(1 << 40);
    header.set_cksum();
    let path = write(&folder, "huge.tar.gz", gzip(header.as_bytes()));
    assert!(refusal(&path).contains("1099511627776 bytes, expected at most"));

    // A long name of 300 MB, in 300 kB: skipped, not read into memory.
    let mut members = Vec::new();
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::GNULongName);
    header.set_size(300 << 20);
    header.set_cksum();
    members.extend(header.as_bytes());
    members.resize(512 + (300 << 20), 0);
    members.extend(tar(&cifar_10()));
    let dataset = open_path(&write(&folder, "name.tar.gz", gzip(&members)));
    assert_eq!(dataset.len(Split::Test), 10);
}

fn idx(magic: u32, dims: &[u32], bytes: &[u8]) -> Vec<u8> {
    let header = [&[magic], dims].concat();
    header.iter().flat_map(|word| word.to_be_bytes()).chain(bytes.iter().copied()).collect()
}

#[test]
fn idx_files_plain_and_compressed() {
    let folder = TempDir::new().unwrap();
    let pixels: Vec<u8> = (0..50 * 6).map(|i| i as u8).collect();
    let labels: Vec<u8> = (0..50).map(|i| i % 5).collect();
    write(&folder, "train-images-idx3-ubyte", idx(0x803, &[50, 3, 2], &pixels));
    write(&folder, "train-labels-idx1-ubyte.gz", gzip(&idx(0x801, &[50], &labels)));
    write(&folder, "t10k-images-idx3-ubyte.gz", gzip(&idx(0x803, &[2, 3, 2], &pixels[..12])));
    write(&folder, "t10k-labels.idx1-ubyte", idx(0x801, &[2], &[4, 0]));
    let dataset = open_path(folder.path());
    assert_eq!(dataset.sample_shape(), [1, 3, 2]);
    assert_eq!(dataset.classes(), ["0", "1", "2", "3", "4"]);
    assert_eq!(Split::ALL.map(|split| dataset.len(split)), [45, 5, 2]);
    assert_eq!(dataset.pixels(Split::Test, 1).unwrap().data, [6, 7, 8, 9, 10, 11]);
    assert_eq!([dataset.label(Split::Test, 0), dataset.label(Split::Test, 1)], [4, 0]);

    write(&folder, "t10k-labels.idx1-ubyte", idx(0x801, &[2], &[4, 255]));
    let error = refusal(folder.path());
    let expected = "t10k sample 1 has label 255, expected less than 5 as in train";
    assert!(error.contains(expected), "{error}");
    write(&folder, "t10k-labels.idx1-ubyte", idx(0x801, &[2], &[4, 0]));

    let broken = |bytes: Vec<u8>| {
        write(&folder, "train-images-idx3-ubyte", bytes);
        refusal(folder.path())
    };
    let error = broken(idx(0x803, &[u32::MAX, 4000, 4000], &[]));
    assert!(error.contains("expected at most"), "{error}");
    let error = broken(idx(0x803, &[1 << 31, 1, 1], &[]));
    assert!(error.contains("2147483648 samples, expected at most 67108864"), "{error}");
    let error = broken(idx(0x803, &[100_000, 100, 100], &[1, 2, 3]));
    assert!(error.contains("3 bytes after the header"), "{error}");
    let error = broken(idx(0x803, &[50, 3, 1], &pixels));
    assert!(error.contains("more bytes"), "{error}");
    assert!(broken(idx(0x802, &[50, 3, 2], &pixels)).contains("magic number 0x00000802"));
    assert!(broken(idx(0x803, &[50, 0, 2], &[])).contains("a side of 0 pixels"));
    assert!(broken(vec![0, 0]).contains("no IDX header"));
    assert!(broken(idx(0x803, &[49, 3, 2], &pixels[6..])).contains("50 labels, but 49 images"));
    write(&folder, "train-images-idx3-ubyte", idx(0x803, &[50, 3, 2], &pixels));
    fs::remove_file(folder.path().join("t10k-images-idx3-ubyte.gz")).unwrap();
    let error = refusal(folder.path());
    assert!(error.contains("t10k-images-idx3-ubyte is missing"), "{error}");
    fs::remove_file(folder.path().join("train-labels-idx1-ubyte.gz")).unwrap();
    let error = broken(idx(0x803, &[50, 3, 2], &pixels));
    assert!(error.contains("train-labels-idx1-ubyte is missing"), "{error}");
}

fn table(rows: usize, separator: &str) -> String {
    (0..rows)
        .map(|i| {
            let class = ["cat", "dog"][i % 2];
            [i.to_string(), class.to_owned(), format!("-{i}.5e0")].join(separator) + "\n"
        })
        .collect()
}

#[test]
fn csv_with_named_and_unnamed_columns() {
    let folder = TempDir::new().unwrap();
    // The label column is named, and not the last.
    let header = "x, Class ,y\n".to_owned();
    let named = open_path(&write(&folder, "a.csv", header.clone() + &table(40, ",")));
    assert_eq!(named.kind(), Kind::Vectors);
    assert_eq!(named.sample_shape(), [2, 1, 1]);
    assert_eq!(named.classes(), ["cat", "dog"]);
    assert_eq!(Split::ALL.map(|split| named.len(split)), [32, 4, 4]);
    assert_eq!(named.class_counts(Split::Test), [2, 2]);

    let semicolons = header.replace(',', ";") + &table(40, ";");
    let semicolons = open_path(&write(&folder, "b.csv", semicolons));
    assert_eq!(semicolons.fingerprint(), named.fingerprint());

    // No header, integer labels last, in the order of their value.
    let rows: String = (0..30).map(|i| format!("{i},0,{}\n", [10, 9, -1][i % 3])).collect();
    let unnamed = open_path(&write(&folder, "c.csv", rows));
    assert_eq!(unnamed.classes(), ["-1", "9", "10"]);
    assert_eq!(
        open_path(&write(&folder, "bom.csv", "\u{feff}1,2,a\n3,4,b\n5,6,a\n")).classes().len(),
        2
    );
    // A constant feature is not blown up.
    assert_eq!(unnamed.preprocessing().std[1], 1.0);

    for (name, rows) in [("train", 40), ("val", 6), ("test", 4)] {
        write(&folder, &format!("split/{name}.csv"), header.clone() + &table(rows, ","));
    }
    let split = open_path(&folder.path().join("split"));
    assert_eq!(Split::ALL.map(|split_name| split.len(split_name)), [40, 6, 4]);
    write(&folder, "split/test.csv", header + "1,cow,2\n");
    assert!(refusal(&folder.path().join("split")).contains("class `cow` does not occur in train"));
}

#[test]
fn a_label_column_by_name_makes_the_first_row_a_header() {
    let folder = TempDir::new().unwrap();
    // As pandas writes `DataFrame(x)` with `df["label"]`.
    let rows: String = (0..20).map(|i| format!("{i},{},{}\n", i * 2, ["a", "b"][i % 2])).collect();
    for header in ["0,1,label\n", "0,1, Target\n"] {
        let dataset = open_path(&write(&folder, "numbered.csv", header.to_owned() + &rows));
        assert_eq!(dataset.classes(), ["a", "b"], "{header}");
        assert_eq!(Split::ALL.map(|split| dataset.len(split)).iter().sum::<usize>(), 20);
    }
    let with_index = refusal(&write(&folder, "index.csv", ",0,label\n0,1,a\n1,2,b\n"));
    assert!(with_index.contains("column 1 has no name"), "{with_index}");
}

#[test]
fn files_that_are_called_like_splits_and_not_read_are_refused() {
    let header = "x,label\n";
    for others in [vec!["Test.csv"], vec!["val.csv", "testing.csv"], vec!["val.csv", "dev.csv"]] {
        let folder = TempDir::new().unwrap();
        write(&folder, "train.csv", header.to_owned() + "1,a\n2,b\n");
        for other in &others {
            write(&folder, other, header.to_owned() + "1,a\n2,b\n");
        }
        let error = refusal(folder.path());
        let expected = format!("holds {} beside the splits that are read", others.last().unwrap());
        assert!(error.contains(&expected), "{error}");
    }
}

#[test]
fn numbered_columns_are_refused_where_they_may_be_a_sample() {
    let folder = TempDir::new().unwrap();
    let rows: String = (0..20).map(|i| format!("{i},{},{}\n", i * 2, ["a", "b"][i % 2])).collect();
    for header in ["0,1,species\n", "1,2,species\n"] {
        let numbered = refusal(&write(&folder, "species.csv", header.to_owned() + &rows));
        assert!(numbered.contains("row 1 may be a header"), "{numbered}");
        assert!(numbered.contains("class `species`"), "{numbered}");
    }
    // A class that occurs again, other numbers, and a class that is a number are samples.
    for first in ["0,1,a\n", "0,2,species\n", "0,1,7\n"] {
        let dataset = open_path(&write(&folder, "sample.csv", first.to_owned() + &rows));
        assert_eq!(Split::ALL.map(|split| dataset.len(split)).iter().sum::<usize>(), 21, "{first}");
    }
}

#[test]
fn features_of_any_scale_are_normalised_and_constant_ones_are_not_scaled() {
    let folder = TempDir::new().unwrap();
    let small = |i: usize| [4e-7, 7e-7][i / 2 % 2];
    // Small, tiny, large, constant, and constant up to the last bit of an f32.
    let row = |i: usize| {
        let last_bit = [1e6_f32, 1e6_f32.next_up()][i / 2 % 2];
        format!(
            "{:e},{:e},{:e},0.1,{last_bit},{}\n",
            small(i),
            small(i) * 1e-30,
            small(i) * 1e30,
            i % 2
        )
    };
    let options =
        OpenOptions { val_fraction: Some(0.0), test_fraction: Some(0.0), ..Default::default() };
    let path = write(&folder, "scales.csv", (0..40).map(row).collect::<String>());
    let dataset = open(path.to_str().unwrap(), &options).unwrap();
    let std = &dataset.preprocessing().std;
    for (got, expected) in std.iter().zip([1.5e-7, 1.5e-37, 1.5e23]) {
        assert!((got / expected - 1.0_f32).abs() < 1e-4, "{std:?}");
    }
    assert_eq!(std[3..], [1.0, 1.0]);
}

#[test]
fn class_names_that_no_model_can_have_are_refused() {
    let folder = TempDir::new().unwrap();
    let mut members = cifar_10();
    members[0].1 = b"cat\ncat\ndog\n".repeat(4);
    let error = refusal(&write(&folder, "twice.tar", tar(&members)));
    assert_eq!(error, "twice.tar: two classes are called `cat`, expected different names");
    let error = refusal(&write(&folder, "escape.csv", "1,a\n2,b\x1b[2J\n3,a\n"));
    assert!(
        error.contains(r#"class name "b\u{1b}[2J", expected one that is not empty"#),
        "{error}"
    );
}

#[cfg(unix)]
#[test]
fn a_device_among_the_files_of_cifar_is_not_read() {
    let folder = TempDir::new().unwrap();
    for (name, bytes) in cifar_10() {
        write(&folder, &name, bytes);
    }
    let batch = folder.path().join("cifar/data_batch_3.bin");
    fs::remove_file(&batch).unwrap();
    std::os::unix::fs::symlink("/dev/null", &batch).unwrap();
    let error = open(folder.path().join("cifar").to_str().unwrap(), &OpenOptions::default());
    let error = error.unwrap_err();
    assert!(error.to_string().contains("data_batch_3.bin: can't be read"), "{error}");
    let reason = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(reason, "not a regular file");
}

#[test]
fn csv_defects_name_row_and_column() {
    let folder = TempDir::new().unwrap();
    let error = |text: &str| refusal(&write(&folder, "bad.csv", text));
    let cases = [
        ("x,y,label\n1,2,a\n3,oops,b\n", "row 3, column `y`: got `oops`, expected a number"),
        ("1,2,a\n3,,b\n", "row 2, column 2: got ``, expected a number"),
        ("1,2,a\n3,nan,b\n", "row 2, column 2: got `nan`, expected a finite number"),
        ("1,2,a\n3,b\n", "row 2 has 2 cells, expected 3"),
        ("x,label\n1,\n", "row 2, column `label`: got ``, expected a class"),
        (",x,label\n0,1,a\n", "column 1 has no name"),
        ("x,label,class\n1,2,3\n", "`label` and `class` could both be the label"),
        ("x,y\n1,0.5\n2,1\n", "column `y`: got `0.5`, expected a class"),
        ("1\n2\n", "1 column, expected features and a label"),
        ("x,label\n", "0 rows"),
        ("", "0 rows"),
        ("x,label\n1,a\n2,a\n", "found 1 class"),
    ];
    for (text, expected) in cases {
        let error = error(text);
        assert!(error.contains(expected), "{text:?} gave: {error}");
    }
    assert!(refusal(&write(&folder, "bytes.csv", [0xff, 0xfe, b',', 0x80])).contains("bytes.csv"));
}

fn npy(descr: &str, fortran: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let header =
        format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

#[test]
fn npy_with_labels_beside_or_in_the_last_column() {
    let folder = TempDir::new().unwrap();
    let rows: Vec<[f32; 3]> =
        (0..20).map(|i| [i as f32, -0.5 * i as f32, (i % 4) as f32]).collect();
    let bytes = |values: &mut dyn Iterator<Item = f32>| -> Vec<u8> {
        values.flat_map(f32::to_le_bytes).collect()
    };
    let row_major = bytes(&mut rows.iter().flatten().copied());
    let path = write(&folder, "inside.npy", npy("<f4", "False", "(20, 3)", &row_major));
    let inside = open_path(&path);
    assert_eq!(inside.sample_shape(), [2, 1, 1]);
    assert_eq!(inside.classes(), ["0", "1", "2", "3"]);

    // The same in columns, and with the labels in a file of their own, big-endian.
    let columns = bytes(&mut (0..2).flat_map(|c| rows.iter().map(move |row| row[c])));
    let path = write(&folder, "beside.npy", npy("<f4", "True", "(20, 2)", &columns));
    let labels: Vec<u8> = (0..20).flat_map(|i| (i % 4_i16).to_be_bytes()).collect();
    write(&folder, "beside.labels.npy", npy(">i2", "False", "(20,)", &labels));
    assert_eq!(open_path(&path).fingerprint(), inside.fingerprint());

    write(&folder, "beside.labels.npy", npy(">i2", "False", "(19,)", &labels[..38]));
    assert!(refusal(&path).contains("shape [19], expected [20]"));
}

#[test]
fn hostile_npy_files_are_refused() {
    let folder = TempDir::new().unwrap();
    let error = |bytes: Vec<u8>| refusal(&write(&folder, "bad.npy", bytes));
    let max = u64::MAX;
    for (bytes, expected) in [
        (npy("<f4", "False", "(1000000, 1000)", &[0; 40]), "in a file of"),
        (npy("<f4", "False", &format!("({max}, {max})"), &[]), "expected a plain array"),
        (npy("<f4", "False", &"(".repeat(2000), &[]), "expected a plain array"),
        (npy("<f4", "False", "(10, 2)", &[0; 79]), "shape [10, 2]"),
        (npy("<f4", "False", "(20,)", &[0; 80]), "expected [samples, features]"),
        (npy("<c8", "False", "(5, 2)", &[0; 80]), "expected real numbers"),
        (npy("|O", "False", "(5, 2)", &[0; 80]), "expected real numbers"),
        (npy("<f4", "False", "(2, 2)", &f32::NAN.to_le_bytes().repeat(4)), "row 0, column 0"),
        (
            npy("<f8", "False", "(2, 2)", &[1.0, 0.0, 1e39, 1.0].map(f64::to_le_bytes).concat()),
            "row 1, column 0: got 1000000000000000000000000000000000000000, expected a finite",
        ),
        (npy("<f4", "False", "(0, 2)", &[]), "0 rows"),
        (npy("<f4", "False", "(0, 0)", &[]), "no column for the label"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff".to_vec(), "a header of 4294967295 bytes"),
        (b"\x93NUM".to_vec(), "not a .npy file"),
        (vec![], "not a .npy file"),
    ] {
        let error = error(bytes);
        assert!(error.contains(expected), "expected {expected}: {error}");
    }
}

#[test]
fn a_missing_source_says_what_data_may_be() {
    let error = open("no/such/place", &OpenOptions::default()).unwrap_err();
    assert_eq!(error.to_string(), "no/such/place: no such file or folder");
    assert!(error.hint().unwrap().contains("CIFAR-10"));
    let error = open("synthetic:squares", &OpenOptions::default()).unwrap_err();
    assert!(error.hint().unwrap().contains("synthetic:shapes"));
}
