//! `kiln quadratic`: a quadratic form from its text, what kind it is, its minimum and how two methods get there.

mod contours;

use anyhow::{Context, Result, ensure};
use kiln::optim::quadratic::{
    Analysis, Ended, Kind, Minimum, Options, QuadraticForm, Record, Stationary, Trace, Unbounded,
    conjugate_gradients, steepest_descent,
};

use crate::cli::Quadratic;
use crate::output::print;

/// Rows of a table that are printed at its beginning, and at its end.
const ROWS: (usize, usize) = (12, 5);
/// More variables than this, and their values are not printed.
const COLUMNS: usize = 6;

pub fn run(options: &Quadratic) -> Result<()> {
    let form: QuadraticForm =
        options.polynomial.parse().with_context(|| format!("can't read \"{}\"", options.polynomial))?;
    let n = form.size();
    ensure!(
        options.out.is_none() || n == 2,
        "contours are drawn of forms in two variables, and this one has {n}: leave out --out"
    );
    if let Some(start) = &options.start {
        ensure!(
            start.len() == n,
            "--start has {} numbers, and the form has {n} variables: {}",
            start.len(),
            form.names().join(", ")
        );
    }
    let analysis = form.analyse();
    describe(&form, &analysis)?;
    let mut paths = Vec::new();
    if matches!(analysis.minimum, Minimum::Attained(_)) {
        let start = options.start.clone().unwrap_or_else(|| vec![0.0; n]);
        let gradient = form.gradient(&start);
        let length = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
        let asked = Options {
            relative: options.tolerance,
            // Without a linear part, the right side has no length to be a share of.
            absolute: options.tolerance * length,
            max_steps: Some(options.steps as usize),
            start: Some(start),
            record: Record::Path,
        };
        let right = form.right_side();
        paths.push(("steepest descent", steepest_descent(&form, &right, &asked)?));
        paths.push(("conjugate gradients", conjugate_gradients(&form, &right, &asked)?));
        for (method, trace) in &paths {
            table(&form, method, trace)?;
        }
    }
    if let Some(out) = &options.out {
        contours::draw(&form, &analysis, &paths)?.write_png(out)?;
        print(format_args!("\nwrote {}", out.display()))?;
    }
    Ok(())
}

/// Numbers as they are read: 1.2, not 1.2000000000000002.
fn number(x: f64) -> String {
    let rounded: f64 = format!("{x:.10e}").parse().unwrap_or(x);
    let small = rounded != 0.0 && !(1e-4..1e9).contains(&rounded.abs());
    // No -0.
    if small { format!("{rounded:e}") } else { format!("{}", rounded + 0.0) }
}

fn point(x: &[f64]) -> String {
    let shown: Vec<_> = x.iter().take(COLUMNS).map(|&x| number(x)).collect();
    let more = if x.len() > COLUMNS { ", …" } else { "" };
    format!("({}{more})", shown.join(", "))
}

fn describe(form: &QuadraticForm, analysis: &Analysis) -> Result<()> {
    let n = form.size();
    print(format_args!("f({}) = {form}", form.names().join(", ")))?;
    print(format_args!("     = 1/2 x'Ax + b'x + c\n"))?;
    if n <= COLUMNS {
        let entries: Vec<String> = form.matrix().iter().map(|&a| number(a)).collect();
        let linear: Vec<String> = form.linear().iter().map(|&b| number(b)).collect();
        let width = |numbers: &[String]| numbers.iter().map(String::len).max().unwrap_or(0);
        let (wide, narrow) = (width(&entries), width(&linear));
        for (i, row) in entries.chunks(n).enumerate() {
            let (a, b, c) = match i {
                0 => ("A =", "b =", format!("   c = {}", number(form.constant()))),
                _ => ("   ", "   ", String::new()),
            };
            let row: Vec<_> = row.iter().map(|a| format!("{a:>wide$}")).collect();
            print(format_args!("{a} [ {} ]   {b} [ {:>narrow$} ]{c}", row.join("  "), linear[i]))?;
        }
        print("")?;
    }
    let condition =
        analysis.condition().map_or_else(String::new, |c| format!("; condition number {}", number(c)));
    print(format_args!("A is {}: {}{condition}", analysis.kind, analysis.reason()))?;
    let nature = match analysis.kind {
        Kind::PositiveDefinite | Kind::PositiveSemidefinite => "minimum",
        Kind::NegativeDefinite | Kind::NegativeSemidefinite => "maximum",
        Kind::Indefinite => "saddle",
        Kind::Zero => "constant",
    };
    match &analysis.stationary {
        Stationary::Point(x) => print(format_args!("{nature} {} at {}", number(form.value(x)), point(x)))?,
        Stationary::Affine { point: x, directions } => {
            print(format_args!("{nature} {} at {}", number(form.value(x)), point(x)))?;
            for direction in directions.iter().take(COLUMNS) {
                print(format_args!("  and all along {}", point(direction)))?;
            }
        }
        Stationary::Nowhere => print(format_args!("stationary nowhere: A x = -b has no solution"))?,
    }
    if let Minimum::None { direction, reason } = &analysis.minimum {
        let along = point(direction);
        match reason {
            Unbounded::Curvature(curvature) => {
                let half = number(-curvature / 2.0);
                print(format_args!("no minimum: t along {along} it is lower, in the end by {half} t²"))?;
            }
            Unbounded::Slope(slope) => {
                print(format_args!("no minimum: t along {along} it is lower by {} t", number(-slope)))?;
            }
        }
    }
    Ok(())
}

fn table(form: &QuadraticForm, method: &str, trace: &Trace) -> Result<()> {
    let steps = trace.steps();
    let plural = if steps == 1 { "step" } else { "steps" };
    let end = match trace.ended {
        Ended::Converged => "",
        Ended::Steps => " (as many as asked for)",
        Ended::Rounding => " (rounding lets it go no further)",
    };
    print(format_args!("\n{method}: {steps} {plural}{end}"))?;
    let names = if form.size() <= COLUMNS { form.names() } else { &[] };
    let header: String = names.iter().map(|name| format!("{name:>14}")).collect();
    print(format_args!("{:>6}{header}{:>16}{:>12}", "step", "f", "|grad f|"))?;
    for (step, (x, residual)) in trace.path.iter().zip(&trace.residuals).enumerate() {
        if step == ROWS.0 && steps >= ROWS.0 + ROWS.1 {
            print(format_args!("{:>6}", "…"))?;
        }
        if step >= ROWS.0 && step + ROWS.1 <= steps {
            continue;
        }
        let x: String = x.iter().take(names.len()).map(|x| format!("{:>14.8}", x + 0.0)).collect();
        print(format_args!("{step:>6}{x}{:>16.8}{residual:>12.2e}", form.value(&trace.path[step]) + 0.0))?;
    }
    Ok(())
}
