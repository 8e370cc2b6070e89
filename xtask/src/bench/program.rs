//! The program itself under the clock: time and peak memory of whole runs.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use super::side::Case;
use super::table::{Measured, Row};
use crate::process;
use crate::workspace::Workspace;

/// Training steps of one timed run.
const STEPS: &str = "40";

/// Sixteen digits of the embedded model, from the program's start to the picture on the disk.
pub fn generate(workspace: &Workspace, backend: &str, rounds: u32, threads: usize) -> Result<Row> {
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let out = folder.path().join("digits.png");
    let out = out.to_string_lossy();
    let arguments = ["generate", "--class", "7", "--count", "16", "--backend", backend, "--out", &out];
    times(workspace, backend, "kiln generate, 16 digits", &arguments, rounds, threads, folder.path())
}

/// A short training run of the digit model on the demo's data, from the program's start to its end.
pub fn training(workspace: &Workspace, backend: &str, rounds: u32, threads: usize) -> Result<Row> {
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let out = folder.path().join("run");
    let out_text = out.to_string_lossy();
    let data = workspace.root.join("crates/kiln/data/mnist");
    let data = data.to_string_lossy();
    let arguments = ["train", "--data", &data, "--out", &out_text, "--steps", STEPS, "--backend", backend];
    let name = format!("kiln train, {STEPS} steps");
    times(workspace, backend, &name, &arguments, rounds, threads, &out)
}

fn times(
    workspace: &Workspace,
    backend: &str,
    name: &str,
    arguments: &[&str],
    rounds: u32,
    threads: usize,
    written: &Path,
) -> Result<Row> {
    let features = workspace.feature_arguments(&[backend.to_owned()])?;
    let mut build = process::cargo(&workspace.root);
    process::run(build.args(["build", "--release", "--locked", "--package", "kiln"]).args(&features))?;
    let program = workspace.target_folder()?.join("release/kiln");
    let mut row = Row::new(Case { name: name.to_owned(), flop: 0.0, bytes: 0.0 });
    for _ in 0..rounds {
        let mut command = Command::new(&program);
        command.args(arguments).env("RAYON_NUM_THREADS", threads.to_string());
        row.kiln.push(measure(&mut command)?);
        // Each run starts from nothing.
        if written.is_dir() {
            std::fs::remove_dir_all(written)
                .with_context(|| format!("cannot remove {}", written.display()))?;
            std::fs::create_dir_all(written.parent().unwrap_or(written))
                .with_context(|| format!("cannot make {}", written.display()))?;
        }
        println!("    {}", row.line());
    }
    Ok(row)
}

/// Runs a command to its end.
fn measure(command: &mut Command) -> Result<Measured> {
    let line = process::command_line(command);
    let start = Instant::now();
    let mut child =
        command.stdout(Stdio::null()).spawn().with_context(|| format!("cannot start `{line}`"))?;
    let mut peak_memory = None;
    let status = loop {
        // The kernel keeps the peak; it can be read only while the process is there.
        peak_memory = peak_of(child.id()).or(peak_memory);
        if let Some(status) = child.try_wait().with_context(|| format!("cannot wait for `{line}`"))? {
            break status;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    };
    if !status.success() {
        bail!("`{line}` ended with {status}");
    }
    Ok(Measured { seconds: start.elapsed().as_secs_f64(), peak_memory })
}

/// Peak resident memory of a process in bytes, where the system tells (Linux).
fn peak_of(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_has_a_time() {
        let measured = measure(Command::new("sleep").arg("0.1")).unwrap();
        assert!((0.1..5.0).contains(&measured.seconds), "{}", measured.seconds);
        assert!(measure(Command::new("sh").args(["-c", "exit 2"])).is_err());
    }
}
