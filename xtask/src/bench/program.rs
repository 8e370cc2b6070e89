//! The program itself under the clock: time and peak memory of whole runs.

use std::env::consts::EXE_SUFFIX;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use super::side::Case;
use super::table::{Dtype, Measured, Row};
use crate::process;
use crate::workspace::Workspace;

/// Training steps of one timed run.
const STEPS: &str = "40";

/// Sixteen digits of the embedded model, from the program's start to the picture on the disk.
pub fn generate(program: Program<'_>) -> Result<Row> {
    program.times("kiln generate, 16 digits", |out| {
        let mut arguments =
            ["generate", "--class", "7", "--count", "16", "--out"].map(OsString::from).to_vec();
        arguments.push(out.join("digits.png").into());
        arguments
    })
}

/// A short training run of the digit model on the demo's data, from the program's start to its end.
pub fn training(program: Program<'_>) -> Result<Row> {
    let data = program.workspace.root.join("crates/kiln/data/mnist");
    program.times(&format!("kiln train, {STEPS} steps"), |out| {
        let mut arguments = ["train", "--steps", STEPS, "--data"].map(OsString::from).to_vec();
        arguments.extend([data.clone().into(), "--out".into(), out.join("run").into()]);
        arguments
    })
}

/// Sides of the picture that is enlarged.
const SIDE: u32 = 256;

/// A picture by each network of `kiln upscale`, from the program's start to the larger picture on the disk.
pub fn upscale(program: Program<'_>) -> Result<Vec<Row>> {
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let picture = folder.path().join("picture.png");
    std::fs::write(&picture, waves()?).with_context(|| format!("cannot write {}", picture.display()))?;
    let row = |(method, scale): (&str, &str)| {
        program.times(&format!("kiln upscale --method {method} --scale {scale}, {SIDE} x {SIDE}"), |out| {
            let mut arguments =
                ["upscale", "--method", method, "--scale", scale, "--out"].map(OsString::from).to_vec();
            arguments.extend([out.join("larger.png").into(), picture.clone().into()]);
            arguments
        })
    };
    [("dat", "2"), ("dat", "4"), ("realesr", "4")].into_iter().map(row).collect()
}

/// A picture in colour, as a PNG file. What it shows makes no difference to the time.
fn waves() -> Result<Vec<u8>> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, SIDE, SIDE);
    encoder.set_color(png::ColorType::Rgb);
    let samples: Vec<u8> = (0..SIDE * SIDE * 3).map(|i| (i % 251) as u8).collect();
    encoder.write_header()?.write_image_data(&samples)?;
    Ok(file)
}

/// The program, and how it is to be timed.
#[derive(Clone, Copy)]
pub struct Program<'a> {
    /// Where it is built.
    pub workspace: &'a Workspace,
    /// The backend that is computed on.
    pub backend: &'a str,
    /// The arguments of cargo that compile it in.
    pub features: &'a [String],
    /// The type of floats that pipelines compute in.
    pub dtype: Dtype,
    /// How often.
    pub rounds: u32,
    /// On so many threads.
    pub threads: usize,
}

impl Program<'_> {
    /// Builds the program and times it with the arguments for an output folder, a new one each round.
    fn times(&self, name: &str, arguments: impl Fn(&Path) -> Vec<OsString>) -> Result<Row> {
        let program = self.build()?;
        let mut row = Row::new(Case { name: name.to_owned(), flop: 0.0, bytes: 0.0 });
        for _ in 0..self.rounds {
            let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
            row.kiln.push(measure(&mut self.command(&program, &arguments(folder.path())))?);
            println!("    {}", row.line());
        }
        Ok(row)
    }

    /// Where the program is, once it is built.
    pub fn build(&self) -> Result<PathBuf> {
        let mut build = process::cargo(&self.workspace.root);
        process::run(
            build.args(["build", "--release", "--locked", "--package", "kiln"]).args(self.features),
        )?;
        Ok(self.workspace.target_folder()?.join("release").join(format!("kiln{EXE_SUFFIX}")))
    }

    /// The program with these arguments, on the backend and threads asked for.
    pub fn command(&self, program: &Path, arguments: &[OsString]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).args(["--backend", self.backend]);
        command.env("RAYON_NUM_THREADS", self.threads.to_string());
        command
    }
}

/// Runs a command to its end.
pub fn measure(command: &mut Command) -> Result<Measured> {
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
    fn the_picture_is_one() {
        let decoder = png::Decoder::new(std::io::Cursor::new(waves().unwrap()));
        assert_eq!(decoder.read_info().unwrap().info().size(), (SIDE, SIDE));
    }

    #[test]
    fn a_run_has_a_time() {
        let measured = measure(Command::new("sleep").arg("0.1")).unwrap();
        assert!((0.1..5.0).contains(&measured.seconds), "{}", measured.seconds);
        assert!(measure(Command::new("sh").args(["-c", "exit 2"])).is_err());
    }
}
