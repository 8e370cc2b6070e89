//! `cargo xtask reference`: makes the goldens again, each by its script in `tests/reference`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::workspace::Workspace;
use crate::{process, python};

/// The options of `cargo xtask reference`.
#[derive(clap::Args)]
pub struct Options {
    /// Scripts to run, by name, as in `optim`; all if none is named.
    names: Vec<String>,
}

/// Runs the scripts that make goldens.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let scripts = scripts(&workspace.root.join("tests/reference"))?;
    let known: Vec<_> = scripts.iter().map(|script| stem(script)).collect();
    if let Some(unknown) = options.names.iter().find(|name| !known.contains(name)) {
        bail!("there is no script tests/reference/{unknown}.py; there are: {}", known.join(", "));
    }
    let python = python::interpreter(workspace)?;
    for script in scripts {
        if options.names.is_empty() || options.names.contains(&stem(&script)) {
            process::run(Command::new(&python).current_dir(&workspace.root).arg(&script))?;
        }
    }
    println!("    `git diff --stat` shows which goldens changed");
    Ok(())
}

/// The scripts of a folder that make goldens: not the benches, not the modules that scripts share.
fn scripts(folder: &Path) -> Result<Vec<PathBuf>> {
    let listed = std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut scripts = Vec::new();
    for entry in listed {
        let path = entry.with_context(|| format!("cannot list {}", folder.display()))?.path();
        let name = stem(&path);
        let is_script = path.extension().is_some_and(|extension| extension == "py");
        if is_script && !name.starts_with("bench_") && !name.starts_with('_') {
            scripts.push(path);
        }
    }
    scripts.sort();
    Ok(scripts)
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn benches_and_shared_modules_make_no_goldens() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["optim.py", "backend.py", "bench_ops.py", "_shared.py", "README.md"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let names: Vec<_> = scripts(folder.path()).unwrap().iter().map(|path| stem(path)).collect();
        assert_eq!(names, ["backend", "optim"]);
    }
}
