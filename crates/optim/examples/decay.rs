//! The decay that each weight really receives, with Adam (L2: λ p goes into the gradient) and with AdamW (decoupled).
//!
//! One network, twice: the same start, the same batches, the same λ. AdamW takes lr λ p of each weight. In Adam, λ p goes
//! through the moments: of m, the part m_λ ← β1 m_λ + (1 - β1) λ p is decay, and moves the weight by lr m̂_λ / (√v̂ + ε).
//! The plot has, for each weight, what it received over what AdamW takes, against the size of its gradients: AdamW is a level
//! line at 1, and Adam falls by a decade each decade. A weight with large gradients hardly decays under Adam.
//!
//! `cargo run --release --package kiln-optim --example decay [decay.svg]`

use std::error::Error;

use burn::module::{Module, Param};
use burn::optim::{GradientsParams, Optimizer};
use burn::tensor::{Device, Tensor};
use kiln_backend::noise::{self, NoiseKey};
use kiln_optim::{AdamConfig, AdamWConfig, NamedOptimizer};
use plotters::prelude::*;

const STEPS: usize = 400;
const LR: f64 = 1e-3;
const DECAY: f64 = 0.1;
const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPSILON: f64 = 1e-8;
const INPUTS: usize = 12;
const HIDDEN: usize = 16;

#[derive(Module, Debug)]
struct Net {
    first: Param<Tensor<2>>,
    second: Param<Tensor<2>>,
}

fn normal<const D: usize>(shape: [usize; D], stream: u64, device: &Device) -> Tensor<D> {
    noise::normal(shape, NoiseKey { seed: 0, sample: 0, step: stream }, device)
}

impl Net {
    fn new(device: &Device) -> Self {
        let first = normal([INPUTS, HIDDEN], 0, device) * 0.3;
        let second = normal([HIDDEN, 1], 1, device) * 0.3;
        Self { first: Param::from_tensor(first), second: Param::from_tensor(second) }
    }

    /// Fits a sum of the inputs' tanh; the inputs' sizes span three decades, and so do the gradients.
    fn loss(&self, step: usize, device: &Device) -> Tensor<1> {
        let x = normal([64, INPUTS], 2 + step as u64, device);
        let y = x.clone().tanh().sum_dim(1);
        let sizes: Vec<f32> =
            (0..INPUTS).map(|i| 10f32.powf(-2.0 + 3.0 * i as f32 / INPUTS as f32)).collect();
        let x = x * Tensor::<1>::from_floats(sizes.as_slice(), device).unsqueeze();
        (x.matmul(self.first.val()).tanh().matmul(self.second.val()) - y).square().mean()
    }

    /// The weights between the inputs and the hidden units.
    fn weights(&self) -> Vec<f64> {
        self.first.val().to_data().iter::<f64>().collect()
    }
}

/// What one weight went through.
#[derive(Clone, Copy, Default)]
struct Weight {
    /// Σ of the decay it received.
    received: f64,
    /// Σ lr λ |p|, what decoupled decay takes.
    decoupled: f64,
    /// √v̂ at the end.
    gradient: f64,
    /// m_λ.
    moment: f64,
}

/// How a weight's decay follows from λ p and √v̂ + ε at a step.
type Received = fn(&mut Weight, decay: f64, root: f64, step: i32) -> f64;

fn decoupled(_: &mut Weight, decay: f64, _: f64, _: i32) -> f64 {
    LR * decay
}

fn coupled(weight: &mut Weight, decay: f64, root: f64, step: i32) -> f64 {
    weight.moment = BETA1 * weight.moment + (1.0 - BETA1) * decay;
    LR * weight.moment / (1.0 - BETA1.powi(step)) / root
}

fn train<O: Optimizer>(optimizer: O, received: Received) -> Result<Vec<Weight>, Box<dyn Error>> {
    let device = Device::flex().autodiff();
    let mut net = Net::new(&device);
    let mut optimizer = NamedOptimizer::new(optimizer);
    let mut weights = vec![Weight::default(); INPUTS * HIDDEN];
    for step in 1..=STEPS {
        let before = net.weights();
        let gradients = GradientsParams::from_grads(net.loss(step, &device).backward(), &net);
        net = optimizer.step(LR, net, gradients);
        let state = optimizer.state_dict();
        let moments = state.tensors.get("first.second_moment").ok_or("no state of the first layer")?;
        let count = i32::try_from(step)?;
        for ((weight, p), v) in weights.iter_mut().zip(before).zip(moments.iter::<f64>()) {
            weight.gradient = (v / (1.0 - BETA2.powi(count))).sqrt();
            let root = weight.gradient + EPSILON;
            // Along the weight: towards 0 is positive.
            weight.received += received(weight, DECAY * p, root, count) * p.signum();
            weight.decoupled += LR * DECAY * p.abs();
        }
    }
    Ok(weights)
}

#[allow(clippy::print_stdout)]
fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).unwrap_or_else(|| "decay.svg".to_owned());
    let adam = train(AdamConfig::new().with_weight_decay(DECAY).build(), coupled)?;
    let adamw = train(AdamWConfig::new().with_weight_decay(DECAY).build(), decoupled)?;
    let points = |weights: &[Weight]| -> Vec<(f64, f64)> {
        weights.iter().map(|weight| (weight.gradient, weight.received / weight.decoupled)).collect()
    };
    let runs = [("Adam, λp in the gradient", points(&adam), RED), ("AdamW, decoupled", points(&adamw), BLUE)];
    for (name, points, _) in &runs {
        let shares = points.iter().map(|(_, share)| *share);
        let (least, most) = shares.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), s| (a.min(s), b.max(s)));
        println!("{name}: the {} weights receive {least:.3} to {most:.3} of lr λ p", points.len());
    }

    let area = SVGBackend::new(&path, (760, 480)).into_drawing_area();
    area.fill(&WHITE)?;
    let all = || runs.iter().flat_map(|(_, points, _)| points.iter().filter(|(_, share)| *share > 0.0));
    let range = |pick: fn(&(f64, f64)) -> f64| {
        let (least, most) =
            all().map(pick).fold((f64::INFINITY, 0.0), |(a, b): (f64, f64), x| (a.min(x), b.max(x)));
        (least / 1.5..most * 1.5).log_scale()
    };
    let mut chart = ChartBuilder::on(&area)
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .caption("The decay that each weight received", ("sans-serif", 20))
        .build_cartesian_2d(range(|p| p.0), range(|p| p.1))?;
    chart
        .configure_mesh()
        .x_desc("size of the weight's gradients, √v̂")
        .y_desc("decay received / lr λ p")
        .x_label_formatter(&|x| format!("{x:.0e}"))
        .y_label_formatter(&|y| format!("{y}"))
        .light_line_style(WHITE)
        .draw()?;
    for (name, points, colour) in &runs {
        let shown = points.iter().filter(|(_, share)| *share > 0.0);
        chart
            .draw_series(shown.map(|&point| Circle::new(point, 2, colour.mix(0.6).filled())))?
            .label(*name)
            .legend(move |at| Circle::new(at, 4, colour.filled()));
    }
    chart.configure_series_labels().background_style(WHITE).border_style(BLACK).draw()?;
    area.present()?;
    println!("wrote {path}");
    Ok(())
}
