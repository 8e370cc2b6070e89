//! A picture with its objects, and what may be done to both at once: boxes and masks follow the picture.

use burn::tensor::{Bool, Device, Tensor, TensorData};
use kiln_picture::{Filter, Picture, PictureError};

use super::target::Target;
use crate::processor::Processor;

/// An object of a picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// Its class.
    pub class: usize,
    /// Left, top, right, bottom in pixels.
    pub corners: [f32; 4],
    /// Its pixels, row by row, as many as the picture's.
    pub mask: Option<Vec<bool>>,
}

/// A picture in colours, and its objects.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The picture.
    pub picture: Picture,
    /// What is on it.
    pub objects: Vec<Object>,
}

impl Sample {
    /// Left for right.
    ///
    /// # Panics
    ///
    /// If a mask has not as many pixels as the picture.
    #[must_use]
    pub fn flip(&self) -> Self {
        let (width, channels) = (self.picture.width(), self.picture.channels());
        let count = channels.count();
        let rows = self.picture.samples().chunks(width as usize * count);
        let samples = rows.flat_map(|row| row.chunks(count).rev().flatten().copied()).collect();
        let picture =
            Picture::new(width, self.picture.height(), channels, samples).expect("as many samples as before");
        let w = width as f32;
        let objects = self.objects.iter().map(|object| {
            let [left, top, right, bottom] = object.corners;
            let mask = object
                .mask
                .as_ref()
                .map(|mask| mask.chunks(width as usize).flat_map(|row| row.iter().rev().copied()).collect());
            Object { class: object.class, corners: [w - right, top, w - left, bottom], mask }
        });
        Self { objects: objects.collect(), picture }
    }

    /// At another size: the picture by Pillow's bilinear filter, masks by their nearest pixel.
    ///
    /// # Errors
    ///
    /// [`PictureError::EmptySize`] where a side is 0.
    pub fn resize(&self, width: u32, height: u32) -> Result<Self, PictureError> {
        let (w, h) = (self.picture.width(), self.picture.height());
        let picture = self.picture.resize(width, height, Filter::Bilinear)?;
        let (x, y) = (width as f32 / w as f32, height as f32 / h as f32);
        let objects = self.objects.iter().map(|object| {
            let [left, top, right, bottom] = object.corners;
            let mask = object.mask.as_ref().map(|mask| {
                let nearest =
                    |i: u32, n: u32, old: u32| (u64::from(i) * u64::from(old) / u64::from(n)) as u32;
                let rows = (0..height).map(|row| nearest(row, height, h));
                let place = |row: u32, column: u32| (row * w + nearest(column, width, w)) as usize;
                rows.flat_map(|row| (0..width).map(move |column| mask[place(row, column)])).collect()
            });
            Object { class: object.class, corners: [left * x, top * y, right * x, bottom * y], mask }
        });
        Ok(Self { objects: objects.collect(), picture })
    }

    /// A part of it; objects of which nothing is left are left out.
    ///
    /// # Errors
    ///
    /// As [`Picture::crop`], where the part is not within the picture.
    pub fn crop(&self, left: u32, top: u32, width: u32, height: u32) -> Result<Self, PictureError> {
        let picture = self.picture.crop(left, top, width, height)?;
        let (x, y, w, h) = (left as f32, top as f32, width as f32, height as f32);
        let whole = self.picture.width();
        let objects = self.objects.iter().filter_map(|object| {
            let [near_x, near_y, far_x, far_y] = object.corners;
            let corners = [
                (near_x - x).clamp(0.0, w),
                (near_y - y).clamp(0.0, h),
                (far_x - x).clamp(0.0, w),
                (far_y - y).clamp(0.0, h),
            ];
            if corners[2] <= corners[0] || corners[3] <= corners[1] {
                return None;
            }
            let mask: Option<Vec<bool>> = object.mask.as_ref().map(|mask| {
                let row = |row: u32| &mask[(row * whole + left) as usize..][..width as usize];
                (top..top + height).flat_map(|r| row(r).iter().copied()).collect()
            });
            // What is within the box only, and not drawn, is gone too.
            let seen = mask.as_ref().is_none_or(|mask| mask.contains(&true));
            seen.then_some(Object { class: object.class, corners, mask })
        });
        Ok(Self { objects: objects.collect(), picture })
    }

    /// What a network is to answer.
    ///
    /// # Panics
    ///
    /// If a mask has not as many pixels as the picture.
    #[must_use]
    pub fn target(&self, device: &Device) -> Target {
        let (w, h) = (self.picture.width() as f32, self.picture.height() as f32);
        let centred = |[left, top, right, bottom]: [f32; 4]| {
            [(left + right) / 2.0 / w, (top + bottom) / 2.0 / h, (right - left) / w, (bottom - top) / h]
        };
        let masks: Option<Vec<&Vec<bool>>> = self.objects.iter().map(|object| object.mask.as_ref()).collect();
        let masks = masks.filter(|masks| !masks.is_empty()).map(|masks| {
            let shape = [masks.len(), self.picture.height() as usize, self.picture.width() as usize];
            let pixels = masks.into_iter().flatten().map(|&pixel| f32::from(u8::from(pixel)));
            Tensor::from_data(TensorData::new(pixels.collect::<Vec<f32>>(), shape), device)
        });
        Target {
            classes: self.objects.iter().map(|object| object.class).collect(),
            boxes: self.objects.iter().map(|object| centred(object.corners)).collect(),
            masks,
        }
    }
}

/// Pictures of a batch: `[batch, 3, height, width]`, normalised as `processor` says, each at the upper left of the largest's size;
/// and where they are, `[batch, height, width]`, if not everywhere.
///
/// # Panics
///
/// If there are none.
#[must_use]
pub fn batch<'a>(
    pictures: impl IntoIterator<Item = &'a Picture>,
    processor: &Processor,
    device: &Device,
) -> (Tensor<4>, Option<Tensor<3, Bool>>) {
    let pictures: Vec<&Picture> = pictures.into_iter().collect();
    let largest = |side: fn(&Picture) -> u32| pictures.iter().map(|p| side(p) as usize).max();
    let (Some(width), Some(height)) = (largest(Picture::width), largest(Picture::height)) else {
        panic!("a batch of no pictures");
    };
    let count = pictures.len();
    let mut values = vec![0_f32; count * 3 * height * width];
    let mut seen = vec![false; count * height * width];
    for (index, picture) in pictures.iter().enumerate() {
        let (w, h) = (picture.width() as usize, picture.height() as usize);
        let pixels = processor.normalize(picture);
        for (row, line) in pixels.chunks(w).enumerate() {
            let (channel, row) = (row / h, row % h);
            let place = ((index * 3 + channel) * height + row) * width;
            values[place..place + w].copy_from_slice(line);
            seen[(index * height + row) * width..][..w].fill(true);
        }
    }
    let whole = seen.iter().all(|seen| *seen);
    let dtype = burn::tensor::DType::from(device.settings().float_dtype);
    let data = TensorData::new(values, [count, 3, height, width]).convert_dtype(dtype);
    let mask = (!whole).then(|| Tensor::from_data(TensorData::new(seen, [count, height, width]), device));
    (Tensor::from_data(data, (device, dtype)), mask)
}
