//! `DetrForObjectDetection` and `DetrForSegmentation`: `pixel_values`, `pixel_mask` to `logits`, `pred_boxes`, `pred_masks`, and
//! with labels to `loss` and each of its terms as `loss_dict.<term>`.

use anyhow::{Result, bail};
use burn::tensor::{Bool, Tensor};
use kiln::checkpoint::StoredModel;
use kiln::detection::{Detr, DetrConfig, DetrOutput, DetrSegmentation};

use super::Case;
use super::call::{
    Call,
    Side::{Any, Is},
};
use super::compare::Outputs;

pub const DETR: Case = Case {
    class: "DetrForObjectDetection",
    check: |config| DetrConfig::from_json(config).map(drop),
    fits: |inputs| inputs.contains("pixel_values"),
    run: detect,
};

pub const DETR_SEGMENTATION: Case = Case {
    class: "DetrForSegmentation",
    check: |config| DetrConfig::from_json(config).and_then(|config| config.validate_masks()),
    fits: |inputs| inputs.contains("pixel_values"),
    run: segment,
};

fn detect(model: &StoredModel, call: &Call<'_>) -> Result<Outputs> {
    let config = DetrConfig::from_json(&model.config)?;
    let (pictures, mask) = pictures(&config, call)?;
    call.understood()?;
    let network: Detr = model.load(call.device())?;
    check_size(&network, &config, &pictures)?;
    let mut outputs = Outputs::default();
    push(&mut outputs, network.forward(pictures, mask));
    Ok(outputs)
}

fn segment(model: &StoredModel, call: &Call<'_>) -> Result<Outputs> {
    let config = DetrConfig::from_json(&model.config)?;
    let (pictures, mask) = pictures(&config, call)?;
    call.understood()?;
    let network: DetrSegmentation = model.load(call.device())?;
    check_size(network.detector(), &config, &pictures)?;
    let found = network.forward(pictures, mask);
    let mut outputs = Outputs::default();
    outputs.push("pred_masks", found.masks);
    push(&mut outputs, found.detection);
    Ok(outputs)
}

/// Pictures, and where in them padding is.
type Pictures = (Tensor<4>, Option<Tensor<3, Bool>>);

fn pictures(config: &DetrConfig, call: &Call<'_>) -> Result<Pictures> {
    let sides = [Any("batch"), Is(config.num_channels), Any("height"), Any("width")];
    let pictures = call.need("pixel_values", sides)?;
    let [batch, _, height, width] = pictures.dims();
    let mask = call.mask("pixel_mask", [Is(batch), Is(height), Is(width)])?;
    Ok((pictures, mask.map(|mask| mask.greater_elem(0.5))))
}

/// Learned positions know so many rows and columns.
fn check_size(network: &Detr, config: &DetrConfig, pictures: &Tensor<4>) -> Result<()> {
    let [_, _, height, width] = pictures.dims();
    let stride = config.backbone()?.stride();
    if let Some(places) = network.largest_map()
        && height.max(width).div_ceil(stride) > places
    {
        bail!(
            "input.pixel_values: {height} x {width} pixels are more than {places} learned positions a side, of {stride} \
             pixels each"
        );
    }
    Ok(())
}

fn push(outputs: &mut Outputs, found: DetrOutput) {
    outputs.push("logits", found.predictions.logits);
    outputs.push("pred_boxes", found.predictions.boxes);
    outputs.push("last_hidden_state", found.last_hidden_state);
    outputs.push("encoder_last_hidden_state", found.encoder_last_hidden_state);
}
