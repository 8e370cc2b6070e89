//! How a run behaves: what is told of it, how it ends, what it refuses.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor};
use kiln_checkpoint::{Contents, StoredDType, write_folder};
use kiln_denoisers::UNet2DCondition;
use kiln_pipelines::{
    Control, Drawn, Embeddings, Guidance, Memory, Pieces, PipelineError, Progress, Prompts, Request,
    StableDiffusion, StableDiffusion3, Start, Tiling, Unconditional,
};
use rstest::rstest;

use crate::golden::{folder, stored};

fn go_on(_: Progress<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// The golden pipeline without its control networks.
fn plain(device: &Device) -> StableDiffusion {
    let mut parts = stored("stable_diffusion");
    parts.models.retain(|part, _| !part.starts_with("controlnet"));
    StableDiffusion::new(parts, device).expect("a pipeline")
}

fn request() -> Request {
    Request { steps: 3, size: Some([32, 32]), ..Request::new("a red kiln") }
}

fn numbers(x: Tensor<4>) -> Vec<f32> {
    x.into_data().iter::<f32>().collect()
}

fn drawn(pipeline: &StableDiffusion, request: &Request) -> Vec<f32> {
    numbers(pipeline.draw(request, &mut go_on).expect("drawn").pictures)
}

#[test]
fn each_step_is_told_with_its_preview() {
    let device = Device::flex();
    let pipeline = plain(&device);
    let mut told = Vec::new();
    let mut previews = Vec::new();
    let Drawn { latents, .. } = pipeline
        .draw(&request(), &mut |progress: Progress<'_>| {
            told.push((progress.step, progress.steps));
            previews.push((numbers(progress.latents.clone()), progress.estimate.dims()));
            ControlFlow::Continue(())
        })
        .expect("drawn");
    assert_eq!(told, [(1, 3), (2, 3), (3, 3)]);
    assert_eq!(previews[2].0, numbers(latents));
    assert_ne!(previews[0].0, previews[1].0);
    assert!(previews.iter().all(|(_, dims)| *dims == [1, 4, 16, 16]));
}

#[test]
fn an_observer_ends_the_run_at_its_step() {
    let pipeline = plain(&Device::flex());
    let mut told = 0;
    let stopped = pipeline.draw(&request(), &mut |_| {
        told += 1;
        if told == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(matches!(stopped, Err(PipelineError::Stopped { step: 2, steps: 3 })), "{stopped:?}");
    assert_eq!(told, 2);
}

#[test]
fn what_is_released_is_loaded_again_and_draws_the_same() {
    let pipeline = plain(&Device::flex());
    let kept = drawn(&pipeline, &request());
    let low = Request { memory: Memory::Release, ..request() };
    assert_eq!(drawn(&pipeline, &low), kept);
    assert_eq!(drawn(&pipeline, &low), kept);
}

/// Dtypes of a network's parameters of four dimensions, and of all others.
#[derive(Default)]
struct Types([BTreeSet<&'static str>; 2]);

impl ModuleVisitor for Types {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0[usize::from(D != 4)].insert(param.dtype().name());
    }
}

#[rstest]
#[case(StoredDType::F16, "f16")]
#[case(StoredDType::Bf16, "bf16")]
fn kernels_that_stay_in_16_bits_draw_the_same(#[case] dtype: StoredDType, #[case] name: &'static str) {
    let device = Device::flex();
    let there = tempfile::tempdir().expect("a folder");
    let convert = |from: PathBuf, to: &str, dtype| {
        let to = there.path().join(to);
        write_folder(&Contents::open(from).expect("a pipeline"), &to, Some(dtype)).expect("written");
        to
    };
    let narrow = convert(folder("stable_diffusion"), "narrow", dtype);
    let wide = convert(narrow.clone(), "wide", StoredDType::F32);
    let types = |folder: &Path, device: &Device| {
        let Ok(Contents::Pipeline(pipeline)) = Contents::open(folder) else { panic!("no pipeline") };
        let network: UNet2DCondition = pipeline.models["unet"].load(device).expect("a U-Net");
        let mut types = Types::default();
        network.visit(&mut types);
        types.0
    };
    let (f32, narrow_alone) = (BTreeSet::from(["f32"]), BTreeSet::from([name]));
    assert_eq!(types(&narrow, &device), [narrow_alone, f32.clone()]);
    assert_eq!(types(&narrow, &device.clone().autodiff()), [f32.clone(), f32.clone()]);
    assert_eq!(types(&wide, &device), [f32.clone(), f32]);
    let controls = vec![Control::new(Tensor::ones([1, 3, 32, 32], &device) * 0.7); 2];
    let request = Request { controls, ..request() };
    let [narrow, wide] = [narrow, wide]
        .map(|folder| drawn(&StableDiffusion::open(folder, &device).expect("a pipeline"), &request));
    assert_eq!(narrow, wide);
}

#[test]
fn pictures_of_a_batch_are_those_that_are_drawn_alone() {
    let device = Device::flex();
    let pipeline = plain(&device);
    let latents = Tensor::random([2, 4, 16, 16], burn::tensor::Distribution::Normal(0.0, 1.0), &device);
    let both = Request { pictures: 2, latents: Some(latents.clone()), ..request() };
    let both = drawn(&pipeline, &both);
    for i in 0..2 {
        let one = Request { latents: Some(latents.clone().narrow(0, i, 1)), ..request() };
        let one = drawn(&pipeline, &one);
        let half = &both[i * one.len()..][..one.len()];
        let error = one.iter().zip(half).fold(0.0, |most: f32, (a, b)| most.max((a - b).abs()));
        assert!(error < 1e-5, "picture {i} is off by {error}");
    }
}

#[test]
fn embeddings_stand_for_their_prompts() {
    let pipeline = plain(&Device::flex());
    let asked = Request { guidance: Guidance::new(4.0), ..request().unlike("blurry") };
    let told = |text: &str| {
        let alone = Request { steps: 1, guidance: Guidance::new(1.0), ..Request::new(text) };
        pipeline.draw(&alone, &mut go_on).expect("drawn").embeddings.expect("it was told words")
    };
    let prompt = Prompts::Embedded { positive: told("a red kiln"), negative: Some(told("blurry")) };
    assert_eq!(drawn(&pipeline, &Request { prompt, ..asked.clone() }), drawn(&pipeline, &asked));
}

#[test]
fn a_control_that_is_silent_changes_nothing_and_one_that_is_masked_less() {
    let device = Device::flex();
    let with_networks = StableDiffusion::open(folder("stable_diffusion"), &device).expect("a pipeline");
    assert_eq!(with_networks.controls(), 2);
    let without = drawn(&plain(&device), &request());
    let picture = Tensor::<4>::ones([1, 3, 32, 32], &device) * 0.7;
    let with = |change: &dyn Fn(Control) -> Control| {
        let controls = vec![change(Control::new(picture.clone())); 2];
        drawn(&with_networks, &Request { controls, ..request() })
    };
    assert_eq!(with(&|control| Control { scale: 0.0, ..control }), without);
    let nowhere = Tensor::<4>::zeros([1, 1, 8, 8], &device);
    assert_eq!(with(&|control| Control { mask: Some(nowhere.clone()), ..control }), without);
    let distance = |found: &[f32]| found.iter().zip(&without).map(|(a, b)| (a - b).abs()).sum::<f32>();
    let everywhere = distance(&with(&|control| control));
    let half = Tensor::cat(vec![nowhere.clone().narrow(3, 0, 4), nowhere.clone().narrow(3, 4, 4) + 1.0], 3);
    let in_half = distance(&with(&|control| Control { mask: Some(half.clone()), ..control }));
    assert!(in_half > 0.0 && in_half < everywhere, "{in_half} of {everywhere}");
}

#[test]
fn a_picture_stays_where_nothing_is_drawn() {
    let device = Device::flex();
    let pipeline = plain(&device);
    let picture = Tensor::<4>::ones([1, 3, 32, 32], &device) * 0.3;
    let mask = Tensor::<4>::zeros([1, 1, 32, 32], &device);
    let start = Start::Inpaint { picture: picture.clone(), mask, strength: 0.7 };
    let Drawn { latents, .. } =
        pipeline.draw(&Request { start, steps: 4, ..request() }, &mut go_on).expect("drawn");
    // Latents are drawn from what the encoder says; at no step but the last is anything left of the noise.
    let start = Start::Picture { picture, strength: 0.25 };
    let start = Request { start, steps: 4, ..request() };
    assert_eq!(latents.dims(), pipeline.draw(&start, &mut go_on).expect("drawn").latents.dims());
    let again = Start::Inpaint {
        picture: Tensor::<4>::ones([1, 3, 32, 32], &device) * 0.3,
        mask: Tensor::zeros([1, 1, 32, 32], &device),
        strength: 1.0,
    };
    let again = Request { start: again, steps: 2, ..request() };
    let again = pipeline.draw(&again, &mut go_on).expect("drawn").latents;
    // However many steps: the picture's own latents, to the bit.
    assert_eq!(numbers(latents), numbers(again));
}

#[test]
fn tiles_save_memory_and_keep_the_size() {
    let pipeline = plain(&Device::flex());
    let tiled = Request { pieces: Pieces::Tiles(Tiling::new(8, 2).expect("a tiling")), ..request() };
    let Drawn { pictures, latents, .. } = pipeline.draw(&tiled, &mut go_on).expect("drawn");
    assert_eq!((pictures.dims(), latents.dims()), ([1, 3, 32, 32], [1, 4, 16, 16]));
}

#[rstest]
#[case::size(Request { size: Some([33, 32]), ..request() }, "the size: is 33 x 32; expected multiples of 2")]
#[case::nothing(Request { size: Some([0, 32]), ..request() }, "the size: is 0 x 32")]
#[case::steps(Request { steps: 0, ..request() }, "the number of steps")]
#[case::skip(Request { clip_skip: Some(9), ..request() }, "clip_skip: leaves out 9")]
#[case::pictures(Request { pictures: 0, ..request() }, "the number of pictures: is 0")]
#[case::guidance(Request { guidance: Guidance::new(f64::NAN), ..request() }, "the scale of guidance")]
#[case::strength(
    Request { start: Start::Picture { picture: Tensor::ones([1, 3, 32, 32], &Device::flex()), strength: 0.1 }, ..request() },
    "strength: is 0.1, which leaves none of 3 steps"
)]
#[case::too_strong(
    Request { start: Start::Picture { picture: Tensor::ones([1, 3, 32, 32], &Device::flex()), strength: 1.5 }, ..request() },
    "strength: is 1.5"
)]
#[case::picture(
    Request { start: Start::Picture { picture: Tensor::ones([1, 3, 16, 32], &Device::flex()), strength: 1.0 }, ..request() },
    "the picture to set out from: is [3, 16, 32], expected [3, 32, 32]"
)]
#[case::mask(
    Request {
        start: Start::Inpaint {
            picture: Tensor::ones([1, 3, 32, 32], &Device::flex()),
            mask: Tensor::ones([1, 3, 32, 32], &Device::flex()),
            strength: 1.0,
        },
        ..request()
    },
    "the mask: is [3, 32, 32], expected [1, 32, 32]"
)]
#[case::latents(
    Request { latents: Some(Tensor::ones([1, 4, 8, 8], &Device::flex())), ..request() },
    "the starting latents: are [1, 4, 8, 8], expected [1, 4, 16, 16]"
)]
#[case::controls(
    Request { controls: vec![Control::new(Tensor::ones([1, 3, 32, 32], &Device::flex()))], ..request() },
    "control pictures: are 1 for 0 control networks"
)]
#[case::negatives(
    Request {
        prompt: Prompts::Text { positive: vec!["a".to_owned(); 3], negative: vec!["b".to_owned(); 2] },
        ..request()
    },
    "negative prompts: are 2 for 3 prompts"
)]
#[case::embeddings(
    Request {
        prompt: Prompts::Embedded {
            positive: Embeddings { states: Tensor::ones([1, 16, 9], &Device::flex()), pooled: None },
            negative: None,
        },
        ..request()
    },
    "prompt embeddings: have 9 channels, and the denoiser takes 16"
)]
fn what_cannot_be_drawn_is_said(#[case] request: Request, #[case] message: &str) {
    let error = plain(&Device::flex()).draw(&request, &mut go_on).expect_err("it can't be drawn");
    let said = error.to_string();
    assert!(said.contains(message), "{said}");
}

#[test]
fn another_pipeline_is_refused_by_name() {
    let device = Device::flex();
    let said = |error: PipelineError| error.to_string();
    let of_three = StableDiffusion::open(folder("stable_diffusion_3"), &device).map(|_| ());
    assert!(said(of_three.expect_err("SD 3")).contains("`StableDiffusion3Pipeline` is no pipeline"));
    let of_one = StableDiffusion3::open(folder("stable_diffusion"), &device).map(|_| ());
    assert!(said(of_one.expect_err("SD 1")).contains("known are StableDiffusion3Pipeline"));
    let part = Unconditional::open(folder("ddim").join("unet"), &device).map(|_| ());
    assert!(said(part.expect_err("a part")).contains("`UNet2DModel` is no pipeline"));
    let mut parts = stored("stable_diffusion");
    parts.models.remove("vae");
    let lacking = StableDiffusion::new(parts, &device).map(|_| ());
    assert_eq!(said(lacking.expect_err("no vae")), "the pipeline has no part `vae`");
}

#[test]
fn numbers_that_are_not_finite_are_told_by_their_part() {
    let device = Device::flex();
    let pipeline = plain(&device);
    let states = Tensor::<3>::ones([1, 16, 16], &device) * f32::NAN;
    let positive = Embeddings { states, pooled: None };
    let asked = Request {
        prompt: Prompts::Embedded { positive, negative: None },
        guidance: Guidance::new(1.0),
        ..request()
    };
    let said = pipeline.draw(&asked, &mut go_on).expect_err("NaN").to_string();
    assert!(said.starts_with("the text encoder gave numbers that are not finite; compute in"), "{said}");
    let latents = Some(Tensor::<4>::ones([1, 4, 16, 16], &device) * f32::INFINITY);
    let said =
        pipeline.draw(&Request { latents, ..request() }, &mut go_on).expect_err("infinite").to_string();
    assert!(said.contains("the denoiser gave numbers that are not finite at step 1"), "{said}");
}
