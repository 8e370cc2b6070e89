//! What the workspace holds: its root, its members with their manifests, and where cargo builds to.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use toml::Table;

use crate::process;

/// The checkout that this program was started from.
pub struct Workspace {
    /// The folder of the root `Cargo.toml`.
    pub root: PathBuf,
    /// The members, in the order of their folders.
    pub members: Vec<Member>,
}

/// One package of the workspace.
#[derive(Clone)]
pub struct Member {
    /// The package's name, as in `kiln-backend`.
    pub name: String,
    /// Its folder relative to the root, with `/`, as in `crates/backend`.
    pub folder: String,
    /// Its `Cargo.toml`.
    pub manifest: Table,
}

impl Member {
    /// Reads a member from the text of its manifest.
    pub fn parse(folder: &str, manifest: &str) -> Result<Self> {
        let manifest: Table =
            manifest.parse().with_context(|| format!("{folder}/Cargo.toml is not valid TOML"))?;
        let name = manifest
            .get("package")
            .and_then(|package| package.get("name"))
            .and_then(toml::Value::as_str)
            .ok_or_else(|| anyhow!("{folder}/Cargo.toml names no package"))?
            .to_owned();
        Ok(Self { name, folder: folder.to_owned(), manifest })
    }

    /// The folder's last part for a crate of the product (`backend`), and nothing for `xtask` and `tests`.
    pub fn product(&self) -> Option<&str> {
        self.folder.strip_prefix("crates/")
    }

    /// Whether `cargo publish` may take it.
    pub fn is_published(&self) -> bool {
        let publish = self.manifest.get("package").and_then(|package| package.get("publish"));
        publish.and_then(toml::Value::as_bool) != Some(false)
    }

    /// The names of its features, without `default`.
    pub fn features(&self) -> BTreeSet<String> {
        let features = self.manifest.get("features").and_then(toml::Value::as_table);
        features.into_iter().flat_map(Table::keys).filter(|name| *name != "default").cloned().collect()
    }
}

impl Workspace {
    /// Finds the workspace that holds this program's source.
    ///
    /// `cargo run` says at run time where the source is; the path of build time is for a program started
    /// by itself.
    pub fn find() -> Result<Self> {
        let xtask = std::env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = xtask.parent().context("xtask lies in no workspace")?.to_path_buf();
        let members = read_members(&root)?;
        Ok(Self { root, members })
    }

    /// The member with this package name.
    pub fn member(&self, name: &str) -> Result<&Member> {
        self.members
            .iter()
            .find(|member| member.name == name)
            .ok_or_else(|| anyhow!("the workspace has no package `{name}`"))
    }

    /// The folder that cargo builds to, as cargo itself sees it.
    pub fn target_folder(&self) -> Result<PathBuf> {
        let text = process::output(process::cargo(&self.root).args([
            "metadata",
            "--no-deps",
            "--format-version",
            "1",
        ]))?;
        let metadata: serde_json::Value =
            serde_json::from_str(&text).context("`cargo metadata` printed no JSON")?;
        let folder =
            metadata["target_directory"].as_str().context("`cargo metadata` names no target folder")?;
        Ok(PathBuf::from(folder))
    }

    /// Turns names of backends into cargo's arguments: `--features kiln-backend/vulkan,…`.
    pub fn feature_arguments(&self, backends: &[String]) -> Result<Vec<String>> {
        let known = self.member("kiln-backend")?.features();
        for backend in backends {
            if !known.contains(backend) {
                let known = known.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
                bail!("there is no backend `{backend}`; the features of kiln-backend are: {known}");
            }
        }
        if backends.is_empty() {
            return Ok(Vec::new());
        }
        let features: Vec<_> = backends.iter().map(|backend| format!("kiln-backend/{backend}")).collect();
        Ok(vec!["--features".to_owned(), features.join(",")])
    }
}

fn read_members(root: &Path) -> Result<Vec<Member>> {
    let crates = root.join("crates");
    let mut folders = vec!["tests".to_owned(), "xtask".to_owned()];
    let entries = std::fs::read_dir(&crates).with_context(|| format!("cannot list {}", crates.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot list {}", crates.display()))?;
        if entry.path().join("Cargo.toml").is_file() {
            folders.push(format!("crates/{}", entry.file_name().to_string_lossy()));
        }
    }
    folders.sort();
    let read = |folder: &String| {
        let path = root.join(folder).join("Cargo.toml");
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Member::parse(folder, &text)
    };
    folders.iter().map(read).collect()
}
