//! Quadratic forms: how they are read, and what kind they are.

use kiln_optim::quadratic::{
    Kind, Minimum, Operator, Polynomial, Problem, QuadraticError, QuadraticForm, Stationary, Unbounded,
};
use proptest::prelude::*;
use rstest::rstest;

use crate::numbers::{Random, close, golden};

#[rstest]
#[case("3x^2 + 2xy + 2y^2 - 2x + 8y", &[6.0, 2.0, 2.0, 4.0], &[-2.0, 8.0], 0.0)]
#[case("x²+y²", &[2.0, 0.0, 0.0, 2.0], &[0.0, 0.0], 0.0)]
#[case("yx", &[0.0, 1.0, 1.0, 0.0], &[0.0, 0.0], 0.0)]
#[case("x2^2 + x10 x1 - x10", &[0.0, 0.0, 1.0, 0.0, 2.0, 0.0, 1.0, 0.0, 0.0], &[0.0, 0.0, -1.0], 0.0)]
#[case("1/2x^2 - 3/4 x + 1/8", &[1.0], &[-0.75], 0.125)]
#[case(".5 x x + 2e1x - 1.5E-1", &[1.0], &[20.0], -0.15)]
#[case("-(x - 2)^2", &[-2.0], &[4.0], -4.0)]
#[case("(x+y)(x-y)*3 − 2·x·4", &[6.0, 0.0, 0.0, -6.0], &[-8.0, 0.0], 0.0)]
#[case("((x^2))/4/2 - - 5 + x^1 y^0", &[0.25], &[1.0], 5.0)]
#[case("x_1^2 + x1 x_2", &[2.0, 1.0, 1.0, 0.0], &[0.0, 0.0], 0.0)]
#[case("2e + e^2", &[2.0], &[2.0], 0.0)]
#[case("λ² + 2^3 λ", &[2.0], &[8.0], 0.0)]
#[case("x^2 + y - y", &[2.0, 0.0, 0.0, 0.0], &[0.0, 0.0], 0.0)]
fn a_text_is_read(#[case] text: &str, #[case] a: &[f64], #[case] b: &[f64], #[case] c: f64) {
    let form: QuadraticForm = text.parse().unwrap();
    assert_eq!((form.matrix(), form.linear(), form.constant()), (a, b, c), "{text}");
}

#[rstest]
#[case("", 1, "expected a number, a variable or `(`, and the text ends")]
#[case("x^2 +", 6, "expected a number, a variable or `(`, and the text ends")]
#[case("x^2 + $", 7, "expected a number, a variable or `(`, found `$`")]
#[case("x^2 = 3", 5, "expected an operator or the end, found `=`")]
#[case("x^3", 1, "a term of degree 3")]
#[case("3x^2 + 2xyz", 11, "a term of degree 3")]
#[case("(x^2 + y)^2", 1, "a term of degree 4")]
#[case("x^2.5", 3, "an exponent must be a whole number")]
#[case("x^-1", 3, "an exponent must be a whole number")]
#[case("x^", 3, "expected an exponent, and the text ends")]
#[case("x^y", 3, "an exponent must be a whole number")]
#[case("1/x + x^2", 3, "a division by a variable")]
#[case("x^2/0", 5, "a division by 0")]
#[case("x^2/(1-1)", 5, "a division by 0")]
#[case("(x + y", 7, "expected an operator or `)`, and the text ends")]
#[case("x) + y^2", 2, "expected an operator or the end, found `)`")]
#[case("1e999 x^2", 1, "a number that is not finite")]
#[case("1e300 1e300 x^2", 7, "a number that is not finite")]
#[case(". x^2", 1, "expected a digit beside the point")]
#[case("x_ + y^2", 2, "expected a number after `_`")]
#[case("x99999999999^2", 2, "more than 4294967295 variables of one letter")]
#[case("ü² + $", 6, "found `$`")]
fn a_text_that_is_none_is_told_with_its_column(
    #[case] text: &str,
    #[case] column: usize,
    #[case] what: &str,
) {
    let QuadraticError::Parse(error) = text.parse::<QuadraticForm>().unwrap_err() else { panic!("{text}") };
    assert_eq!(error.column, column, "{text}: {error}");
    assert!(error.problem.to_string().contains(what), "{text}: {error}");
}

#[rstest]
#[case("3", 0)]
#[case("3x - 2y", 1)]
#[case("x^2 - x^2 + y", 1)]
#[case("x^2 - x x", 0)]
fn a_polynomial_of_lower_degree_is_no_form(#[case] text: &str, #[case] degree: usize) {
    assert_eq!(text.parse::<QuadraticForm>().unwrap_err(), QuadraticError::NotQuadratic { degree });
}

#[test]
fn what_would_take_the_machine_down_is_refused() {
    let deep = "(".repeat(200_000) + "x";
    let error = deep.parse::<Polynomial>().unwrap_err();
    assert!(matches!(error.problem, Problem::TooMany { .. }), "{error}");
    let wide: String = (0..3_000).map(|i| format!("x{i}+")).collect::<String>() + "1";
    let error = format!("({wide})({wide})").parse::<Polynomial>().unwrap_err();
    assert!(matches!(error.problem, Problem::TooMany { what: "terms", .. }), "{error}");
    let many: String = (0..3_000).map(|i| format!("x{i}^2+")).collect::<String>() + "1";
    let error = many.parse::<QuadraticForm>().unwrap_err();
    assert!(matches!(error, QuadraticError::Parse(error) if error.column == 1));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_text_makes_the_parser_panic(text in "[-+*/^().0-9xyeλ² _]{0,24}") {
        let _ = text.parse::<QuadraticForm>();
    }

    #[test]
    fn any_text_at_all(text in "\\PC{0,40}") {
        let _ = text.parse::<QuadraticForm>();
    }

    /// What is written is read back to the last bit.
    #[test]
    fn a_form_is_written_as_it_is_read(numbers in prop::array::uniform10(-1e6..1e6_f64)) {
        let [a, b, c, d, e, f, g, h, i, j] = numbers;
        // Off the diagonal halves that add up again; on it twice the coefficient.
        let m = [2.0 * a, b, c, b, 2.0 * d, e, c, e, 2.0 * f];
        prop_assume!(a != 0.0 && b != 0.0 && d != 0.0 && f != 0.0);
        let form = QuadraticForm::new(&m, &[g, h, i], j).unwrap();
        let read: QuadraticForm = form.to_string().parse().unwrap();
        prop_assert_eq!(read, form);
    }
}

#[test]
fn forms_are_numpys() {
    for index in 0..5 {
        let part = |name: &str| golden(&format!("form.{index}.{name}"));
        let (a, b, eigenvalues, x) = (part("a"), part("b"), part("eigenvalues"), part("x"));
        let form = QuadraticForm::new(&a, &b, 0.5).unwrap();
        let analysis = form.analyse();
        let largest = eigenvalues.iter().fold(0.0_f64, |l, e| l.max(e.abs()));
        for (ours, theirs) in analysis.eigenvalues.iter().zip(&eigenvalues) {
            assert!((ours - theirs).abs() < 1e-13 * largest, "{index}: {ours} for {theirs}");
        }
        let (kind, nullity) = match index {
            2 => (Kind::Indefinite, 0),
            3 => (Kind::PositiveSemidefinite, 3),
            _ => (Kind::PositiveDefinite, 0),
        };
        assert_eq!((analysis.kind, analysis.nullity), (kind, nullity), "{index}");
        let (Stationary::Point(found) | Stationary::Affine { point: found, .. }) = &analysis.stationary
        else {
            panic!("{index}: no stationary point")
        };
        close(found, &x, 1e-10);
        if kind != Kind::Indefinite {
            let Minimum::Attained(least) = analysis.minimum else { panic!("{index}: no minimum") };
            let theirs = 0.5 + 0.5 * b.iter().zip(&x).map(|(b, x)| b * x).sum::<f64>();
            close(&[least], &[theirs], 1e-11);
        }
    }
}

/// 2 - 2 cos(k π / (n + 1)): of the matrix with 2 on the diagonal and -1 beside it.
#[test]
fn eigenvalues_of_a_known_matrix() {
    let n = 20;
    let mut a = vec![0.0; n * n];
    for i in 0..n {
        a[i * n + i] = 2.0;
        if i + 1 < n {
            (a[i * n + i + 1], a[(i + 1) * n + i]) = (-1.0, -1.0);
        }
    }
    let analysis = QuadraticForm::new(&a, &vec![0.0; n], 0.0).unwrap().analyse();
    let angle = |k: usize| k as f64 * std::f64::consts::PI / (n as f64 + 1.0);
    let expected: Vec<f64> = (1..=n).map(|k| 2.0 - 2.0 * angle(k).cos()).collect();
    close(&analysis.eigenvalues, &expected, 1e-14);
    close(&[analysis.condition().unwrap()], &[expected[n - 1] / expected[0]], 1e-12);
}

#[rstest]
#[case("x^2 + y^2", Kind::PositiveDefinite, 0)]
#[case("-x^2 - 3y^2 + x", Kind::NegativeDefinite, 0)]
#[case("x^2 - y^2", Kind::Indefinite, 0)]
#[case("xy + z^2 - z^2", Kind::Indefinite, 1)]
#[case("(x + y)^2", Kind::PositiveSemidefinite, 1)]
#[case("-(x + y - 3z)^2", Kind::NegativeSemidefinite, 2)]
#[case("(1/3 x + 1/7 y)^2 + (1/3 x + 1/7 y)^2", Kind::PositiveSemidefinite, 1)]
#[case("1e-9x^2 + y^2", Kind::PositiveDefinite, 0)]
fn kinds_are_told(#[case] text: &str, #[case] kind: Kind, #[case] nullity: usize) {
    let analysis = text.parse::<QuadraticForm>().unwrap().analyse();
    assert_eq!((analysis.kind, analysis.nullity), (kind, nullity), "{text}: {:?}", analysis.eigenvalues);
}

#[test]
fn a_form_of_nothing_is_zero() {
    let analysis = QuadraticForm::new(&[0.0; 4], &[0.0; 2], 3.0).unwrap().analyse();
    assert_eq!((analysis.kind, analysis.nullity), (Kind::Zero, 2));
    assert_eq!(analysis.minimum, Minimum::Attained(3.0));
    let Stationary::Affine { directions, .. } = analysis.stationary else { panic!("everywhere") };
    assert_eq!(directions.len(), 2);
}

#[test]
fn a_saddle_falls_along_its_direction() {
    let form: QuadraticForm = "x^2 + 4xy + y^2 - 2x".parse().unwrap();
    let analysis = form.analyse();
    let Stationary::Point(saddle) = &analysis.stationary else { panic!("it has one") };
    close(&form.gradient(saddle), &[0.0, 0.0], 1e-14);
    let Minimum::None { direction, reason: Unbounded::Curvature(curvature) } = &analysis.minimum else {
        panic!("it has no minimum")
    };
    close(&[*curvature], &[-2.0], 1e-14);
    let at = |t: f64| form.value(&[saddle[0] + t * direction[0], saddle[1] + t * direction[1]]);
    close(&[at(10.0) - at(0.0), at(-10.0) - at(0.0)], &[-100.0, -100.0], 1e-12);
}

#[test]
fn a_valley_that_slopes_falls_in_a_straight_line() {
    // Along (1, -1) the square is 0, and 3x falls.
    let form: QuadraticForm = "(x + y)^2 + 3x".parse().unwrap();
    let analysis = form.analyse();
    assert_eq!(analysis.stationary, Stationary::Nowhere);
    let Minimum::None { direction, reason: Unbounded::Slope(slope) } = &analysis.minimum else {
        panic!("it has no minimum")
    };
    close(&[*slope], &[-3.0 / 2.0_f64.sqrt()], 1e-14);
    close(direction, &[-0.5_f64.sqrt(), 0.5_f64.sqrt()], 1e-14);
    let at = |t: f64| form.value(&[0.3 + t * direction[0], 0.7 + t * direction[1]]);
    close(&[at(100.0) - at(0.0)], &[100.0 * slope], 1e-12);
}

#[test]
fn an_affine_set_is_stationary_all_over() {
    let form: QuadraticForm = "(x + y - z)^2 + (x + y - z) + 5".parse().unwrap();
    let analysis = form.analyse();
    let Stationary::Affine { point, directions } = &analysis.stationary else { panic!("a plane") };
    assert_eq!(directions.len(), 2);
    let mut random = Random::new(3);
    for _ in 0..20 {
        let (s, t) = (10.0 * random.number(), 10.0 * random.number());
        let x: Vec<f64> = (0..3).map(|i| point[i] + s * directions[0][i] + t * directions[1][i]).collect();
        close(&form.gradient(&x), &[0.0; 3], 1e-13);
        close(&[form.value(&x)], &[4.75], 1e-13);
    }
    assert_eq!(analysis.minimum, Minimum::Attained(form.value(point)));
}

#[test]
fn a_matrix_is_made_symmetric_where_that_is_asked_for() {
    let m = [1.0, 3.0, 1.0, 2.0];
    assert_eq!(
        QuadraticForm::new(&m, &[0.0; 2], 0.0).unwrap_err(),
        QuadraticError::Asymmetric { row: 0, column: 1, one: 3.0, other: 1.0 }
    );
    let form = QuadraticForm::symmetrised(&m, &[0.0; 2], 0.0).unwrap();
    assert_eq!(form.matrix(), [1.0, 2.0, 2.0, 2.0]);
    let x = [0.3, -0.8];
    let mx = [m[0] * x[0] + m[1] * x[1], m[2] * x[0] + m[3] * x[1]];
    close(&[form.value(&x)], &[0.5 * (x[0] * mx[0] + x[1] * mx[1])], 1e-15);
    assert_eq!(Operator::size(&form), 2);
}

#[test]
fn numbers_that_do_not_make_a_form_are_refused() {
    let form = |a: &[f64], b: &[f64], c| QuadraticForm::new(a, b, c).unwrap_err();
    assert_eq!(form(&[1.0; 3], &[0.0; 2], 0.0), QuadraticError::Size { what: "A", expected: 4, found: 3 });
    assert_eq!(form(&[], &[], 0.0), QuadraticError::Size { what: "b", expected: 1, found: 0 });
    let nan = form(&[1.0, 0.0, f64::NAN, 1.0], &[0.0; 2], 0.0);
    assert_eq!(nan, QuadraticError::NotFinite { what: "A", index: 2 });
    assert_eq!(form(&[1.0], &[f64::INFINITY], 0.0), QuadraticError::NotFinite { what: "b", index: 0 });
    assert_eq!(form(&[1.0], &[1.0], f64::NAN), QuadraticError::NotFinite { what: "c", index: 0 });
}
