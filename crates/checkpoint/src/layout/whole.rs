//! Whole models in one file: which networks there are, under which prefixes, and what pipeline they make.
//!
//! ```text
//! model.diffusion_model.                     the denoiser
//! first_stage_model.                         the autoencoder
//! control_model.                             a control network
//! cond_stage_model.transformer.              Stable Diffusion 1: CLIP
//! cond_stage_model.model.                    2: OpenCLIP
//! conditioner.embedders.{0, 1}.              XL: CLIP and OpenCLIP
//! text_encoders.{clip_l, clip_g, t5xxl}.     3
//! ```

use std::collections::BTreeMap;

use super::clip::{Act, Layers, Pooled};
use super::compvis::{Encoder, Label};
use super::keys::Keys;
use super::unet::Setting;
use super::{autoencoder, clip, control, scheduler, sd3, t5, unet};
use crate::{Checkpoint, CheckpointError, Contents, StoredModel, StoredPipeline};

const DENOISER: &str = "model.diffusion_model.";
const AUTOENCODER: &str = "first_stage_model.";
const CONTROL: &str = "control_model.";
const CLIP: &str = "cond_stage_model.transformer.";
const OPEN_CLIP: &str = "cond_stage_model.model.";
const XL_CLIP: &str = "conditioner.embedders.0.transformer.";
const XL_OPEN_CLIP: &str = "conditioner.embedders.1.model.";
const REFINER_OPEN_CLIP: &str = "conditioner.embedders.0.model.";
const CLIP_L: &str = "text_encoders.clip_l.transformer.";
const CLIP_G: &str = "text_encoders.clip_g.transformer.";
const T5: &str = "text_encoders.t5xxl.transformer.";

/// Every prefix of a network.
const PREFIXES: &[&str] = &[
    DENOISER,
    AUTOENCODER,
    CONTROL,
    CLIP,
    OPEN_CLIP,
    XL_CLIP,
    XL_OPEN_CLIP,
    REFINER_OPEN_CLIP,
    CLIP_L,
    CLIP_G,
    T5,
];

/// Known beside the networks: the temperatures of CLIP's training, the noise levels of XL's, and marks that are read.
const BESIDE: &[&str] = &[
    "text_encoders.clip_l.logit_scale",
    "text_encoders.clip_g.logit_scale",
    "cond_stage_model.logit_scale",
    "denoiser.sigmas",
    "global_step",
    "v_pred",
];

const UPSCALER: &str = "StableDiffusionUpscalePipeline";

/// The networks of a file whose names say which of them a tensor belongs to, if they do.
pub(super) fn read(file: &Checkpoint) -> Result<Option<Contents>, CheckpointError> {
    let parts: Vec<(&str, Keys)> = PREFIXES
        .iter()
        .map(|prefix| (*prefix, Keys::new(file, prefix)))
        .filter(|(_, keys)| keys.names().next().is_some())
        .collect();
    let whole = Whole { file, parts };
    if whole.parts.is_empty() {
        return Ok(None);
    }
    for (name, _) in file.tensors() {
        if name.starts_with("edm_") {
            let reason = "is of a model that was trained on EDM's noise levels, whose scheduler can't be read off a file";
            return Err(Keys::new(file, "").wrong(name, reason));
        }
        let known = PREFIXES.iter().any(|prefix| name.starts_with(prefix)) || BESIDE.contains(&name);
        if !known && !crate::contents::is_known_surplus(name) {
            tracing::warn!("{}: tensor `{name}` is no part of a network that is known here", file.label());
        }
    }
    whole.contents().map(Some)
}

struct Whole<'a> {
    file: &'a Checkpoint,
    parts: Vec<(&'static str, Keys<'a>)>,
}

impl<'a> Whole<'a> {
    fn part(&self, prefix: &str) -> Option<&Keys<'a>> {
        self.parts.iter().find(|(found, _)| *found == prefix).map(|(_, keys)| keys)
    }

    fn contents(&self) -> Result<Contents, CheckpointError> {
        let mut models = BTreeMap::new();
        let (class, scheduler) = match self.part(DENOISER) {
            Some(keys) if keys.any("joint_blocks.") => {
                models.insert("transformer".to_owned(), sd3::read(keys)?);
                ("StableDiffusion3Pipeline", Some(scheduler::flow()))
            }
            Some(keys) => {
                let encoder = Encoder::read(keys)?;
                let family = self.family(&encoder);
                models.insert("unet".to_owned(), unet::read(keys, &encoder, self.setting(family, keys)?)?);
                let scheduler = scheduler::of(family, self.file)?;
                let class = if self.part(REFINER_OPEN_CLIP).is_some() {
                    "StableDiffusionXLImg2ImgPipeline"
                } else {
                    family.pipeline(encoder.in_channels(), self.part(CONTROL).is_some())
                };
                (class, Some(scheduler))
            }
            None if self.parts.iter().any(|(prefix, _)| prefix.starts_with("text_encoders.")) => {
                ("StableDiffusion3Pipeline", None)
            }
            None => ("StableDiffusionPipeline", None),
        };
        if let Some(keys) = self.part(CONTROL) {
            models.insert("controlnet".to_owned(), control::read(keys)?);
        }
        if let Some(keys) = self.part(AUTOENCODER) {
            let scaling = match class {
                "StableDiffusion3Pipeline" => autoencoder::STABLE_DIFFUSION_3,
                UPSCALER => autoencoder::UPSCALER,
                class if class.starts_with("StableDiffusionXL") => autoencoder::STABLE_DIFFUSION_XL,
                _ => autoencoder::scaling_of(keys),
            };
            models.insert("vae".to_owned(), autoencoder::read(keys, scaling)?);
        }
        self.text_encoders(&mut models)?;
        // A network alone is no pipeline.
        if models.len() == 1
            && let Some((_, model)) = models.pop_first()
        {
            return Ok(Contents::Model(model));
        }
        let low_res = (class == UPSCALER).then(|| ("low_res_scheduler", scheduler::low_res()));
        let configs = scheduler.map(|config| ("scheduler", config)).into_iter().chain(low_res);
        let configs = configs.map(|(part, config)| (part.to_owned(), format!("{config:#}")));
        Ok(Contents::Pipeline(StoredPipeline {
            class: class.to_owned(),
            models,
            folders: BTreeMap::new(),
            configs: configs.collect(),
            index: None,
        }))
    }

    fn text_encoders(&self, models: &mut BTreeMap<String, StoredModel>) -> Result<(), CheckpointError> {
        let mut insert = |part: &str, model| models.insert(part.to_owned(), model);
        if let Some(keys) = self.part(CLIP) {
            insert("text_encoder", clip::read(keys, Act::QuickGelu, Pooled::AsItIs)?);
        }
        if let Some(keys) = self.part(OPEN_CLIP) {
            insert("text_encoder", clip::read_open(keys, Pooled::AsItIs, Layers::ButLast)?);
        }
        if let Some(keys) = self.part(XL_CLIP) {
            insert("text_encoder", clip::read(keys, Act::QuickGelu, Pooled::AsItIs)?);
        }
        for prefix in [XL_OPEN_CLIP, REFINER_OPEN_CLIP] {
            if let Some(keys) = self.part(prefix) {
                insert("text_encoder_2", clip::read_open(keys, Pooled::Projected, Layers::All)?);
            }
        }
        if let Some(keys) = self.part(CLIP_L) {
            insert("text_encoder", clip::read(keys, Act::QuickGelu, Pooled::Projected)?);
        }
        if let Some(keys) = self.part(CLIP_G) {
            insert("text_encoder_2", clip::read(keys, Act::Gelu, Pooled::Projected)?);
        }
        if let Some(keys) = self.part(T5) {
            insert("text_encoder_3", t5::read(keys)?);
        }
        Ok(())
    }

    fn family(&self, encoder: &Encoder) -> Family {
        if self.parts.iter().any(|(prefix, _)| prefix.starts_with("conditioner.")) {
            Family::Xl
        } else if encoder.linear() || self.part(OPEN_CLIP).is_some() {
            Family::Two
        } else {
            Family::One
        }
    }

    fn setting(&self, family: Family, unet: &Keys) -> Result<Setting, CheckpointError> {
        let sample_size = match family {
            Family::One => 64,
            Family::Two => 96,
            Family::Xl => 128,
        };
        let label = if family == Family::Xl && unet.has("label_emb.0.0.weight") {
            Label::TextTime { channels: self.size_channels(unet)? }
        } else {
            Label::Class
        };
        Ok(Setting { label, sample_size, upcast_attention: family == Family::Two })
    }

    /// Channels of the sinusoidal embedding of each of XL's sizes: what the vector has beside the pooled prompt, over the six
    /// sizes of the base model or the five (four and a score) of the refiner.
    fn size_channels(&self, unet: &Keys) -> Result<usize, CheckpointError> {
        let [_, width] = unet.sides("label_emb.0.0.weight")?;
        let (clip, sizes) = match (self.part(XL_OPEN_CLIP), self.part(REFINER_OPEN_CLIP)) {
            (Some(keys), _) => (keys, 6),
            (None, Some(keys)) => (keys, 5),
            (None, None) => return Ok(256),
        };
        let pooled = clip.side("text_projection", 1)?;
        match width.checked_sub(pooled) {
            Some(rest) if rest > 0 && rest.is_multiple_of(sizes) => Ok(rest / sizes),
            _ => {
                let reason =
                    format!("takes {width} channels: no pooled prompt of {pooled} and {sizes} sizes");
                Err(unet.wrong("label_emb.0.0.weight", reason))
            }
        }
    }
}

/// The generations of Stable Diffusion whose denoiser is a U-Net.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Family {
    One,
    Two,
    Xl,
}

impl Family {
    /// The pipeline that a U-Net for samples of so many channels is made for.
    fn pipeline(self, in_channels: usize, controlled: bool) -> &'static str {
        match (self, in_channels) {
            (Self::Xl, 9) => "StableDiffusionXLInpaintPipeline",
            (Self::Xl, _) => "StableDiffusionXLPipeline",
            (_, 9) => "StableDiffusionInpaintPipeline",
            (_, 8) => "StableDiffusionInstructPix2PixPipeline",
            (_, 7) => UPSCALER,
            (_, 5) => "StableDiffusionDepth2ImgPipeline",
            _ if controlled => "StableDiffusionControlNetPipeline",
            _ => "StableDiffusionPipeline",
        }
    }
}

/// A U-Net alone, without a prefix.
pub(super) fn unet_alone(keys: &Keys) -> Result<StoredModel, CheckpointError> {
    let encoder = Encoder::read(keys)?;
    let (sample_size, upcast_attention) = if encoder.linear() { (96, true) } else { (64, false) };
    let text_time = encoder.linear() && matches!(encoder.context(), 1280 | 2048);
    let label = if text_time { Label::TextTime { channels: 256 } } else { Label::Class };
    unet::read(keys, &encoder, Setting { label, sample_size, upcast_attention })
}
