//! Tables and links: what the pages say must agree with what is there.

use std::collections::BTreeSet;
use std::path::{Component, Path};

use super::{Finding, Tree};

/// A README shorter than this says nothing that its title does not.
const README_LINES: usize = 8;

/// Every package has a README that opens with its name.
pub(super) fn readmes(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for member in &tree.members {
        let path = format!("{}/README.md", member.folder);
        let Some(text) = tree.texts.get(&path) else {
            findings.push(Finding::error(&path, None, "is missing"));
            continue;
        };
        if text.lines().next() != Some(&format!("# {}", member.name)) {
            findings.push(Finding::error(&path, 1, format!("does not open with `# {}`", member.name)));
        }
        if text.lines().count() < README_LINES {
            findings.push(Finding::error(&path, None, "says too little to help anyone"));
        }
    }
    findings
}

/// The root README's table of crates lists every crate and no other.
pub(super) fn crates(tree: &Tree) -> Vec<Finding> {
    let there = tree.members.iter().filter_map(|member| member.product()).map(str::to_owned).collect();
    agree(tree, "## Crates", &there, "crates/")
}

/// The root README's table of backends lists every row of `BACKENDS` and no other, and each row is a feature.
pub(super) fn backends(tree: &Tree) -> Vec<Finding> {
    let Some(backend) = tree.members.iter().find(|member| member.name == "kiln-backend") else {
        return Vec::new();
    };
    let path = "crates/backend/src/tensor_backend.rs";
    let rows = tree.texts.get(path).map(|text| rows_of_backends(text)).unwrap_or_default();
    if rows.is_empty() {
        return vec![Finding::error(path, None, "no rows of BACKENDS were found here")];
    }
    let features = backend.features();
    let no_feature = rows.difference(&features).map(|row| {
        let message = format!("BACKENDS has a row for `{row}`, which is no feature of kiln-backend");
        Finding::error(path, None, message)
    });
    no_feature.chain(agree(tree, "## Backends", &rows, "feature ")).collect()
}

/// The features that the rows of `pub const BACKENDS` wait for.
fn rows_of_backends(text: &str) -> BTreeSet<String> {
    text.lines()
        .skip_while(|line| !line.starts_with("pub const BACKENDS"))
        .take_while(|line| !line.starts_with("];"))
        .filter_map(|line| line.trim().strip_prefix("#[cfg(feature = \"")?.strip_suffix("\")]"))
        .map(str::to_owned)
        .collect()
}

/// Holds the first column of the table under `heading` to `there`.
fn agree(tree: &Tree, heading: &str, there: &BTreeSet<String>, kind: &str) -> Vec<Finding> {
    let path = "README.md";
    let Some(text) = tree.texts.get(path) else {
        return vec![Finding::error(path, None, "is missing")];
    };
    let listed = first_column(text, heading);
    let missing =
        there.difference(&listed).map(|name| format!("`{kind}{name}` is missing under `{heading}`"));
    let left_over = listed.difference(there).map(|name| format!("`{name}` under `{heading}` does not exist"));
    missing.chain(left_over).map(|message| Finding::error(path, None, message)).collect()
}

/// The first piece of code in each row of the table under `heading`.
fn first_column(text: &str, heading: &str) -> BTreeSet<String> {
    text.lines()
        .skip_while(|line| *line != heading)
        .skip(1)
        .take_while(|line| !line.starts_with("## "))
        .filter(|line| line.starts_with('|'))
        .filter_map(|line| line.split('|').nth(1)?.split('`').nth(1).map(str::to_owned))
        .collect()
}

/// Links between pages lead to files that are there.
pub(super) fn links(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.with_extension("md") {
        for (index, line) in outside_code_blocks(text) {
            for target in targets(line) {
                let file = target.split('#').next().unwrap_or_default();
                if file.is_empty() || file.contains(':') {
                    continue;
                }
                let resolved = resolve(path, file);
                if !resolved.as_ref().is_some_and(|resolved| tree.holds(resolved)) {
                    findings.push(Finding::error(
                        path,
                        index + 1,
                        format!("the link to {file} leads nowhere"),
                    ));
                }
            }
        }
    }
    findings
}

/// The book's summary lists every page.
pub(super) fn pages(tree: &Tree) -> Vec<Finding> {
    const SUMMARY: &str = "docs/src/SUMMARY.md";
    let Some(summary) = tree.texts.get(SUMMARY) else {
        return vec![Finding::error(SUMMARY, None, "is missing")];
    };
    let listed: BTreeSet<_> =
        summary.lines().flat_map(targets).filter_map(|file| resolve(SUMMARY, file)).collect();
    tree.with_extension("md")
        .map(|(path, _)| path)
        .filter(|path| path.starts_with("docs/src/") && *path != SUMMARY && !listed.contains(*path))
        .map(|path| Finding::error(path, None, "is not in SUMMARY.md"))
        .collect()
}

fn outside_code_blocks(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut in_code = false;
    text.lines().enumerate().filter(move |(_, line)| {
        let fence = line.trim_start().starts_with("```");
        in_code ^= fence;
        !in_code && !fence
    })
}

/// The targets of the links and pictures in a line: what stands in `](…)`, outside of `code`.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    let mut in_code = line.match_indices('`').map(|(at, _)| at).collect::<Vec<_>>();
    if in_code.len() % 2 == 1 {
        in_code.pop();
    }
    line.match_indices("](").filter_map(move |(at, _)| {
        if in_code.iter().filter(|quote| **quote < at).count() % 2 == 1 {
            return None;
        }
        let rest = &line[at + 2..];
        rest.split([')', ' ']).next()
    })
}

/// The path of `file` as seen from the page at `from`, or nothing if it leads out of the tree.
fn resolve(from: &str, file: &str) -> Option<String> {
    let mut parts: Vec<String> = Vec::new();
    let folder = Path::new(from).parent()?;
    for component in folder.join(file).components() {
        match component {
            Component::Normal(part) => parts.push(part.to_string_lossy().into_owned()),
            Component::ParentDir => {
                parts.pop()?;
            }
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKEND: &str = "[package]\nname = 'kiln-backend'\n[features]\ndefault = ['flex']\nflex = []\ncuda = []\nautotune = []";
    const ROWS: &str = "pub const BACKENDS: &[BackendEntry] = &[\n    #[cfg(feature = \"cuda\")]\n    \
                        BackendEntry::of::<Cuda>(),\n    #[cfg(feature = \"flex\")]\n    \
                        BackendEntry::of::<Flex>(),\n];\n#[cfg(feature = \"other\")]\n";

    fn messages(rule: fn(&Tree) -> Vec<Finding>, files: &[(&str, &str)]) -> Vec<String> {
        rule(&Tree::of(files)).into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn tables_agree_both_ways() {
        let right = "## Crates\n| crate | x |\n|--|--|\n| [`backend`](x) | y |\n## Backends\n| `flex` |\n| `cuda` |\n";
        let source = ("crates/backend/src/tensor_backend.rs", ROWS);
        let files = [("crates/backend/Cargo.toml", BACKEND), source, ("README.md", right)];
        assert!(messages(crates, &files).is_empty());
        assert!(messages(backends, &files).is_empty());
        let wrong = "## Crates\n| `optim` |\n## Backends\n| `flex` |\n| `tpu` |\n";
        let files = [("crates/backend/Cargo.toml", BACKEND), source, ("README.md", wrong)];
        assert_eq!(messages(crates, &files).len(), 2);
        assert_eq!(
            messages(backends, &files),
            ["`feature cuda` is missing under `## Backends`", "`tpu` under `## Backends` does not exist"]
        );
    }

    #[test]
    fn readmes_are_there_and_say_something() {
        let with = |text| [("crates/backend/Cargo.toml", BACKEND), ("crates/backend/README.md", text)];
        assert_eq!(messages(readmes, &[("crates/backend/Cargo.toml", BACKEND)]), ["is missing"]);
        assert_eq!(messages(readmes, &with("# other")).len(), 2);
        assert!(messages(readmes, &with("# kiln-backend\n\na\nb\nc\nd\ne\nf\n")).is_empty());
    }

    #[test]
    fn links_lead_somewhere() {
        let page = "[a](b.md#x) [c](../gone.md)\n`[d](e.md)`\n```text\n[f](g.md)\n```\n[h](https://example.org) [i](#j)";
        let files = [("docs/src/a.md", page), ("docs/src/b.md", "")];
        assert_eq!(messages(links, &files), ["the link to ../gone.md leads nowhere"]);
        assert!(messages(links, &[("a/b.md", "[up](../../../x.md)")])[0].contains("nowhere"));
        assert!(messages(links, &[("a/b.md", "[folder](../c)"), ("c/d.rs", "")]).is_empty());
    }

    #[test]
    fn the_summary_lists_every_page() {
        let files = [("docs/src/SUMMARY.md", "- [A](a.md)"), ("docs/src/a.md", ""), ("docs/src/b.md", "")];
        let findings = pages(&Tree::of(&files));
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].path, "docs/src/b.md");
    }
}
