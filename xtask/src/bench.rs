//! `cargo xtask bench`: how long things take, alone or side by side with PyTorch.
//!
//! `ops` times single operations and `models` whole networks: a Rust program and a Python program stay up, and each
//! round asks both for the same case, one after the other (A B A B), so that whatever else the machine does meets both
//! alike.
//! `training`, `generate`, `upscale` and `pipelines` time the program itself.

mod pipelines;
mod program;
mod side;
mod table;

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::workspace::Workspace;
use crate::{process, python};
use side::{Case, Side};
use table::{Beside, Measured, Row};

/// The options of `cargo xtask bench`.
#[derive(clap::Args)]
pub struct Options {
    /// What to time.
    #[arg(default_value = "ops")]
    what: What,
    /// The backend that Kiln runs on; it is compiled in.
    #[arg(long, default_value = "flex")]
    backend: String,
    /// Time the same operations in PyTorch, in turn.
    #[arg(long)]
    torch: bool,
    /// Report PyTorch's functions compiled by `torch.compile` too, where that works. Needs a C++ compiler.
    #[arg(long, requires = "torch")]
    compile: bool,
    /// Report candle too, in the operations and networks that it has; it is built for this machine's CPU.
    #[arg(long)]
    candle: bool,
    /// How many times each case is asked for.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Only the cases whose name contains this.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Threads of either side; the machine's cores if not given.
    #[arg(long)]
    threads: Option<NonZero<usize>>,
    /// Also write the measurements to this file, as JSON.
    #[arg(long, value_name = "PATH")]
    json: Option<PathBuf>,
    /// Also put the table into docs/src/performance.md.
    #[arg(long)]
    write_docs: bool,
}

/// What can be timed.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// Single operations.
    Ops,
    /// Whole networks at their published sizes, with random weights, and a step of training.
    Models,
    /// Training steps of the digit model, by `kiln train`.
    Training,
    /// Sixteen digits, by `kiln generate`.
    Generate,
    /// A picture of 256 x 256 pixels by the networks of `kiln upscale`.
    Upscale,
    /// Stable Diffusion 1.5 with random weights, from a prompt to 512 x 512 pixels; a pair of SD3's layers. Needs PyTorch and 2 GB of disk.
    Pipelines,
}

/// Runs the bench that was asked for.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let threads = options.threads.or_else(|| available_parallelism().ok()).map_or(1, NonZero::get);
    let rows = match options.what {
        What::Ops => in_turn(workspace, &OPS, options.only.as_deref(), options, threads)?,
        What::Models => in_turn(workspace, &MODELS, options.only.as_deref(), options, threads)?,
        What::Training | What::Generate | What::Upscale if options.torch || options.candle => {
            bail!(
                "`--torch` goes with `ops`, `models` and `pipelines`, and `--candle` with the first two: there is no other program to \
                 run beside `kiln`"
            )
        }
        What::Training => vec![program::training(workspace, &options.backend, options.rounds, threads)?],
        What::Generate => vec![program::generate(workspace, &options.backend, options.rounds, threads)?],
        What::Upscale => program::upscale(workspace, &options.backend, options.rounds, threads)?,
        What::Pipelines => {
            let Options { ref backend, rounds, .. } = *options;
            let program = program::Program { workspace, backend, rounds, threads };
            let mut rows = pipelines::stable_diffusion(program, options.torch)?;
            rows.extend(in_turn(workspace, &MODELS, Some("SD3"), options, threads)?);
            rows
        }
    };
    let name = options.what.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
    let run = table::Run { name, backend: options.backend.clone(), threads, rounds: options.rounds, rows };
    print!("\n{}", run.text());
    if let Some(path) = &options.json {
        let json = serde_json::to_string_pretty(&run.json()).context("the measurements are no JSON")?;
        std::fs::write(path, json).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if options.write_docs {
        write_docs(&workspace.root.join("docs/src/performance.md"), &run)?;
    }
    Ok(())
}

/// A program of each side that times cases on request, and where its peak memory means something.
struct Pair {
    /// The bench of `kiln` or `kiln-backend` that is Kiln's side.
    bench: &'static str,
    script: &'static str,
    memory: Memory,
}

/// What is said of a case's memory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Memory {
    /// Nothing: all cases are one process's.
    None,
    /// Each case has a process of its own.
    OfEachCase,
}

const OPS: Pair = Pair { bench: "ops", script: "tests/reference/bench_ops.py", memory: Memory::None };
const MODELS: Pair =
    Pair { bench: "models", script: "tests/reference/bench_models.py", memory: Memory::OfEachCase };

fn in_turn(
    workspace: &Workspace,
    pair: &Pair,
    only: Option<&str>,
    options: &Options,
    threads: usize,
) -> Result<Vec<Row>> {
    let features = workspace.feature_arguments(std::slice::from_ref(&options.backend))?;
    let bench = |extra: &[&str]| {
        let mut command = process::cargo(&workspace.root);
        // Both crates, whichever has the bench: together their dependencies' features make the build that the program
        // has, and Burn is not compiled a second time.
        command.args([
            "bench",
            "--locked",
            "--package",
            "kiln",
            "--package",
            "kiln-backend",
            "--bench",
            pair.bench,
        ]);
        command.args(&features);
        command.args(extra).env("RAYON_NUM_THREADS", threads.to_string());
        command
    };
    process::run(&mut bench(&["--no-run"]))?;
    let torch = |extra: &[&str]| -> Result<Side> {
        let mut command = std::process::Command::new(python::interpreter(workspace)?);
        command.current_dir(&workspace.root).arg(pair.script);
        command.args(["--threads", &threads.to_string()]).args(extra);
        Side::start("torch", command)
    };
    let candle = options.candle.then(|| candle(workspace, threads)).transpose()?;
    let start = || -> Result<Sides> {
        let kiln = Side::start("kiln", bench(&["--quiet", "--", "--serve", "--backend", &options.backend]))?;
        let mut sides = Sides { kiln, torch: None, beside: Vec::new() };
        if options.torch {
            sides.torch = Some(torch(&[])?);
        }
        if options.compile {
            sides.beside.push((Beside::Compiled, torch(&["--compile"])?));
        }
        if let Some(candle) = &candle {
            sides.beside.push((Beside::Candle, Side::start("candle", candle())?));
        }
        Ok(sides)
    };
    let mut sides = start()?;
    let mut cases = sides.kiln.cases()?;
    if let Some(torch) = &mut sides.torch {
        same_cases(pair, &cases, &torch.cases()?)?;
    }
    let known: Vec<Vec<Case>> =
        sides.beside.iter_mut().map(|(_, side)| side.cases()).collect::<Result<_>>()?;
    if let Some(text) = only {
        cases.retain(|case| case.name.contains(text));
        if cases.is_empty() {
            bail!("no case has `{text}` in its name");
        }
    }
    let mut rows = Vec::new();
    for (i, case) in cases.into_iter().enumerate() {
        if i > 0 && pair.memory == Memory::OfEachCase {
            sides = start()?;
        }
        let mut row = Row::new(case);
        row.beside = sides.beside.iter().map(|(beside, _)| (*beside, Vec::new())).collect();
        let kept = |measured: Measured| match pair.memory {
            Memory::None => Measured::seconds(measured.seconds),
            Memory::OfEachCase => measured,
        };
        for _ in 0..options.rounds {
            row.kiln.push(kept(sides.kiln.time(&row.case)?));
            if let Some(torch) = &mut sides.torch {
                row.torch.push(kept(torch.time(&row.case)?));
            }
            for (((_, side), (_, measured)), known) in
                sides.beside.iter_mut().zip(&mut row.beside).zip(&known)
            {
                if known.iter().any(|case| case.name == row.case.name) {
                    measured.extend(side.time_if_possible(&row.case)?);
                }
            }
        }
        println!("    {}", row.line());
        rows.push(row);
    }
    Ok(rows)
}

/// The programs that are asked in turn.
struct Sides {
    kiln: Side,
    torch: Option<Side>,
    beside: Vec<(Beside, Side)>,
}

/// Builds candle's side, and gives what starts it.
fn candle(workspace: &Workspace, threads: usize) -> Result<impl Fn() -> std::process::Command> {
    let folder = workspace.root.join("tests/candle");
    let target = workspace.target_folder()?.join("candle");
    let cargo = move |verb: &str| {
        let mut command = process::cargo(&folder);
        command.args([verb, "--locked", "--release", "--quiet", "--target-dir"]).arg(&target);
        // As candle's own documentation asks for: it chooses its instructions when it is compiled.
        command.env("RUSTFLAGS", "-C target-cpu=native").env("RAYON_NUM_THREADS", threads.to_string());
        command
    };
    process::run(&mut cargo("build"))?;
    Ok(move || {
        let mut command = cargo("run");
        command.args(["--", "--serve"]);
        command
    })
}

/// A comparison of different cases would be none.
fn same_cases(pair: &Pair, kiln: &[Case], torch: &[Case]) -> Result<()> {
    let names = |cases: &[Case]| cases.iter().map(|case| case.name.clone()).collect::<Vec<_>>();
    if names(kiln) != names(torch) {
        bail!(
            "the two sides do not have the same cases:\n  the bench `{}`: {:?}\n  {}: {:?}",
            pair.bench,
            names(kiln),
            pair.script,
            names(torch)
        );
    }
    Ok(())
}

/// Puts the table between the page's markers for this bench.
fn write_docs(path: &Path, run: &table::Run) -> Result<()> {
    let page = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let page = replace_between(&page, &run.name, &run.markdown())
        .with_context(|| format!("{} has no place for the bench `{}`", path.display(), run.name))?;
    std::fs::write(path, page).with_context(|| format!("cannot write {}", path.display()))?;
    println!("    wrote {}", path.display());
    Ok(())
}

/// Replaces what stands between `<!-- bench:NAME -->` and `<!-- /bench:NAME -->`.
fn replace_between(page: &str, name: &str, table: &str) -> Option<String> {
    let (open, close) = (format!("<!-- bench:{name} -->"), format!("<!-- /bench:{name} -->"));
    let start = page.find(&open)? + open.len();
    let end = start + page[start..].find(&close)?;
    Some(format!("{}\n{table}{}", &page[..start], &page[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_takes_the_place_of_the_older_one() {
        let page = "a\n<!-- bench:ops -->\nold\n<!-- /bench:ops -->\nb\n";
        let once = replace_between(page, "ops", "| new |\n").unwrap();
        assert_eq!(once, "a\n<!-- bench:ops -->\n| new |\n<!-- /bench:ops -->\nb\n");
        assert_eq!(replace_between(&once, "ops", "| new |\n").unwrap(), once);
        assert!(replace_between(page, "training", "").is_none());
    }
}
