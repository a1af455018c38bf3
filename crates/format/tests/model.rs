//! A model file gives back the model that was saved; anything else is refused, by name.

use std::error::Error;
use std::fs;

use residua_data::{Preprocessing, Resize};
use residua_format::{FormatError, Model, Provenance};
use residua_graph::Shape;
use residua_resnet::{Architecture, InitOptions, init_weights};
use serde_json::{Value, json};

/// ResNet-8 for 4×4 pictures: small, with every kind of tensor.
fn model() -> Model {
    let architecture = Architecture::builder(Shape::image(3, 4, 4), 4)
        .name("tiny")
        .stage(1, 16, 1)
        .stage(1, 24, 2)
        .build()
        .unwrap();
    let graph = architecture.to_graph().unwrap();
    let mut weights =
        init_weights(&architecture, &graph, &InitOptions { seed: 3, ..Default::default() });
    for (i, value) in weights.buffers.iter_mut().enumerate() {
        *value += i as f32 / 7.0;
    }
    Model {
        architecture,
        weights,
        classes: ["ant", "bee", "żuk", "\"quoted\""].map(String::from).into(),
        preprocessing: Preprocessing {
            channels: 3,
            height: 4,
            width: 4,
            resize: Resize::Exact,
            mean: vec![0.4, 0.5, 0.1 + 0.2],
            std: vec![0.2, 0.3, 1.0 / 3.0],
        },
        provenance: Provenance {
            dataset: "pictures".into(),
            dataset_fingerprint: "0123abcd".into(),
            seed: u64::MAX,
            steps: 64_000,
            precision: "f32".into(),
            residua_version: "0.1.0".into(),
            inserted_blocks: Vec::new(),
        },
    }
}

/// The error with everything that led to it.
fn message(error: FormatError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text += &format!(": {error}");
        source = error.source();
    }
    text
}

fn refusal(bytes: &[u8]) -> String {
    message(Model::from_bytes(bytes).expect_err("must be refused"))
}

/// A file's safetensors header and its data.
fn split(bytes: &[u8]) -> (Value, &[u8]) {
    let (len, rest) = bytes.split_first_chunk().unwrap();
    let (header, data) = rest.split_at(u64::from_le_bytes(*len) as usize);
    (serde_json::from_slice(header).unwrap(), data)
}

fn join(header: &Value, data: &[u8]) -> Vec<u8> {
    let header = serde_json::to_vec(header).unwrap();
    [&(header.len() as u64).to_le_bytes()[..], &header, data].concat()
}

/// The file of [`model`] with its safetensors header changed.
fn with_header(change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let bytes = model().to_bytes().unwrap();
    let (mut header, data) = split(&bytes);
    change(&mut header);
    join(&header, data)
}

/// The file of [`model`] with its own metadata changed.
fn with_metadata(change: impl FnOnce(&mut Value)) -> Vec<u8> {
    with_header(|header| {
        let entry = &mut header["__metadata__"]["residua"];
        let mut metadata: Value = serde_json::from_str(entry.as_str().unwrap()).unwrap();
        change(&mut metadata);
        *entry = metadata.to_string().into();
    })
}

#[test]
fn a_saved_model_loads_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let model = model();
    model.save(&path).unwrap();
    let loaded = Model::load(&path).unwrap();
    assert_eq!(loaded, model);
    assert_eq!(loaded.weights_sha256().unwrap(), model.weights_sha256().unwrap());
    assert_eq!(loaded.num_non_finite(), 0);
}

#[test]
fn the_same_model_has_the_same_bytes() {
    let bytes = model().to_bytes().unwrap();
    for _ in 0..8 {
        assert_eq!(model().to_bytes().unwrap(), bytes);
    }
}

#[test]
fn tensors_have_state_dict_names_and_pytorch_shapes() {
    let bytes = model().to_bytes().unwrap();
    let (header, _) = split(&bytes);
    assert_eq!(header["layer2.0.conv1.weight"]["shape"], json!([24, 16, 3, 3]));
    assert_eq!(header["fc.weight"]["shape"], json!([4, 24]));
    assert_eq!(header["layer1.0.bn2.running_var"]["dtype"], json!("F32"));
}

#[test]
fn the_digest_sees_every_tensor_but_nothing_else() {
    let digest = |model: &Model| model.weights_sha256().unwrap();
    let reference = model();
    let mut other = model();
    other.provenance.steps += 1;
    other.classes.reverse();
    assert_eq!(digest(&other), digest(&reference));

    let mut other = model();
    other.weights.params[0] += 1e-6;
    assert_ne!(digest(&other), digest(&reference));
    let mut other = model();
    *other.weights.buffers.last_mut().unwrap() += 1e-3;
    assert_ne!(digest(&other), digest(&reference));
    // The same values under other names.
    let mut other = model();
    other.architecture = Architecture::builder(Shape::image(3, 4, 4), 4)
        .family(residua_resnet::Family::Preact)
        .stage(1, 16, 1)
        .stage(1, 24, 2)
        .build()
        .unwrap();
    let graph = other.architecture.to_graph().unwrap();
    other.weights.params.resize(graph.num_parameters(), 0.0);
    other.weights.buffers.resize(graph.num_buffer_elements(), 0.0);
    assert_ne!(digest(&other), digest(&reference));
}

#[test]
fn values_that_are_not_finite_are_kept_and_counted() {
    let mut model = model();
    model.weights.params[5] = f32::NAN;
    model.weights.params[6] = f32::INFINITY;
    model.weights.buffers[0] = f32::NEG_INFINITY;
    let loaded = Model::from_bytes(&model.to_bytes().unwrap()).unwrap();
    assert_eq!(loaded.num_non_finite(), 3);
}

#[test]
fn parts_that_do_not_fit_are_not_saved() {
    let refused = |change: fn(&mut Model)| {
        let mut model = model();
        change(&mut model);
        message(model.to_bytes().expect_err("must be refused"))
    };
    let text = refused(|model| model.weights.params.push(0.0));
    assert!(text.contains("parameters, expected") && text.contains("for this architecture"));
    let text = refused(|model| _ = model.weights.buffers.pop());
    assert!(text.contains("running statistics, expected"), "{text}");
    let text = refused(|model| model.classes[1] = "ant".into());
    assert_eq!(text, "two classes are called `ant`, expected different names");
    let expected = "expected one that is not empty and has no control characters";
    let text = refused(|model| model.classes[1].clear());
    assert_eq!(text, format!("class name \"\", {expected}"));
    let text = refused(|model| model.classes[1] = "\u{1b}[2J".into());
    assert_eq!(text, format!(r#"class name "\u{{1b}}[2J", {expected}"#));
    let text = refused(|model| drop(model.classes.pop()));
    assert_eq!(text, "3 class names, expected 4 for this architecture");
    let text = refused(|model| model.preprocessing.height = 8);
    assert!(text.contains("makes inputs of [3, 8, 4], expected [3, 4, 4]"), "{text}");
    let text = refused(|model| model.preprocessing.std[0] = 0.0);
    assert!(text.contains("preprocessing.std"), "{text}");
}

#[test]
fn tensors_must_be_exactly_those_of_the_architecture() {
    let moved = |from: &'static str, to: Option<&'static str>| {
        with_header(move |header| {
            let tensors = header.as_object_mut().unwrap();
            let tensor = tensors.remove(from).unwrap();
            if let Some(to) = to {
                tensors.insert(to.to_owned(), tensor);
            }
        })
    };
    let text = refusal(&moved("fc.bias", Some("fc.offset")));
    assert_eq!(text, "fc.bias: missing");

    let reshape = |shape| with_header(move |header| header["fc.weight"]["shape"] = shape);
    let text = refusal(&reshape(json!([24, 4])));
    assert_eq!(text, "fc.weight: F32 [24, 4], expected F32 [4, 24]");

    let text = refusal(&with_header(|header| {
        header["fc.weight"]["dtype"] = "F16".into();
        header["fc.weight"]["shape"] = json!([8, 24]);
    }));
    assert_eq!(text, "fc.weight: F16 [8, 24], expected F32 [4, 24]");

    let bytes = model().to_bytes().unwrap();
    let (mut header, data) = split(&bytes);
    let one_more =
        json!({"dtype": "F32", "shape": [1], "data_offsets": [data.len(), data.len() + 4]});
    header["bn1.num_batches_tracked"] = one_more;
    let text = refusal(&join(&header, &[data, &[0; 4]].concat()));
    assert_eq!(text, "bn1.num_batches_tracked: not a tensor of this architecture");
}

#[test]
fn files_of_a_later_version_are_refused_whatever_is_in_them() {
    let text = refusal(&with_metadata(|metadata| {
        *metadata = json!({"format_version": 2, "layers": "something new"});
    }));
    assert!(text.starts_with("format version 2, expected at most 1: made by a later"), "{text}");
}

#[test]
fn metadata_must_be_complete_and_valid() {
    let text = refusal(&with_metadata(|metadata| metadata["surprise"] = json!(1)));
    assert!(text.contains("unknown field `surprise`"), "{text}");
    let text = refusal(&with_metadata(|metadata| drop(metadata["classes"].take())));
    assert!(text.contains("metadata of the model is damaged"), "{text}");
    let text = refusal(&with_metadata(|metadata| metadata["architecture"]["classes"] = json!(5)));
    assert!(text.contains("fc.") && text.contains("expected"), "{text}");
    let text = refusal(&with_metadata(|metadata| metadata["preprocessing"]["width"] = json!(0)));
    assert!(text.contains("preprocessing.width"), "{text}");
    let text = refusal(&with_header(|header| drop(header["__metadata__"].take())));
    assert_eq!(text, "a safetensors file without the metadata of a Residua model");
    let text = refusal(&with_header(|header| header["__metadata__"]["residua"] = "{".into()));
    assert!(text.contains("damaged"), "{text}");
}

#[test]
fn hostile_headers_are_refused() {
    let text = refusal(&[&((64_u64 << 20) + 1).to_le_bytes()[..], b"{}"].concat());
    assert!(text.contains("header has") && text.contains("expected at most"), "{text}");
    // A header said to be larger than the file, and larger than any file.
    for len in [1000, 1 << 40, u64::MAX] {
        let text = refusal(&[&len.to_le_bytes()[..], b"{}"].concat());
        assert!(text.contains("not a safetensors file, or a damaged one"), "{text}");
    }
    // Networks that would fill the memory: refused before any tensor is looked at or made.
    for (field, value) in [("blocks", 1_u64 << 40), ("width", 1 << 40), ("stride", 0)] {
        let text = refusal(&with_metadata(|metadata| {
            metadata["architecture"]["stages"][0][field] = json!(value);
        }));
        assert!(text.contains("of stage 1 is"), "{text}");
    }
    let text = refusal(&with_metadata(|metadata| {
        metadata["architecture"]["stages"][1]["width"] = json!(16_000);
    }));
    assert!(text.contains("expected F32 [16000"), "{text}");
    // Sizes whose product overflows, and overlapping tensors.
    let text = refusal(&with_header(|header| {
        header["fc.weight"]["shape"] = json!([1_u64 << 40, 1_u64 << 40]);
    }));
    assert!(text.contains("overflow"), "{text}");
    let text = refusal(&with_header(|header| {
        header["fc.weight"]["data_offsets"] = header["fc.bias"]["data_offsets"].clone();
    }));
    assert!(text.contains("damaged"), "{text}");
}

/// Any single damaged byte of the header, and any cut, is refused or changes what is read: nothing
/// is silently dropped, nothing panics.
#[test]
fn damage_never_passes_for_the_model_that_was_saved() {
    let model = model();
    let bytes = model.to_bytes().unwrap();
    let header_len = u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
    for i in 0..8 + header_len {
        if bytes[i] == b' ' && i + 8 > header_len {
            continue; // padding at the end of the header
        }
        let mut damaged = bytes.clone();
        damaged[i] ^= 0x04;
        match Model::from_bytes(&damaged) {
            Ok(read) => assert_ne!(read, model, "byte {i}"),
            Err(_) => continue,
        }
    }
    for len in (0..bytes.len()).step_by(97).chain([bytes.len() - 1]) {
        refusal(&bytes[..len]);
    }
    refusal(&[&bytes[..], b"\0"].concat());
}

/// The tensors of these files are holes of 2 GiB, which take no place on the disk, and are refused
/// before they are read.
#[test]
fn a_length_that_the_header_does_not_account_for_is_refused() {
    let hole = 2_u64 << 30;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sparse.safetensors");
    let refusal = |start: &[u8], len: u64| {
        fs::write(&path, start).unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_len(len).unwrap();
        message(Model::load(&path).expect_err("must be refused"))
    };
    let bytes = model().to_bytes().unwrap();
    let len = bytes.len() as u64;
    for got in [hole, len + 1, len - 1] {
        let text = refusal(&bytes, got);
        let expected = format!("{got} bytes, expected {len} as its header says");
        assert!(text.ends_with(&expected), "{text}");
    }
    refusal(&[], hole);
    refusal(&[], 7);
    let (mut header, data) = split(&bytes);
    let end = data.len() as u64 + hole;
    header["zeros"] = json!({"dtype": "U8", "shape": [hole], "data_offsets": [data.len(), end]});
    let start = join(&header, data);
    let text = refusal(&start, start.len() as u64 + hole);
    assert!(text.ends_with("zeros: not a tensor of this architecture"), "{text}");
}

#[test]
fn errors_of_files_start_with_their_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.safetensors");
    let shown = path.display().to_string();
    let text = message(Model::load(&path).unwrap_err());
    assert!(text.starts_with(&format!("cannot read {shown}: No such file")), "{text}");
    fs::write(&path, b"PK\x03\x04 something else entirely").unwrap();
    let text = message(Model::load(&path).unwrap_err());
    assert!(text.starts_with(&format!("{shown}: not a safetensors file")), "{text}");
    let text = message(Model::load(folder.path()).unwrap_err());
    assert!(text.ends_with(": not a regular file"), "{text}");
    let missing = folder.path().join("no").join("model.safetensors");
    let text = message(model().save(&missing).unwrap_err());
    assert!(text.contains("(the folder does not exist)"), "{text}");
}
