use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::nchw_to_nhwc;

/// A safetensors file of inputs and results of PyTorch, written by a script under `tools/golden/`.
#[derive(Debug, Clone)]
pub struct Golden {
    path: PathBuf,
    bytes: Vec<u8>,
}

/// Why a golden file, or a tensor in it, can't be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GoldenError {
    /// The file can't be read.
    #[error("golden file {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no safetensors file.
    #[error("golden file {path}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why.
        source: safetensors::SafeTensorError,
    },
    /// The file has no such tensor or metadata.
    #[error("golden file {path} has no `{name}`, expected one of {known:?}")]
    Missing {
        /// The file.
        path: PathBuf,
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// The tensor has another type or rank than was asked for.
    #[error("golden tensor `{name}` is {got}, expected {expected}")]
    Type {
        /// The tensor.
        name: String,
        /// Its type or shape.
        got: String,
        /// What was asked for.
        expected: &'static str,
    },
}

impl Golden {
    /// Reads a file.
    ///
    /// # Errors
    /// It can't be read, or is no safetensors file.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, GoldenError> {
        let path = path.as_ref().to_owned();
        let bytes = std::fs::read(&path)
            .map_err(|source| GoldenError::Read { path: path.clone(), source })?;
        Self::parse(path, bytes)
    }

    fn parse(path: PathBuf, bytes: Vec<u8>) -> Result<Self, GoldenError> {
        match SafeTensors::deserialize(&bytes) {
            Ok(_) => Ok(Self { path, bytes }),
            Err(source) => Err(GoldenError::Parse { path, source }),
        }
    }

    fn tensors(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.bytes).expect("parsed when loaded")
    }

    /// Names of all tensors, in order.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.tensors().names().into_iter().map(str::to_owned).collect();
        names.sort();
        names
    }

    /// An entry of the file's metadata, such as the version of PyTorch that wrote it.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn metadata(&self, key: &str) -> Result<String, GoldenError> {
        let (_, header) = SafeTensors::read_metadata(&self.bytes).expect("parsed when loaded");
        let entries = header.metadata().clone().unwrap_or_default();
        entries.get(key).cloned().ok_or_else(|| GoldenError::Missing {
            path: self.path.clone(),
            name: key.to_owned(),
            known: entries.into_keys().collect(),
        })
    }

    /// The shape of a tensor.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn shape(&self, name: &str) -> Result<Vec<usize>, GoldenError> {
        self.tensor(name, |tensor| Ok(tensor.shape().to_vec()))
    }

    /// The values of a tensor of type `f32`.
    ///
    /// # Errors
    /// There is none of this name, or it has another type.
    pub fn f32(&self, name: &str) -> Result<Vec<f32>, GoldenError> {
        self.values(name, Dtype::F32, "f32", f32::from_le_bytes)
    }

    /// The values of a tensor of type `f64`.
    ///
    /// # Errors
    /// There is none of this name, or it has another type.
    pub fn f64(&self, name: &str) -> Result<Vec<f64>, GoldenError> {
        self.values(name, Dtype::F64, "f64", f64::from_le_bytes)
    }

    /// Labels, kept as PyTorch's `int64`.
    ///
    /// # Errors
    /// There is no tensor of this name, it has another type, or a value is no label.
    pub fn labels(&self, name: &str) -> Result<Vec<u32>, GoldenError> {
        let labels = self.values(name, Dtype::I64, "i64", i64::from_le_bytes)?;
        let label = |label: i64| {
            label.try_into().map_err(|_| GoldenError::Type {
                name: name.to_owned(),
                got: label.to_string(),
                expected: "labels in u32",
            })
        };
        labels.into_iter().map(label).collect()
    }

    /// An image batch of type `f32`, which the file has as `[n, c, h, w]`, channels last.
    ///
    /// # Errors
    /// There is no tensor of this name, or it has another type or rank.
    pub fn nhwc(&self, name: &str) -> Result<Vec<f32>, GoldenError> {
        let shape = self.shape(name)?;
        let nchw: [usize; 4] = shape.try_into().map_err(|shape| GoldenError::Type {
            name: name.to_owned(),
            got: format!("{shape:?}"),
            expected: "[n, c, h, w]",
        })?;
        Ok(nchw_to_nhwc(nchw, &self.f32(name)?))
    }

    fn values<T, const N: usize>(
        &self,
        name: &str,
        dtype: Dtype,
        expected: &'static str,
        from_le_bytes: fn([u8; N]) -> T,
    ) -> Result<Vec<T>, GoldenError> {
        self.tensor(name, |tensor| {
            if tensor.dtype() != dtype {
                let got = format!("{:?}", tensor.dtype());
                return Err(GoldenError::Type { name: name.to_owned(), got, expected });
            }
            let (elements, _) = tensor.data().as_chunks::<N>();
            Ok(elements.iter().map(|bytes| from_le_bytes(*bytes)).collect())
        })
    }

    fn tensor<T>(
        &self,
        name: &str,
        read: impl FnOnce(&TensorView<'_>) -> Result<T, GoldenError>,
    ) -> Result<T, GoldenError> {
        match self.tensors().tensor(name) {
            Ok(tensor) => read(&tensor),
            Err(_) => Err(GoldenError::Missing {
                path: self.path.clone(),
                name: name.to_owned(),
                known: self.names(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn example() -> Golden {
        let image: Vec<u8> = (0..12_u8).flat_map(|x| f32::from(x).to_le_bytes()).collect();
        let labels: Vec<u8> = [3_i64, 0].iter().flat_map(|x| x.to_le_bytes()).collect();
        let bad: Vec<u8> = (-1_i64).to_le_bytes().to_vec();
        let tensors = [
            ("image", TensorView::new(Dtype::F32, vec![1, 3, 2, 2], &image).unwrap()),
            ("labels", TensorView::new(Dtype::I64, vec![2], &labels).unwrap()),
            ("bad", TensorView::new(Dtype::I64, vec![1], &bad).unwrap()),
        ];
        let metadata = HashMap::from([("torch".to_owned(), "2.15".to_owned())]);
        let bytes = safetensors::serialize(tensors, Some(metadata)).unwrap();
        Golden::parse("example".into(), bytes).unwrap()
    }

    #[test]
    fn tensors_are_read_by_name() {
        let golden = example();
        assert_eq!(golden.names(), ["bad", "image", "labels"]);
        assert_eq!(golden.shape("image").unwrap(), [1, 3, 2, 2]);
        assert_eq!(golden.f32("image").unwrap()[..3], [0.0, 1.0, 2.0]);
        assert_eq!(golden.nhwc("image").unwrap()[..4], [0.0, 4.0, 8.0, 1.0]);
        assert_eq!(golden.labels("labels").unwrap(), [3, 0]);
        assert_eq!(golden.metadata("torch").unwrap(), "2.15");
    }

    #[test]
    fn what_is_not_there_is_named() {
        let golden = example();
        let message = golden.f32("weight").unwrap_err().to_string();
        let expected = r#"has no `weight`, expected one of ["bad", "image", "labels"]"#;
        assert_eq!(message, format!("golden file example {expected}"));
        let message = golden.f32("labels").unwrap_err().to_string();
        assert_eq!(message, "golden tensor `labels` is I64, expected f32");
        let message = golden.labels("bad").unwrap_err().to_string();
        assert_eq!(message, "golden tensor `bad` is -1, expected labels in u32");
        assert!(golden.nhwc("labels").is_err() && golden.metadata("numpy").is_err());
        assert!(matches!(Golden::load("no/such/file"), Err(GoldenError::Read { .. })));
        let cut = golden.bytes[..golden.bytes.len() - 1].to_vec();
        assert!(matches!(Golden::parse("cut".into(), cut), Err(GoldenError::Parse { .. })));
    }
}
