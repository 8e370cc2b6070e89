//! `cargo xtask standalone`: a crate outside the workspace that depends on one crate alone.

use anyhow::{Context, Result};

use crate::process;
use crate::workspace::Workspace;

/// Builds and runs `tests/standalone` with the versions that the workspace has locked.
///
/// Burn is compiled again for it, with the features that the one crate asks for and no others: that is the point.
pub fn run(workspace: &Workspace) -> Result<()> {
    let folder = workspace.root.join("tests/standalone");
    let (from, to) = (workspace.root.join("Cargo.lock"), folder.join("Cargo.lock"));
    std::fs::copy(&from, &to)
        .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    let mut command = process::cargo(&folder);
    command.args(["run", "--target-dir"]).arg(workspace.target_folder()?);
    process::run(&mut command)
}
