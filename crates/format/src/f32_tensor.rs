use std::borrow::Cow;

use safetensors::{Dtype, View, tensor::TensorView};

/// A tensor of f32 on its way into a safetensors file. Its bytes are made when it is written, so
/// that only one tensor is in memory twice.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct F32Tensor<'a> {
    /// Its dimensions.
    pub shape: &'a [usize],
    /// Its values, as many as the dimensions say.
    pub values: &'a [f32],
}

impl View for F32Tensor<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Owned(self.values.iter().flat_map(|value| value.to_le_bytes()).collect())
    }

    fn data_len(&self) -> usize {
        size_of_val(self.values)
    }
}

impl F32Tensor<'_> {
    /// The values of a tensor that was read, if it is of f32.
    pub fn read(view: &TensorView<'_>) -> Option<impl Iterator<Item = f32>> {
        let (chunks, _) = view.data().as_chunks();
        (view.dtype() == Dtype::F32).then(|| chunks.iter().map(|&chunk| f32::from_le_bytes(chunk)))
    }
}
