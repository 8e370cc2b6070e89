//! Pictures of no prompt: a U-Net's pipelines.

use std::path::Path;

use burn::tensor::{DType, Device, Tensor};
use kiln_blocks::config::SampleSize;
use kiln_checkpoint::{Contents, StoredPipeline};
use kiln_denoisers::{UNet2D, UNet2DConfig};
use kiln_diffusion::{Request as ScheduleRequest, Schedule};

use crate::noise::Randn;
use crate::part::Part;
use crate::run::{Observer, Run};
use crate::scheduler;
use crate::{Drawn, PipelineError, Request};

/// The classes whose checkpoints are opened.
pub const UNCONDITIONAL: &[&str] = &["DDPMPipeline", "DDIMPipeline", "PNDMPipeline", SCORE_SDE_VE];

/// The one whose samples are pictures as they are.
const SCORE_SDE_VE: &str = "ScoreSdeVePipeline";

/// Where the numbers of a network's pictures lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Range {
    /// -1 to 1.
    Symmetric,
    /// 0 to 1.
    Unit,
}

/// A U-Net that draws pictures of what it was trained on.
///
/// ```
/// # use std::ops::ControlFlow;
/// # use burn::tensor::Device;
/// use kiln_pipelines::{Request, Unconditional, pictures};
/// # fn main() -> Result<(), kiln_pipelines::PipelineError> {
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/ddpm");
/// let pipeline = Unconditional::open(folder, &Device::flex())?;
/// let request = Request { steps: 2, seed: 7, ..Request::new("") };
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
pub struct Unconditional {
    unet: Part<UNet2D>,
    config: UNet2DConfig,
    scheduler: String,
    range: Range,
    device: Device,
}

impl Unconditional {
    /// Opens a pipeline's folder. Configs are checked now; weights are read when they are needed.
    ///
    /// # Errors
    /// [`PipelineError`], if a part is missing or is not what it says, or it is another pipeline.
    pub fn open(path: impl AsRef<Path>, device: &Device) -> Result<Self, PipelineError> {
        match Contents::open(path)? {
            Contents::Pipeline(pipeline) => Self::new(pipeline, device),
            contents => Err(scheduler::no_pipeline(&contents, UNCONDITIONAL)),
        }
    }

    /// The pipeline of these parts.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn new(mut pipeline: StoredPipeline, device: &Device) -> Result<Self, PipelineError> {
        scheduler::expect_class(&pipeline, UNCONDITIONAL)?;
        // Old checkpoints call the network `model`.
        let unet: Part<UNet2D> = match Part::maybe(&mut pipeline, "unet", device)? {
            Some(unet) => unet,
            None => {
                Part::maybe(&mut pipeline, "model", device)?.ok_or(PipelineError::Part { part: "unet" })?
            }
        };
        let config = UNet2DConfig::from_json(unet.config())?;
        if config.num_class_embeds.is_some() || config.class_embed_type.is_some() {
            let reason = "asks for a class, and pipelines of this kind tell none";
            return Err(PipelineError::request("the U-Net", reason));
        }
        let range = if pipeline.class == SCORE_SDE_VE { Range::Unit } else { Range::Symmetric };
        Ok(Self { unet, config, scheduler: scheduler::config(&pipeline)?, range, device: device.clone() })
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

    /// Height and width of its pictures, if its config says.
    #[must_use]
    pub fn size(&self) -> Option<[usize; 2]> {
        self.config.sample_size.map(SampleSize::sides)
    }

    /// Draws `request.pictures` pictures in as many steps as the request says; its prompt and guidance mean nothing here.
    ///
    /// # Errors
    /// [`PipelineError`]: what can't be drawn is found before the first step.
    pub fn draw(&self, request: &Request, observe: &mut Observer<'_>) -> Result<Drawn, PipelineError> {
        let wanted = ScheduleRequest { steps: request.steps, eta: request.eta, mu: None };
        let schedule = Schedule::read_with(&self.scheduler, &wanted)?;
        let given = request.latents.as_ref().map(Tensor::dims);
        let size =
            request.size.or_else(|| self.size()).or(given.map(|[_, _, height, width]| [height, width]));
        let Some([height, width]) = size else {
            return Err(PipelineError::request("the size", "is missing, and the U-Net's config says none"));
        };
        let levels = self.config.block_out_channels.len();
        if [height, width].iter().any(|side| *side == 0 || *side > 4096 || side >> (levels - 1) == 0) {
            let reason = format!("is {height} x {width}, which {levels} levels can't halve");
            return Err(PipelineError::request("the size", reason));
        }
        let pictures = given.map_or(request.pictures, |[batch, ..]| batch);
        let shape = [pictures, self.config.in_channels, height, width];
        let mut randn = Randn::new(request.seed, &self.device);
        let noise = match &request.latents {
            None => randn.draw(shape),
            Some(latents) if latents.dims() == shape => {
                latents.clone().cast(DType::from(self.device.settings().float_dtype))
            }
            Some(latents) => {
                let reason = format!("are {:?}, expected {shape:?}", latents.dims());
                return Err(PipelineError::request("the starting latents", reason));
            }
        };
        let unet = self.unet.get()?;
        let network = |input: Tensor<4>, told: f64, _| {
            let times = Tensor::full([input.dims()[0]], told, (&self.device, DType::F32));
            unet.forward(input, times, None)
        };
        let start = noise * schedule.starting_std();
        let run = Run { schedule: &schedule, start, noise: randn.steps(shape), kept: None };
        let latents = run.finish(network, |place| self.unet.place("unet", place), observe)?;
        let x = match self.range {
            Range::Symmetric => latents.clone() * 0.5 + 0.5,
            Range::Unit => latents.clone(),
        };
        Ok(Drawn { pictures: x.clamp(0.0, 1.0), latents, embeddings: None })
    }
}
