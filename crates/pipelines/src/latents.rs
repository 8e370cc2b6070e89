//! Latents: where a run sets out, and the pictures that it ends in.

use burn::tensor::{DType, Device, Tensor};
use kiln_autoencoder::{AutoencoderKL, AutoencoderKLConfig, Pieces};
use kiln_backend::ops::{AlignCorners, Interpolation, InterpolationMode, interpolate};
use kiln_checkpoint::StoredPipeline;
use kiln_diffusion::Schedule;

use crate::control::for_each;
use crate::finite::{AUTOENCODER, finite};
use crate::noise::Randn;
use crate::part::Part;
use crate::run::Kept;
use crate::{Memory, PipelineError, Request, Start};

/// The autoencoder between pictures in 0..1 and the latents that a denoiser sees.
#[derive(Debug)]
pub(crate) struct Latents {
    autoencoder: Part<AutoencoderKL>,
    pub(crate) config: AutoencoderKLConfig,
    device: Device,
}

/// What a run sets out from.
#[derive(Debug)]
pub(crate) struct Beginning {
    /// x at the schedule's first time.
    pub(crate) start: Tensor<4>,
    /// The part of a picture that stays.
    pub(crate) kept: Option<Kept>,
    /// For denoisers that are shown what is masked: the mask and the masked picture's latents, beside their input.
    pub(crate) beside: Option<Tensor<4>>,
}

impl Latents {
    pub(crate) fn open(pipeline: &mut StoredPipeline, device: &Device) -> Result<Self, PipelineError> {
        let autoencoder: Part<AutoencoderKL> = Part::of(pipeline, "vae", device)?;
        let config = AutoencoderKLConfig::from_json(autoencoder.config())?;
        Ok(Self { autoencoder, config, device: device.clone() })
    }

    /// The sides of the latents of pictures of `size`.
    pub(crate) fn sides(&self, [height, width]: [usize; 2]) -> Result<[usize; 2], PipelineError> {
        let r = self.config.reduction();
        let fits = |side: usize| side > 0 && side.is_multiple_of(r) && side <= MOST_PIXELS;
        if fits(height) && fits(width) {
            return Ok([height / r, width / r]);
        }
        let reason =
            format!("is {height} x {width}; expected multiples of {r}, at most {MOST_PIXELS} a side");
        Err(PipelineError::request("the size", reason))
    }

    /// The schedule's last steps for a start of less than full strength: so many as `round` makes of their share.
    pub(crate) fn shorten(
        request: &Request,
        schedule: Schedule,
        round: fn(f64) -> f64,
    ) -> Result<Schedule, PipelineError> {
        let (Start::Picture { strength, .. } | Start::Inpaint { strength, .. }) = request.start else {
            return Ok(schedule);
        };
        if !(strength > 0.0 && strength <= 1.0) {
            let reason = format!("is {strength}; expected a number above 0, up to 1");
            return Err(PipelineError::request("strength", reason));
        }
        let made = round(request.steps as f64 * strength) as usize;
        if made == 0 {
            let reason = format!("is {strength}, which leaves none of {} steps", request.steps);
            return Err(PipelineError::request("strength", reason));
        }
        let total = schedule.sampler.steps().len();
        Ok(schedule.skipping(total.saturating_sub(made))?)
    }

    /// Where a run of `shape` latents sets out; noise is drawn in diffusers' order. `takes` is the channels that the denoiser takes.
    pub(crate) fn begin(
        &self,
        request: &Request,
        schedule: &Schedule,
        shape: [usize; 4],
        takes: usize,
        randn: &mut Randn,
    ) -> Result<Beginning, PipelineError> {
        let channels = shape[1];
        let shown = channels + 1 + channels;
        if takes != channels && (takes != shown || !matches!(request.start, Start::Inpaint { .. })) {
            let reason = format!(
                "the denoiser takes {takes} channels; latents have {channels}, and {shown} with a mask and what it hides"
            );
            return Err(PipelineError::request("the start", reason));
        }
        let law = schedule.process.law(schedule.sampler.steps()[0][0]);
        let of_picture =
            |latents: &Tensor<4>, noise: &Tensor<4>| latents.clone() * law.alpha + noise.clone() * law.sigma;
        let noise_of_run = |randn: &mut Randn| match &request.latents {
            None => Ok(randn.draw(shape)),
            Some(given) if given.dims() == shape => Ok(given.clone().cast(self.dtype())),
            Some(given) => {
                let reason = format!("are {:?}, expected {shape:?}", given.dims());
                Err(PipelineError::request("the starting latents", reason))
            }
        };
        let pictures = shape[0];
        let (start, kept, beside) = match &request.start {
            Start::Noise => (noise_of_run(randn)? * schedule.starting_std(), None, None),
            Start::Picture { picture, .. } => {
                let latents = self.encode(picture, shape, request.pieces, randn)?;
                (of_picture(&latents, &noise_of_run(randn)?), None, None)
            }
            Start::Inpaint { picture, mask, strength } => {
                let latents = match takes == channels || *strength < 1.0 {
                    true => Some(self.encode(picture, shape, request.pieces, randn)?),
                    false => None,
                };
                let noise = noise_of_run(randn)?;
                let start = match &latents {
                    Some(latents) if *strength < 1.0 => of_picture(latents, &noise),
                    _ => noise.clone() * schedule.starting_std(),
                };
                let mask = self.mask(mask, picture)?;
                // Grey where it is hidden: zero, as the encoder sees pictures.
                let shown = mask.clone() * -1.0 + 1.0;
                let hidden = picture.clone().cast(self.dtype()) * shown + mask.clone() * 0.5;
                // Drawn where it is not needed as well: the generator goes on from here.
                let hidden = self.encode(&hidden, shape, request.pieces, randn)?;
                let nearest =
                    Interpolation { mode: InterpolationMode::Nearest, align_corners: AlignCorners::No };
                let mask = interpolate(mask, [shape[2], shape[3]], nearest);
                let mask = for_each(mask.clone(), mask.dims()[0], pictures, "masks")?;
                match latents {
                    Some(latents) if takes == channels => (start, Some(Kept { latents, noise, mask }), None),
                    _ => (start, None, Some(Tensor::cat(vec![mask, hidden], 1))),
                }
            }
        };
        Ok(Beginning { start, kept, beside })
    }

    /// Latents of pictures in 0..1, drawn from what the encoder says of them, one row for each that is drawn.
    fn encode(
        &self,
        picture: &Tensor<4>,
        shape: [usize; 4],
        pieces: Pieces,
        randn: &mut Randn,
    ) -> Result<Tensor<4>, PipelineError> {
        let [rows, channels, height, width] = picture.dims();
        let r = self.config.reduction();
        let expected = [self.config.in_channels, shape[2] * r, shape[3] * r];
        if [channels, height, width] != expected {
            let reason = format!("is {:?}, expected {expected:?}", [channels, height, width]);
            return Err(PipelineError::request("the picture to set out from", reason));
        }
        let x = picture.clone().cast(self.dtype()) * 2.0 - 1.0;
        let autoencoder = self.autoencoder.get()?;
        let gaussian = autoencoder.encode_in(x, pieces);
        let latents = gaussian.sample(randn.draw(gaussian.mean.dims()));
        for_each(autoencoder.scale(latents), rows, shape[0], "pictures to set out from")
    }

    /// The latents that the encoder takes to be likeliest, as control networks of Stable Diffusion 3 are shown them.
    pub(crate) fn likeliest(&self, picture: Tensor<4>, pieces: Pieces) -> Result<Tensor<4>, PipelineError> {
        Ok(self.autoencoder.get()?.encode_in(picture.cast(self.dtype()) * 2.0 - 1.0, pieces).mode())
    }

    /// A mask of zeros and ones.
    fn mask(&self, mask: &Tensor<4>, picture: &Tensor<4>) -> Result<Tensor<4>, PipelineError> {
        let ([_, channels, height, width], [_, _, h, w]) = (mask.dims(), picture.dims());
        if [channels, height, width] != [1, h, w] {
            let reason = format!("is {:?}, expected {:?}", [channels, height, width], [1, h, w]);
            return Err(PipelineError::request("the mask", reason));
        }
        Ok(mask.clone().cast(self.dtype()).greater_equal_elem(0.5).float().cast(self.dtype()))
    }

    /// Pictures in 0..1.
    pub(crate) fn decode(&self, latents: Tensor<4>, pieces: Pieces) -> Result<Tensor<4>, PipelineError> {
        let autoencoder = self.autoencoder.get()?;
        let x = autoencoder.decode_in(autoencoder.unscale(latents), pieces);
        Ok((x * 0.5 + 0.5).clamp(0.0, 1.0))
    }

    /// Refuses pictures that are not finite, with the layer that made them so of the latents.
    pub(crate) fn check(
        &self,
        pictures: &Tensor<4>,
        latents: &Tensor<4>,
        pieces: Pieces,
    ) -> Result<(), PipelineError> {
        let again = || drop(self.decode(latents.clone(), pieces));
        finite(pictures, AUTOENCODER, again, |place| self.autoencoder.place("vae", place))
    }

    pub(crate) fn done(&self, memory: Memory) {
        self.autoencoder.done(memory);
    }

    fn dtype(&self) -> DType {
        DType::from(self.device.settings().float_dtype)
    }
}

/// Larger pictures than anyone draws in one go: a slip of the keyboard.
const MOST_PIXELS: usize = 1 << 14;
