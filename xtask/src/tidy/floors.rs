//! The floors: a crate uses only crates on lower floors, and everything outside comes through the workspace.
//!
//! Development dependencies are free: a test may use a crate of any floor.

use toml::{Table, Value};

use super::{Finding, Tree};
use crate::workspace::Member;

/// Floor of each crate of the product, by folder. A crate not named here has no place in the house yet.
const FLOORS: &[(&str, u32)] = &[
    ("backend", 0),
    ("picture", 0),
    ("attention", 1),
    ("checkpoint", 1),
    ("diffusion", 1),
    ("optim", 1),
    ("upsampling", 1),
    ("autoencoder", 3),
    ("autoregressive", 3),
    ("blocks", 2),
    ("denoisers", 3),
    ("detection", 3),
    ("text", 2),
    ("training", 2),
    ("conditioning", 4),
    ("pipelines", 5),
    ("pipelines", 5),
    ("kiln", 6),
];

/// Dependencies that the floors alone would allow, and why they are not.
const APART: &[(&str, &str, &str)] = &[
    ("denoisers", "kiln-diffusion", "networks know nothing of processes: a pipeline binds the two"),
    ("picture", "burn", "pictures know nothing of tensors"),
];

/// Packages that name a Burn backend: only `kiln-backend` may use them.
const BACKEND_PACKAGES: &[&str] = &[
    "burn-cpu",
    "burn-cubecl",
    "burn-cuda",
    "burn-flex",
    "burn-ndarray",
    "burn-remote",
    "burn-rocm",
    "burn-tch",
    "burn-wgpu",
];

/// Features of `burn` that bring a backend in.
const BACKEND_FEATURES: &[&str] =
    &["cpu", "cuda", "flex", "metal", "ndarray", "remote", "rocm", "tch", "vulkan", "webgpu", "wgpu"];

/// Only the program reports errors as text; libraries have typed ones.
const PROGRAM_ONLY: &[&str] = &["anyhow", "clap", "indicatif"];

/// A crate uses only crates on lower floors.
pub(super) fn floors(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for member in &tree.members {
        let Some(folder) = member.product() else { continue };
        let path = format!("{}/Cargo.toml", member.folder);
        let Some(floor) = floor_of(folder) else {
            findings.push(Finding::error(&path, None, format!("`{folder}` has no floor in xtask's table")));
            continue;
        };
        for (_, name, _) in dependencies(member).filter(|(table, ..)| *table != "dev-dependencies") {
            let mut wrong = |why: String| findings.push(Finding::error(&path, None, why));
            let used = if name == "kiln" { Some("kiln") } else { name.strip_prefix("kiln-") };
            if let Some(used) = used {
                match floor_of(used) {
                    Some(below) if below < floor => {}
                    Some(other) => wrong(format!("floor {floor} uses `{name}` of floor {other}")),
                    None => wrong(format!("uses `{name}`, which has no floor")),
                }
            }
            if let Some((.., why)) = APART.iter().find(|(user, used, _)| *user == folder && *used == name) {
                wrong(format!("uses `{name}`: {why}"));
            }
            if PROGRAM_ONLY.contains(&name) && folder != "kiln" {
                wrong(format!("uses `{name}`, which is for the program only"));
            }
        }
    }
    findings
}

/// Versions and features of what comes from outside are declared once, in the root manifest.
pub(super) fn through_the_workspace(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for member in &tree.members {
        let path = format!("{}/Cargo.toml", member.folder);
        for (table, name, value) in dependencies(member) {
            if value.get("workspace").and_then(Value::as_bool) != Some(true) {
                let message = format!("`{name}` in [{table}] is not `workspace = true`");
                findings.push(Finding::error(&path, None, message));
            }
        }
        let lints = member.manifest.get("lints").and_then(|lints| lints.get("workspace"));
        if lints.and_then(Value::as_bool) != Some(true) {
            findings.push(Finding::error(&path, None, "does not take the workspace's lints"));
        }
    }
    findings
}

/// Only `backend` names a Burn backend; the program forwards each of its features, or always has it.
pub(super) fn backend_features(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for member in tree.members.iter().filter(|member| member.name != "kiln-backend") {
        let path = format!("{}/Cargo.toml", member.folder);
        for (_, name, value) in dependencies(member) {
            let features = value.get("features").and_then(Value::as_array);
            let features: Vec<_> = features.into_iter().flatten().filter_map(Value::as_str).collect();
            let backend =
                features.iter().find(|feature| name == "burn" && BACKEND_FEATURES.contains(feature));
            if let Some(feature) = backend {
                findings.push(Finding::error(&path, None, format!("names a Burn backend: burn/{feature}")));
            }
            if BACKEND_PACKAGES.contains(&name) {
                findings.push(Finding::error(&path, None, format!("names a Burn backend: {name}")));
            }
        }
    }
    let named = |name: &str| tree.members.iter().find(|member| member.name == name);
    if let (Some(backend), Some(program)) = (named("kiln-backend"), named("kiln")) {
        let mut known = program.features();
        let taken = dependencies(program).filter(|(_, name, _)| *name == "kiln-backend");
        let taken = taken.filter_map(|(_, _, value)| value.get("features").and_then(Value::as_array));
        known.extend(taken.flatten().filter_map(Value::as_str).map(str::to_owned));
        for feature in backend.features().difference(&known) {
            let path = format!("{}/Cargo.toml", program.folder);
            findings.push(Finding::error(&path, None, format!("does not forward the backend `{feature}`")));
        }
    }
    findings
}

fn floor_of(folder: &str) -> Option<u32> {
    FLOORS.iter().find(|(name, _)| *name == folder).map(|(_, floor)| *floor)
}

/// Every dependency as (table, name, value), those for single targets too.
fn dependencies(member: &Member) -> impl Iterator<Item = (&'static str, &str, &Value)> {
    const TABLES: [&str; 3] = ["dependencies", "build-dependencies", "dev-dependencies"];
    let targets = member.manifest.get("target").and_then(Value::as_table).into_iter().flat_map(Table::values);
    let holders = std::iter::once(&member.manifest).chain(targets.filter_map(Value::as_table));
    holders.flat_map(|holder| {
        TABLES.into_iter().flat_map(move |table| {
            let entries = holder.get(table).and_then(Value::as_table).into_iter().flatten();
            entries.map(move |(name, value)| (table, name.as_str(), value))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(rule: fn(&Tree) -> Vec<Finding>, files: &[(&str, &str)]) -> Vec<String> {
        rule(&Tree::of(files)).into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn a_crate_uses_lower_floors_only() {
        let upward = "[package]\nname = 'kiln-optim'\n[dependencies]\nkiln-training.workspace = true";
        assert_eq!(
            messages(floors, &[("crates/optim/Cargo.toml", upward)]),
            ["floor 1 uses `kiln-training` of floor 2"]
        );
        let sideways = "[package]\nname = 'kiln-optim'\n[dependencies]\nkiln-diffusion.workspace = true";
        assert_eq!(messages(floors, &[("crates/optim/Cargo.toml", sideways)]).len(), 1);
        let downward = "[package]\nname = 'kiln-optim'\n[dependencies]\nkiln-backend.workspace = true";
        assert!(messages(floors, &[("crates/optim/Cargo.toml", downward)]).is_empty());
        let in_tests = "[package]\nname = 'kiln-optim'\n[dev-dependencies]\nkiln-training.workspace = true";
        assert!(messages(floors, &[("crates/optim/Cargo.toml", in_tests)]).is_empty());
        let unknown = "[package]\nname = 'kiln-utils'";
        assert_eq!(messages(floors, &[("crates/utils/Cargo.toml", unknown)]).len(), 1);
    }

    #[test]
    fn some_pairs_stay_apart() {
        let networks = "[package]\nname = 'kiln-denoisers'\n[dependencies]\nkiln-diffusion.workspace = true";
        assert!(messages(floors, &[("crates/denoisers/Cargo.toml", networks)])[0].contains("processes"));
        let target =
            "[package]\nname = 'kiln-picture'\n[target.'cfg(unix)'.dependencies]\nburn.workspace = true";
        assert!(messages(floors, &[("crates/picture/Cargo.toml", target)])[0].contains("tensors"));
        let anyhow = "[package]\nname = 'kiln-optim'\n[dependencies]\nanyhow.workspace = true";
        assert!(messages(floors, &[("crates/optim/Cargo.toml", anyhow)])[0].contains("program"));
    }

    #[test]
    fn versions_and_lints_come_from_the_root() {
        let loose = "[package]\nname = 'kiln-optim'\n[dev-dependencies]\nhalf = '2'";
        let found = messages(through_the_workspace, &[("crates/optim/Cargo.toml", loose)]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("`half` in [dev-dependencies]"));
        let bound = "[package]\nname = 'kiln-optim'\n[lints]\nworkspace = true\n[dependencies]\nhalf.workspace = true";
        assert!(messages(through_the_workspace, &[("crates/optim/Cargo.toml", bound)]).is_empty());
    }

    #[test]
    fn only_backend_names_a_burn_backend() {
        let wgpu = "[package]\nname = 'kiln-optim'\n[dependencies]\nburn-wgpu.workspace = true";
        assert_eq!(messages(backend_features, &[("crates/optim/Cargo.toml", wgpu)]).len(), 1);
        let feature = "[package]\nname = 'kiln-optim'\n[dependencies]\nburn = { workspace = true, features = ['flex'] }";
        assert_eq!(messages(backend_features, &[("crates/optim/Cargo.toml", feature)]).len(), 1);
        let backend =
            "[package]\nname = 'kiln-backend'\n[features]\ndefault = ['flex']\nflex = []\ncuda = []";
        let program = "[package]\nname = 'kiln'\n[features]\nflex = ['kiln-backend/flex']";
        let files = [("crates/backend/Cargo.toml", backend), ("crates/kiln/Cargo.toml", program)];
        assert_eq!(messages(backend_features, &files), ["does not forward the backend `cuda`"]);
    }
}
