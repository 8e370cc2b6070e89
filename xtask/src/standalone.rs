//! `cargo xtask standalone`: a crate outside the workspace that depends on one crate alone.

use anyhow::{Context, Result};

use crate::process;
use crate::workspace::Workspace;

/// Builds and runs `tests/standalone` with the versions that the workspace has locked.
///
/// In release and with the workspace's target folder, so that what the program already built serves here too.
pub fn run(workspace: &Workspace) -> Result<()> {
    let folder = workspace.root.join("tests/standalone");
    let (from, to) = (workspace.root.join("Cargo.lock"), folder.join("Cargo.lock"));
    std::fs::copy(&from, &to)
        .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    let mut command = process::cargo(&folder);
    command.args(["run", "--release", "--target-dir"]).arg(workspace.target_folder()?);
    process::run(&mut command)
}
