//! Orders of convergence, by regression over step counts, against the exact solution (`examples/orders/measure.rs` says how). For a mixture the reference
//! is Heun's rule in 4096 steps.

use kiln_diffusion::{
    BetaSchedule, Clock, DdpmLadder, GaussianMixture, Integrand, Process, RectifiedFlow, SOLVERS,
    SolverConfig, SolverKind, StochasticAdams, VariancePreserving,
};
use rstest::rstest;

use crate::apart;
use crate::measure::{
    Data, START, courses, even, fixed, gentle, integrate, joins_estimates, off_the_pole, order_of,
    order_with, weak_order_of,
};

/// Every deterministic row of the table has the order that the table states, on every process.
#[test]
fn every_solver_of_the_table_has_its_order() {
    for course in courses() {
        let (process, from) = (&*course.0, course.1);
        for entry in SOLVERS.iter().filter(|entry| entry.kind == SolverKind::Deterministic) {
            // A polynomial in the noise ratio is far from its order near t = 1, where the ratio of a rectified flow is infinite.
            if joins_estimates(entry) && process.alpha(from) == 0.0 {
                continue;
            }
            let orders = [Data::Gaussian, Data::Mixture].map(|data| order_of(entry, data, &course).slope);
            println!("{:10} {process:?}: Gaussian {:.2}, mixture {:.2}", entry.name, orders[0], orders[1]);
            // An error that changes its sign on the way shows a lower order on one problem; a lower one on both is a fault, and so is a
            // table that says too little.
            let expected = f64::from(entry.order);
            let (low, high) = (orders[0].min(orders[1]), orders[0].max(orders[1]));
            let fits = high > expected - 0.35 && low > expected - 0.9 && low < expected + 0.9;
            assert!(fits, "{} on {process:?}: orders {orders:.2?}, not {expected}", entry.name);
        }
    }
}

/// Every row that draws noise has its weak order, on every process. Not those with a corrector, whose bias is of its own step's order and stays however
/// many the steps are.
#[test]
fn every_solver_that_draws_noise_has_its_weak_order() {
    for course in courses().into_iter().map(off_the_pole) {
        for entry in SOLVERS.iter().filter(|entry| entry.kind == SolverKind::Stochastic) {
            if matches!(entry.config, SolverConfig::PredictorCorrector(_)) {
                continue;
            }
            let order = weak_order_of(entry.config, &course);
            println!("{:10} {:?}: weak {:.2} ± {:.2}", entry.name, course.0, order.slope, order.margin);
            // Those that use two estimates are of order 2 where estimates are linear in x, as they are here.
            let (expected, around) = match entry.name {
                "dpm2-ancestral" | "dpmpp-2m-sde" => (2.0, 0.25),
                // Its first step, without a memory, and its corrector fall at rates of their own.
                "sa-solver" => (2.2, 0.6),
                _ => (f64::from(entry.order), 0.25),
            };
            let fits = (expected - around..expected + around).contains(&order.slope);
            assert!(fits, "{} on {:?}: weak order {order:.2?}, not {expected}", entry.name, course.0);
        }
    }
}

/// Without noise SA-Solver is of the order of the estimates that it joins, the corrector's where there is one: n for n of them.
#[rstest]
fn without_noise_stochastic_adams_has_the_order_of_its_corrector(
    #[values((1, 0), (2, 0), (3, 0), (1, 2), (2, 3), (3, 4))] (predictor_order, corrector_order): (
        usize,
        usize,
    ),
    #[values(Integrand::Data, Integrand::Noise)] integrand: Integrand,
) {
    let rule = StochasticAdams {
        predictor_order,
        corrector_order,
        integrand,
        tau: 0.0,
        ..StochasticAdams::default()
    };
    let expected = predictor_order.max(corrector_order) as f64;
    for course in courses().into_iter().map(off_the_pole) {
        let solver = SolverConfig::StochasticAdams(rule);
        let orders = [Data::Gaussian, Data::Mixture]
            .map(|data| order_with(solver, data, &course, |from, to, n| gentle(from, to, 4 * n)).slope);
        println!("{predictor_order} {corrector_order} {:?}: {orders:.2?}", course.0);
        let high = orders[0].max(orders[1]);
        assert!(high > expected - 0.35 && high < expected + 0.9, "{rule:?} on {:?}: {orders:.2?}", course.0);
    }
}

/// Every clock, wherever it has no pole.
#[rstest]
#[case::euler(1.0, |clock| SolverConfig::Euler { clock })]
#[case::heun(2.0, |clock| SolverConfig::Heun { clock })]
fn a_clock_changes_no_order(#[case] expected: f64, #[case] solver: fn(Clock) -> SolverConfig) {
    for clock in [Clock::Time, Clock::NoiseRatio, Clock::Angle] {
        for course in courses() {
            let course = if clock == Clock::NoiseRatio { off_the_pole(course) } else { course };
            let order = order_with(solver(clock), Data::Gaussian, &course, even).slope;
            println!("{clock:?} {:?}: {order:.2}", course.0);
            let near = (expected - 0.15..expected + 0.6).contains(&order);
            assert!(near, "{clock:?} on {:?}: order {order:.2}", course.0);
        }
    }
}

/// Euler's rule in the noise ratio is DDIM, and so it is in t on a rectified flow.
#[test]
fn euler_in_the_right_clock_is_ddim() {
    for (process, from, to) in courses() {
        let data = GaussianMixture::new(&*process, vec![(0.4, -0.6, 0.3), (0.6, 0.9, 0.2)]).unwrap();
        let clock = if process.alpha(from) == 0.0 { Clock::Time } else { Clock::NoiseRatio };
        let [euler, ddim] = [SolverConfig::Euler { clock }, SolverConfig::ddim()]
            .map(|solver| integrate(&*process, &data, solver, even(from, to, 10)));
        assert!(apart(&euler, &ddim) < 1e-11, "{process:?}: {euler:?} {ddim:?}");
    }
}

/// To the clean end on the grids that people use: the error falls with the steps, and a second-order solver is nearer than DDIM.
#[test]
fn solvers_reach_clean_data() {
    let ladder = DdpmLadder::new(BetaSchedule::LINEAR, 1000).unwrap();
    for process in [&ladder as &dyn Process, &VariancePreserving::default(), &RectifiedFlow] {
        let data = GaussianMixture::single(process, 0.7, 0.4).unwrap();
        let law = process.law(1.0);
        let v = ((law.alpha * 0.4).powi(2) + law.sigma.powi(2)).sqrt();
        let expected: Vec<_> = START.iter().map(|z| 0.7 + 0.4 / v * (z - law.alpha * 0.7)).collect();
        let error = |solver, steps| {
            let times = kiln_diffusion::grid::natural(process, steps).unwrap();
            apart(&integrate(process, &data, solver, times), &expected)
        };
        let ddim = error(SolverConfig::ddim(), 20);
        for entry in SOLVERS.iter().filter(|entry| entry.kind == SolverKind::Deterministic) {
            let (coarse, fine) = (error(fixed(entry.config), 20), error(fixed(entry.config), 100));
            println!("{:10} {process:?}: error {coarse:.1e} at 20 steps, {fine:.1e} at 100", entry.name);
            // Of order 5 nothing is left in 20 steps but the estimate at the first rung, in place of the data.
            let falls = fine < 0.3 * coarse || (entry.order == 5 && coarse < 5e-4);
            assert!(coarse < 0.15 && falls, "{} on {process:?}: {coarse} {fine}", entry.name);
            // A block of two steps is one step of its rule.
            assert!(
                entry.order == 1 || entry.name == "dpmpp-2s" || coarse < 0.8 * ddim,
                "{} on {process:?}: {coarse}, DDIM {ddim}",
                entry.name
            );
        }
    }
}

/// The clocks that processes choose for themselves stay near the solution even in ten steps; the noise ratio does not, on a ladder that
/// ends in almost pure noise.
#[test]
fn ten_steps_in_the_processes_own_clock_stay_near() {
    for (name, process) in crate::processes() {
        let data = GaussianMixture::new(&*process, vec![(0.3, -1.0, 0.2), (0.7, 0.8, 0.3)]).unwrap();
        let fine = if name == "edm" { kiln_diffusion::grid::natural } else { kiln_diffusion::grid::uniform };
        let fine = fine(&*process, 4000).unwrap();
        let reference = integrate(&*process, &data, SolverConfig::Heun { clock: Clock::Angle }, fine);
        let error = |solver| {
            let times = kiln_diffusion::grid::natural(&*process, 10).unwrap();
            apart(&integrate(&*process, &data, solver, times), &reference)
        };
        let (euler, heun) = (error(SolverConfig::euler()), error(SolverConfig::heun()));
        println!("{name}: in ten steps euler {euler:.1e}, heun {heun:.1e}");
        assert!(euler < 0.2 && heun < 0.2, "{name}: {euler} {heun}");
        if name == "ddpm-cosine" {
            assert!(error(SolverConfig::Heun { clock: Clock::NoiseRatio }) > 10.0);
        }
    }
}
