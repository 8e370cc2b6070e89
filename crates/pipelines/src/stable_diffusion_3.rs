//! Stable Diffusion 3 and 3.5 (Esser et al. 2024), and their control networks.

use std::path::Path;

use burn::tensor::module::adaptive_avg_pool2d;
use burn::tensor::{DType, Device, Tensor};
use kiln_checkpoint::{Contents, Lora, LoraPart, StoredModel, StoredPipeline};
use kiln_conditioning::sd3::{ControlledSample, sum_residuals};
use kiln_conditioning::{SD3ControlNet, SD3ControlNetConfig};
use kiln_denoisers::sd3::SD3Extras;
use kiln_denoisers::{SD3Transformer2D, SD3Transformer2DConfig};
use kiln_diffusion::{Guidance, Request as ScheduleRequest, Schedule};
use serde::Deserialize;

use crate::embeddings::{self, ThreeEncoders, Widths};
use crate::finite::finite;
use crate::latents::Latents;
use crate::lora::{Loras, Networks};
use crate::noise::Randn;
use crate::part::Part;
use crate::run::{Call, Observer, Run};
use crate::scheduler;
use crate::{Control, Drawn, PipelineError, Request};

/// The classes whose checkpoints are opened, whatever they were saved to do.
pub const STABLE_DIFFUSION_3: &[&str] = &[
    "StableDiffusion3Pipeline",
    "StableDiffusion3Img2ImgPipeline",
    "StableDiffusion3InpaintPipeline",
    "StableDiffusion3ControlNetPipeline",
];

/// Stable Diffusion 3 or 3.5: a prompt, and pictures of it.
///
/// ```
/// # use std::ops::ControlFlow;
/// # use burn::tensor::Device;
/// use kiln_pipelines::{Request, StableDiffusion3, pictures};
/// # fn main() -> Result<(), kiln_pipelines::PipelineError> {
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/stable_diffusion_3");
/// let pipeline = StableDiffusion3::open(folder, &Device::flex())?;
/// let request = Request { steps: 2, seed: 7, ..Request::new("a lighthouse in the rain") };
/// let drawn = pipeline.draw(&request, &mut |progress| {
///     println!("step {} of {}", progress.step, progress.steps);
///     ControlFlow::Continue(())
/// })?;
/// let pictures = pictures::from_tensor(drawn.pictures)?; // of bytes: write_png, resize, …
/// # assert_eq!(pictures.len(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct StableDiffusion3 {
    text: ThreeEncoders,
    transformer: Part<SD3Transformer2D>,
    config: SD3Transformer2DConfig,
    controls: Vec<(Part<SD3ControlNet>, SD3ControlNetConfig)>,
    loras: Loras,
    latents: Latents,
    scheduler: String,
    device: Device,
}

impl StableDiffusion3 {
    /// Opens a pipeline's folder, or a file that holds a whole pipeline. Configs are checked now; weights are read when they are needed.
    ///
    /// # Errors
    /// [`PipelineError`], if a part is missing or is not what it says, or it is another pipeline.
    pub fn open(path: impl AsRef<Path>, device: &Device) -> Result<Self, PipelineError> {
        match Contents::open(path)? {
            Contents::Pipeline(pipeline) => Self::new(pipeline, device),
            contents => Err(scheduler::no_pipeline(&contents, STABLE_DIFFUSION_3)),
        }
    }

    /// The pipeline of these parts.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn new(mut pipeline: StoredPipeline, device: &Device) -> Result<Self, PipelineError> {
        scheduler::expect_class(&pipeline, STABLE_DIFFUSION_3)?;
        let transformer: Part<SD3Transformer2D> = Part::of(&mut pipeline, "transformer", device)?;
        let config = SD3Transformer2DConfig::from_json(transformer.config())?;
        let networks = scheduler::control_networks(&mut pipeline);
        let new = Self {
            text: ThreeEncoders::open(&mut pipeline, device)?,
            latents: Latents::open(&mut pipeline, device)?,
            scheduler: scheduler::config(&pipeline)?,
            transformer,
            config,
            controls: Vec::new(),
            loras: Loras::default(),
            device: device.clone(),
        };
        networks.into_iter().try_fold(new, Self::with_control)
    }

    /// With one more control network.
    ///
    /// # Errors
    /// [`PipelineError`], if it is no `SD3ControlNetModel`, or one that is shown a mask beside the picture.
    pub fn with_control(mut self, network: StoredModel) -> Result<Self, PipelineError> {
        let network: Part<SD3ControlNet> = Part::new(network, &self.device)?;
        let config = SD3ControlNetConfig::from_json(network.config())?;
        if config.extra_conditioning_channels > 0 {
            let reason = "networks that are shown a mask beside the picture are not supported";
            return Err(PipelineError::request("extra_conditioning_channels", reason));
        }
        self.controls.push((network, config));
        Ok(self)
    }

    /// With what a LoRA adds, times `weight`: 1 as it was trained, less for less of it, below 0 for the opposite. Several add up.
    ///
    /// # Errors
    /// [`PipelineError::Lora`], if it has layers that the pipeline's networks don't have, or of other shapes.
    pub fn with_lora(mut self, lora: &Lora, weight: f64) -> Result<Self, PipelineError> {
        let (loras, networks) = self.adaptable();
        loras.push(lora, weight, networks)?;
        Ok(self)
    }

    /// How much each LoRA weighs, in the order in which they were added.
    #[must_use]
    pub fn lora_weights(&self) -> &[f64] {
        self.loras.weights()
    }

    /// Other weights for the LoRAs, one each. Of networks that are loaded, only layers that a LoRA changes are read again; a weight of 0
    /// gives the base's own numbers back, to the bit.
    ///
    /// # Errors
    /// [`PipelineError`], if there are not as many weights as LoRAs, or a network's file can't be read any more.
    pub fn set_lora_weights(&mut self, weights: &[f64]) -> Result<(), PipelineError> {
        let (loras, networks) = self.adaptable();
        loras.weigh(weights, networks)
    }

    fn adaptable(&mut self) -> (&mut Loras, Networks<'_>) {
        let mut networks = self.text.networks();
        networks.push((LoraPart::Denoiser, &mut self.transformer));
        (&mut self.loras, networks)
    }

    /// With another scheduler: the text of a `scheduler_config.json`.
    #[must_use]
    pub fn with_scheduler(self, config: impl Into<String>) -> Self {
        Self { scheduler: config.into(), ..self }
    }

    /// The text of its `scheduler_config.json`.
    #[must_use]
    pub fn scheduler(&self) -> &str {
        &self.scheduler
    }

    /// How many control networks it has.
    #[must_use]
    pub fn controls(&self) -> usize {
        self.controls.len()
    }

    /// Height and width of the pictures that the transformer was trained on.
    #[must_use]
    pub fn size(&self) -> [usize; 2] {
        [self.config.sample_size * self.latents.config.reduction(); 2]
    }

    /// One picture of a prompt, in 28 steps with a guidance of 7.
    #[must_use]
    pub fn request(prompt: impl Into<String>) -> Request {
        Request { steps: 28, guidance: Guidance::new(7.0), ..Request::new(prompt) }
    }

    /// Draws what is asked for; `observe` is told of each step.
    ///
    /// # Errors
    /// [`PipelineError`]: what can't be drawn is found before the first step.
    pub fn draw(&self, request: &Request, observe: &mut Observer<'_>) -> Result<Drawn, PipelineError> {
        let size = request.size.unwrap_or_else(|| self.size());
        let sides = self.latents.sides(size)?;
        request.guidance.check()?;
        let is_guided = request.is_guided();
        let mu = self.shift(sides)?;
        let wanted = ScheduleRequest { steps: request.steps, eta: request.eta, mu };
        let schedule = Schedule::read_with(&self.scheduler, &wanted)?;
        let schedule = Latents::shorten(request, schedule, f64::ceil)?;

        let lengths = [request.max_sequence_length, self.config.joint_attention_dim];
        let widths = Widths {
            states: Some(self.config.joint_attention_dim),
            pooled: Some(self.config.pooled_projection_dim),
        };
        let chunks = |prompts: &[String], wording| self.text.chunks(prompts, wording);
        let encode = |prompts: &[String], asked| self.text.encode(prompts, asked, lengths, &self.device);
        let told = embeddings::told(request, is_guided, widths, &self.device, chunks, encode)?;
        let pictures = told.pictures;
        let (states, pooled) = (told.both.states, told.both.pooled);
        let again = || drop(embeddings::told(request, is_guided, widths, &self.device, chunks, encode));
        finite(&states, "a text encoder", again, |place| self.text.place(place))?;
        self.text.done(request.memory);
        let Some(pooled) = pooled else {
            return Err(PipelineError::request("prompt embeddings", "lack their pooled form"));
        };

        let mut randn = Randn::new(request.seed, &self.device);
        let shape = [pictures, self.latents.config.latent_channels, sides[0], sides[1]];
        let controls = self.shown(request, pictures, size)?;
        let takes = self.config.in_channels;
        let beginning = self.latents.begin(request, &schedule, shape, takes, &mut randn)?;
        self.latents.done(request.memory);
        let transformer = self.transformer.get()?;
        transformer.check_size(sides)?;

        let twice = |x: Tensor<4>| if is_guided { x.repeat_dim(0, 2) } else { x };
        let beside = beginning.beside.map(twice);
        let network = |input: Tensor<4>, told: f64, call| {
            let input = twice(input);
            let times = Tensor::full([input.dims()[0]], told, (&self.device, DType::F32));
            let input = match &beside {
                Some(beside) => Tensor::cat(vec![input, beside.clone()], 1),
                None => input,
            };
            let residuals = controls
                .iter()
                .map(|shown| shown.residuals(&transformer, &input, &times, (&states, &pooled), call));
            let extras = SD3Extras { controls: sum_residuals(residuals), ..SD3Extras::default() };
            let output = transformer.forward_with(input, times, states.clone(), pooled.clone(), &extras);
            if !is_guided {
                return output;
            }
            let half = |first| output.clone().narrow(0, first, pictures);
            request.guidance.guide(&half(pictures), half(0))
        };
        let noise = randn.steps(shape);
        let run = Run { schedule: &schedule, start: beginning.start, noise, kept: beginning.kept };
        let named = |place| {
            let controls = self.controls.iter().find_map(|(network, _)| network.place("controlnet", place));
            self.transformer.place("transformer", place).or(controls)
        };
        let latents = run.finish(network, named, observe)?;
        drop(transformer);
        drop(controls);
        self.transformer.done(request.memory);
        self.controls.iter().for_each(|(network, _)| network.done(request.memory));

        let pictures = self.decode(latents.clone(), request)?;
        self.latents.check(&pictures, &latents, request.pieces)?;
        self.latents.done(request.memory);
        Ok(Drawn { pictures, latents, embeddings: Some(told.positive) })
    }

    /// Pictures in 0..1, `[batch, 3, height, width]`, of latents as a run ends in, or as it estimates them on its way.
    ///
    /// # Errors
    /// [`PipelineError`], if the autoencoder can't be read.
    pub fn decode(&self, latents: Tensor<4>, request: &Request) -> Result<Tensor<4>, PipelineError> {
        self.latents.decode(latents, request.pieces)
    }

    /// The logarithm of the shift of times for latents of these sides, where the scheduler asks for it: larger pictures need more noise
    /// (Esser et al. 2024, section 5.3.2).
    fn shift(&self, sides: [usize; 2]) -> Result<Option<f64>, PipelineError> {
        #[derive(Deserialize)]
        #[serde(default)]
        struct Shift {
            use_dynamic_shifting: Option<bool>,
            base_image_seq_len: f64,
            max_image_seq_len: f64,
            base_shift: f64,
            max_shift: f64,
        }
        impl Default for Shift {
            fn default() -> Self {
                Self {
                    use_dynamic_shifting: None,
                    base_image_seq_len: 256.0,
                    max_image_seq_len: 4096.0,
                    base_shift: 0.5,
                    max_shift: 1.16,
                }
            }
        }
        let class = Schedule::class(&self.scheduler)?;
        let shift: Shift = kiln_checkpoint::config::read(&self.scheduler, &[&class])?;
        if shift.use_dynamic_shifting != Some(true) {
            return Ok(None);
        }
        let tokens = sides.map(|side| side / self.config.patch_size).iter().product::<usize>() as f64;
        let slope =
            (shift.max_shift - shift.base_shift) / (shift.max_image_seq_len - shift.base_image_seq_len);
        Ok(Some(shift.base_shift + slope * (tokens - shift.base_image_seq_len)))
    }

    /// The control networks with what they are shown in a run.
    fn shown(
        &self,
        request: &Request,
        pictures: usize,
        size: [usize; 2],
    ) -> Result<Vec<Shown>, PipelineError> {
        if request.controls.len() != self.controls.len() {
            let reason =
                format!("are {} for {} control networks", request.controls.len(), self.controls.len());
            return Err(PipelineError::request("control pictures", reason));
        }
        let each = self.controls.iter().zip(&request.controls);
        each.map(|((network, config), control)| {
            let picture = control.shown(pictures, size)?;
            let likeliest = self.latents.likeliest(picture, request.pieces)?;
            // Networks that are told no pooled prompt were trained on latents that are not shifted.
            let shift = match config.force_zeros_for_pooled_projection {
                true => 0.0,
                false => self.latents.config.shift_factor.unwrap_or(0.0),
            };
            Ok(Shown {
                network: network.get()?,
                condition: (likeliest - shift) * self.latents.config.scaling_factor,
                control: control.clone(),
                is_told_pooled: !config.force_zeros_for_pooled_projection,
                patch: self.config.patch_size,
            })
        })
        .collect()
    }
}

/// A control network with what it is shown.
#[derive(Debug)]
struct Shown {
    network: SD3ControlNet,
    /// As latents, a row for each picture.
    condition: Tensor<4>,
    control: Control,
    is_told_pooled: bool,
    patch: usize,
}

impl Shown {
    fn residuals(
        &self,
        transformer: &SD3Transformer2D,
        input: &Tensor<4>,
        times: &Tensor<1>,
        (states, pooled): (&Tensor<3>, &Tensor<2>),
        call: Call,
    ) -> Vec<Tensor<3>> {
        let [rows, _, height, width] = input.dims();
        let sample = match self.network.takes_tokens() {
            true => ControlledSample::Tokens(transformer.embed(input.clone())),
            false => ControlledSample::Latent(input.clone()),
        };
        let condition = self.condition.clone().repeat_dim(0, rows / self.condition.dims()[0]);
        let states = self.network.takes_prompt().then(|| states.clone());
        let pooled = if self.is_told_pooled { pooled.clone() } else { pooled.zeros_like() };
        let scale = self.control.scale_at(call);
        let residuals = self.network.forward(sample, condition, times.clone(), states, pooled, scale);
        let Some(mask) = &self.control.mask else { return residuals };
        let mask = adaptive_avg_pool2d(mask.clone(), [height / self.patch, width / self.patch]);
        let mask: Tensor<3> = mask.flatten::<3>(2, 3).swap_dims(1, 2);
        residuals.into_iter().map(|x| x * mask.clone()).collect()
    }
}
