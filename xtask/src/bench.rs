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
use table::{Beside, Devices, Dtype, Measured, Row};

/// The options of `cargo xtask bench`.
#[derive(clap::Args)]
pub struct Options {
    /// What to time.
    #[arg(default_value = "ops")]
    what: What,
    /// The backend that Kiln runs on, as `cuda` or `cuda:1`; it is compiled in. PyTorch runs on the GPU it finds, unless this is a
    /// CPU backend.
    #[arg(long, default_value = "flex")]
    backend: String,
    /// Further features of kiln-backend to compile in, as `autotune,spirv`.
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    features: Vec<String>,
    /// The type of floats that both sides compute in.
    #[arg(long, value_enum, default_value_t = Dtype::F32)]
    dtype: Dtype,
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
    let Options { ref backend, dtype, rounds, .. } = *options;
    if options.candle && (on_gpu(backend) || dtype != Dtype::F32) {
        bail!("candle's side computes on the CPU in f32: `--candle` goes with no other backend or type");
    }
    // An adapter's number chooses among a machine's; what is compiled in is the same.
    let backends = backend.split(':').take(1).map(str::to_owned).chain(options.features.iter().cloned());
    let features = &workspace.feature_arguments(&backends.collect::<Vec<_>>())?;
    let program = program::Program { workspace, backend, features, dtype, rounds, threads };
    let (devices, rows) = match options.what {
        What::Ops => in_turn(&OPS, options.only.as_deref(), options, program)?,
        What::Models => in_turn(&MODELS, options.only.as_deref(), options, program)?,
        What::Training | What::Generate | What::Upscale
            if options.torch || options.candle || dtype != Dtype::F32 =>
        {
            bail!(
                "`--torch` and `--dtype` go with `ops`, `models` and `pipelines`, and `--candle` with the first two: there is no other \
                 program to run beside `kiln`, and these run in f32"
            )
        }
        What::Training => (None, vec![program::training(program)?]),
        What::Generate => (None, vec![program::generate(program)?]),
        What::Upscale => (None, program::upscale(program)?),
        What::Pipelines => {
            let mut rows = pipelines::stable_diffusion(program, options.torch)?;
            let (devices, layers) = in_turn(&MODELS, Some("SD3"), options, program)?;
            rows.extend(layers);
            (devices, rows)
        }
    };
    let name = options.what.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
    let run = table::Run { name, backend: backend.clone(), dtype, devices, threads, rounds, rows };
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

/// Whether PyTorch's side is to look for a GPU.
fn on_gpu(backend: &str) -> bool {
    !matches!(backend, "flex" | "ndarray")
}

fn in_turn(
    pair: &Pair,
    only: Option<&str>,
    options: &Options,
    program: program::Program<'_>,
) -> Result<(Option<Devices>, Vec<Row>)> {
    let program::Program { workspace, backend, features, threads, .. } = program;
    let dtype = program.dtype.name();
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
        command.args(features);
        command.args(extra).env("RAYON_NUM_THREADS", threads.to_string());
        command
    };
    process::run(&mut bench(&["--no-run"]))?;
    let torch = |extra: &[&str]| -> Result<Side> {
        let mut command = std::process::Command::new(python::interpreter(workspace)?);
        command.current_dir(&workspace.root).arg(pair.script);
        command.args(["--threads", &threads.to_string(), "--dtype", dtype]).args(extra);
        command.args(on_gpu(backend).then_some("--accelerator"));
        Side::start("torch", command)
    };
    let candle = options.candle.then(|| candle(workspace, threads)).transpose()?;
    let start = || -> Result<Sides> {
        let serve = ["--quiet", "--", "--serve", "--backend", backend, "--dtype", dtype];
        let kiln = Side::start("kiln", bench(&serve))?;
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
    let (kiln, mut cases) = sides.kiln.list()?;
    let mut devices = Devices { kiln, torch: None };
    if let Some(torch) = &mut sides.torch {
        let (device, known) = torch.list()?;
        same_cases(pair, &cases, &known)?;
        devices.torch = Some(device);
    }
    let known: Vec<(String, Vec<Case>)> =
        sides.beside.iter_mut().map(|(_, side)| side.list()).collect::<Result<_>>()?;
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
        // A process's memory is not that of its GPU.
        let kept = |measured: Measured| match pair.memory {
            Memory::OfEachCase if !on_gpu(backend) => measured,
            _ => Measured::seconds(measured.seconds),
        };
        for _ in 0..options.rounds {
            row.kiln.push(kept(sides.kiln.time(&row.case)?));
            if let Some(torch) = &mut sides.torch {
                row.torch.push(kept(torch.time(&row.case)?));
            }
            for (((_, side), (_, measured)), (_, known)) in
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
    Ok((Some(devices), rows))
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
    let place = run.place();
    let page = replace_between(&page, &place, &run.markdown())
        .with_context(|| format!("{} has no place for the bench `{place}`", path.display()))?;
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
