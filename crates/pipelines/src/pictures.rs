//! Pictures as tensors in 0..1, and back.

use burn::tensor::{DType, Device, Tensor, TensorData};
use kiln_picture::{Channels, Picture};

use crate::PipelineError;

/// `[1, channels, height, width]` in 0..1, in the device's float type.
#[must_use]
pub fn to_tensor(picture: &Picture, device: &Device) -> Tensor<4> {
    let [height, width] = [picture.height(), picture.width()].map(|side| side as usize);
    let channels = picture.samples().len() / (height * width);
    let values: Vec<f32> = picture.samples().iter().map(|&sample| f32::from(sample) / 255.0).collect();
    let dtype = DType::from(device.settings().float_dtype);
    let data = TensorData::new(values, [1, height, width, channels]).convert_dtype(dtype);
    Tensor::from_data(data, (device, dtype)).permute([0, 3, 1, 2])
}

/// Pictures of `[pictures, channels, height, width]` in 0..1; one channel is grey, three are red, green and blue.
///
/// # Errors
/// [`PipelineError::Request`] for other channels, [`PipelineError::NotFinite`].
pub fn from_tensor(x: Tensor<4>) -> Result<Vec<Picture>, PipelineError> {
    let [_, channels, height, width] = x.dims();
    let layout = match channels {
        1 => Channels::Grey,
        3 => Channels::Rgb,
        _ => return Err(PipelineError::request("pictures", format!("have {channels} channels"))),
    };
    let values: Vec<f32> = x.permute([0, 2, 3, 1]).into_data().iter::<f32>().collect();
    values
        .chunks_exact(height * width * channels)
        .map(|values| {
            if values.iter().any(|value| !value.is_finite()) {
                let advice = "compute in f32";
                let not_finite = PipelineError::NotFinite {
                    part: "the pipeline".to_owned(),
                    step: None,
                    layer: None,
                    advice,
                };
                return Err(not_finite);
            }
            let samples = values.iter().map(|value| (value * 255.0).round().clamp(0.0, 255.0) as u8);
            Ok(Picture::new(width as u32, height as u32, layout, samples.collect())?)
        })
        .collect()
}
