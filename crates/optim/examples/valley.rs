//! AdamW goes down Rosenbrock's valley, with and without clipping, and its average follows.
//!
//! `cargo run --release --package kiln-optim --example valley`

use burn::module::{Module, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use kiln_optim::{AdamWConfig, EmaConfig, NamedOptimizer, clip_by_global_norm};

#[derive(Module, Debug)]
struct Point {
    x: Param<Tensor<1>>,
    y: Param<Tensor<1>>,
}

impl Point {
    /// (1 - x)² + 100 (y - x²)², which is 0 at (1, 1).
    fn height(&self) -> Tensor<1> {
        let (x, y) = (self.x.val(), self.y.val());
        (x.clone() - 1.0).square() + (y - x.square()).square() * 100.0
    }

    fn coordinates(&self) -> [f32; 2] {
        [self.x.val().into_scalar(), self.y.val().into_scalar()]
    }
}

#[allow(clippy::print_stdout)]
fn main() {
    let device = Device::flex().autodiff();
    for max_norm in [f64::INFINITY, 1.0] {
        println!("gradients clipped to {max_norm}");
        let mut point = Point { x: Param::from_data([-1.5], &device), y: Param::from_data([2.0], &device) };
        let mut optimizer = NamedOptimizer::new(AdamWConfig::new().with_weight_decay(0.0).build());
        let mut average = EmaConfig::new().with_decay(0.99).init(&point);
        for step in 1..=2_000 {
            let mut gradients = GradientsParams::from_grads(point.height().backward(), &point);
            let norm = clip_by_global_norm(&mut gradients, &point, max_norm);
            point = optimizer.step(0.02, point, gradients);
            average.update(&point);
            if step % 400 == 0 {
                let ([x, y], [mean_x, mean_y]) = (point.coordinates(), average.module().coordinates());
                println!(
                    "{step:>6}  at ({x:.4}, {y:.4})  average ({mean_x:.4}, {mean_y:.4})  gradient {norm:.1e}"
                );
            }
        }
    }
}
