//! How orders of convergence are measured: by regression over step counts, on data whose score is known.
//!
//! For Gaussian data the probability-flow equation moves every sample by a shift and a scale,
//! `x_s = alpha_s m + (v_s / v_t)^(1/2) (x_t - alpha_t m)` with `v = alpha² std² + sigma²`: a deterministic solver's error is the distance from there. For a mixture of two Gaussians the reference
//! is Heun's rule in 4096 steps.
//!
//! A solver that draws noise takes steps that are affine in the sample and in what is drawn, so its whole run is
//! `x = b + A x_T + sum_j B_j z_j`. A batch of unit starts and unit draws finds b, A and every B_j by the solver's own code, and with them
//! `mean = b + A mean_T` and `variance = A² variance_T + sum_j B_j²` without sampling. Weak order is how their distance from `alpha_s m` and `v_s` falls.

use burn::tensor::{DType, Device, Tensor, TensorData};
use kiln_diffusion::{
    Clock, DormandPrince, Draw, Finish, GaussianMixture, Law, Process, RectifiedFlow, Sampler, SolverConfig,
    SolverEntry, SubVariancePreserving, VarianceExploding, VariancePreserving,
};

/// Step counts of a regression.
const STEPS: [usize; 6] = [16, 24, 36, 54, 80, 120];

/// Where the samples start, in standard deviations.
pub(crate) const START: [f64; 4] = [-1.5, -0.4, 0.3, 2.0];

/// The Gaussian's mean and standard deviation.
const DATA: (f64, f64) = (0.7, 0.4);

/// A process and the part of its time over which orders are measured.
pub(crate) type Course = (Box<dyn Process>, f64, f64);

/// A tensor of f64, for what is measured below f32's rounding.
pub(crate) fn double<const D: usize>(values: Vec<f64>, shape: [usize; D]) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values, shape), (&Device::flex(), DType::F64))
}

pub(crate) fn doubles<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data_as::<f64>().try_to_vec().unwrap()
}

/// The largest difference of two lists.
pub(crate) fn apart(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    std::iter::zip(a, b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

pub(crate) fn courses() -> Vec<Course> {
    vec![
        (Box::new(VariancePreserving::default()), 1.0, 0.1),
        (Box::new(SubVariancePreserving::default()), 1.0, 0.2),
        (Box::new(VarianceExploding::new(0.05, 10.0).unwrap()), 1.0, 0.1),
        (Box::new(RectifiedFlow), 1.0, 0.05),
    ]
}

/// The same course from where the noise ratio is finite: that of a rectified flow is infinite at t = 1.
pub(crate) fn off_the_pole((process, from, to): Course) -> Course {
    let from = if process.alpha(from) == 0.0 { 0.8 } else { from };
    (process, from, to)
}

/// What is sampled.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Data {
    /// One Gaussian: the way of each sample is known in closed form.
    Gaussian,
    /// Two: the way is held to Heun's rule in 4096 steps.
    Mixture,
}

impl Data {
    fn on(self, process: &dyn Process) -> GaussianMixture<'_> {
        match self {
            Self::Gaussian => GaussianMixture::single(process, DATA.0, DATA.1),
            Self::Mixture => GaussianMixture::new(process, vec![(0.4, -0.6, 0.5), (0.6, 0.9, 0.4)]),
        }
        .unwrap()
    }
}

fn variance(law: Law) -> f64 {
    (law.alpha * DATA.1).powi(2) + law.sigma.powi(2)
}

/// Where the equation takes Gaussian data, in closed form.
fn exact((process, from, to): &Course) -> Vec<f64> {
    let (a, b) = (process.law(*from), process.law(*to));
    let moved = |x: f64| b.alpha * DATA.0 + (variance(b) / variance(a)).sqrt() * (x - a.alpha * DATA.0);
    START.iter().map(|z| moved(z * process.prior_std())).collect()
}

pub(crate) fn even(from: f64, to: f64, steps: usize) -> Vec<f64> {
    (0..=steps).map(|i| from + (to - from) * i as f64 / steps as f64).collect()
}

/// Even steps, but the first of them in ever smaller ones towards the start, down to a share of `steps^-3`: what a multistep rule loses
/// while it has no memory is then below what is measured.
pub(crate) fn gentle(from: f64, to: f64, steps: usize) -> Vec<f64> {
    let coarse = even(from, to, steps);
    let smallest = (steps as f64).powi(-3);
    let mut shares = vec![1.0];
    while shares[shares.len() - 1] > smallest {
        shares.push(shares[shares.len() - 1] / 1.5);
    }
    let start = shares.iter().rev().map(|share| coarse[0] + share * (coarse[1] - coarse[0]));
    std::iter::once(coarse[0]).chain(start).chain(coarse[2..].iter().copied()).collect()
}

/// The samples at the grid's end, from [`START`].
pub(crate) fn integrate(
    process: &dyn Process,
    data: &GaussianMixture<'_>,
    solver: SolverConfig,
    times: Vec<f64>,
) -> Vec<f64> {
    let std = process.prior_std();
    let x = double(START.iter().map(|z| z * std).collect(), [4, 1]);
    let quiet = |_| -> Tensor<2> { panic!("a deterministic solver asks for noise") };
    let sampler = Sampler::new(solver, times).unwrap().with_finish(Finish::AtGridEnd);
    doubles(sampler.start(process, data, x, quiet).unwrap().finish())
}

/// The most draws of a step: five corrections and a prediction.
const DRAWS: usize = 6;

/// How far mean and variance at the grid's end are from the data's there, for a start with those of the data.
fn moments_off(solver: SolverConfig, (process, from, to): &Course, steps: usize) -> f64 {
    let data = Data::Gaussian.on(&**process);
    // Row 0 starts at 0 and row 1 at 1, without noise; each further row has one draw of 1. A run may correct at its end, in one step more.
    let rows = 2 + (steps + 1) * DRAWS;
    let unit = |row: usize| double((0..rows).map(|i| f64::from(u8::from(i == row))).collect(), [rows, 1]);
    let noise = |Draw { step, part }| {
        assert!(part < DRAWS, "a step draws more than {DRAWS} times");
        unit(2 + step * DRAWS + part)
    };
    let sampler = Sampler::new(solver, even(*from, *to, steps)).unwrap().with_finish(Finish::AtGridEnd);
    let ends = doubles(sampler.start(&**process, &data, unit(1), noise).unwrap().finish());
    let (shift, slope) = (ends[0], ends[1] - ends[0]);
    let drawn: f64 = ends[2..].iter().map(|end| (end - shift).powi(2)).sum();
    let (a, b) = (process.law(*from), process.law(*to));
    let mean = shift + slope * a.alpha * DATA.0;
    let spread = slope * slope * variance(a) + drawn;
    (mean - b.alpha * DATA.0).abs().max((spread - variance(b)).abs())
}

/// A slope by least squares, with its 95% interval.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order {
    pub(crate) slope: f64,
    /// Half the width of the interval: how far the points are from a line.
    pub(crate) margin: f64,
}

/// Student's t at 97.5%, for six points and a line.
const QUANTILE: f64 = 2.776;

impl Order {
    /// The slope of -ln(error) over ln(steps), of [`STEPS`].
    fn of(errors: impl Fn(usize) -> f64) -> Self {
        let points = STEPS.map(|n| ((n as f64).ln(), -errors(n).ln()));
        let n = points.len() as f64;
        let (mx, my) = points.iter().fold((0.0, 0.0), |(a, b), (x, y)| (a + x / n, b + y / n));
        let (xy, xx) =
            points.iter().fold((0.0, 0.0), |(a, b), (x, y)| (a + (x - mx) * (y - my), b + (x - mx).powi(2)));
        let slope = xy / xx;
        let residual: f64 = points.iter().map(|(x, y)| (y - my - slope * (x - mx)).powi(2)).sum();
        Self { slope, margin: QUANTILE * (residual / (n - 2.0) / xx).sqrt() }
    }
}

/// A solver that chooses its steps, kept to those of the grid.
pub(crate) fn fixed(solver: SolverConfig) -> SolverConfig {
    match solver {
        SolverConfig::DormandPrince(rule) => {
            SolverConfig::DormandPrince(DormandPrince { tolerance: None, ..rule })
        }
        other => other,
    }
}

/// Whether a rule joins the estimates of more than two steps by a polynomial.
pub(crate) fn joins_estimates(entry: &SolverEntry) -> bool {
    entry.order > 2 && entry.evaluations == 1
}

/// The measured order of a deterministic solver.
pub(crate) fn order_of(entry: &SolverEntry, data: Data, course: &Course) -> Order {
    let solver = fixed(entry.config);
    // High orders show late; and a block of several steps is one step of its rule.
    match solver {
        SolverConfig::SingleStep(_) | SolverConfig::Pndm(_) => {
            order_with(solver, data, course, |from, to, n| even(from, to, 3 * n))
        }
        _ if joins_estimates(entry) => {
            order_with(solver, data, course, |from, to, n| gentle(from, to, 4 * n))
        }
        _ => order_with(solver, data, course, even),
    }
}

/// The same on grids of one's own, `(from, to, steps) → times`.
pub(crate) fn order_with(
    solver: SolverConfig,
    data: Data,
    course: &Course,
    grid: impl Fn(f64, f64, usize) -> Vec<f64>,
) -> Order {
    let (process, from, to) = (&*course.0, course.1, course.2);
    let mixture = data.on(process);
    let end = |solver, times| integrate(process, &mixture, solver, times);
    let reference = match data {
        Data::Gaussian => exact(course),
        // Heun's rule is too coarse for order 5, which is held to itself (and to scipy elsewhere).
        Data::Mixture if matches!(solver, SolverConfig::DormandPrince(_)) => {
            end(solver, even(from, to, 1024))
        }
        Data::Mixture => end(SolverConfig::Heun { clock: Clock::Angle }, even(from, to, 4096)),
    };
    Order::of(|n| apart(&end(solver, grid(from, to, n)), &reference))
}

/// The measured weak order of a solver that draws noise.
pub(crate) fn weak_order_of(solver: SolverConfig, course: &Course) -> Order {
    Order::of(|n| moments_off(solver, course, n))
}
