//! `kiln quadratic`: what it prints, what it draws, and what it refuses.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use kiln::picture::Picture;
use rstest::rstest;

fn quadratic(dir: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kiln"));
    command.current_dir(dir).arg("quadratic").args(arguments).output().expect("the program starts")
}

/// The program succeeds; what it printed.
#[track_caller]
fn told(arguments: &[&str]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let output = quadratic(dir.path(), arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

const BOWL: &str = "3x^2 + 2xy + 2y^2 - 2x + 8y";

#[test]
fn a_bowl_is_told_with_both_paths() {
    let told = told(&[BOWL]);
    for line in [
        "f(x, y) = 3x^2 + 2xy + 2y^2 - 2x + 8y",
        "A = [ 6  2 ]   b = [ -2 ]   c = 0",
        "    [ 2  4 ]       [  8 ]",
        "A is positive definite: its eigenvalues are from 2.763932 to 7.236068; condition number 2.6180339887",
        "minimum -11.6 at (1.2, -2.6)",
        "conjugate gradients: 2 steps",
        "     0    0.00000000    0.00000000      0.00000000      8.25e0",
    ] {
        assert!(told.lines().any(|told| told == line), "no line `{line}` in\n{told}");
    }
    let ends = told.lines().filter(|line| line.contains("   -2.60000000    -11.60000000"));
    assert!(ends.count() >= 2, "both paths end at the minimum:\n{told}");
    assert!(told.contains("steepest descent: "), "{told}");
}

#[rstest]
#[case(&["x^2 - y^2"], &["A is indefinite", "saddle 0 at (0, 0)", "no minimum: t along (0, 1) it is lower, in the end by 1 t²"])]
#[case(&["-x^2 - y^2 + 2x"], &["A is negative definite", "maximum 1 at (1, 0)", "no minimum"])]
#[case(&["(x + y)^2 + 3x"], &["A is positive semidefinite", "A is singular", "stationary nowhere", "no minimum: t along"])]
#[case(&["(x + y)^2 - 2x - 2y"], &["minimum -1 at (0.5, 0.5)", "and all along", "conjugate gradients: 1 step"])]
#[case(&["-(x - 1)^2"], &["f(x) = -x^2 + 2x - 1", "A is negative definite"])]
#[case(&["x1^2 + x2^2 + x3^2 - x1 x3", "--start", "1,-2,3"], &["minimum 0 at (0, 0, 0)", "    1.00000000   -2.00000000    3.00000000"])]
fn forms_of_each_kind_are_told(#[case] arguments: &[&str], #[case] parts: &[&str]) {
    let told = told(arguments);
    for part in parts {
        assert!(told.contains(part), "no `{part}` in\n{told}");
    }
}

#[test]
fn a_long_path_is_cut_short_and_steps_can_be_few() {
    let told = told(&["x^2 + 400y^2 - 2x - 2y"]);
    let rows =
        told.lines().skip_while(|line| !line.starts_with("steepest")).take_while(|line| !line.is_empty());
    assert_eq!(rows.count(), 2 + 12 + 1 + 5, "{told}");
    let told = self::told(&["x^2 + 400y^2 - 2x - 2y", "--steps", "3"]);
    assert!(told.contains("steepest descent: 3 steps (as many as asked for)"), "{told}");
}

/// A contour passes where it should: along x² + y² = r², and the paths are in their colours.
#[test]
fn contours_are_drawn_with_both_paths() {
    let dir = tempfile::tempdir().unwrap();
    let draw = |arguments: &[&str]| {
        let output = quadratic(dir.path(), &[arguments, &["--out", "contours.png"]].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Picture::open(dir.path().join("contours.png")).unwrap()
    };
    let picture = draw(&[BOWL]);
    assert_eq!((picture.width(), picture.height()), (912, 864));
    let count = |colour: [u8; 3]| picture.samples().chunks(3).filter(|pixel| *pixel == colour).count();
    // The first steps of the two are the same, so that green lies over orange there.
    let (orange, green) = (count([208, 88, 20]), count([24, 96, 40]));
    assert!(orange > 200 && green > 500, "{orange} orange and {green} green pixels");
    // Of a circular bowl around the middle of the field, every contour is as the quarter turn of itself.
    let bowl = draw(&["x^2 + y^2", "--start", "0,0"]);
    let at = |column: usize, row: usize| bowl.samples()[3 * ((16 + row) * 912 + 96 + column)];
    let line = |column, row| at(column, row) < 120;
    let lines = (420..780).filter(|&column| line(column, 330)).count();
    assert!(lines > 8, "{lines} pixels of contours");
    for column in 420..780 {
        let turned = at(799 - 330, column);
        assert!(at(column, 330).abs_diff(turned) <= 2, "column {column}: {} and {turned}", at(column, 330));
    }
    // Forms without a minimum have contours too.
    for form in ["x^2 - y^2", "(x + y)^2 + 3x", "x^2 + 0y"] {
        draw(&[form]);
    }
}

#[rstest]
#[case(&["x^3 + y"], "can't read \"x^3 + y\": column 1: a term of degree 3")]
#[case(&["3x + 2"], "can't read \"3x + 2\": the polynomial is not quadratic: its degree is 1")]
#[case(&["3x^2 + $"], "column 8: expected a number, a variable or `(`, found `$`")]
#[case(&["1e999x^2"], "can't read \"1e999x^2\": column 1: a number that is not finite")]
#[case(&[""], "column 1: expected a number, a variable or `(`, and the text ends")]
#[case(&["x^2 + y^2 + z^2", "--out", "a.png"], "contours are drawn of forms in two variables, and this one has 3")]
#[case(&["x^2 + y^2", "--start", "1,2,3"], "--start has 3 numbers, and the form has 2 variables: x, y")]
#[case(&["x^2 + y^2", "--out", "no/such/folder/a.png"], "no/such/folder")]
#[case(&["x^2", "--start", "nan"], "invalid value 'nan' for '--start")]
#[case(&["x^2", "--steps", "0"], "invalid value '0' for '--steps")]
#[case(&["x^2", "--stepz", "3"], "unexpected argument '--stepz'")]
#[case(&[], "required arguments were not provided")]
fn mistakes_are_one_line_and_status_2(#[case] arguments: &[&str], #[case] message: &str) {
    let dir = tempfile::tempdir().unwrap();
    let output = quadratic(dir.path(), arguments);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.starts_with("kiln: ") && told.contains(message), "{told}");
    assert_eq!(told.lines().count(), 1, "{told}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "something was written");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kiln"));
    let mut program =
        command.args(["quadratic", BOWL]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(program.stdout.take());
    let output = program.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
