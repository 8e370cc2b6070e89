//! `cargo xtask <verb>`: the automation of the workspace, in Rust, with no shell scripts beside it.
//!
//! One file a verb; [`workspace`] knows what the workspace holds, [`process`] runs other programs,
//! [`steps`] times and names what a verb does one after the other, [`python`] finds the interpreter that
//! goldens and side-by-side benches are made with.

// What this program does is talk to a person in a terminal.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod bench;
mod dist;
mod docs;
mod process;
mod python;
mod reference;
mod score;
mod standalone;
mod steps;
mod test;
mod tidy;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use workspace::Workspace;

/// Automation of the Kiln workspace.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Format, house rules, clippy, all tests, doc tests, rustdoc, and the README's main-job command.
    Test(test::Options),
    /// The house rules that a program can check: floors, docs, file lengths, tables that must agree.
    Tidy(tidy::Options),
    /// Time operations or the program, alone or side by side with PyTorch.
    Bench(bench::Options),
    /// Make all goldens again with the pinned Python packages.
    Reference(reference::Options),
    /// Draw digits by process, solver and steps, and write how well they are read as a page.
    Score(score::Options),
    /// Build rustdoc and the book, and check the links between pages.
    Docs,
    /// Build and run the crate outside the workspace that depends on one crate alone.
    Standalone,
    /// Package every crate that is published and hold each to the registry's size limit.
    Dist(dist::Options),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli.verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: &Verb) -> Result<()> {
    let workspace = Workspace::find()?;
    match verb {
        Verb::Test(options) => test::run(&workspace, options),
        Verb::Tidy(options) => tidy::run(&workspace, options),
        Verb::Bench(options) => bench::run(&workspace, options),
        Verb::Reference(options) => reference::run(&workspace, options),
        Verb::Score(options) => score::run(&workspace, options),
        Verb::Docs => docs::run(&workspace),
        Verb::Standalone => standalone::run(&workspace),
        Verb::Dist(options) => dist::run(&workspace, options),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        super::Cli::command().debug_assert();
    }
}
