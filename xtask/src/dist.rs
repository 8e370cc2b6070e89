//! `cargo xtask dist`: each published crate as the registry would get it.

use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::process;
use crate::workspace::{Member, Workspace};

/// The options of `cargo xtask dist`.
#[derive(clap::Args)]
pub struct Options {
    /// Package what is not committed, too.
    #[arg(long)]
    allow_dirty: bool,
}

/// What crates.io takes at most for one crate, in bytes.
const SIZE_LIMIT: u64 = 10 * 1024 * 1024;

/// Packages every published crate and checks its size.
///
/// Nothing is built from the packages: that a crate works by itself is seen by `tidy --full` and `standalone`.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let mut command = process::cargo(&workspace.root);
    command.args(["package", "--workspace", "--no-verify", "--locked"]);
    for member in workspace.members.iter().filter(|member| !member.is_published()) {
        command.args(["--exclude", &member.name]);
    }
    if options.allow_dirty {
        command.arg("--allow-dirty");
    }
    process::run(&mut command)?;

    let folder = workspace.target_folder()?.join("package");
    let mut too_large = Vec::new();
    for member in workspace.members.iter().filter(|member| member.is_published()) {
        let size = package_size(workspace, &folder, member)?;
        println!("    {:<20}{:>8.1} KiB", member.name, size as f64 / 1024.0);
        if size > SIZE_LIMIT {
            too_large.push(member.name.as_str());
        }
    }
    if !too_large.is_empty() {
        let mib = SIZE_LIMIT / (1024 * 1024);
        bail!("over {mib} MiB as a package: {}; keep large files out with `exclude`", too_large.join(", "));
    }
    Ok(())
}

fn package_size(workspace: &Workspace, folder: &Path, member: &Member) -> Result<u64> {
    let version = version(workspace, member)?;
    let path = folder.join(format!("{}-{version}.crate", member.name));
    let file =
        std::fs::metadata(&path).with_context(|| format!("cargo left no package at {}", path.display()))?;
    Ok(file.len())
}

/// The crate's version: its own, or the one that the root manifest gives to all.
fn version(workspace: &Workspace, member: &Member) -> Result<String> {
    let own = member.manifest.get("package").and_then(|package| package.get("version"));
    if let Some(version) = own.and_then(toml::Value::as_str) {
        return Ok(version.to_owned());
    }
    let path = workspace.root.join("Cargo.toml");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let root: toml::Table = text.parse().context("the root Cargo.toml is not valid TOML")?;
    let shared = root.get("workspace").and_then(|w| w.get("package")).and_then(|p| p.get("version"));
    let version = shared.and_then(toml::Value::as_str).context("the root Cargo.toml gives no version")?;
    Ok(version.to_owned())
}
