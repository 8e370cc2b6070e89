//! Pictures as the variables of a model.

use std::path::Path;

use anyhow::{Result, bail};
use burn::tensor::{Device, Int, Tensor, TensorData};
use kiln::backend::noise::{NoiseKey, uniform_values};
use kiln::picture::{Channels, Filter, Picture};
use kiln::training::data::{DataError, FolderOptions, OpenOptions, Pictures, Split};

use super::options::{Format, TrainAutoregressive};

/// Pictures whose pixels are 0, 1, ..., levels - 1.
pub struct Discrete {
    pub format: Format,
    levels: usize,
    /// `[count, variables]`.
    values: Vec<f32>,
    labels: Option<Vec<u32>>,
}

/// The step of the noise that binarises: far from those of training and drawing.
const BINARISING: u64 = 1 << 40;

impl Discrete {
    /// What to learn from, and what is held out: of IDX data in two halves the test half, else every tenth picture.
    pub fn open(options: &TrainAutoregressive) -> Result<[Self; 2]> {
        let channels = if options.colour { Channels::Rgb } else { Channels::Grey };
        let size = options.size.unwrap_or(28);
        let folder = FolderOptions { size, channels, ..FolderOptions::default() };
        let all_of = |pictures: &Pictures| (0..pictures.len()).collect::<Vec<_>>();
        let all = match (idx_half(&options.data, Split::Train)?, idx_half(&options.data, Split::Test)?) {
            (Some(train), Some(test)) => {
                let [train, test] = [(train, 0), (test, 1)]
                    .map(|(pictures, half)| Self::new(&pictures, &all_of(&pictures), options, half));
                return Ok([train?, test?]);
            }
            (Some(half), None) | (None, Some(half)) => half,
            (None, None) => Pictures::open(&options.data, &OpenOptions { split: Split::Train, folder })?,
        };
        let (test, train): (Vec<_>, Vec<_>) = all_of(&all).into_iter().partition(|i| i % 10 == 9);
        if test.is_empty() {
            bail!("{} holds fewer than ten pictures: none can be held out", options.data.display());
        }
        Ok([Self::new(&all, &train, options, 0)?, Self::new(&all, &test, options, 1)?])
    }

    fn new(pictures: &Pictures, indices: &[usize], options: &TrainAutoregressive, half: u64) -> Result<Self> {
        let levels = options.levels as usize;
        let mut values = Vec::new();
        let mut format = [0; 3];
        for &index in indices {
            let picture = reduced(pictures.picture(index), options.size)?;
            format = [picture.channels().count(), picture.height() as usize, picture.width() as usize];
            // Its own numbers for each picture and half, whatever else is in the set.
            let key = binarising(options.seed).at_sample(2 * index as u64 + half);
            values.extend(discrete(&picture, levels, key));
        }
        let [channels, height, width] = format;
        let labels = pictures.labels().map(|labels| indices.iter().map(|&i| labels[i]).collect());
        let format = Format { channels, height, width, classes: pictures.class_names().len() };
        Ok(Self { format, levels, values, labels })
    }

    pub fn len(&self) -> usize {
        self.values.len() / self.variables()
    }

    pub fn variables(&self) -> usize {
        let Format { channels, height, width, .. } = self.format;
        channels * height * width
    }

    /// Some of them, `[batch, variables]`.
    pub fn batch(&self, indices: &[usize], device: &Device) -> Tensor<2> {
        let n = self.variables();
        let values: Vec<f32> = indices.iter().flat_map(|&i| &self.values[i * n..][..n]).copied().collect();
        Tensor::from_data(TensorData::new(values, [indices.len(), n]), device)
    }

    /// Their classes.
    pub fn labels(&self, indices: &[usize], device: &Device) -> Option<Tensor<1, Int>> {
        let labels = self.labels.as_ref()?;
        let labels: Vec<i64> = indices.iter().map(|&i| i64::from(labels[i])).collect();
        let labels = TensorData::new(labels, [indices.len()]);
        Some(Tensor::from_data(labels, device))
    }

    /// Values, `[batch, variables]`, as pictures to look at.
    pub fn pictures(&self, x: &Tensor<2>) -> Result<Vec<Picture>> {
        drawn(&self.format, self.levels, x)
    }
}

/// Half of an IDX data set, if the path is a folder that has it.
fn idx_half(path: &Path, split: Split) -> Result<Option<Pictures>> {
    if !path.is_dir() {
        return Ok(None);
    }
    match Pictures::idx(path, split) {
        Err(DataError::NothingFound { .. }) => Ok(None),
        half => Ok(Some(half?)),
    }
}

/// The numbers that binarise the first picture of a seed.
pub fn binarising(seed: u64) -> NoiseKey {
    NoiseKey::new(seed).at_step(BINARISING)
}

/// A picture's values, channel by channel: 0, 1, ..., levels - 1. Of two levels, a value is 1 with its own brightness as probability.
pub fn discrete(picture: &Picture, levels: usize, key: NoiseKey) -> Vec<f32> {
    let (channels, pixels) = (picture.channels().count(), picture.samples());
    let planes = (0..channels).flat_map(|c| pixels.iter().skip(c).step_by(channels)).copied();
    if levels == 2 {
        let uniforms = uniform_values(pixels.len(), key);
        planes.zip(uniforms).map(|(x, u)| f32::from(u8::from(u * 255.0 < f32::from(x)))).collect()
    } else {
        planes.map(|x| (usize::from(x) * levels / 256) as f32).collect()
    }
}

/// Values, `[batch, variables]`, as pictures to look at.
pub fn drawn(format: &Format, levels: usize, x: &Tensor<2>) -> Result<Vec<Picture>> {
    let Format { channels, height, width, .. } = *format;
    let layout = if channels == 3 { Channels::Rgb } else { Channels::Grey };
    let values: Vec<f32> = x.to_data().iter().collect();
    let scale = 255.0 / (levels - 1) as f32;
    let pictures = values.chunks_exact(channels * height * width).map(|planes| {
        let pixel =
            |p: usize| (0..channels).map(move |c| (planes[c * height * width + p] * scale).round() as u8);
        let pixels: Vec<u8> = (0..height * width).flat_map(pixel).collect();
        Ok(Picture::new(width as u32, height as u32, layout, pixels)?)
    });
    pictures.collect()
}

fn reduced(picture: Picture, size: Option<u32>) -> Result<Picture> {
    match size {
        Some(size) if (picture.width(), picture.height()) != (size, size) => {
            Ok(picture.resize(size, size, Filter::Bilinear)?)
        }
        _ => Ok(picture),
    }
}
