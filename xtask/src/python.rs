//! The Python that goldens and side-by-side benches are made with: pinned packages in `.venv`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process;
use crate::workspace::Workspace;

/// The pinned packages, relative to the root.
const REQUIREMENTS: &str = "tests/reference/requirements.txt";

/// An interpreter that has the pinned packages: `$KILN_PYTHON` as it is, or `.venv`, made if need be.
pub fn interpreter(workspace: &Workspace) -> Result<PathBuf> {
    if let Some(named) = std::env::var_os("KILN_PYTHON") {
        let named = PathBuf::from(named);
        if !process::works(Command::new(&named).args(["-c", "import torch"])) {
            bail!("KILN_PYTHON={} cannot import torch", named.display());
        }
        return Ok(named);
    }
    let environment = workspace.root.join(".venv");
    let python = environment.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    let wanted = workspace.root.join(REQUIREMENTS);
    let wanted =
        std::fs::read_to_string(&wanted).with_context(|| format!("cannot read {}", wanted.display()))?;
    // Written last, so that an installation that was cut off is done again.
    let installed = environment.join("requirements.txt");
    if std::fs::read_to_string(&installed).is_ok_and(|text| text == wanted) {
        return Ok(python);
    }
    process::run(Command::new(system_python()?).args(["-m", "venv"]).arg(&environment))?;
    let mut pip = Command::new(&python);
    pip.current_dir(&workspace.root);
    process::run(pip.args(["-m", "pip", "install", "--disable-pip-version-check", "-r", REQUIREMENTS]))?;
    std::fs::write(&installed, wanted).with_context(|| format!("cannot write {}", installed.display()))?;
    Ok(python)
}

fn system_python() -> Result<&'static Path> {
    let candidates = ["python3", "python"].map(Path::new);
    let found = candidates.into_iter().find(|name| process::works(Command::new(name).arg("--version")));
    found.context("no Python was found: install Python 3.11 or later, or name one with KILN_PYTHON")
}
