//! Stable Diffusion 1.5 at its own size, from a prompt to a picture: `kiln generate` beside diffusers.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::on_gpu;
use super::program::{Program, measure};
use super::side::Case;
use super::table::{Measured, Row};
use crate::{process, python};

/// Makes the checkpoint, and is PyTorch's side.
const SCRIPT: &str = "tests/reference/bench_pipelines.py";
/// Steps of the two runs: their difference is that of the steps alone, without loading, text and decoder.
const STEPS: [u32; 2] = [2, 4];

/// Whole runs, and what a step takes in them.
pub fn stable_diffusion(program: Program<'_>, with_torch: bool) -> Result<Vec<Row>> {
    let python = python::interpreter(program.workspace)?;
    let model = checkpoint(&program, &python)?;
    let dtype = program.dtype.name();
    let built = program.build()?;
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let picture = folder.path().join("picture.png");
    let row = |what: &str| {
        let name = format!("Stable Diffusion 1.5, 512x512, {what}");
        Row::new(Case { name, flop: 0.0, bytes: 0.0 })
    };
    let mut rows = STEPS.map(|steps| row(&format!("program of {steps} steps")));
    for _ in 0..program.rounds {
        for (row, steps) in rows.iter_mut().zip(STEPS) {
            let steps = steps.to_string();
            let arguments = [
                "generate",
                "--prompt",
                "a lighthouse in the rain",
                "--steps",
                &steps,
                "--dtype",
                dtype,
                "--model",
            ];
            let mut arguments: Vec<OsString> = arguments.map(OsString::from).to_vec();
            arguments.extend([model.clone().into(), "--out".into(), picture.clone().into()]);
            row.kiln.push(measure(&mut program.command(&built, &arguments))?);
            if with_torch {
                let mut torch = script(&program, &python);
                torch.arg("draw").arg(&model).args(["--steps", &steps]).arg("--out").arg(&picture);
                torch.args(["--threads", &program.threads.to_string(), "--dtype", dtype]);
                torch.args(on_gpu(program.backend).then_some("--accelerator"));
                row.torch.push(measure(&mut torch)?);
            }
            println!("    {}", row.line());
        }
    }
    let [few, many] = &rows;
    let mut step = row("a step");
    (step.kiln, step.torch) = (between(&few.kiln, &many.kiln), between(&few.torch, &many.torch));
    Ok(rows.into_iter().chain([step]).collect())
}

/// Seconds of each step that the longer runs have more.
fn between(few: &[Measured], many: &[Measured]) -> Vec<Measured> {
    let steps = f64::from(STEPS[1] - STEPS[0]);
    few.iter().zip(many).map(|(few, many)| Measured::seconds((many.seconds - few.seconds) / steps)).collect()
}

/// The folder with the random weights, made once.
fn checkpoint(program: &Program<'_>, python: &Path) -> Result<PathBuf> {
    let folder = program.workspace.target_folder()?.join("bench").join("stable-diffusion-1.5");
    if folder.exists() {
        return Ok(folder);
    }
    // Under another name until it is whole.
    let made = folder.with_extension("part");
    process::run(script(program, python).arg("make").arg(&made))?;
    std::fs::rename(&made, &folder).with_context(|| format!("cannot name {}", folder.display()))?;
    Ok(folder)
}

fn script(program: &Program<'_>, python: &Path) -> Command {
    let mut command = Command::new(python);
    command.current_dir(&program.workspace.root).arg(SCRIPT);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_half_of_what_two_take() {
        let [few, many] = [[10.0, 12.0], [16.0, 20.0]].map(|seconds| seconds.map(Measured::seconds));
        let steps = between(&few, &many).iter().map(|step| step.seconds).collect::<Vec<_>>();
        assert_eq!(steps, [3.0, 4.0]);
    }
}
