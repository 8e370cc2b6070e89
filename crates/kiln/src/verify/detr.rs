//! `DetrForObjectDetection`, `ConditionalDetrForObjectDetection` and `DetrForSegmentation`: `pixel_values`, `pixel_mask` to `logits`, `pred_boxes`, `pred_masks`, and
//! with `labels.<picture>.class_labels`, `.boxes` and `.masks` to `loss` and each of its terms as `loss_dict.<term>`. A request that
//! names `train_steps` trains the detector first, with the same pictures at every step.

use anyhow::{Context, Result, bail};
use burn::module::Module;
use burn::optim::{GradientsParams, Optimizer};
use burn::tensor::{Bool, FloatDType, Tensor, TensorData};
use kiln::checkpoint::StoredModel;
use kiln::detection::training::{Criterion, Losses, Target};
use kiln::detection::{Detr, DetrConfig, DetrOutput, DetrSegmentation};
use kiln::optim::{NamedOptimizer, clip_by_global_norm};

use super::Case;
use super::call::{
    Call,
    Side::{Any, Is},
};
use super::compare::Outputs;
use super::train::Method;

pub const DETR: Case = Case {
    class: "DetrForObjectDetection",
    check: |config| DetrConfig::from_json(config).map(drop),
    fits: |inputs| inputs.contains("pixel_values"),
    run: detect,
};

pub const CONDITIONAL_DETR: Case = Case { class: "ConditionalDetrForObjectDetection", ..DETR };

pub const DETR_SEGMENTATION: Case = Case {
    class: "DetrForSegmentation",
    check: |config| DetrConfig::from_json(config).and_then(|config| config.validate_masks()),
    fits: |inputs| inputs.contains("pixel_values"),
    run: segment,
};

fn detect(model: &StoredModel, call: &Call<'_>) -> Result<Outputs> {
    let config = DetrConfig::from_json(&model.config)?;
    let (pictures, mask) = pictures(&config, call)?;
    let targets = labels(&config, call, pictures.dims()[0], Masks::No)?;
    let training = Training::take(call)?;
    call.understood()?;
    let mut outputs = Outputs::default();
    let network: Detr = match training {
        None => model.load(call.device())?,
        Some(training) => {
            let network: Detr = model.load(&call.device().clone().autodiff())?;
            check_size(&network, &config, &pictures)?;
            let targets = targets.as_deref().context("training needs input.labels")?;
            let criterion = Criterion::from(&config);
            let (network, losses) = training.run(network, &criterion, &pictures, mask.as_ref(), targets)?;
            outputs.push_data("losses", losses);
            network
        }
    };
    check_size(&network, &config, &pictures)?;
    let found = network.forward(pictures, mask);
    if let Some(targets) = targets {
        push_losses(&mut outputs, Criterion::from(&config).forward(&found, None, &targets)?);
    }
    push(&mut outputs, found);
    Ok(outputs)
}

fn segment(model: &StoredModel, call: &Call<'_>) -> Result<Outputs> {
    let config = DetrConfig::from_json(&model.config)?;
    let (pictures, mask) = pictures(&config, call)?;
    let targets = labels(&config, call, pictures.dims()[0], Masks::Yes)?;
    call.understood()?;
    let network: DetrSegmentation = model.load(call.device())?;
    check_size(network.detector(), &config, &pictures)?;
    let found = network.forward(pictures, mask);
    let mut outputs = Outputs::default();
    if let Some(targets) = targets {
        let losses =
            Criterion::from(&config).forward(&found.detection, Some(found.masks.clone()), &targets)?;
        push_losses(&mut outputs, losses);
    }
    outputs.push("pred_masks", found.masks);
    push(&mut outputs, found.detection);
    Ok(outputs)
}

/// Whether objects have masks to learn.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Masks {
    No,
    Yes,
}

/// The objects of each picture, where the call names them.
fn labels(config: &DetrConfig, call: &Call<'_>, batch: usize, masks: Masks) -> Result<Option<Vec<Target>>> {
    if !call.has("labels.0.class_labels") {
        return Ok(None);
    }
    let target = |picture: usize| -> Result<Target> {
        let name = |what: &str| format!("labels.{picture}.{what}");
        let count = call.shape(&name("class_labels")).and_then(|shape| shape.first().copied()).unwrap_or(0);
        let classes = call
            .integers(&name("class_labels"), [Is(count)], config.classes())?
            .with_context(|| call.missing(&name("class_labels")))?;
        let boxes = call
            .numbers_exactly(&name("boxes"), [Is(count), Is(4)])?
            .with_context(|| call.missing(&name("boxes")))?;
        let boxes: Vec<f32> = boxes.into_data().iter::<f32>().collect();
        let masks = match masks {
            Masks::No => None,
            Masks::Yes => call.mask(&name("masks"), [Is(count), Any("height"), Any("width")])?,
        };
        let target = Target {
            classes: classes.into_data().iter::<i64>().map(|class| class as usize).collect(),
            boxes: boxes.chunks(4).map(|sides| [sides[0], sides[1], sides[2], sides[3]]).collect(),
            masks,
        };
        target.validate(config.classes()).with_context(|| format!("input.labels.{picture}"))?;
        Ok(target)
    };
    (0..batch).map(target).collect::<Result<_>>().map(Some)
}

/// What a request asks for.
struct Training {
    method: Method,
    steps: usize,
    learning_rate: f64,
    clip: Option<f64>,
}

/// The one thing that is known to be done with a backbone, in the words of the request.
const FROZEN: &str = "all of it frozen";

impl Training {
    fn take(call: &Call<'_>) -> Result<Option<Self>> {
        let Some(steps) = call.option("train_steps")? else { return Ok(None) };
        if FloatDType::F16 == call.device().settings().float_dtype {
            bail!("AdamW's epsilon is 0 in f16, and its first step no number: train in f32 or bf16");
        }
        // transformers freezes its own ResNet whole, so that the rate meant for it has nothing to move.
        let _: Option<f64> = call.option("learning_rate_backbone")?;
        if let Some(backbone) = call.option::<String>("backbone")?
            && !backbone.starts_with(FROZEN)
        {
            bail!("`backbone` of the request is \"{backbone}\"; known is \"{FROZEN}\"");
        }
        let clip = call.option("clip_max_norm")?;
        if clip.is_some_and(|norm: f64| !norm.is_finite() || norm <= 0.0) {
            bail!("`clip_max_norm` of the request is no number above 0");
        }
        Ok(Some(Self {
            method: Method::take(call)?,
            steps,
            learning_rate: call.option("learning_rate")?.context("the request names no `learning_rate`")?,
            clip,
        }))
    }

    /// Trains; the network without autodiff, and each loss before its step.
    fn run(
        &self,
        network: Detr,
        criterion: &Criterion,
        pictures: &Tensor<4>,
        mask: Option<&Tensor<3, Bool>>,
        targets: &[Target],
    ) -> Result<(Detr, TensorData)> {
        let network = network.freeze_backbone();
        match &self.method {
            Method::Adam(config) => self.steps(config.build(), network, criterion, pictures, mask, targets),
            Method::AdamW(config) => self.steps(config.build(), network, criterion, pictures, mask, targets),
        }
    }

    fn steps<O: Optimizer>(
        &self,
        optimizer: O,
        mut network: Detr,
        criterion: &Criterion,
        pictures: &Tensor<4>,
        mask: Option<&Tensor<3, Bool>>,
        targets: &[Target],
    ) -> Result<(Detr, TensorData)> {
        let mut optimizer = NamedOptimizer::new(optimizer);
        let mut taken = Vec::with_capacity(self.steps.min(1 << 16));
        let pictures = pictures.clone().autodiff();
        let mask = mask.map(|mask| mask.clone().autodiff());
        for _ in 0..self.steps {
            let loss =
                criterion.forward(&network.forward(pictures.clone(), mask.clone()), None, targets)?.total;
            taken.push(loss.clone().into_scalar::<f32>());
            let mut gradients = GradientsParams::from_grads(loss.backward(), &network);
            if let Some(norm) = self.clip {
                clip_by_global_norm(&mut gradients, &network, norm);
            }
            network = optimizer.step(self.learning_rate, network, gradients);
        }
        let count = taken.len();
        Ok((network.valid(), TensorData::new(taken, [count])))
    }
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

fn push_losses(outputs: &mut Outputs, losses: Losses) {
    outputs.push("loss", losses.total);
    for (name, term) in losses.terms {
        outputs.push(format!("loss_dict.{name}"), term);
    }
}

fn push(outputs: &mut Outputs, found: DetrOutput) {
    outputs.push("logits", found.predictions.logits);
    outputs.push("pred_boxes", found.predictions.boxes);
    outputs.push("last_hidden_state", found.last_hidden_state);
    outputs.push("encoder_last_hidden_state", found.encoder_last_hidden_state);
}
