//! Measures the order of convergence of every solver on every process, and prints a table in Markdown:
//! `cargo run -p kiln-diffusion --example orders`.
//!
//! Data is Gaussian or a mixture of two Gaussians, so the score is exact. Solvers of the probability-flow equation stand in the first table, with a slope for
//! each kind of data; those that draw noise in the second, with their weak order: mean and variance are propagated exactly. Each slope has its 95% interval,
//! which is wide where the error changes its sign on the way.

#![allow(clippy::print_stdout, reason = "an example shows what it computes")]

#[path = "orders/measure.rs"]
mod measure;

use kiln_diffusion::{Corrector, Predictor, PredictorCorrector, SOLVERS, SolverConfig, SolverKind};
use measure::{Data, Order, courses, joins_estimates, off_the_pole, order_of, weak_order_of};

/// A predictor alone: a corrector's bias depends on its own step and not on their number, so that it has no order.
fn predictor(predictor: Predictor) -> SolverConfig {
    let corrector = Corrector::Annealed;
    SolverConfig::PredictorCorrector(PredictorCorrector {
        predictor,
        corrector,
        corrections: 0,
        signal_to_noise: 0.16,
    })
}

fn row(name: &str, stated: u32, cell: impl Fn(measure::Course) -> String) {
    println!("| {name} | {stated} | {} |", courses().into_iter().map(cell).collect::<Vec<_>>().join(" | "));
}

fn main() {
    let number = |Order { slope, margin }: Order| format!("{slope:.2} ± {margin:.2}");
    println!("| solver | its order | VP | sub-VP | VE | flow |");
    println!("|---|---|---|---|---|---|");
    for entry in SOLVERS.iter().filter(|entry| entry.kind == SolverKind::Deterministic) {
        row(&format!("`{}`", entry.name), entry.order, |course| {
            let course = if joins_estimates(entry) { off_the_pole(course) } else { course };
            let orders = [Data::Gaussian, Data::Mixture].map(|data| number(order_of(entry, data, &course)));
            orders.join(", ")
        });
    }
    println!("\n| solver | its order | VP | sub-VP | VE | flow |");
    println!("|---|---|---|---|---|---|");
    let rules = SOLVERS
        .iter()
        .filter(|entry| entry.kind == SolverKind::Stochastic)
        .filter(|entry| !matches!(entry.config, SolverConfig::PredictorCorrector(_)))
        .map(|entry| (format!("`{}`", entry.name), entry.order, entry.config))
        .chain([
            ("reverse diffusion".to_owned(), 1, predictor(Predictor::ReverseDiffusion)),
            ("Euler and Maruyama".to_owned(), 1, predictor(Predictor::EulerMaruyama)),
        ]);
    for (name, stated, rule) in rules {
        row(&name, stated, |course| number(weak_order_of(rule, &off_the_pole(course))));
    }
}
