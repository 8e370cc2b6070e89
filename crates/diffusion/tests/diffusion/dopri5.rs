//! Steps that each sample chooses: scipy's ends and costs, errors that follow the tolerance, and samples that don't know of each other.

use burn::tensor::{Device, Tensor};
use kiln_backend::noise::NoiseKey;
use kiln_diffusion::{
    Contrast, Denoiser, DormandPrince, Estimate, Finish, GaussianMixture, Guided, Law, Network, Prediction,
    Process, RectifiedFlow, SOLVERS, Sampler, SolverConfig, Tally, Tolerance, VariancePreserving, grid,
};
use serde_json::Value;

use crate::{apart, double, doubles, numbers};

/// The process whose time is its angle.
#[derive(Debug)]
struct ByAngle;

impl Process for ByAngle {
    fn law(&self, t: f64) -> Law {
        Law { alpha: t.cos(), sigma: t.sin(), alpha_dot: -t.sin(), sigma_dot: t.cos() }
    }
    fn t_min(&self) -> f64 {
        1e-3
    }
    fn t_max(&self) -> f64 {
        std::f64::consts::FRAC_PI_2
    }
    fn clean_time(&self) -> Option<f64> {
        Some(0.0)
    }
    fn network_time(&self, t: f64) -> f64 {
        t
    }
}

fn rule(tolerance: f64) -> SolverConfig {
    let tolerance = Some(Tolerance::of(tolerance));
    SolverConfig::DormandPrince(DormandPrince { tolerance, ..DormandPrince::default() })
}

/// Ends and costs of samples `[n, 1]` that are followed over `times`.
fn follow(
    process: &dyn Process,
    data: &dyn Denoiser<2>,
    solver: SolverConfig,
    times: &[f64],
    starts: &[f64],
) -> (Vec<f64>, Tally) {
    let quiet = |_| -> Tensor<2> { panic!("a deterministic solver asks for noise") };
    let sampler = Sampler::new(solver, times).unwrap().with_finish(Finish::AtGridEnd);
    let x = double(starts.to_vec(), [starts.len(), 1]);
    let mut run = sampler.start(process, data, x, quiet).unwrap();
    while run.next().is_some() {}
    (doubles(run.sample().clone()), run.tally().unwrap().clone())
}

struct Golden {
    value: Value,
    starts: Vec<f64>,
    times: Vec<f64>,
    exact: Vec<f64>,
}

impl Golden {
    fn read() -> Self {
        let value: Value = serde_json::from_str(include_str!("../golden/flow_ode.json")).unwrap();
        let of = |name: &str| numbers(&value[name]);
        Self { starts: of("starts"), times: of("angles"), exact: of("exact"), value }
    }

    fn data(&self) -> GaussianMixture<'static> {
        let component = |c: &Value| (c[0].as_f64().unwrap(), c[1].as_f64().unwrap(), c[2].as_f64().unwrap());
        let components = self.value["components"].as_array().unwrap().iter().map(component).collect();
        GaussianMixture::new(&ByAngle, components).unwrap()
    }
}

/// Three narrow components: each start ends where scipy's does, with errors and costs like those of its RK45 at the same tolerance.
#[test]
fn ends_and_costs_are_like_scipys() {
    let golden = Golden::read();
    let data = golden.data();
    for run in golden.value["runs"].as_array().unwrap() {
        let tolerance = run["tolerance"].as_f64().unwrap();
        let (ends, tally) = follow(&ByAngle, &data, rule(tolerance), &golden.times, &golden.starts);
        let (ours, theirs) = (apart(&ends, &golden.exact), apart(&numbers(&run["ends"]), &golden.exact));
        let cost = tally.evaluations.iter().sum::<usize>() as f64;
        let theirs_cost: f64 = numbers(&run["evaluations"]).iter().sum();
        println!(
            "{tolerance:.0e}: off by {ours:.1e} for {cost} evaluations, scipy by {theirs:.1e} for {theirs_cost}; {:?} of {:?} steps taken back",
            tally.rejected, tally.evaluations
        );
        assert!(ours < 10.0 * tolerance && ours < 5.0 * theirs, "{tolerance}: {ours} {theirs}");
        assert!((0.7..1.3).contains(&(cost / theirs_cost)), "{tolerance}: {cost} {theirs_cost}");
        // Samples cost what they need, not what the hardest needs.
        assert!(tally.evaluations.iter().min() < tally.evaluations.iter().max());
        assert!(tally.rejected.iter().any(|count| *count > 0));
    }
}

/// Alone, or in a batch, or seen on the way: the same sample at the same cost. Seen on the way it costs no more than a few evaluations, and ends within the tolerance.
#[test]
fn a_sample_does_not_know_its_batch() {
    let golden = Golden::read();
    let data = golden.data();
    let (ends, tally) = follow(&ByAngle, &data, rule(1e-6), &golden.times, &golden.starts);
    for (row, start) in golden.starts.iter().enumerate() {
        let (alone, cost) = follow(&ByAngle, &data, rule(1e-6), &golden.times, &[*start]);
        assert_eq!(alone[0].to_bits(), ends[row].to_bits());
        assert_eq!([cost.evaluations[0], cost.rejected[0]], [tally.evaluations[row], tally.rejected[row]]);
    }
    let (from, to) = (golden.times[0], golden.times[1]);
    let seen = [from, 0.7, 0.3, to];
    let (ends, _) = follow(&ByAngle, &data, rule(1e-6), &seen, &golden.starts);
    assert!(apart(&ends, &golden.exact) < 1e-5);
}

/// Every process, down to the data: nearer with a smaller tolerance.
#[test]
fn errors_fall_with_the_tolerance_on_every_process() {
    for (name, process) in crate::processes() {
        let data = GaussianMixture::new(&*process, vec![(0.3, -1.0, 0.2), (0.7, 0.8, 0.3)]).unwrap();
        let std = process.prior_std();
        let starts = [-1.5, -0.4, 0.3, 2.0].map(|z| z * std);
        let times = [process.t_max(), process.clean_time().unwrap_or(process.t_min())];
        let end = |tolerance| follow(&*process, &data, rule(tolerance), &times, &starts);
        let (exact, _) = end(1e-10);
        let errors = [1e-3, 1e-5, 1e-7].map(|tolerance| apart(&end(tolerance).0, &exact));
        println!("{name}: off by {errors:?} at 1e-3, 1e-5, 1e-7");
        assert!(errors[0] < 0.05 && errors[1] < 2e-4 && errors[2] < 2e-6, "{name}: {errors:?}");
        assert!(errors[2] < errors[0] / 10.0, "{name}: {errors:?}");
    }
}

/// A network is told each sample's own time in one call; a closure that knows one time is asked time by time, and gives the same.
#[test]
fn networks_and_guidance_are_asked_once_a_stage() {
    let process = RectifiedFlow;
    let data = GaussianMixture::new(&process, vec![(0.4, -0.6, 0.3), (0.6, 0.9, 0.2)]).unwrap();
    let calls = std::cell::Cell::new(0);
    let velocity = |x: Tensor<2>, told: Tensor<1>| {
        calls.set(calls.get() + 1);
        let times: Vec<f64> = doubles(told).iter().map(|told| told / process.network_time(1.0)).collect();
        let Estimate { data, noise } = data.denoise_each(x, &times);
        noise - data
    };
    let network = Network::new(&process, Prediction::Velocity, velocity).unwrap();
    let starts = [-1.5, -0.4, 0.3, 2.0];
    let run = |denoiser: &dyn Denoiser<2>| follow(&process, denoiser, rule(1e-6), &[1.0, 0.02], &starts);
    let (known, tally) = run(&data);
    let (ends, _) = run(&network);
    assert!(apart(&ends, &known) < 1e-9);
    // As many calls as the sample with the most evaluations needs.
    assert_eq!(calls.get(), *tally.evaluations.iter().max().unwrap());
    let one_time = |x: Tensor<2>, t: f64| data.denoise(x, t);
    assert!(apart(&run(&one_time).0, &known) < 1e-9);
    let contrast = |estimate: Estimate<2>| {
        let unconditional = Estimate { data: estimate.data.clone() * 0.5, noise: estimate.noise.clone() };
        Contrast { conditional: estimate, unconditional, spread: None }
    };
    let slow = Guided::new(2.0, |x: Tensor<2>, t| contrast(data.denoise(x, t)));
    let fast = Guided::new(2.0, |x: Tensor<2>, t| contrast(data.denoise(x, t)))
        .with_each(|x, times| contrast(data.denoise_each(x, times)));
    assert!(apart(&run(&slow).0, &run(&fast).0) < 1e-9);
}

/// A field that is not a number ends; a tolerance below what floats can hold ends too.
#[test]
fn every_run_ends() {
    let process = VariancePreserving::default();
    let broken = |x: Tensor<2>, _: f64| Estimate { data: x.clone() * f64::NAN, noise: x };
    let (ends, _) = follow(&process, &broken, rule(1e-5), &[1.0, 0.5], &[0.3]);
    assert!(ends[0].is_nan());
    let data = GaussianMixture::single(&process, 0.7, 0.4).unwrap();
    let sampler = Sampler::new(rule(1e-12), grid::uniform(&process, 1).unwrap()).unwrap();
    let run = sampler.start_keyed::<2>(&process, &data, [2, 3], NoiseKey::new(1), &Device::flex()).unwrap();
    assert!(run.finish().into_data().iter::<f64>().all(f64::is_finite));
    assert!(Sampler::new(rule(0.0), [1.0, 0.5]).is_err());
    assert!(SOLVERS.iter().any(|entry| entry.config == rule(1e-5)));
}
