//! Processes written as f and g alone are the built-in ones.

use burn::tensor::Device;
use kiln_backend::noise::NoiseKey;
use kiln_diffusion::{
    Finish, GaussianMixture, LinearSde, Process, SOLVERS, Sampler, SubVariancePreserving, VarianceExploding,
    VariancePreserving, grid,
};

use crate::{apart, doubles};

fn pairs() -> [(Box<dyn Process>, LinearSde); 3] {
    let beta = |t: f64| 0.1 + 19.9 * t;
    let below = move |t: f64| (beta(t) * -(-2.0 * t * (0.1 + 19.9 * t / 2.0)).exp_m1()).sqrt();
    let growth = (10.0_f64 / 0.05).ln();
    let exploding = move |t: f64| 0.05 * (growth * t).exp() * (2.0 * growth).sqrt();
    let half = move |t| -beta(t) / 2.0;
    [
        (
            Box::new(VariancePreserving::default()),
            LinearSde::new(1.0, 0.0, half, move |t| beta(t).sqrt()).unwrap(),
        ),
        (Box::new(SubVariancePreserving::default()), LinearSde::new(1.0, 0.0, half, below).unwrap()),
        (
            Box::new(VarianceExploding::new(0.05, 10.0).unwrap()),
            LinearSde::new(1.0, 0.05, |_| 0.0, exploding).unwrap(),
        ),
    ]
}

#[test]
fn quadrature_gives_the_closed_forms() {
    for (known, written) in pairs() {
        let mut worst = 0.0_f64;
        for i in 1..=1000 {
            let (a, b) = (known.law(f64::from(i) * 1e-3), written.law(f64::from(i) * 1e-3));
            for (a, b) in [
                (a.alpha, b.alpha),
                (a.sigma, b.sigma),
                (a.alpha_dot, b.alpha_dot),
                (a.sigma_dot, b.sigma_dot),
            ] {
                worst = worst.max((a - b).abs() / a.abs().max(1.0));
            }
        }
        println!("{known:?}: {worst:.1e}");
        assert!(worst < 1e-8, "{known:?}: {worst:e}");
    }
}

#[test]
fn every_solver_takes_a_written_process() {
    for (known, written) in pairs() {
        for entry in SOLVERS {
            let draw = |process: &dyn Process| {
                let data = GaussianMixture::new(process, vec![(0.4, -0.6, 0.3), (0.6, 0.9, 0.2)]).unwrap();
                let times = grid::uniform(&*known, 12).unwrap();
                let sampler = Sampler::new(entry.config, times).unwrap().with_finish(Finish::AtGridEnd);
                // Both from the same start: the scale of the prior is a choice of the built-in ones.
                let key = NoiseKey::new(3);
                let device = Device::flex();
                let x = kiln_backend::noise::normal([4, 2], key, &device).mul_scalar(known.prior_std());
                let noise = kiln_diffusion::keyed_noise([4, 2], key, &device);
                doubles::<2>(sampler.start(process, &data, x, noise).unwrap().finish())
            };
            let difference = apart(&draw(&*known), &draw(&written));
            // In f32.
            assert!(difference < 2e-5, "{} on {known:?}: {difference:e}", entry.name);
        }
    }
}

#[test]
fn a_pole_is_refused() {
    let refused = LinearSde::new(1.0, 0.0, |t| -1.0 / (0.5 - t), |_| 1.0);
    assert!(refused.is_err());
    assert!(LinearSde::new(0.0, 0.0, |_| 0.0, |_| 1.0).is_err());
    assert!(LinearSde::new(1.0, -1.0, |_| 0.0, |_| 1.0).is_err());
}
