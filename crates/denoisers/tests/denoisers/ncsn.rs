//! NCSN and NCSNv2: files of training are read, and PyTorch's numbers computed (tests/reference/ncsn.py); configs that make no
//! network.

use std::path::{Path, PathBuf};

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Int, Tensor, TensorData};
use kiln_backend::noise::{NoiseKey, normal};
use kiln_backend::testing;
use kiln_checkpoint::{Checkpoint, CheckpointError, Pretrained, SaveOptions, parameters, to_bytes};
use kiln_denoisers::ncsn::{Architecture, Weights};
use kiln_denoisers::{ConfigError, Ncsn, NcsnConfig, seeded};
use rstest::rstest;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// Largest difference, relative to the largest value expected.
fn error(found: &TensorData, expected: &TensorData) -> f32 {
    assert_eq!(found.shape(), expected.shape());
    let largest = expected.iter::<f32>().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    let pairs = found.iter::<f32>().zip(expected.iter::<f32>());
    pairs.map(|(found, expected)| (found - expected).abs()).fold(0.0, f32::max) / largest
}

#[rstest]
#[case::ncsn("ncsn", Architecture::Ncsn, &[Weights::Trained])]
#[case::ncsn_deeper("ncsn_deeper", Architecture::NcsnDeeper, &[Weights::Averaged])]
#[case::v2("ncsnv2", Architecture::NcsnV2, &[Weights::Trained, Weights::Averaged])]
#[case::v2_deeper("ncsnv2_deeper", Architecture::NcsnV2Deeper, &[Weights::Averaged])]
#[case::v2_deepest("ncsnv2_deepest", Architecture::NcsnV2Deepest, &[Weights::Averaged])]
fn a_file_of_training_computes_what_pytorch_does(
    #[case] name: &str,
    #[case] architecture: Architecture,
    #[case] all: &[Weights],
) {
    let file = Checkpoint::open(golden(&format!("{name}.pth"))).unwrap();
    let reference = Checkpoint::open(golden(&format!("{name}.safetensors"))).unwrap();
    for (backend, device) in testing::devices() {
        for &weights in all {
            let network = Ncsn::from_checkpoint(&file, weights, &device).unwrap();
            assert_eq!(network.config().architecture, architecture);
            let x = Tensor::from_data(reference.tensor("sample").unwrap(), &device);
            let levels = Tensor::<1, Int>::from_data(reference.tensor("levels").unwrap(), &device);
            let found = network.forward(x, levels).into_data();
            // A file without an average is drawn with as it was trained.
            let output = match weights {
                Weights::Averaged if reference.info("averaged").is_some() => "averaged",
                Weights::Averaged | Weights::Trained => "trained",
            };
            let error = error(&found, &reference.tensor(output).unwrap());
            assert!(error < 1e-5, "{name} on {backend}, {output}: relative error {error}");
        }
    }
}

#[test]
fn a_file_keeps_its_levels() {
    let file = Checkpoint::open(golden("ncsnv2.pth")).unwrap();
    let network = Ncsn::from_checkpoint(&file, Weights::Averaged, &Device::flex()).unwrap();
    let sigmas = network.sigmas();
    assert_eq!(sigmas.len(), 12);
    assert!((sigmas[0] - 50.0).abs() < 1e-4 && (sigmas[11] - 0.01).abs() < 1e-8, "{sigmas:?}");
    let file = Checkpoint::open(golden("ncsn.pth")).unwrap();
    let network = Ncsn::from_checkpoint(&file, Weights::Averaged, &Device::flex()).unwrap();
    assert!((network.sigmas()[9] - 0.01).abs() < 1e-12, "NCSN's file holds none; these are as published");
}

/// The network that a config describes has the parameters of the file, by name and shape.
#[rstest]
#[case("ncsn", r#"{"_class_name": "NCSN", "channels": 1, "ngf": 4, "num_classes": 10}"#)]
#[case("ncsn", r#"{"_class_name": "CondRefineNetDilated", "channels": 1, "ngf": 4}"#)]
#[case(
    "ncsnv2_deepest",
    r#"{"_class_name": "NCSNv2Deepest", "ngf": 2, "num_classes": 5, "sigma_begin": 348}"#
)]
fn a_config_describes_the_same_network(#[case] name: &str, #[case] config: &str) {
    let file = Checkpoint::open(golden(&format!("{name}.pth"))).unwrap();
    let read = Ncsn::from_checkpoint(&file, Weights::Averaged, &Device::flex()).unwrap();
    let made = Ncsn::from_config(config, &Device::flex()).unwrap();
    assert_eq!(parameters(&made), parameters(&read));
    let close = |(a, b): (&f64, &f64)| (a / b - 1.0).abs() < 1e-6;
    assert!(made.sigmas().iter().zip(read.sigmas()).all(close));
}

#[test]
fn names_are_read_with_and_without_the_wrapper() {
    let today = Some("refine1.adapt_convs.0.units.1.0.conv.weight".to_owned());
    assert_eq!(Ncsn::rename("module.refine1.adapt_convs.0.2_1_conv.weight"), today);
    assert_eq!(Ncsn::rename("refine1.adapt_convs.0.2_1_conv.weight"), today);
    assert_eq!(Ncsn::rename("res1.0.normalize1.embed.weight").unwrap(), "res1.0.normalize1.embed.weight");
}

/// NCSNv2's network does not know the level: its score times sigma is one function of the picture.
#[test]
fn the_level_divides_the_score_of_ncsnv2() {
    let config = NcsnConfig { ngf: 4, channels: 1, num_classes: 3, ..NcsnConfig::default() };
    let network = seeded(config.init(&Device::flex()).unwrap(), 0);
    let x = Tensor::<4>::full([3, 1, 8, 8], 0.25, &Device::flex());
    let levels = Tensor::from_data([0, 1, 2], &Device::flex());
    let score: Vec<f32> = network.forward(x, levels).into_data().iter().collect();
    for (i, sigma) in [1.0, 0.1, 0.01].into_iter().enumerate() {
        for (one, first) in score[i * 64..][..64].iter().zip(&score[..64]) {
            assert!((one * sigma - first).abs() <= 1e-5 * first.abs().max(1.0), "{one} {first}");
        }
    }
}

#[rstest]
#[case(r#"{"_class_name": "UNet2DModel"}"#, "UNet2DModel")]
#[case(r#"{"ngf": 8}"#, "_class_name")]
#[case(r#"{"_class_name": "NCSN", "ngf": 1}"#, "ngf")]
#[case(r#"{"_class_name": "NCSN", "num_classes": 0}"#, "num_classes")]
#[case(r#"{"_class_name": "NCSN", "sigma_begin": 0.001}"#, "sigma_begin")]
#[case(r#"{"_class_name": "NCSN", "sigma_end": 0}"#, "sigma_end")]
#[case(r#"{"_class_name": "NCSN", "nonlinearity": "gelu"}"#, "nonlinearity")]
#[case(r#"{"_class_name": "NCSNv2", "normalization": "VarianceNorm"}"#, "normalization")]
#[case(r#"{"_class_name": "NCSNv2", "spec_norm": true}"#, "spec_norm")]
fn a_config_that_makes_no_network_names_its_field(#[case] config: &str, #[case] named: &str) {
    let error: ConfigError = NcsnConfig::from_json(config).unwrap_err();
    assert!(error.to_string().contains(named), "{error}");
}

#[test]
fn a_file_of_something_else_lacks_the_first_convolution() {
    let file = Checkpoint::open(golden("ncsn.safetensors")).unwrap();
    let error = Ncsn::from_checkpoint(&file, Weights::Averaged, &Device::flex()).unwrap_err();
    assert!(
        matches!(&error, CheckpointError::Missing { tensor, .. } if tensor == "begin_conv.weight"),
        "{error}"
    );
}

/// Noise of NCSNv2's first levels is far beyond where `exp` is finite.
#[test]
fn gradients_are_finite_where_noise_is_large() {
    let device = Device::flex().autodiff();
    let config =
        NcsnConfig { channels: 1, ngf: 4, sigma_begin: 300.0, rescaled: true, ..NcsnConfig::default() };
    let network = seeded(config.init(&device).unwrap(), 0);
    let x = normal([2, 1, 8, 8], NoiseKey::new(0), &device) * 300.0;
    let levels = Tensor::<1, Int>::from_data([0, 9], &device);
    let weights = network.clone();
    let loss = network.forward(x.require_grad(), levels).square().mean();
    let gradients = loss.backward();
    let gradients = burn::optim::GradientsParams::from_grads(gradients, &weights);
    assert!(gradients.len() > 20, "{} gradients", gradients.len());
    let mut finite = Finite { gradients: &gradients, seen: 0 };
    weights.visit(&mut finite);
    assert_eq!(finite.seen, gradients.len());
}

/// Asserts that the gradient of each parameter is finite.
struct Finite<'a> {
    gradients: &'a burn::optim::GradientsParams,
    seen: usize,
}

impl ModuleVisitor for Finite<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.get::<D>(param.id) {
            let values = gradient.into_data();
            assert!(values.iter::<f32>().all(f32::is_finite), "a gradient is not finite");
            self.seen += 1;
        }
    }
}

/// The table of a conditional norm holds factors and shifts: what a seed draws must leave it where norms start.
#[test]
fn a_seed_leaves_norms_alone() {
    let device = Device::flex();
    let config = NcsnConfig {
        architecture: Architecture::Ncsn,
        channels: 1,
        ngf: 4,
        rescaled: true,
        ..NcsnConfig::default()
    };
    let network = seeded(config.init(&device).unwrap(), 3);
    let mut tables = 0;
    let file = to_bytes(&network, &SaveOptions::default()).unwrap();
    let file = Checkpoint::from_bytes(file).unwrap();
    for (name, _) in file.tensors() {
        if name.ends_with("embed.weight") {
            tables += 1;
            let values = file.tensor(name).unwrap();
            let width = values.shape()[1];
            let right = |(i, value): (usize, f32)| value == if i % width < 2 * width / 3 { 1.0 } else { 0.0 };
            assert!(values.iter::<f32>().enumerate().all(right), "{name}");
        }
    }
    assert!(tables > 10, "{tables} tables");
}

#[test]
fn a_config_is_written_as_it_is_read() {
    for architecture in [Architecture::Ncsn, Architecture::NcsnDeeper, Architecture::NcsnV2Deepest] {
        let config =
            NcsnConfig { architecture, ngf: 6, sigma_begin: 7.5, rescaled: true, ..NcsnConfig::default() };
        assert_eq!(NcsnConfig::from_json(&config.to_json().to_string()).unwrap(), config);
    }
}
