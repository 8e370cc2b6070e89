//! The methods that minimise: against SciPy, and against what theory says of them.

use burn::tensor::Device;
use kiln_optim::quadratic::{
    Beta, Ended, IncompleteCholesky, Jacobi, MatrixFree, Operator, Options, QuadraticError, QuadraticForm,
    Record, Sparse, Stationary, Trace, Tridiagonal, conjugate_gradients, conjugate_gradients_bound,
    energy_norm, lbfgs, nonlinear_conjugate_gradients, preconditioned_conjugate_gradients, steepest_descent,
    steepest_descent_bound,
};
use rstest::rstest;

use crate::numbers::{Random, close, dot, golden, minus};

fn path() -> Options {
    Options { record: Record::Path, ..Options::default() }
}

/// As far as rounding lets it go.
fn to_the_end(steps: usize) -> Options {
    Options { relative: 0.0, max_steps: Some(steps), ..path() }
}

fn minimum(form: &QuadraticForm) -> Vec<f64> {
    match form.analyse().stationary {
        Stationary::Point(x) => x,
        other => panic!("{other:?}"),
    }
}

/// ‖x - x*‖_A of each step, over that of the start.
fn errors(form: &QuadraticForm, trace: &Trace) -> Vec<f64> {
    let least = minimum(form);
    let errors: Vec<f64> = trace.path.iter().map(|x| energy_norm(form, &minus(x, &least))).collect();
    errors.iter().map(|e| e / errors[0]).collect()
}

fn five_point() -> Sparse {
    let (rows, columns) = (golden("sparse.rows"), golden("sparse.columns"));
    let entries = rows.iter().zip(&columns).zip(golden("sparse.values"));
    Sparse::new(36, entries.map(|((&row, &column), value)| (row as usize, column as usize, value)).collect())
        .unwrap()
}

#[test]
fn conjugate_gradients_are_scipys_step_by_step() {
    let (a, right) = (five_point(), golden("sparse.right"));
    let plain = conjugate_gradients(&a, &right, &to_the_end(12)).unwrap();
    close(&plain.path[1..].concat(), &golden("sparse.plain"), 1e-12);
    let jacobi = Jacobi::new(&a.diagonal().unwrap()).unwrap();
    let jacobi = preconditioned_conjugate_gradients(&a, &right, &jacobi, &to_the_end(12)).unwrap();
    close(&jacobi.path[1..].concat(), &golden("sparse.jacobi"), 1e-12);
    assert_eq!((plain.steps(), plain.ended), (12, Ended::Steps));
}

/// Conjugate directions, and residuals at right angles: in n steps nothing is left.
#[test]
fn n_steps_are_enough() {
    let mut random = Random::new(1);
    for n in 1..=14 {
        let eigenvalues: Vec<f64> = (0..n).map(|i| 1.0 + 9.0 * i as f64 / n as f64).collect();
        let form = random.form(&eigenvalues);
        let trace = conjugate_gradients(&form, &form.right_side(), &to_the_end(n)).unwrap();
        let left = trace.residuals[trace.steps()] / trace.residuals[0];
        assert!(trace.steps() <= n && left < 1e-11, "n = {n}: {left:e} after {} steps", trace.steps());
        close(&trace.x, &minimum(&form), 1e-11);
        let directions: Vec<_> = trace.path.windows(2).map(|pair| minus(&pair[1], &pair[0])).collect();
        for (i, p) in directions.iter().enumerate() {
            let mut ap = vec![0.0; n];
            form.apply(p, &mut ap);
            for q in &directions[..i] {
                let angle = dot(q, &ap) / (energy_norm(&form, p) * energy_norm(&form, q));
                assert!(angle.abs() < 1e-6, "n = {n}: directions {angle:e} from conjugate");
            }
        }
    }
}

/// As many steps as A has different eigenvalues, whatever its size.
#[rstest]
#[case(&[3.0], 1)]
#[case(&[1.0, 100.0], 2)]
#[case(&[1.0, 5.0, 20.0], 3)]
fn steps_are_as_many_as_eigenvalues_differ(#[case] different: &[f64], #[case] steps: usize) {
    let eigenvalues: Vec<f64> = (0..30).map(|i| different[i % different.len()]).collect();
    let form = Random::new(2).form(&eigenvalues);
    let trace = conjugate_gradients(&form, &form.right_side(), &Options::default()).unwrap();
    assert_eq!(trace.steps(), steps, "{:?}", trace.residuals);
}

#[rstest]
#[case(2.0)]
#[case(30.0)]
#[case(1000.0)]
fn errors_stay_below_the_bounds_by_the_condition_number(#[case] condition: f64) {
    let n = 40;
    let eigenvalues: Vec<f64> = (0..n).map(|i| condition.powf(i as f64 / (n - 1) as f64)).collect();
    let form = Random::new(4).form(&eigenvalues);
    close(&[form.analyse().condition().unwrap()], &[condition], 1e-10);
    let descent = steepest_descent(&form, &form.right_side(), &to_the_end(60)).unwrap();
    for (step, error) in errors(&form, &descent).into_iter().enumerate() {
        let bound = steepest_descent_bound(condition, step);
        assert!(error <= bound + 1e-13, "descent, step {step}: {error:e} above {bound:e}");
    }
    let conjugate = conjugate_gradients(&form, &form.right_side(), &to_the_end(n)).unwrap();
    for (step, error) in errors(&form, &conjugate).into_iter().enumerate() {
        let bound = conjugate_gradients_bound(condition, step);
        assert!(error <= bound + 1e-13, "conjugate, step {step}: {error:e} above {bound:e}");
    }
}

/// The bound is attained: for 1/2 (x² + κ y²) from (κ, 1), every step leaves exactly (κ - 1) / (κ + 1).
#[rstest]
#[case(3.0)]
#[case(50.0)]
fn steepest_descent_can_be_as_slow_as_its_bound(#[case] condition: f64) {
    let form = QuadraticForm::new(&[1.0, 0.0, 0.0, condition], &[0.0, 0.0], 0.0).unwrap();
    let options = Options { start: Some(vec![condition, 1.0]), ..to_the_end(20) };
    let trace = steepest_descent(&form, &form.right_side(), &options).unwrap();
    for (step, error) in errors(&form, &trace).into_iter().enumerate() {
        close(&[error / steepest_descent_bound(condition, step)], &[1.0], 1e-9);
    }
}

#[test]
fn steps_of_steepest_descent_end_where_the_line_is_level() {
    let form = Random::new(5).form(&[1.0, 2.0, 7.0, 30.0]);
    let trace = steepest_descent(&form, &form.right_side(), &path()).unwrap();
    assert_eq!(trace.ended, Ended::Converged);
    for (pair, lengths) in trace.path.windows(2).zip(trace.residuals.windows(2)) {
        let angle = dot(&form.gradient(&pair[0]), &form.gradient(&pair[1])) / (lengths[0] * lengths[1]);
        assert!(angle.abs() < 1e-5, "{angle:e}");
    }
    assert!(trace.residuals[trace.steps()] <= 1e-8 * trace.residuals[0]);
}

/// A five-point Laplacian of `edge`² unknowns, coefficients all 1.
fn laplacian(edge: usize) -> Sparse {
    let n = edge * edge;
    let mut entries = Vec::new();
    for i in 0..n {
        entries.push((i, i, 4.0));
        if (i + 1) % edge != 0 {
            entries.extend([(i, i + 1, -1.0), (i + 1, i, -1.0)]);
        }
        if i + edge < n {
            entries.extend([(i, i + edge, -1.0), (i + edge, i, -1.0)]);
        }
    }
    Sparse::new(n, entries).unwrap()
}

#[test]
fn incomplete_cholesky_saves_most_of_the_steps() {
    let a = laplacian(40);
    let right = vec![1.0; 1600];
    let plain = conjugate_gradients(&a, &right, &Options::default()).unwrap();
    let cholesky = IncompleteCholesky::new(&a).unwrap();
    let trace = preconditioned_conjugate_gradients(&a, &right, &cholesky, &Options::default()).unwrap();
    assert!(2 * trace.steps() < plain.steps(), "{} of {}", trace.steps(), plain.steps());
    close(&trace.x, &plain.x, 1e-6);
    let mut residual = vec![0.0; 1600];
    a.apply(&trace.x, &mut residual);
    let residual = minus(&right, &residual);
    close(&[dot(&residual, &residual).sqrt()], &[trace.residuals[trace.steps()]], 1e-10);
}

/// Where nothing is left out, the factor is A's own, and one step is enough.
#[test]
fn incomplete_cholesky_of_three_diagonals_is_complete() {
    let n = 300;
    let a = Tridiagonal::new(vec![2.0; n], vec![-1.0; n - 1]).unwrap();
    let cholesky = IncompleteCholesky::new(&Sparse::from(&a)).unwrap();
    let right = Random::new(6).vector(n);
    let options = Options { relative: 1e-9, ..Options::default() };
    let trace = preconditioned_conjugate_gradients(&a, &right, &cholesky, &options).unwrap();
    assert_eq!(trace.steps(), 1, "{:?}", trace.residuals);
}

/// On a matrix that is badly scaled, and on nothing but that, Jacobi is all it takes.
#[test]
fn jacobi_undoes_a_scaling() {
    let n = 60;
    let scale = |i: usize| 10f64.powf(4.0 * (i as f64 / n as f64));
    let entry = |i: usize, j: usize, value: f64| (i, j, value * scale(i) * scale(j));
    let mut entries: Vec<_> = (0..n).map(|i| entry(i, i, 2.5)).collect();
    entries.extend((1..n).flat_map(|i| [entry(i, i - 1, -1.0), entry(i - 1, i, -1.0)]));
    let a = Sparse::new(n, entries).unwrap();
    let right: Vec<f64> = (0..n).map(scale).collect();
    let jacobi = Jacobi::new(&a.diagonal().unwrap()).unwrap();
    let options = Options { relative: 1e-10, ..Options::default() };
    let with = preconditioned_conjugate_gradients(&a, &right, &jacobi, &options).unwrap();
    let without = conjugate_gradients(&a, &right, &options).unwrap();
    assert!(
        with.steps() < 45 && 3 * with.steps() < without.steps(),
        "{} and {}",
        with.steps(),
        without.steps()
    );
}

/// The same matrix four ways, long enough that work is shared out in chunks.
#[test]
fn a_matrix_is_the_same_however_it_is_stored() {
    let n = 70_001;
    let mut random = Random::new(7);
    let (diagonal, beside) =
        (random.vector(n).iter().map(|d| d + 3.0).collect::<Vec<_>>(), random.vector(n - 1));
    let three = Tridiagonal::new(diagonal.clone(), beside.clone()).unwrap();
    let sparse = Sparse::from(&three);
    let closure = MatrixFree::new(n, |x: &[f64], y: &mut [f64]| {
        for i in 0..n {
            let left = if i > 0 { beside[i - 1] * x[i - 1] } else { 0.0 };
            let right = if i + 1 < n { beside[i] * x[i + 1] } else { 0.0 };
            y[i] = left + diagonal[i] * x[i] + right;
        }
    })
    .unwrap();
    let x = random.vector(n);
    let [mut a, mut b, mut c] = [vec![0.0; n], vec![0.0; n], vec![0.0; n]];
    three.apply(&x, &mut a);
    sparse.apply(&x, &mut b);
    closure.apply(&x, &mut c);
    close(&a, &c, 1e-15);
    close(&b, &c, 1e-15);
    let right = random.vector(n);
    let traces = [
        conjugate_gradients(&three, &right, &Options::default()).unwrap(),
        conjugate_gradients(&sparse, &right, &Options::default()).unwrap(),
        conjugate_gradients(&closure, &right, &Options::default()).unwrap(),
    ];
    for trace in &traces[1..] {
        assert_eq!(trace.steps(), traces[0].steps());
        close(&trace.x, &traces[0].x, 1e-10);
    }
    // The same bits each time, on however many threads.
    assert_eq!(conjugate_gradients(&three, &right, &Options::default()).unwrap(), traces[0]);
    for n in 1..5 {
        let three = Tridiagonal::new(vec![2.0; n], vec![-1.0; n - 1]).unwrap();
        let (mut a, mut b) = (vec![0.0; n], vec![0.0; n]);
        three.apply(&x[..n], &mut a);
        Sparse::from(&three).apply(&x[..n], &mut b);
        close(&a, &b, 1e-15);
    }
}

#[test]
fn every_method_agrees_on_a_form() {
    let form = Random::new(8).form(&[0.5, 1.0, 2.0, 3.0, 8.0, 12.0]);
    let least = minimum(&form);
    let f = |x: &[f64], g: &mut [f64]| {
        g.copy_from_slice(&form.gradient(x));
        form.value(x)
    };
    let options = Options { start: Some(vec![0.0; 6]), relative: 1e-9, ..Options::default() };
    for beta in Beta::ALL {
        let trace = nonlinear_conjugate_gradients(f, beta, &options).unwrap();
        close(&trace.x, &least, 1e-7);
        assert!(trace.steps() <= 60, "{beta:?}: {} steps", trace.steps());
    }
    let trace = lbfgs(f, 10, &options, &Device::flex()).unwrap();
    close(&trace.x, &least, 1e-7);
    assert!(trace.steps() <= 25, "{} steps", trace.steps());
    close(&steepest_descent(&form, &form.right_side(), &options).unwrap().x, &least, 1e-7);
    close(&conjugate_gradients(&form, &form.right_side(), &options).unwrap().x, &least, 1e-7);
}

#[test]
fn a_start_at_the_minimum_is_the_end() {
    let form = Random::new(9).form(&[1.0, 4.0]);
    let start = Some(minimum(&form));
    let options = Options { start: start.clone(), absolute: 1e-12, ..Options::default() };
    assert_eq!(conjugate_gradients(&form, &form.right_side(), &options).unwrap().steps(), 0);
    assert_eq!(steepest_descent(&form, &form.right_side(), &options).unwrap().steps(), 0);
    // A right side of 0, from 0.
    assert_eq!(conjugate_gradients(&form, &[0.0; 2], &Options::default()).unwrap().ended, Ended::Converged);
}

#[test]
fn a_semidefinite_system_is_solved_where_it_can_be() {
    let form: QuadraticForm = "(x + y - z)^2 + 2(x + y - z)".parse().unwrap();
    let trace = conjugate_gradients(&form, &form.right_side(), &Options::default()).unwrap();
    close(&[trace.x[0] + trace.x[1] - trace.x[2]], &[-1.0], 1e-12);
    let sloped: QuadraticForm = "(x + y)^2 + 3x".parse().unwrap();
    let error = conjugate_gradients(&sloped, &sloped.right_side(), &Options::default()).unwrap_err();
    assert!(matches!(error, QuadraticError::NotPositiveDefinite { .. }), "{error}");
}

#[test]
fn what_cannot_be_solved_is_told() {
    let options = Options::default();
    let saddle = QuadraticForm::new(&[1.0, 0.0, 0.0, -1.0], &[-1.0, -2.0], 0.0).unwrap();
    let expected = QuadraticError::NotPositiveDefinite { step: 1, curvature: -3.0 };
    assert_eq!(conjugate_gradients(&saddle, &saddle.right_side(), &options).unwrap_err(), expected);
    assert_eq!(steepest_descent(&saddle, &saddle.right_side(), &options).unwrap_err(), expected);

    let identity = Tridiagonal::new(vec![1.0; 3], vec![0.0; 2]).unwrap();
    let size = |what, expected, found| QuadraticError::Size { what, expected, found };
    let error = conjugate_gradients(&identity, &[1.0; 2], &options).unwrap_err();
    assert_eq!(error, size("the right side", 3, 2));
    let short = Options { start: Some(vec![0.0; 4]), ..Options::default() };
    assert_eq!(conjugate_gradients(&identity, &[1.0; 3], &short).unwrap_err(), size("the start", 3, 4));
    let error = conjugate_gradients(&identity, &[1.0, f64::NAN, 0.0], &options).unwrap_err();
    assert_eq!(error, QuadraticError::NotFinite { what: "the right side", index: 1 });
    let error = Tridiagonal::new(vec![1.0; 3], vec![0.0; 3]).unwrap_err();
    assert_eq!(error, size("what is beside the diagonal", 2, 3));
    assert!(Tridiagonal::new(vec![], vec![]).is_err());

    let error = Sparse::new(2, vec![(0, 0, 1.0), (0, 1, 2.0), (1, 1, 1.0)]).unwrap_err();
    assert_eq!(error, QuadraticError::Asymmetric { row: 0, column: 1, one: 2.0, other: 0.0 });
    let error = Sparse::new(2, vec![(2, 0, 1.0)]).unwrap_err();
    assert_eq!(error, QuadraticError::Entry { row: 2, column: 0, size: 2 });
    let summed = Sparse::new(1, vec![(0, 0, 1.0), (0, 0, 2.5)]).unwrap();
    assert_eq!(summed.diagonal().unwrap(), [3.5]);

    let shear = |x: &[f64], y: &mut [f64]| (y[0], y[1]) = (x[0] + x[1], x[1]);
    let error = MatrixFree::new(2, shear).unwrap_err();
    assert!(matches!(error, QuadraticError::AsymmetricProduct { .. }), "{error}");
    let error = MatrixFree::new(2, |_: &[f64], y: &mut [f64]| y.fill(f64::NAN)).unwrap_err();
    assert_eq!(error, QuadraticError::NotFinite { what: "A u", index: 0 });

    let error = Jacobi::new(&[1.0, 0.0]).unwrap_err();
    assert_eq!(error, QuadraticError::Pivot { name: "Jacobi", row: 1, pivot: 0.0 });
    let entries = vec![(0, 0, 1.0), (0, 1, 2.0), (1, 0, 2.0), (1, 1, 1.0)];
    let error = IncompleteCholesky::new(&Sparse::new(2, entries).unwrap()).unwrap_err();
    assert_eq!(error, QuadraticError::Pivot { name: "incomplete Cholesky", row: 1, pivot: -3.0 });
}
