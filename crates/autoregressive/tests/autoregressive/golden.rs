//! Every model against the same in PyTorch, written from its paper: `tests/reference/autoregressive.py`.

use std::path::Path;

use burn::tensor::{Device, Tensor};
use kiln_autoregressive::AutoregressiveModel;
use kiln_autoregressive::zoo::{ModelConfig, Visitor};
use kiln_backend::testing;
use kiln_checkpoint::Checkpoint;

const MODELS: [&str; 13] = [
    "fvsbn",
    "nade",
    "rnade",
    "orderless_nade",
    "made",
    "recurrent",
    "wave_net",
    "transformer",
    "row_lstm",
    "diagonal_bilstm",
    "pixel_cnn",
    "gated_pixel_cnn",
    "pixel_cnn_plus_plus",
];

struct Compare<'a> {
    file: &'a Checkpoint,
    name: &'a str,
    backend: &'a str,
    device: &'a Device,
}

impl Visitor for Compare<'_> {
    type Output = ();

    fn visit<M: AutoregressiveModel>(self, model: M) {
        let Self { file, name, backend, device } = self;
        let loaded = file.load_into(model).unwrap();
        let unread: Vec<_> = loaded.surplus.iter().filter(|name| !name.starts_with("_golden.")).collect();
        assert!(unread.is_empty(), "{name}: {unread:?}");
        let tensor = |key: &str| Tensor::<2>::from_data(file.tensor(key).unwrap(), device);
        let given = (loaded.module.given() > 0).then(|| tensor("_golden.given"));
        let found = loaded.module.conditionals(tensor("_golden.x"), given).unwrap();
        let expected = tensor("_golden.log_prob");
        assert_eq!(found.dims(), expected.dims(), "{name}");
        let off = (found - expected).abs().max().into_scalar::<f32>();
        assert!(off < 1e-4, "{name} on {backend}: a conditional is {off} nats off");
    }
}

#[test]
fn conditionals_are_those_of_pytorch() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    for (backend, device) in testing::devices() {
        for name in MODELS {
            let file = Checkpoint::open(folder.join(name).with_extension("safetensors")).unwrap();
            let config: ModelConfig = serde_json::from_str(&file.metadata()["config"]).unwrap();
            config.build(&device, Compare { file: &file, name, backend, device: &device }).unwrap();
        }
    }
}
