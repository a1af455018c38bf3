use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use residua_data::Preprocessing;
use residua_graph::{Graph, TensorSpec, Weights};
use residua_resnet::Architecture;
use safetensors::tensor::Metadata;
use safetensors::{Dtype, SafeTensorError, SafeTensors, View};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{F32Tensor, FormatError, write_whole};

/// The format this version writes, and the newest it reads.
const FORMAT_VERSION: u64 = 1;
/// The one key in the safetensors metadata; its value is the [`Header`] as JSON. One key, because
/// the order of several would change from file to file.
const METADATA_KEY: &str = "residua";
/// The header's length comes first.
const LEN_BYTES: usize = size_of::<u64>();
/// Far above any residual network's header, far below what would hurt.
const MAX_HEADER_BYTES: u64 = 64 << 20;
const MAX_FILE_BYTES: u64 = 32 << 30;

/// A trained network with everything that using it needs.
///
/// As a file it is one safetensors file. Its tensors are f32 with state-dict names and PyTorch's
/// shapes: the parameters and the running statistics (`bn1.running_mean`, `bn1.running_var`).
/// Everything else is JSON in the metadata entry `residua`. The bytes are a function of the model
/// alone: no time, no machine.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// What it computes.
    pub architecture: Architecture,
    /// Its tensors, laid out as its graph says.
    pub weights: Weights,
    /// What each output stands for.
    pub classes: Vec<String>,
    /// How a picture or a vector becomes its input.
    pub preprocessing: Preprocessing,
    /// Where it comes from.
    pub provenance: Provenance,
}

/// Where a model comes from: enough to find the run again, nothing that changes when the same run
/// is made twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// Name of the dataset.
    pub dataset: String,
    /// SHA-256 over the dataset's content, in hexadecimal.
    pub dataset_fingerprint: String,
    /// Seed of the run.
    pub seed: u64,
    /// Steps of training.
    pub steps: u64,
    /// Precision it was trained in, `f32`.
    pub precision: String,
    /// Version of Residua that trained it.
    pub residua_version: String,
    /// Blocks such as `layer3.5` that were put in after the training, and were not trained.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inserted_blocks: Vec<String>,
}

/// The metadata as written.
#[derive(Serialize)]
struct HeaderRef<'a> {
    format_version: u64,
    architecture: &'a Architecture,
    classes: &'a [String],
    preprocessing: &'a Preprocessing,
    provenance: &'a Provenance,
}

/// The metadata as read.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    #[serde(rename = "format_version")]
    _format_version: u64,
    architecture: Architecture,
    classes: Vec<String>,
    preprocessing: Preprocessing,
    provenance: Provenance,
}

/// Read first, whatever else is there: a later version may have other fields.
#[derive(Deserialize)]
struct Version {
    format_version: u64,
}

impl Model {
    /// Writes the model file, whole or not at all.
    ///
    /// # Errors
    /// Parts that do not fit together, or a file that can't be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), FormatError> {
        let bytes = self.to_bytes()?;
        write_whole(path, |file| file.write_all(&bytes))
    }

    /// Reads a model file and checks everything in it.
    ///
    /// # Errors
    /// A file that can't be read, is not a model, comes from a later version, or whose tensors are
    /// not exactly those of its architecture. The message starts with the path.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, FormatError> {
        let path = path.as_ref();
        let bytes = read_limited(path)?;
        Self::from_bytes(&bytes)
            .map_err(|source| FormatError::InFile { path: path.to_owned(), source: source.into() })
    }

    /// The content of the model file.
    ///
    /// # Errors
    /// Parts that do not fit together.
    pub fn to_bytes(&self) -> Result<Vec<u8>, FormatError> {
        let graph = self.check()?;
        let header = HeaderRef {
            format_version: FORMAT_VERSION,
            architecture: &self.architecture,
            classes: &self.classes,
            preprocessing: &self.preprocessing,
            provenance: &self.provenance,
        };
        let header = serde_json::to_string(&header).map_err(FormatError::Header)?;
        let metadata = HashMap::from([(METADATA_KEY.to_owned(), header)]);
        let tensors = tensors(&graph, &self.weights)
            .map(|(spec, values)| (&spec.name, F32Tensor { shape: &spec.shape, values }));
        let bytes = safetensors::serialize(tensors, Some(metadata))?;
        header_len(&bytes)?;
        Ok(bytes)
    }

    /// The model in the content of a model file.
    ///
    /// # Errors
    /// As [`load`](Self::load), without the path.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FormatError> {
        let (header, graph) = check_start(bytes, bytes.len() as u64)?;
        let weights = read_weights(&graph, &SafeTensors::deserialize(bytes)?)?;
        let Header { architecture, classes, preprocessing, provenance, .. } = header;
        let model = Self { architecture, weights, classes, preprocessing, provenance };
        model.check()?;
        Ok(model)
    }

    /// SHA-256, in hexadecimal, over the weights: for each tensor, parameters first, in
    /// state-dict order, the length of its name, its name, its number of dimensions, its
    /// dimensions (integers as 8 bytes) and its values (4 bytes each), all little-endian.
    ///
    /// # Errors
    /// Weights that are not those of the architecture.
    pub fn weights_sha256(&self) -> Result<String, FormatError> {
        let graph = self.check()?;
        let mut hash = Sha256::new();
        for (spec, values) in tensors(&graph, &self.weights) {
            hash.update((spec.name.len() as u64).to_le_bytes());
            hash.update(&spec.name);
            hash.update((spec.shape.len() as u64).to_le_bytes());
            spec.shape.iter().for_each(|&dim| hash.update((dim as u64).to_le_bytes()));
            hash.update(F32Tensor { shape: &spec.shape, values }.data());
        }
        Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// How many values are NaN or infinite. A model that was trained has none.
    pub fn num_non_finite(&self) -> usize {
        let Weights { params, buffers } = &self.weights;
        params.iter().chain(buffers).filter(|value| !value.is_finite()).count()
    }

    /// The graph, if all parts fit together.
    fn check(&self) -> Result<Graph, FormatError> {
        let graph = self.architecture.to_graph()?;
        let Weights { params, buffers } = &self.weights;
        count("parameters", params.len(), graph.num_parameters())?;
        count("running statistics", buffers.len(), graph.num_buffer_elements())?;
        count("class names", self.classes.len(), self.architecture.classes())?;
        if let Some(class) = self.classes.iter().find(|class| !is_class_name(class)) {
            return Err(FormatError::ClassName { class: class.clone() });
        }
        let mut seen = HashSet::new();
        if let Some(class) = self.classes.iter().find(|&class| !seen.insert(class)) {
            return Err(FormatError::DuplicateClass { class: class.clone() });
        }
        self.preprocessing.validate()?;
        let input = self.architecture.input();
        let got =
            [self.preprocessing.channels, self.preprocessing.height, self.preprocessing.width];
        if got != [input.c, input.h, input.w] {
            return Err(FormatError::InputShape { got, expected: [input.c, input.h, input.w] });
        }
        Ok(graph)
    }
}

/// Names are printed, one on a line: a control character could say anything there.
fn is_class_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(char::is_control)
}

fn count(what: &'static str, got: usize, expected: usize) -> Result<(), FormatError> {
    match got == expected {
        true => Ok(()),
        false => Err(FormatError::Count { what, got, expected }),
    }
}

/// Every tensor with its values, parameters first.
fn tensors<'a>(
    graph: &'a Graph,
    weights: &'a Weights,
) -> impl Iterator<Item = (&'a TensorSpec, &'a [f32])> {
    let params = graph.params().iter().map(|spec| (spec, &weights.params[spec.range()]));
    let buffers = graph.buffers().iter().map(|spec| (spec, &weights.buffers[spec.range()]));
    params.chain(buffers)
}

fn parse_header(json: &str) -> Result<Header, FormatError> {
    let Version { format_version } = serde_json::from_str(json).map_err(FormatError::Header)?;
    if format_version > FORMAT_VERSION {
        return Err(FormatError::FutureVersion { got: format_version, expected: FORMAT_VERSION });
    }
    serde_json::from_str(json).map_err(FormatError::Header)
}

/// The metadata and the graph of a file of `file_len` bytes that begins with `start`: its tensors
/// are exactly the graph's, and end where the file does. Nothing after the header is looked at.
fn check_start(start: &[u8], file_len: u64) -> Result<(Header, Graph), FormatError> {
    let header_len = header_len(start)?;
    let json = start[LEN_BYTES..].get(..header_len).ok_or(SafeTensorError::InvalidHeaderLength)?;
    let metadata: Metadata =
        serde_json::from_slice(json).map_err(SafeTensorError::InvalidHeaderDeserialization)?;
    let expected = ((LEN_BYTES + header_len) as u64).saturating_add(metadata.data_len() as u64);
    if file_len != expected {
        return Err(FormatError::Length { got: file_len, expected });
    }
    let header = metadata.metadata().as_ref().and_then(|all| all.get(METADATA_KEY));
    let header = parse_header(header.ok_or(FormatError::NotAModel)?)?;
    let graph = header.architecture.to_graph()?;
    check_tensors(&graph, &metadata)?;
    Ok((header, graph))
}

/// How long the header is that follows these bytes.
fn header_len(start: &[u8]) -> Result<usize, FormatError> {
    let len = start.first_chunk().ok_or(SafeTensorError::HeaderTooSmall)?;
    let (what, got, expected) = ("header", u64::from_le_bytes(*len), MAX_HEADER_BYTES);
    match got {
        // Text, as a rule: eight letters are a large number.
        MAX_FILE_BYTES.. => Err(SafeTensorError::InvalidHeaderLength.into()),
        _ if got > expected => Err(FormatError::TooLarge { what, got, expected }),
        _ => Ok(got as usize),
    }
}

/// The graph's tensors, all of them and nothing else.
fn check_tensors(graph: &Graph, metadata: &Metadata) -> Result<(), FormatError> {
    let specs = || graph.params().iter().chain(graph.buffers());
    for spec in specs() {
        check_tensor(spec, metadata)?;
    }
    let known: HashSet<&str> = specs().map(|spec| spec.name.as_str()).collect();
    let names = metadata.offset_keys().into_iter();
    match names.filter(|name| !known.contains(name.as_str())).min() {
        Some(tensor) => Err(FormatError::UnknownTensor { tensor }),
        None => Ok(()),
    }
}

/// The values of tensors that have been checked: the size of the file bounds their memory.
fn read_weights(graph: &Graph, file: &SafeTensors<'_>) -> Result<Weights, FormatError> {
    let values = |specs: &[TensorSpec]| -> Result<Vec<f32>, FormatError> {
        let len = specs.last().map_or(0, |spec| spec.range().end);
        let mut values = Vec::with_capacity(len);
        for spec in specs {
            values.extend(F32Tensor::read(&file.tensor(&spec.name)?).into_iter().flatten());
        }
        Ok(values)
    };
    Ok(Weights { params: values(graph.params())?, buffers: values(graph.buffers())? })
}

fn check_tensor(spec: &TensorSpec, metadata: &Metadata) -> Result<(), FormatError> {
    let tensor = spec.name.clone();
    let Some(info) = metadata.info(&tensor) else {
        return Err(FormatError::MissingTensor { tensor });
    };
    if info.dtype != Dtype::F32 || info.shape != spec.shape {
        let got = format!("{} {:?}", info.dtype, info.shape);
        return Err(FormatError::Tensor { tensor, got, expected: format!("F32 {:?}", spec.shape) });
    }
    Ok(())
}

/// The file's bytes, unless it is something that has no end, or more than any model has. The
/// header is checked before memory for the rest is taken: a sparse file may be of any length.
fn read_limited(path: &Path) -> Result<Vec<u8>, FormatError> {
    let read = |source| FormatError::Read { path: path.to_owned(), source };
    let in_file = |source: FormatError| FormatError::InFile {
        path: path.to_owned(),
        source: Box::new(source),
    };
    let metadata = fs::metadata(path).map_err(read)?;
    if !metadata.is_file() {
        return Err(in_file(FormatError::NotAFile));
    }
    if metadata.len() > MAX_FILE_BYTES {
        let (got, expected) = (metadata.len(), MAX_FILE_BYTES);
        return Err(in_file(FormatError::TooLarge { what: "file", got, expected }));
    }
    let mut file = File::open(path).map_err(read)?.take(metadata.len());
    let mut bytes = Vec::new();
    file.by_ref().take(LEN_BYTES as u64).read_to_end(&mut bytes).map_err(read)?;
    let header_len = header_len(&bytes).map_err(in_file)?;
    file.by_ref().take(header_len as u64).read_to_end(&mut bytes).map_err(read)?;
    check_start(&bytes, metadata.len()).map_err(in_file)?;
    let rest = metadata.len() as usize - bytes.len();
    bytes.try_reserve_exact(rest).map_err(|error| read(io::Error::from(error)))?;
    file.read_to_end(&mut bytes).map_err(read)?;
    Ok(bytes)
}
