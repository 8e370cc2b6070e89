//! scratch
use burn::tensor::{Device, Int, Tensor};
use kiln::backend::noise::{NoiseKey, normal};
use kiln::backend::testing;
use kiln::denoisers::{UNet2D, UNet2DConfig, seeded};
use kiln::diffusion::*;
const CONFIG: &str = r#"{
    "in_channels": 1, "out_channels": 1, "block_out_channels": [8, 16], "norm_num_groups": 4, "layers_per_block": 1,
    "attention_head_dim": 8, "num_class_embeds": 3,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"], "up_block_types": ["AttnUpBlock2D", "UpBlock2D"]
}"#;
fn diff(what: &str, backend: &str, a: &[f32], b: &[f32]) {
    let d = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    eprintln!("{backend} {what}: {d} {:?} {:?}", &a[..2], &b[..2]);
}
fn v(t: Tensor<4>) -> Vec<f32> { t.into_data().iter().collect() }
fn run(device: &Device) -> Vec<(String, Vec<f32>)> {
    let mut out = vec![];
    let unet: UNet2D = seeded(UNet2DConfig::from_json(CONFIG).unwrap().init(device).unwrap(), 1);
    let x: Tensor<4> = normal([3, 1, 12, 12], NoiseKey::new(5), device);
    out.push(("noise".to_string(), v(x.clone())));
    let c = Tensor::<1, Int>::from_data([0, 1, 2], device);
    let t = Tensor::<1>::from_data([0.5f32, 0.5, 0.5], device);
    out.push(("unet".to_string(), v(unet.forward(x.clone(), t.clone(), Some(c.clone())))));
    let t = Tensor::<1>::from_data([500f32, 500., 500.], device);
    out.push(("unet500".to_string(), v(unet.forward(x.clone(), t.clone(), Some(c.clone())))));
    let process = RectifiedFlow;
    let net = Network::new(&process, Prediction::Velocity, |x, t| unet.forward(x, t, Some(c.clone()))).unwrap();
    let e = net.denoise(x.clone(), 1.0);
    out.push(("denoise data".to_string(), v(e.data)));
    out.push(("denoise noise".to_string(), v(e.noise)));
    let e = net.denoise(x.clone(), 0.5);
    out.push(("denoise.5 data".to_string(), v(e.data)));
    let simple = Network::new(&process, Prediction::Velocity, |x: Tensor<4>, _t| x * 0.3).unwrap();
    for n in [1, 2, 6] {
    for (name, d) in [("simple", &simple as &dyn Denoiser<4>), ("net", &net as &dyn Denoiser<4>)] {
        for s in ["euler", "dpmpp-2m"] {
            let sampler = Sampler::new(SolverConfig::named(s).unwrap(), grid::uniform(&process, n).unwrap()).unwrap();
            let y = sampler.start_keyed(&process, d, [3, 1, 12, 12], NoiseKey::new(5), device).unwrap().finish();
            out.push((format!("{name} {s} {n}"), v(y)));
        }
    }
    }
    let labels = [0, 1, 0, 2, 2, 2];
    let network = Network::new(&process, Prediction::Velocity, |x, t| unet.forward(x, t, Some(Tensor::from_data(labels, device)))).unwrap();
    let [a, b] = network.denoise(Tensor::cat(vec![x.clone(), x.clone()], 0), 1.0).halves();
    out.push(("half a".to_string(), v(a.data.clone())));
    out.push(("half b".to_string(), v(b.data.clone())));
    out.push(("contrast".to_string(), v(Contrast { conditional: a, unconditional: b }.guide(2.0).data)));
    out
}
#[test]
fn scratch() {
    let devices: Vec<_> = testing::devices().collect();
    let flex = run(&devices.iter().find(|d| d.0 == "flex").unwrap().1);
    for (name, d) in devices {
        for ((w, a), (_, b)) in run(&d).iter().zip(&flex) { diff(w, name, a, b); }
    }
}
