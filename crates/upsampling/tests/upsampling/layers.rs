//! What PyTorch computes (tests/reference/upsampling_layers.py), values and gradients, on every backend compiled in.

use std::path::Path;

use burn::module::Param;
use burn::nn::conv::{ConvTranspose1dConfig, ConvTranspose2dConfig, ConvTranspose3dConfig};
use burn::tensor::{Device, Int, Tensor};
use kiln_backend::testing;
use kiln_checkpoint::{Checkpoint, View};
use kiln_upsampling::{
    AlignCorners, Antialias, CarafeConfig, DySampleConfig, MaxUnpool1d, MaxUnpool2d, MaxUnpool3d, Mode,
    PixelShuffleConfig, PixelUnshuffleConfig, Target, Upsample, convolve_transposed, upsampling_bilinear_2d,
    upsampling_nearest_2d,
};
use rstest::rstest;

use crate::golden::assert_close;

struct Golden {
    file: Checkpoint,
    name: &'static str,
}

impl Golden {
    fn open(name: &'static str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/layers.safetensors");
        Self { file: Checkpoint::open(path).unwrap(), name }
    }

    fn data(&self, part: &str) -> burn::tensor::TensorData {
        self.file.tensor(&format!("{}.{part}", self.name)).unwrap()
    }

    fn tensor<const D: usize>(&self, part: &str, device: &Device) -> Tensor<D> {
        Tensor::from_data(self.data(part), device)
    }

    fn parameter<const D: usize>(&self, part: &str, device: &Device) -> Param<Tensor<D>> {
        Param::from_tensor(self.tensor(part, device))
    }

    /// Value and gradient.
    #[track_caller]
    fn holds<const D: usize>(&self, compute: impl Fn(Tensor<D>, &Device) -> Tensor<D>) {
        for (backend, device) in testing::devices() {
            let device = device.autodiff();
            let what = format!("{} on {backend}", self.name);
            let x = self.tensor::<D>("x", &device).require_grad();
            let y = compute(x.clone(), &device);
            assert_close(&what, &y.to_data(), &self.data("y"));
            let gradients = (y * self.tensor("weight", &device)).sum().backward();
            assert_close(
                &format!("{what}, gradient"),
                &x.grad(&gradients).unwrap().into_data(),
                &self.data("grad"),
            );
        }
    }
}

fn size<const S: usize>(size: [usize; S], mode: Mode) -> Upsample<S> {
    Upsample::new(Target::Size(size), mode)
}

fn factor<const S: usize>(factor: [f64; S], mode: Mode) -> Upsample<S> {
    Upsample::new(Target::Factor(factor), mode)
}

#[rstest]
#[case("nearest_factor", factor([1.7, 2.3], Mode::Nearest))]
#[case("exact_size", size([8, 3], Mode::NearestExact))]
#[case("exact_factor", factor([1.7, 2.3], Mode::NearestExact))]
#[case("bilinear_fraction", factor([2.5, 1.3], Mode::Bilinear))]
#[case("bilinear_anti", size([4, 11], Mode::Bilinear).with_antialias(Antialias::Yes))]
#[case("bilinear_anti_corners",
    size([4, 11], Mode::Bilinear).with_antialias(Antialias::Yes).with_align_corners(AlignCorners::Yes))]
#[case("bicubic_fraction", factor([2.5, 1.3], Mode::Bicubic))]
#[case("bicubic_corners", size([9, 4], Mode::Bicubic).with_align_corners(AlignCorners::Yes))]
#[case("bicubic_anti", size([4, 11], Mode::Bicubic).with_antialias(Antialias::Yes))]
#[case("lanczos_anti", size([4, 11], Mode::Lanczos).with_antialias(Antialias::Yes))]
#[case("lanczos_factor", factor([2.0, 2.0], Mode::Lanczos).with_antialias(Antialias::Yes))]
#[case("upsampling_nearest_2d", upsampling_nearest_2d(Target::Factor([2.0, 2.0])))]
#[case("upsampling_bilinear_2d", upsampling_bilinear_2d(Target::Size([5, 9])))]
fn interpolation_on_two_axes(#[case] name: &'static str, #[case] layer: Upsample) {
    Golden::open(name).holds::<4>(|x, _| layer.forward(x));
}

#[rstest]
#[case("nearest_1d", size([11], Mode::Nearest))]
#[case("linear_factor", factor([2.6], Mode::Linear))]
#[case("linear_corners", size([12], Mode::Linear).with_align_corners(AlignCorners::Yes))]
fn interpolation_on_one_axis(#[case] name: &'static str, #[case] layer: Upsample<1>) {
    Golden::open(name).holds::<3>(|x, _| layer.forward(x));
}

#[rstest]
#[case("nearest_3d", size([5, 3, 4], Mode::Nearest))]
#[case("trilinear_factor", factor([2.0, 1.5, 2.0], Mode::Trilinear))]
#[case("trilinear_corners", size([5, 6, 4], Mode::Trilinear).with_align_corners(AlignCorners::Yes))]
fn interpolation_on_three_axes(#[case] name: &'static str, #[case] layer: Upsample<3>) {
    Golden::open(name).holds::<5>(|x, _| layer.forward(x));
}

#[test]
fn channels_become_pixels_and_back() {
    Golden::open("shuffle").holds::<4>(|x, _| PixelShuffleConfig::new(3).init().forward(x));
    Golden::open("unshuffle").holds::<4>(|x, _| PixelUnshuffleConfig::new(3).init().forward(x));
}

fn indices<const D: usize>(golden: &Golden, device: &Device) -> Tensor<D, Int> {
    Tensor::from_data(golden.data("indices"), device)
}

#[test]
fn max_unpooling() {
    let golden = Golden::open("unpool_1d");
    golden.holds::<3>(|x, device| MaxUnpool1d::new([2]).forward(x, indices(&golden, device), Some([9])));
    let golden = Golden::open("unpool_2d");
    golden
        .holds::<4>(|x, device| MaxUnpool2d::new([2, 3]).forward(x, indices(&golden, device), Some([7, 9])));
    let golden = Golden::open("unpool_2d_padded");
    let layer = MaxUnpool2d::new([3, 3]).with_padding([1, 1]);
    golden.holds::<4>(|x, device| layer.forward(x, indices(&golden, device), Some([8, 8])));
    let golden = Golden::open("unpool_3d");
    golden.holds::<5>(|x, device| MaxUnpool3d::new([2, 2, 2]).forward(x, indices(&golden, device), None));
}

/// Of inputs of one index the last is kept, as PyTorch keeps it, and it alone has a gradient.
#[test]
fn of_repeated_indices_the_last_is_kept() {
    let golden = Golden::open("unpool_overlap");
    let layer = MaxUnpool2d::new([3, 3]).with_stride([1, 1]);
    for (backend, device) in testing::devices() {
        let device = device.autodiff();
        let x = golden.tensor::<4>("x", &device).require_grad();
        let index = indices::<4>(&golden, &device);
        let y = layer.forward(x.clone(), index.clone(), None);
        assert_close(&format!("overlapping windows on {backend}"), &y.to_data(), &golden.data("y"));
        let weight = golden.tensor::<4>("weight", &device);
        let found = x.grad(&(y * weight).sum().backward()).unwrap().into_data();
        // PyTorch's gradient, but 0 for an input that a later one of its plane replaced.
        let [batch, channels, rows, columns] = index.dims();
        let index: Vec<i64> = index.into_data().iter::<i64>().collect();
        let mut expected: Vec<f32> = golden.data("grad").iter::<f32>().collect();
        let mut replaced = 0;
        for (plane, index) in index.chunks(rows * columns).enumerate() {
            for (i, place) in index.iter().enumerate() {
                if index[i + 1..].contains(place) {
                    expected[plane * rows * columns + i] = 0.0;
                    replaced += 1;
                }
            }
        }
        assert!(replaced > 10, "the case has repeated indices");
        let expected = burn::tensor::TensorData::new(expected, [batch, channels, rows, columns]);
        assert_close(&format!("its gradient on {backend}"), &found, &expected);
    }
}

#[test]
#[should_panic(expected = "the index 16 in a plane of 16 values")]
fn an_index_outside_is_told() {
    let device = Device::flex();
    let index = Tensor::<4, Int>::from_data([[[[0, 1], [2, 16]]]], &device);
    let _ = MaxUnpool2d::new([2, 2]).forward(Tensor::ones([1, 1, 2, 2], &device), index, None);
}

macro_rules! transposed {
    ($name:literal, $rank:literal, $config:expr) => {{
        let golden = Golden::open($name);
        golden.holds::<$rank>(|x, device| {
            let mut layer = $config.init(device);
            layer.weight = golden.parameter("kernel", device);
            layer.bias = layer.bias.map(|_| golden.parameter("bias", device));
            layer.forward(x)
        });
        for (backend, device) in testing::devices() {
            let device = device.autodiff();
            let mut layer = $config.init(&device);
            layer.weight = golden.parameter("kernel", &device);
            let y = layer.forward(golden.tensor("x", &device));
            let gradients = (y * golden.tensor("weight", &device)).sum().backward();
            let found = layer.weight.val().grad(&gradients).unwrap().into_data();
            assert_close(&format!("{}'s kernel on {backend}", $name), &found, &golden.data("kernel_grad"));
        }
    }};
}

#[test]
fn transposed_convolution() {
    transposed!(
        "transposed_1d",
        3,
        ConvTranspose1dConfig::new([4, 6], 3)
            .with_stride(2)
            .with_padding(1)
            .with_padding_out(1)
            .with_groups(2)
            .with_dilation(2)
    );
    for name in ["transposed_2d", "transposed_2d_depthwise"] {
        let golden = Golden::open(name);
        golden.holds::<4>(|x, device| {
            let mut layer = match name {
                "transposed_2d" => ConvTranspose2dConfig::new([4, 6], [3, 4])
                    .with_stride([2, 3])
                    .with_padding([1, 2])
                    .with_padding_out([1, 0])
                    .with_groups(2)
                    .with_dilation([1, 2]),
                _ => ConvTranspose2dConfig::new([3, 3], [4, 4])
                    .with_stride([2, 2])
                    .with_padding([1, 1])
                    .with_groups(3)
                    .with_bias(false),
            }
            .init(device);
            layer.weight = golden.parameter("kernel", device);
            layer.bias = layer.bias.map(|_| golden.parameter("bias", device));
            convolve_transposed(&layer, x)
        });
    }
    transposed!(
        "transposed_2d",
        4,
        ConvTranspose2dConfig::new([4, 6], [3, 4])
            .with_stride([2, 3])
            .with_padding([1, 2])
            .with_padding_out([1, 0])
            .with_groups(2)
            .with_dilation([1, 2])
    );
    transposed!(
        "transposed_2d_depthwise",
        4,
        ConvTranspose2dConfig::new([3, 3], [4, 4])
            .with_stride([2, 2])
            .with_padding([1, 1])
            .with_groups(3)
            .with_bias(false)
    );
    transposed!(
        "transposed_3d",
        5,
        ConvTranspose3dConfig::new([2, 4], [2, 3, 2])
            .with_stride([1, 2, 2])
            .with_padding([0, 1, 0])
            .with_padding_out([0, 1, 1])
            .with_groups(2)
    );
}

/// The file's parameters, under the names of `layer`'s convolutions, loaded into it.
fn parameters(golden: &Golden, names: &[&str]) -> Checkpoint {
    let views =
        names.iter().enumerate().map(|(i, name)| View::renamed(*name, format!("{}.p{i}", golden.name)));
    golden.file.view(views.collect()).unwrap()
}

#[test]
fn carafe() {
    let golden = Golden::open("carafe");
    let weights = parameters(
        &golden,
        &[
            "channel_compressor.weight",
            "channel_compressor.bias",
            "content_encoder.weight",
            "content_encoder.bias",
        ],
    );
    golden.holds::<4>(|x, device| {
        let layer = CarafeConfig::new(6).with_kernel(3).with_compressed(4).init(device);
        weights.load_into(layer).unwrap().module.forward(x)
    });
}

#[test]
fn dysample() {
    let golden = Golden::open("dysample");
    let weights = parameters(&golden, &["offset.weight", "offset.bias"]);
    golden.holds::<4>(|x, device| {
        let layer = DySampleConfig::new(8).init(device);
        weights.load_into(layer).unwrap().module.forward(x)
    });
}
