//! Stable Diffusion 1 and 2 (Rombach et al. 2022), and their control networks (Zhang et al. 2023).

use std::path::Path;

use burn::tensor::{DType, Device, Tensor};
use kiln_blocks::config::SampleSize;
use kiln_blocks::embedding::SineOrder;
use kiln_blocks::{Sinusoidal, SinusoidalConfig};
use kiln_checkpoint::{Contents, Lora, LoraPart, StoredModel, StoredPipeline};
use kiln_denoisers::unet2d_condition::Conditions;
use kiln_denoisers::{UNet2DCondition, UNet2DConditionConfig};
use kiln_diffusion::{Request as ScheduleRequest, Schedule};

use crate::clip::{ClipPrompts, States};
use crate::control::ControlNets;
use crate::embeddings::{self, Widths};
use crate::finite::finite;
use crate::latents::Latents;
use crate::lora::{Loras, Networks};
use crate::noise::Randn;
use crate::part::Part;
use crate::run::{Observer, Run};
use crate::scheduler;
use crate::{Drawn, Embeddings, PipelineError, Request};

/// The classes whose checkpoints are opened, whatever they were saved to do.
pub const STABLE_DIFFUSION: &[&str] = &[
    "StableDiffusionPipeline",
    "StableDiffusionImg2ImgPipeline",
    "StableDiffusionInpaintPipeline",
    "StableDiffusionControlNetPipeline",
    "StableDiffusionControlNetImg2ImgPipeline",
    "StableDiffusionControlNetInpaintPipeline",
    "LatentConsistencyModelPipeline",
];

/// Stable Diffusion 1 or 2: a prompt, and pictures of it.
///
/// ```
/// # use std::ops::ControlFlow;
/// # use burn::tensor::Device;
/// use kiln_pipelines::{Request, StableDiffusion, pictures};
/// # fn main() -> Result<(), kiln_pipelines::PipelineError> {
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/distilled");
/// let pipeline = StableDiffusion::open(folder, &Device::flex())?;
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
pub struct StableDiffusion {
    text: ClipPrompts,
    unet: Part<UNet2DCondition>,
    config: UNet2DConditionConfig,
    controls: ControlNets,
    loras: Loras,
    latents: Latents,
    scheduler: String,
    device: Device,
}

impl StableDiffusion {
    /// Opens a pipeline's folder, or a file that holds a whole pipeline. Configs are checked now; weights are read when they are needed.
    ///
    /// # Errors
    /// [`PipelineError`], if a part is missing or is not what it says, or it is another pipeline.
    pub fn open(path: impl AsRef<Path>, device: &Device) -> Result<Self, PipelineError> {
        match Contents::open(path)? {
            Contents::Pipeline(pipeline) => Self::new(pipeline, device),
            contents => Err(scheduler::no_pipeline(&contents, STABLE_DIFFUSION)),
        }
    }

    /// The pipeline of these parts.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn new(mut pipeline: StoredPipeline, device: &Device) -> Result<Self, PipelineError> {
        scheduler::expect_class(&pipeline, STABLE_DIFFUSION)?;
        let unet: Part<UNet2DCondition> = Part::of(&mut pipeline, "unet", device)?;
        let config = UNet2DConditionConfig::from_json(unet.config())?;
        let networks = scheduler::control_networks(&mut pipeline);
        let new = Self {
            text: embeddings::open_clip(&mut pipeline, device)?,
            latents: Latents::open(&mut pipeline, device)?,
            scheduler: scheduler::config(&pipeline)?,
            unet,
            config,
            controls: ControlNets::default(),
            loras: Loras::default(),
            device: device.clone(),
        };
        networks.into_iter().try_fold(new, Self::with_control)
    }

    /// With one more control network.
    ///
    /// # Errors
    /// [`PipelineError`], if it is no `ControlNetModel`.
    pub fn with_control(mut self, network: StoredModel) -> Result<Self, PipelineError> {
        self.controls.push(Part::new(network, &self.device)?)?;
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
        let networks: Networks<'_> =
            vec![(LoraPart::TextEncoder, self.text.network()), (LoraPart::Denoiser, &mut self.unet)];
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

    /// Height and width of the pictures that the U-Net was trained on.
    #[must_use]
    pub fn size(&self) -> [usize; 2] {
        let sides = self.config.encoder.sample_size.map_or([64, 64], SampleSize::sides);
        sides.map(|side| side * self.latents.config.reduction())
    }

    /// Draws what is asked for; `observe` is told of each step.
    ///
    /// # Errors
    /// [`PipelineError`]: what can't be drawn is found before the first step.
    pub fn draw(&self, request: &Request, observe: &mut Observer<'_>) -> Result<Drawn, PipelineError> {
        let size = request.size.unwrap_or_else(|| self.size());
        let [height, width] = self.latents.sides(size)?;
        request.guidance.check()?;
        // A distilled network is told the scale, and asked once.
        let distilled = self.config.encoder.time_cond_proj_dim;
        let is_guided = request.is_guided() && distilled.is_none();
        let wanted = ScheduleRequest { steps: request.steps, eta: request.eta, mu: None };
        let schedule = Schedule::read_with(&self.scheduler, &wanted)?;
        let schedule = Latents::shorten(request, schedule, f64::floor)?;

        let length = self.text.length();
        let chunks = |prompts: &[String], wording| self.text.chunks(prompts, length, wording);
        let encode = |prompts: &[String], asked| {
            let (states, _) = self.text.encode(prompts, length, States::Last, asked, &self.device)?;
            Ok(Embeddings { states, pooled: None })
        };
        let widths = Widths { states: self.config.encoder.cross_attention_dim.get(0), pooled: None };
        let told = embeddings::told(request, is_guided, widths, &self.device, chunks, encode)?;
        let (pictures, states) = (told.pictures, told.both.states);
        let again = || drop(embeddings::told(request, is_guided, widths, &self.device, chunks, encode));
        finite(&states, "the text encoder", again, |place| self.text.place("text_encoder", place))?;
        self.text.done(request.memory);

        let mut randn = Randn::new(request.seed, &self.device);
        let shape = [pictures, self.latents.config.latent_channels, height, width];
        let takes = self.config.encoder.in_channels;
        let beginning = self.latents.begin(request, &schedule, shape, takes, &mut randn)?;
        self.latents.done(request.memory);
        let controls = self.controls.ready(&request.controls, pictures, size)?;
        let unet = self.unet.get()?;
        let timestep_cond = distilled.map(|width| self.guidance_embedding(request, width, pictures));
        let conditions = Conditions { timestep_cond, ..Conditions::prompt(states.clone()) };

        let twice = |x: Tensor<4>| if is_guided { x.repeat_dim(0, 2) } else { x };
        let beside = beginning.beside.map(twice);
        let network = |input: Tensor<4>, told: f64, call| {
            let input = twice(input);
            let times = Tensor::full([input.dims()[0]], told, (&self.device, DType::F32));
            let residuals = controls.residuals(&input, &times, &states, call, is_guided);
            let input = match &beside {
                Some(beside) => Tensor::cat(vec![input, beside.clone()], 1),
                None => input,
            };
            let output = unet.forward(input, times, &conditions, residuals);
            if !is_guided {
                return output;
            }
            let half = |first| output.clone().narrow(0, first, pictures);
            request.guidance.guide(&half(pictures), half(0))
        };
        let noise = randn.steps(shape);
        let run = Run { schedule: &schedule, start: beginning.start, noise, kept: beginning.kept };
        let named = |place| {
            let controls = self.controls.parts().find_map(|network| network.place("controlnet", place));
            self.unet.place("unet", place).or(controls)
        };
        let latents = run.finish(network, named, observe)?;
        drop(unet);
        drop(controls);
        self.unet.done(request.memory);
        self.controls.parts().for_each(|network| network.done(request.memory));

        let pictures = self.latents.decode(latents.clone(), request.pieces)?;
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

    /// The scale of guidance as a distilled network is told it: as a time, of `1000 (scale - 1)` (Meng et al. 2023).
    fn guidance_embedding(&self, request: &Request, width: usize, pictures: usize) -> Tensor<2> {
        let embedding: Sinusoidal =
            SinusoidalConfig::new(width).with_order(SineOrder::SineFirst).with_freq_shift(1.0).init();
        let scale = (request.guidance.scale - 1.0) * 1000.0;
        let dtype = DType::from(self.device.settings().float_dtype);
        embedding.forward(Tensor::full([pictures], scale, (&self.device, DType::F32))).cast(dtype)
    }
}
