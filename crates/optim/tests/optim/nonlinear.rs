//! Conjugate gradients and L-BFGS on Rosenbrock's valley.

use burn::tensor::Device;
use kiln_optim::quadratic::{
    Beta, Ended, Options, QuadraticError, Record, lbfgs, nonlinear_conjugate_gradients,
};

use crate::numbers::{dot, minus};

/// Σ 100 (x[i + 1] - x[i]²)² + (1 - x[i])².
fn valley(x: &[f64], g: &mut [f64]) -> f64 {
    g.fill(0.0);
    let mut value = 0.0;
    for i in 0..x.len() - 1 {
        let (a, b) = (1.0 - x[i], x[i + 1] - x[i] * x[i]);
        value += a * a + 100.0 * b * b;
        g[i] += -2.0 * a - 400.0 * x[i] * b;
        g[i + 1] += 200.0 * b;
    }
    value
}

fn from_afar() -> Options {
    Options {
        start: Some([-1.2, 1.0].repeat(5)),
        relative: 1e-10,
        max_steps: Some(2000),
        record: Record::Path,
        ..Options::default()
    }
}

#[test]
fn each_nonlinear_method_finds_the_end_of_the_valley_by_strong_wolfe_steps() {
    for beta in Beta::ALL {
        let trace = nonlinear_conjugate_gradients(valley, beta, &from_afar()).unwrap();
        assert_eq!(trace.ended, Ended::Converged, "{beta:?}");
        // Of two minima in ten dimensions, one is at 1 and the other near (-1, 1, …, 1).
        let mut g = vec![0.0; 10];
        valley(&trace.x, &mut g);
        assert!(g.iter().all(|g| g.abs() < 1e-6), "{beta:?}: {:?}", trace.x);
        assert!(trace.x[1..9].iter().all(|x| (x - 1.0).abs() < 0.05), "{beta:?}: {:?}", trace.x);
        assert!(trace.steps() < 400 && trace.evaluations < 1500, "{beta:?}: {} steps", trace.steps());
        let (mut here, mut there) = (vec![0.0; 10], vec![0.0; 10]);
        for (step, pair) in trace.path.windows(2).enumerate().take(trace.steps() - 3) {
            let (f0, f1) = (valley(&pair[0], &mut here), valley(&pair[1], &mut there));
            let s = minus(&pair[1], &pair[0]);
            let (slope0, slope1) = (dot(&here, &s), dot(&there, &s));
            assert!(slope0 < 0.0, "{beta:?}, step {step}: it does not go down");
            assert!(f1 <= f0 + 0.99e-4 * slope0, "{beta:?}, step {step}: {f1} from {f0}");
            assert!(slope1.abs() <= -0.1001 * slope0, "{beta:?}, step {step}: {slope1} from {slope0}");
        }
    }
}

#[test]
fn the_four_differ_on_the_valley() {
    let steps = Beta::ALL.map(|beta| {
        nonlinear_conjugate_gradients(valley, beta, &from_afar()).unwrap().residuals[4].to_bits()
    });
    let mut different = steps.to_vec();
    different.sort_unstable();
    different.dedup();
    assert_eq!(different.len(), 4);
}

#[test]
fn lbfgs_finds_the_end_of_the_valley() {
    let trace = lbfgs(valley, 10, &from_afar(), &Device::flex()).unwrap();
    assert_eq!(trace.ended, Ended::Converged, "{:?}", trace.residuals.last());
    assert!(trace.x[1..9].iter().all(|x| (x - 1.0).abs() < 0.05), "{:?}", trace.x);
    assert!(trace.steps() < 120 && trace.path.len() == trace.residuals.len(), "{} steps", trace.steps());
}

#[test]
fn functions_that_cannot_be_minimised_are_told() {
    let options = Options::default();
    let nowhere = nonlinear_conjugate_gradients(valley, Beta::default(), &options).unwrap_err();
    assert_eq!(nowhere, QuadraticError::Size { what: "the start", expected: 1, found: 0 });
    let nan = |_: &[f64], g: &mut [f64]| {
        g.fill(0.0);
        f64::NAN
    };
    let start = Options { start: Some(vec![1.0]), ..Options::default() };
    let error = nonlinear_conjugate_gradients(nan, Beta::default(), &start).unwrap_err();
    assert_eq!(error, QuadraticError::Diverged { step: 0 });
    // A gradient with the wrong sign: no step goes down.
    let uphill = |x: &[f64], g: &mut [f64]| {
        g[0] = -2.0 * x[0];
        x[0] * x[0]
    };
    let error = nonlinear_conjugate_gradients(uphill, Beta::default(), &start).unwrap_err();
    assert_eq!(error, QuadraticError::LineSearch { step: 1 });
}
