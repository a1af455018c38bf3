use std::cell::RefCell;
use std::sync::Arc;

use crate::augment::Change;
use crate::dataset::{PixelShape, Samples};
use crate::image_file::{PixelView, Pixels};
use crate::preprocessing::Normalizer;
use crate::resize::{crop_and_resize, to_network_size};
use crate::{DataError, Dataset, Preprocessing, Resize};

thread_local! {
    /// The picture at the network's size, kept between samples.
    static SIZED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// From a sample's index to the network's input.
pub(crate) struct Pipeline {
    pub(crate) dataset: Arc<Dataset>,
    preprocessing: Preprocessing,
    normalizer: Normalizer,
}

impl Pipeline {
    pub(crate) fn new(
        dataset: &Arc<Dataset>,
        preprocessing: Preprocessing,
    ) -> Result<Self, DataError> {
        preprocessing.validate()?;
        let wants_vectors = preprocessing.resize == Resize::None;
        let invalid = |problem: String| Err(DataError::invalid(dataset.name(), problem));
        match (&dataset.samples, wants_vectors) {
            (Samples::Vectors { width, .. }, true) if *width == preprocessing.channels => {}
            (Samples::Vectors { width, .. }, true) => {
                let expected = preprocessing.channels;
                return invalid(format!("holds vectors of {width}, expected {expected}"));
            }
            (Samples::Vectors { .. }, false) => {
                return invalid("holds vectors, expected pictures".to_owned());
            }
            (_, true) => return invalid("holds pictures, expected vectors".to_owned()),
            (_, false) => {}
        }
        let normalizer = Normalizer::new(&preprocessing);
        Ok(Self { dataset: Arc::clone(dataset), preprocessing, normalizer })
    }

    pub(crate) fn input_len(&self) -> usize {
        self.preprocessing.input_len()
    }

    /// Writes sample `index` (of all samples), with a random change if there is one.
    pub(crate) fn write(
        &self,
        index: usize,
        change: Option<Change>,
        input: &mut [f32],
    ) -> Result<(), DataError> {
        match &self.dataset.samples {
            Samples::Vectors { width, data } => {
                self.preprocessing.normalize_vector(&data[index * width..][..*width], input);
                Ok(())
            }
            Samples::Pixels { shape, data } => {
                let PixelShape { channels, height, width } = *shape;
                let data = &data[index * shape.len()..][..shape.len()];
                self.write_picture(PixelView { channels, height, width, data }, change, input)
            }
            Samples::Files { paths, .. } => {
                let pixels = Pixels::load(&paths[index])?;
                self.write_picture(pixels.view(), change, input)
            }
        }
    }

    fn write_picture(
        &self,
        picture: PixelView<'_>,
        mut change: Option<Change>,
        input: &mut [f32],
    ) -> Result<(), DataError> {
        let p = &self.preprocessing;
        let shape = PixelShape { channels: p.channels, height: p.height, width: p.width };
        let crop = change.as_mut().and_then(|it| it.crop_box(picture.height, picture.width));
        let placement = change.as_mut().map(Change::placement).unwrap_or_default();
        let has_size = picture.channels == shape.channels
            && picture.height == shape.height
            && picture.width == shape.width;
        if has_size && crop.is_none() && p.resize == Resize::Exact {
            self.normalizer.write(picture.data, placement, input);
            return Ok(());
        }
        SIZED.with_borrow_mut(|sized| {
            match crop {
                Some(crop) => crop_and_resize(picture, crop, shape, sized)?,
                None => to_network_size(p, picture, sized)?,
            }
            self.normalizer.write(sized, placement, input);
            Ok(())
        })
    }
}
