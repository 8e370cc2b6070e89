//! `cargo xtask tidy`: the house rules that a program can check.
//!
//! Every rule is a plain function from the [`Tree`] to its findings, named in [`RULES`]; a tree can be made
//! in memory, so that each rule has a test in which it must speak up.

mod floors;
mod sources;
mod tables;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::process;
use crate::workspace::{Member, Workspace};

/// The options of `cargo xtask tidy`.
#[derive(clap::Args)]
pub struct Options {
    /// Also check each crate by itself: one build for all hides what a single crate lacks.
    #[arg(long)]
    full: bool,
}

/// What the rules look at: the files that git tracks or would track, and the members' manifests.
pub struct Tree {
    members: Vec<Member>,
    /// Every path, relative to the root.
    paths: BTreeSet<String>,
    /// The contents of those that are text.
    texts: BTreeMap<String, String>,
}

/// How much a finding weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weight {
    /// Must be put right.
    Error,
    /// Worth a look.
    Warning,
}

/// One place that breaks a rule.
#[derive(Debug)]
struct Finding {
    weight: Weight,
    path: String,
    line: Option<usize>,
    message: String,
}

impl Finding {
    fn error(path: &str, line: impl Into<Option<usize>>, message: impl Into<String>) -> Self {
        Self { weight: Weight::Error, path: path.to_owned(), line: line.into(), message: message.into() }
    }

    fn warning(path: &str, message: impl Into<String>) -> Self {
        Self { weight: Weight::Warning, path: path.to_owned(), line: None, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.weight == Weight::Error { "error" } else { "warning" };
        write!(f, "{kind}: {}", self.path)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}", self.message)
    }
}

type Rule = fn(&Tree) -> Vec<Finding>;

/// All rules, by name.
const RULES: &[(&str, Rule)] = &[
    ("floors", floors::floors),
    ("dependencies through the workspace", floors::through_the_workspace),
    ("backend features", floors::backend_features),
    ("invariants", sources::invariants),
    ("unsafe code", sources::unsafe_code),
    ("file length", sources::length),
    ("module docs", sources::module_docs),
    ("work left open", sources::left_open),
    ("machine paths", sources::machine_paths),
    ("readmes", tables::readmes),
    ("table of crates", tables::crates),
    ("table of backends", tables::backends),
    ("links", tables::links),
    ("pages of the book", tables::pages),
];

/// Checks the rules and, with `--full`, each crate by itself.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    check(workspace)?;
    if options.full {
        for member in &workspace.members {
            let mut command = process::cargo(&workspace.root);
            process::run(command.args(["check", "--locked", "--all-targets", "--package", &member.name]))?;
        }
    }
    Ok(())
}

/// Checks the rules; findings are printed, and an error among them is an error here.
pub fn check(workspace: &Workspace) -> Result<()> {
    report(&Tree::read(workspace)?, RULES)
}

/// Checks the links between pages alone.
pub fn check_links(workspace: &Workspace) -> Result<()> {
    report(&Tree::read(workspace)?, &[("links", tables::links), ("pages of the book", tables::pages)])
}

fn report(tree: &Tree, rules: &[(&str, Rule)]) -> Result<()> {
    let mut errors = 0;
    let mut broken = Vec::new();
    for (name, rule) in rules {
        let findings = rule(tree);
        findings.iter().for_each(|finding| println!("    {finding}"));
        let count = findings.iter().filter(|finding| finding.weight == Weight::Error).count();
        if count > 0 {
            broken.push(*name);
        }
        errors += count;
    }
    if errors > 0 {
        let places = if errors == 1 { "place breaks" } else { "places break" };
        bail!("{errors} {places} the rules: {}", broken.join(", "));
    }
    println!("    {} rules hold over {} files", rules.len(), tree.paths.len());
    Ok(())
}

impl Tree {
    fn read(workspace: &Workspace) -> Result<Self> {
        let mut git = std::process::Command::new("git");
        git.current_dir(&workspace.root);
        git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
        let listed = process::output(&mut git).context("tidy looks at the files that git knows of")?;
        let mut paths = BTreeSet::new();
        let mut texts = BTreeMap::new();
        for path in listed.split('\0').filter(|path| !path.is_empty()) {
            // A file that was deleted and not yet committed is still listed.
            let Ok(bytes) = std::fs::read(workspace.root.join(path)) else { continue };
            paths.insert(path.to_owned());
            if let Ok(text) = String::from_utf8(bytes) {
                texts.insert(path.to_owned(), text);
            }
        }
        Ok(Self { members: workspace.members.clone(), paths, texts })
    }

    /// A tree of these files, for the rules' own tests.
    #[cfg(test)]
    fn of(files: &[(&str, &str)]) -> Self {
        let own = |text: &&str| (*text).to_owned();
        let mut members = Vec::new();
        for (path, text) in files {
            if let Some(folder) = path.strip_suffix("/Cargo.toml") {
                members.push(Member::parse(folder, text).unwrap());
            }
        }
        Self {
            members,
            paths: files.iter().map(|(path, _)| own(path)).collect(),
            texts: files.iter().map(|(path, text)| (own(path), own(text))).collect(),
        }
    }

    /// The texts whose path has this extension.
    fn with_extension<'a>(&'a self, extension: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.texts
            .iter()
            .filter(move |(path, _)| Path::new(path).extension().is_some_and(|found| found == extension))
            .map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// Whether a file or a folder of this path is in the tree.
    fn holds(&self, path: &str) -> bool {
        let folder = format!("{path}/");
        self.paths.contains(path)
            || self.paths.range(folder.clone()..).next().is_some_and(|p| p.starts_with(&folder))
    }
}
