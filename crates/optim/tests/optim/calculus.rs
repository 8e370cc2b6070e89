//! Derivatives against closed forms, on f64 points and on tensors of every backend.

use burn::tensor::{Device, Tensor};
use kiln_backend::noise::{self, NoiseKey};
use kiln_backend::testing;
use kiln_optim::calculus::{
    CalculusError, Tolerance, check_gradient, check_gradient_of, directional, gradient, hessian,
    hessian_vector, jacobian, jacobian_vector, jacobian_vector_exact, numbers, partial, point, steepest,
    value_and_gradient, vector_jacobian,
};

fn device() -> Device {
    Device::flex()
}

fn bowl(p: Tensor<1>) -> Tensor<1> {
    p.square().sum()
}

/// (1 - x)² + 100 (y - x²)².
fn valley(p: Tensor<1>) -> Tensor<1> {
    let (x, y) = (p.clone().slice(0..1), p.slice(1..2));
    (y - x.clone().square()).square() * 100.0 + (-x + 1.0).square()
}

/// (x y, sin x, x + y²).
fn curve(p: Tensor<1>) -> Tensor<1> {
    let (x, y) = (p.clone().slice(0..1), p.slice(1..2));
    Tensor::cat(vec![x.clone() * y.clone(), x.clone().sin(), x + y.square()], 0)
}

#[track_caller]
fn close(found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() <= tolerance * expected.abs().max(1.0), "{found} for {expected}");
    }
}

#[test]
fn the_bowl_rises_by_22_fifths_along_3_4() {
    let at = point(&[1.0, 2.0], &device());
    assert_eq!(directional(bowl, &at, &point(&[3.0, 4.0], &device())).unwrap(), 22.0 / 5.0);
    assert_eq!(directional(bowl, &at, &point(&[1.0, 0.0], &device())).unwrap(), 2.0);
    // The length of the direction does not matter, its sense does.
    close(&[directional(bowl, &at, &point(&[-3e-5, -4e-5], &device())).unwrap()], &[-4.4], 1e-14);
    close(&[directional(bowl, &at, &point(&[3e200, 4e200], &device())).unwrap()], &[4.4], 1e-14);
}

#[test]
fn the_steepest_direction_is_steeper_than_a_thousand_others() {
    let at = point(&[-0.7, 1.3], &device());
    let best = steepest(valley, &at).unwrap();
    close(&[directional(valley, &at, &best.direction).unwrap()], &[best.slope], 1e-12);
    for i in 0..1000 {
        let angle = f64::from(i) * std::f64::consts::TAU / 1000.0;
        let slope = directional(valley, &at, &point(&[angle.cos(), angle.sin()], &device())).unwrap();
        assert!(slope <= best.slope * (1.0 + 1e-12), "{angle}: {slope} above {}", best.slope);
    }
}

#[test]
fn the_valley_has_the_derivatives_of_its_formula() {
    let (x, y) = (-0.7, 1.3);
    let at = point(&[x, y], &device());
    let by_hand = [-2.0 * (1.0 - x) - 400.0 * x * (y - x * x), 200.0 * (y - x * x)];
    let (value, found) = value_and_gradient(valley, &at).unwrap();
    close(&[value], &[(1.0 - x).powi(2) + 100.0 * (y - x * x).powi(2)], 1e-14);
    close(&numbers(&found), &by_hand, 1e-13);
    close(&[partial(valley, &at, [0]).unwrap(), partial(valley, &at, [1]).unwrap()], &by_hand, 1e-13);
    let curvature = [2.0 - 400.0 * (y - 3.0 * x * x), -400.0 * x, -400.0 * x, 200.0];
    close(&numbers(&hessian(valley, &at).unwrap()), &curvature, 1e-7);
    let along = numbers(&hessian_vector(valley, &at, &point(&[2.0, -1.0], &device())).unwrap());
    close(&along, &[2.0 * curvature[0] - curvature[1], 2.0 * curvature[2] - curvature[3]], 1e-7);
}

#[test]
fn the_curve_has_the_jacobian_of_its_formula() {
    let (x, y) = (0.4, -1.1);
    let at = point(&[x, y], &device());
    let by_hand = [y, x, f64::cos(x), 0.0, 1.0, 2.0 * y];
    close(&numbers(&jacobian(curve, &at).unwrap()), &by_hand, 1e-14);
    let (v, u) = ([0.3, -2.0], [1.5, -0.5, 2.0]);
    let jv: Vec<f64> = by_hand.chunks(2).map(|row| row[0] * v[0] + row[1] * v[1]).collect();
    let uj: Vec<f64> = (0..2).map(|j| (0..3).map(|i| u[i] * by_hand[2 * i + j]).sum()).collect();
    let v = point(&v, &device());
    close(&numbers(&jacobian_vector_exact(curve, &at, &v).unwrap()), &jv, 1e-14);
    close(&numbers(&jacobian_vector(curve, &at, &v).unwrap()), &jv, 1e-9);
    close(&numbers(&vector_jacobian(curve, &at, &point(&u, &device())).unwrap()), &uj, 1e-14);
}

/// A layer over a whole tensor, on every backend: <u, J v> = <u'J, v>, and H v of |x|⁴/4 is |x|² v + 2 (x · v) x.
#[test]
fn tensors_of_any_shape_on_every_backend() {
    for (backend, device) in testing::devices() {
        let normal =
            |stream| noise::normal::<3>([2, 3, 4], NoiseKey { seed: 1, sample: 0, step: stream }, &device);
        let (x, v, u) = (normal(0), normal(1), normal(2));
        let f = |x: Tensor<3>| x.clone().tanh() * x.sum_dim(1).exp().mul_scalar(0.1);
        let inner = |a: Tensor<3>, b: Tensor<3>| numbers(&(a * b).sum())[0];
        let right = inner(u.clone(), jacobian_vector_exact(f, &x, &v).unwrap());
        let left = inner(vector_jacobian(f, &x, &u).unwrap(), v.clone());
        assert!((right - left).abs() < 1e-4 * right.abs().max(1.0), "{backend}: {right} and {left}");
        let differences = inner(u, jacobian_vector(f, &x, &v).unwrap());
        assert!(
            (differences - left).abs() < 1e-2 * left.abs().max(1.0),
            "{backend}: {differences} and {left}"
        );

        let quartic = |x: Tensor<3>| x.square().sum().square() / 4.0;
        let (square, dot) = (inner(x.clone(), x.clone()), inner(x.clone(), v.clone()));
        let expected = numbers(&(v.clone() * square + x.clone() * (2.0 * dot)));
        let found = numbers(&hessian_vector(quartic, &x, &v).unwrap());
        let largest = expected.iter().fold(0.0_f64, |a, b| a.max(b.abs()));
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found - expected).abs() < 5e-3 * largest, "{backend}: {found} for {expected}");
        }
        let report = check_gradient(|x: Tensor<3>| x.tanh().sum(), &x, Tolerance::F32).unwrap();
        assert!(report.passes(), "{backend}: {report}");
        assert_eq!(report.checked, 24);
    }
}

#[test]
fn a_wrong_gradient_is_reported_where_it_is_wrong() {
    let at = Tensor::<2>::from_data(
        burn::tensor::TensorData::from([[0.5_f64, -1.0, 2.0], [0.1, 0.2, -0.3]]),
        (&device(), burn::tensor::DType::F64),
    );
    let f = |x: Tensor<2>| x.powi_scalar(3).sum();
    assert!(check_gradient(f, &at, Tolerance::F64).unwrap().passes());
    // 3 x², but for one coordinate.
    let wrong = |x: Tensor<2>| {
        let right = x.square() * 3.0;
        let row = right.clone().slice([0..1, 2..3]) + 0.25;
        right.slice_assign([0..1, 2..3], row)
    };
    let report = check_gradient_of(f, wrong, &at, Tolerance::F64).unwrap();
    assert_eq!(report.failures.len(), 1);
    assert_eq!(report.failures[0].index, [0, 2]);
    close(&[report.failures[0].gradient, report.failures[0].difference], &[12.25, 12.0], 1e-8);
    let text = report.to_string();
    assert!(text.starts_with("1 of 6 coordinates fail; at [0, 2] the gradient is 1.225"), "{text}");
    // A gradient that is no number fails too.
    let nan = check_gradient_of(f, |x: Tensor<2>| x * f64::NAN, &at, Tolerance::F64).unwrap();
    assert_eq!(nan.failures.len(), 6);
}

#[test]
fn a_constant_has_gradient_0_and_autodiff_outside_is_left_alone() {
    let at = point(&[1.0, 2.0], &device()).autodiff().require_grad();
    let constant = gradient(|x: Tensor<1>| x.zeros_like().sum(), &at).unwrap();
    assert_eq!(numbers(&constant), [0.0, 0.0]);
    assert!(!gradient(bowl, &at).unwrap().is_autodiff());
    assert_eq!(steepest(|x: Tensor<1>| x.zeros_like().sum(), &at).unwrap_err(), CalculusError::Stationary);
}

#[test]
fn what_does_not_fit_is_an_error_that_says_what() {
    let at = point(&[1.0, 2.0], &device());
    let zero = point(&[0.0, 0.0], &device());
    let long = point(&[1.0, 0.0, 0.0], &device());
    assert_eq!(directional(bowl, &at, &zero).unwrap_err(), CalculusError::NoDirection);
    assert_eq!(hessian_vector(bowl, &at, &zero).unwrap_err(), CalculusError::NoDirection);
    assert_eq!(
        directional(bowl, &at, &long).unwrap_err(),
        CalculusError::Shape { what: "direction", expected: vec![2], found: vec![3] }
    );
    assert_eq!(
        vector_jacobian(curve, &at, &at).unwrap_err(),
        CalculusError::Shape { what: "vector on the left", expected: vec![3], found: vec![2] }
    );
    assert_eq!(
        partial(bowl, &at, [2]).unwrap_err(),
        CalculusError::Coordinate { index: vec![2], shape: vec![2] }
    );
    assert_eq!(gradient(|x| x, &at).unwrap_err(), CalculusError::NotANumber { found: 2 });
    let nan = point(&[f64::NAN, 0.0], &device());
    assert_eq!(gradient(bowl, &nan).unwrap_err(), CalculusError::NotFinite { what: "value of the function" });
    assert_eq!(directional(bowl, &at, &nan).unwrap_err(), CalculusError::NotFinite { what: "direction" });
    // √x at 0 has a value, and an infinite slope.
    let root = |x: Tensor<1>| x.sqrt().sum();
    assert_eq!(gradient(root, &zero).unwrap_err(), CalculusError::NotFinite { what: "gradient" });
}
