//! Pictures as a detector takes them, by a `preprocessor_config.json`; transformers' `DetrImageProcessor`.
//!
//! ```text
//! resize: the shorter side to shortest_edge, but no side above longest_edge;   x = (rescale_factor x - image_mean) / image_std
//! ```
//!
//! Resizing is Pillow's, to the bit. Pictures are not padded: each is a batch of its own, so that none changes another's result.

use burn::tensor::{DType, Device, Tensor, TensorData};
use kiln_picture::{Channels, Filter, Picture, PictureError};
use serde::Deserialize;

use crate::ConfigError;

/// The size that pictures are brought to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct TargetSize {
    /// The shorter side.
    pub shortest_edge: Option<u32>,
    /// What the longer side may be at most.
    pub longest_edge: Option<u32>,
    /// The height, where the width is given too.
    pub height: Option<u32>,
    /// The width, where the height is given too.
    pub width: Option<u32>,
    /// What the height may be at most.
    pub max_height: Option<u32>,
    /// What the width may be at most.
    pub max_width: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
enum SizeField {
    Number(u32),
    Sides(TargetSize),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
struct Fields {
    do_resize: bool,
    size: Option<SizeField>,
    max_size: Option<u32>,
    resample: u8,
    do_rescale: bool,
    rescale_factor: f64,
    do_normalize: bool,
    image_mean: [f32; 3],
    image_std: [f32; 3],
}

impl Default for Fields {
    fn default() -> Self {
        Self {
            do_resize: true,
            size: None,
            max_size: None,
            resample: 2,
            do_rescale: true,
            rescale_factor: 1.0 / 255.0,
            do_normalize: true,
            image_mean: [0.485, 0.456, 0.406],
            image_std: [0.229, 0.224, 0.225],
        }
    }
}

/// What is done to a picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Processor {
    size: Option<TargetSize>,
    filter: Filter,
    scale: f64,
    mean: [f32; 3],
    std: [f32; 3],
}

impl Default for Processor {
    /// As the published detectors: 800 to 1333 pixels, ImageNet's mean and deviation.
    fn default() -> Self {
        Self::of(&Fields::default(), Filter::Bilinear)
    }
}

impl Processor {
    /// Read a `preprocessor_config.json`; what it leaves out is as published.
    ///
    /// # Errors
    ///
    /// [`ConfigError`], which names the field.
    pub fn from_json(text: &str) -> Result<Self, ConfigError> {
        let fields: Fields =
            serde_json::from_str(text).map_err(|error| ConfigError::NotJson { reason: error.to_string() })?;
        let fail = |field, reason: String| Err(ConfigError::Inconsistent { field, reason });
        let filter = match fields.resample {
            0 => Filter::Nearest,
            1 => Filter::Lanczos,
            2 => Filter::Bilinear,
            3 => Filter::Bicubic,
            4 => Filter::Box,
            5 => Filter::Hamming,
            other => return fail("resample", format!("is {other}; expected 0 to 5")),
        };
        if fields.image_std.contains(&0.0) {
            return fail("image_std", "has a 0, by which is divided".to_owned());
        }
        let processor = Self::of(&fields, filter);
        let Some(size) = processor.size else { return Ok(processor) };
        let known = size.shortest_edge.is_some()
            || (size.height.is_some() && size.width.is_some())
            || (size.max_height.is_some() && size.max_width.is_some());
        let sides =
            [size.shortest_edge, size.longest_edge, size.height, size.width, size.max_height, size.max_width];
        if !known || sides.into_iter().flatten().any(|side| side == 0 || side > 1 << 14) {
            return fail("size", format!("is {size:?}; expected a shortest edge, or two sides, up to 16384"));
        }
        Ok(processor)
    }

    fn of(fields: &Fields, filter: Filter) -> Self {
        let size = match fields.size {
            None => {
                TargetSize { shortest_edge: Some(800), longest_edge: Some(1333), ..TargetSize::default() }
            }
            Some(SizeField::Number(side)) => TargetSize {
                shortest_edge: Some(side),
                longest_edge: Some(fields.max_size.unwrap_or(1333)),
                ..TargetSize::default()
            },
            Some(SizeField::Sides(size)) => size,
        };
        let normal = fields.do_normalize;
        Self {
            size: fields.do_resize.then_some(size),
            filter,
            scale: if fields.do_rescale { fields.rescale_factor } else { 1.0 },
            mean: if normal { fields.image_mean } else { [0.0; 3] },
            std: if normal { fields.image_std } else { [1.0; 3] },
        }
    }

    /// Width and height that a picture of `width` x `height` is brought to.
    #[must_use]
    pub fn resized(&self, width: u32, height: u32) -> (u32, u32) {
        let Some(size) = self.size else { return (width, height) };
        let (w, h) = (f64::from(width), f64::from(height));
        if let Some(edge) = size.shortest_edge {
            let (short, long) = (w.min(h), w.max(h));
            let mut exact = f64::from(edge);
            if let Some(most) = size.longest_edge.map(f64::from)
                && long / short * exact > most
            {
                exact = most * short / long;
            }
            // Python rounds halves to even.
            let side = exact.round_ties_even() as u32;
            return match () {
                () if (height <= width && height == side) || (width <= height && width == side) => {
                    (width, height)
                }
                () if width < height => (side.max(1), ((exact * h / w) as u32).max(1)),
                () => (((exact * w / h) as u32).max(1), side.max(1)),
            };
        }
        if let (Some(height), Some(width)) = (size.height, size.width) {
            return (width, height);
        }
        let (most_h, most_w) = (size.max_height.unwrap_or(height), size.max_width.unwrap_or(width));
        let scale = (f64::from(most_h) / h).min(f64::from(most_w) / w);
        (((w * scale) as u32).max(1), ((h * scale) as u32).max(1))
    }

    /// `[1, 3, height, width]` in the device's float type.
    ///
    /// # Errors
    ///
    /// [`PictureError`], if the picture can't be resized.
    pub fn preprocess(&self, picture: &Picture, device: &Device) -> Result<Tensor<4>, PictureError> {
        let rgb = picture.convert(Channels::Rgb);
        let (width, height) = self.resized(rgb.width(), rgb.height());
        let rgb = if (width, height) == (rgb.width(), rgb.height()) {
            rgb
        } else {
            rgb.resize(width, height, self.filter)?
        };
        let values = self.normalize(&rgb);
        let dtype = DType::from(device.settings().float_dtype);
        let data = TensorData::new(values, [1, 3, height as usize, width as usize]);
        Ok(Tensor::from_data(data.convert_dtype(dtype), (device, dtype)))
    }

    /// The picture's values as a network takes them, at its own size: all of red, then green, then blue.
    #[must_use]
    pub fn normalize(&self, picture: &Picture) -> Vec<f32> {
        let rgb = picture.convert(Channels::Rgb);
        let pixels = rgb.width() as usize * rgb.height() as usize;
        let mut values = vec![0_f32; 3 * pixels];
        for (place, colour) in rgb.samples().chunks(3).enumerate() {
            for (channel, &sample) in colour.iter().enumerate() {
                let shade = (f64::from(sample) * self.scale) as f32;
                values[channel * pixels + place] = (shade - self.mean[channel]) / self.std[channel];
            }
        }
        values
    }

    /// The same for pictures of another size.
    #[must_use]
    pub fn with_size(self, size: TargetSize) -> Self {
        Self { size: Some(size), ..self }
    }
}
