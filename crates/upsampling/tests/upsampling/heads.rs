//! Networks without published weights, and a DAT of other options than DAT-light's, give PyTorch's numbers
//! (tests/reference/upsampling_networks.py).

use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use kiln_backend::testing;
use kiln_checkpoint::{Checkpoint, parameters};
use kiln_upsampling::{DatConfig, EspcnConfig, FcnConfig, FcnStride, SegmentationUNetConfig};
use rstest::rstest;

fn golden(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// The case's parameters in `network`, and no other tensor of it.
fn loaded<M: Module>(file: &Checkpoint, case: &str, network: M) -> M {
    let loaded = file.part(&format!("{case}.p.")).load_into(network).unwrap();
    assert!(loaded.surplus.is_empty(), "{case}: {:?}", loaded.surplus);
    loaded.module
}

#[track_caller]
fn agrees<M: Module>(
    case: &str,
    inputs: usize,
    init: impl Fn(&Device) -> M,
    forward: impl Fn(&M, Vec<Tensor<4>>) -> Tensor<4>,
) {
    let file = Checkpoint::open(golden("heads.safetensors")).unwrap();
    let expected = file.tensor(&format!("{case}.y")).unwrap();
    let largest = expected.iter::<f32>().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    for (backend, device) in testing::devices() {
        let network = loaded(&file, case, init(&device));
        let input = |i| {
            let data = file.tensor(&format!("{case}.x{i}")).unwrap().convert::<f32>();
            Tensor::from_data(data, &device)
        };
        let found = forward(&network, (0..inputs).map(input).collect());
        assert_eq!(found.dims().as_slice(), &**expected.shape(), "{case} on {backend}");
        let found = found.into_data();
        let pairs = found.iter::<f32>().zip(expected.iter::<f32>());
        let error = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / largest;
        assert!(error < 1e-5, "{case} on {backend}: {error} of the largest value");
    }
}

#[test]
fn espcn() {
    let config = EspcnConfig::new(3).with_features([8, 6]);
    agrees("espcn", 1, |device| config.init(device), |net, x| net.forward(x[0].clone()));
}

#[rstest]
#[case("fcn32", FcnStride::ThirtyTwo)]
#[case("fcn16", FcnStride::Sixteen)]
#[case("fcn8", FcnStride::Eight)]
fn fully_convolutional_heads(#[case] name: &str, #[case] stride: FcnStride) {
    let config = FcnConfig::new([5, 6, 7], 3).with_stride(stride);
    agrees(
        name,
        3,
        |device| config.init(device),
        |net, x| net.forward([x[0].clone(), x[1].clone(), x[2].clone()]),
    );
}

#[test]
fn unet() {
    let config = SegmentationUNetConfig::new(2, 3).with_levels(vec![4, 6, 8]);
    agrees("unet", 1, |device| config.init(device), |net, x| net.forward(x[0].clone()));
}

/// Several groups, shifts in even and odd ones, other heads, windows and reconstruction than DAT-light's; a size that is no
/// whole number of windows.
#[test]
fn dat_of_other_options() {
    let config = DatConfig::new(2)
        .with_features(32)
        .with_depths(vec![3, 1])
        .with_heads(vec![4, 2])
        .with_window([4, 8]);
    agrees("dat", 1, |device| config.init(device), |net, x| net.forward(x[0].clone()));
}

/// Names, shapes and number of the published networks' tensors.
#[test]
fn published_dats_have_their_parameters() {
    let table = std::fs::read_to_string(golden("dat_variants.txt")).unwrap();
    assert_eq!(table.lines().count(), 12);
    for row in table.lines() {
        let [variant, scale, tensors, count, hash] = row.split(' ').collect::<Vec<_>>().try_into().unwrap();
        let scale: usize = scale.parse().unwrap();
        let config = match variant {
            "DAT" => DatConfig::new(scale),
            "DAT-S" => DatConfig::small(scale),
            "DAT-2" => DatConfig::second(scale),
            _ => DatConfig::light(scale),
        };
        let found = parameters(&config.init(&Device::flex()));
        assert_eq!(found.len().to_string(), tensors, "{variant} x{scale}");
        let learnt = found.iter().filter(|p| !p.name.contains("running_"));
        let learnt: usize = learnt.map(|p| p.shape.iter().product::<usize>()).sum();
        assert_eq!(learnt.to_string(), count, "{variant} x{scale}");
        let mut lines: Vec<String> = found
            .iter()
            .map(|p| {
                let shape: Vec<_> = p.shape.iter().map(ToString::to_string).collect();
                format!("{} {}", p.name, shape.join(","))
            })
            .collect();
        lines.sort();
        let fnv = lines.join("\n").bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        assert_eq!(format!("{fnv:016x}"), hash, "{variant} x{scale}: {:?}", &lines[..3]);
    }
}
