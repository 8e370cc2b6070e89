//! Networks with their published weights give PyTorch's pictures.

use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use kiln_backend::testing;
use kiln_checkpoint::Checkpoint;
use kiln_upsampling::{DatConfig, SrVggConfig, weights};

/// All parameters come from the file, and the file has no other.
fn loaded<M: Module>(bytes: &'static [u8], network: M) -> M {
    let loaded = Checkpoint::from_bytes(bytes).unwrap().load_into(network).unwrap();
    assert!(loaded.surplus.is_empty(), "{:?}", loaded.surplus);
    loaded.module
}

/// `[height, width, 3]` bytes as `[1, 3, height, width]`.
fn picture(golden: &Checkpoint, name: &str, device: &Device) -> Tensor<4> {
    let data = golden.tensor(name).unwrap().convert::<f32>();
    Tensor::<3>::from_data(data, device).permute([2, 0, 1]).unsqueeze::<4>() / 255.0
}

fn agrees(name: &str, forward: impl Fn(&Device) -> Box<dyn Fn(Tensor<4>) -> Tensor<4>>) {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/networks.safetensors");
    let golden = Checkpoint::open(golden).unwrap();
    let expected = golden.tensor(&format!("{name}_out")).unwrap();
    for (backend, device) in testing::devices() {
        let found = forward(&device)(picture(&golden, &format!("{name}_in"), &device)).squeeze::<3>();
        assert_eq!(found.dims().as_slice(), &**expected.shape());
        let found = found.into_data();
        let error =
            found.iter::<f32>().zip(expected.iter::<f32>()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(error < 1e-3, "{name} on {backend}: {error}");
    }
}

#[test]
fn dat_light_is_pytorchs() {
    agrees("DAT_light_x2", |device| {
        let network = loaded(weights::DAT_LIGHT_X2, DatConfig::light(2).init(device));
        Box::new(move |x| network.forward(x))
    });
}

#[test]
fn real_esrgans_compact_network_is_pytorchs() {
    agrees("realesr-animevideov3-x4", |device| {
        let network = loaded(weights::REALESR_ANIME_X4, SrVggConfig::anime_video_v3().init(device));
        Box::new(move |x| network.forward(x))
    });
}

#[test]
fn dat_light_x4_takes_its_weights() {
    loaded(weights::DAT_LIGHT_X4, DatConfig::light(4).init(&Device::flex()));
}
