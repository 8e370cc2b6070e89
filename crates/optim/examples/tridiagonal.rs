//! Conjugate gradients on a tridiagonal system of a million unknowns: -1, 2.01, -1, to a residual of 1e-8.
//!
//! `cargo run --release --package kiln-optim --example tridiagonal [n [FILE]]` prints the time of one solution; the file gets
//! it, as f64 from the lowest byte up. SciPy's side is `python tests/reference/bench_cg.py PATH`, with the path of the program
//! that this builds: it runs the two in turn, and compares what they found.

use std::error::Error;
use std::time::Instant;

use kiln_optim::quadratic::{Operator, Options, Sparse, Tridiagonal, conjugate_gradients};

#[allow(clippy::print_stdout)]
fn main() -> Result<(), Box<dyn Error>> {
    let n = std::env::args().nth(1).map_or(Ok(1_000_000), |n| n.parse())?;
    let three = Tridiagonal::new(vec![2.01; n], vec![-1.0; n.saturating_sub(1)])?;
    let right: Vec<f64> = (0..n).map(|i| ((i + 1) as f64 * 0.618_033_988_749_895).fract() - 0.5).collect();
    let x = solve("three diagonals", &three, &right)?;
    solve("sparse", &Sparse::from(&three), &right)?;
    if let Some(file) = std::env::args().nth(2) {
        std::fs::write(file, x.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())?;
    }
    Ok(())
}

#[allow(clippy::print_stdout)]
fn solve(name: &str, a: &impl Operator, right: &[f64]) -> Result<Vec<f64>, Box<dyn Error>> {
    // The first touches the memory.
    conjugate_gradients(a, right, &Options { max_steps: Some(3), ..Options::default() })?;
    let start = Instant::now();
    let trace = conjugate_gradients(a, right, &Options::default())?;
    let seconds = start.elapsed().as_secs_f64();
    let mut ax = vec![0.0; right.len()];
    a.apply(&trace.x, &mut ax);
    let square = |v: &mut dyn Iterator<Item = f64>| v.map(|v| v * v).sum::<f64>();
    let left = square(&mut right.iter().zip(&ax).map(|(r, ax)| r - ax)) / square(&mut right.iter().copied());
    println!("{name}: {seconds:.4} s, {} steps, residual {:.2e}", trace.steps(), left.sqrt());
    Ok(trace.x)
}
