//! Rules about the text of single files.

use super::{Finding, Tree};

/// Above this a file gets a warning, and above the second number an error.
const LENGTHS: (usize, usize) = (400, 600);

/// Opens a Burn backend by its own name.
const OPENS_A_BACKEND: &str = "only backend names a Burn backend: take a &Device, or call kiln_backend::open";
const NAMES_A_BACKEND: &str = "only backend names a Burn backend";

/// Where each piece of code may not stand, and why: (crate, or `*` for all but `backend`; code; why).
///
/// It is about the product, `crates/*/src`: a test or an example may well say that it runs on the CPU.
const INVARIANTS: &[(&str, &str, &str)] = &[
    ("*", "burn_cubecl", NAMES_A_BACKEND),
    ("*", "burn_flex", NAMES_A_BACKEND),
    ("*", "burn_ndarray", NAMES_A_BACKEND),
    ("*", "burn_wgpu", NAMES_A_BACKEND),
    ("*", "burn::backend", NAMES_A_BACKEND),
    ("*", "Device::flex(", OPENS_A_BACKEND),
    ("*", "Device::ndarray(", OPENS_A_BACKEND),
    ("*", "Device::wgpu(", OPENS_A_BACKEND),
    ("*", "Device::vulkan(", OPENS_A_BACKEND),
    ("*", "Device::metal(", OPENS_A_BACKEND),
    ("*", "Device::webgpu(", OPENS_A_BACKEND),
    ("*", "Device::cuda(", OPENS_A_BACKEND),
    ("*", "Device::rocm(", OPENS_A_BACKEND),
    ("diffusion", "burn::nn", "diffusion knows nothing of networks"),
    ("diffusion", "kiln_denoisers", "diffusion knows nothing of networks"),
    ("denoisers", "kiln_diffusion", "denoisers know nothing of processes"),
    ("picture", "burn::", "pictures know nothing of tensors"),
];

/// Words for work left open. Put together here, so that this file does not hold them itself.
const LEFT_OPEN: [&str; 5] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("FILL", " IN"),
    concat!("unimplemented", "!"),
    concat!("todo", "!"),
];

/// Folders of one machine. Put together for the same reason.
const MACHINE_PATHS: [&str; 5] = [
    concat!("/ro", "ot/"),
    concat!("/ho", "me/"),
    concat!("/tm", "p/"),
    concat!("/wo", "rk/"),
    concat!("/Us", "ers/"),
];

/// What `docs/src/architecture.md` promises about who names what.
pub(super) fn invariants(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.with_extension("rs") {
        let Some((of, _)) = path.strip_prefix("crates/").and_then(|rest| rest.split_once("/src/")) else {
            continue;
        };
        for (number, line) in numbered(text) {
            let code = code_of(line);
            for (which, forbidden, why) in INVARIANTS {
                let here = *which == of || (*which == "*" && of != "backend");
                if here && code.contains(forbidden) {
                    findings.push(Finding::error(path, number, format!("`{forbidden}`: {why}")));
                }
            }
        }
    }
    findings
}

/// Where unsafe code may stand: the kernels, and the memory map.
const UNSAFE: [&str; 2] = ["crates/backend/", "crates/checkpoint/src/source.rs"];

/// Unsafe code stands in two places.
pub(super) fn unsafe_code(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let elsewhere = |path: &str| !UNSAFE.iter().any(|allowed| path.starts_with(allowed));
    for (path, text) in tree.with_extension("rs").filter(|(path, _)| elsewhere(path)) {
        for (number, line) in numbered(text) {
            let is_word = |c: char| !c.is_alphanumeric() && c != '_';
            if code_of(line).split(is_word).any(|word| word == "unsafe") {
                findings.push(Finding::error(
                    path,
                    number,
                    "unsafe code outside crates/backend and checkpoint's memory map",
                ));
            }
        }
    }
    findings
}

/// A file tells one story and fits in the head.
pub(super) fn length(tree: &Tree) -> Vec<Finding> {
    let (warn, limit) = LENGTHS;
    let mut findings = Vec::new();
    for (path, text) in tree.with_extension("rs").chain(tree.with_extension("py")) {
        let lines = text.lines().count();
        if lines > limit {
            findings.push(Finding::error(path, None, format!("{lines} lines, {limit} at most")));
        } else if lines > warn {
            findings.push(Finding::warning(path, format!("{lines} lines: is it one story?")));
        }
    }
    findings
}

/// Every source file opens with what it is about.
pub(super) fn module_docs(tree: &Tree) -> Vec<Finding> {
    let is_source =
        |path: &str| path.contains("/src/") || path.contains("/examples/") || path.contains("/benches/");
    tree.with_extension("rs")
        .filter(|(path, text)| is_source(path) && !text.starts_with("//!"))
        .map(|(path, _)| Finding::error(path, 1, "does not open with `//!`: what is this file about?"))
        .collect()
}

/// What stands on the trunk is finished.
pub(super) fn left_open(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for extension in ["rs", "py", "toml", "md"] {
        for (path, text) in tree.with_extension(extension) {
            for (number, line) in numbered(text) {
                if let Some(word) = LEFT_OPEN.iter().find(|word| line.contains(**word)) {
                    findings.push(Finding::error(path, number, format!("{word}: finish it or leave it out")));
                }
            }
        }
    }
    findings
}

/// No file knows the machine that it was written on.
pub(super) fn machine_paths(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in &tree.texts {
        if path.ends_with(".lock") {
            continue;
        }
        for (number, line) in numbered(text) {
            if let Some(found) = MACHINE_PATHS.iter().find(|found| stands_as_path(line, found)) {
                findings.push(Finding::error(path, number, format!("a path of one machine: {found}")));
            }
        }
    }
    findings
}

/// Whether `prefix` begins an absolute path in `line`, and is no part of a longer path or of an address.
fn stands_as_path(line: &str, prefix: &str) -> bool {
    line.match_indices(prefix).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        before.is_none_or(|c| !(c.is_alphanumeric() || "._-}$/".contains(c)))
    })
}

fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(index, line)| (index + 1, line))
}

/// A line of Rust without comments and without the contents of strings.
///
/// One line at a time: a string over several lines counts as code, which is the safe side.
fn code_of(line: &str) -> String {
    let mut code = String::new();
    let mut in_string = false;
    let mut characters = line.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '\\' if in_string => {
                characters.next();
            }
            // A quote as a character, '"', opens no string.
            '"' if !(code.ends_with('\'') && characters.peek() == Some(&'\'')) => in_string = !in_string,
            '/' if !in_string && characters.peek() == Some(&'/') => break,
            _ if in_string => {}
            _ => code.push(c),
        }
    }
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(rule: fn(&Tree) -> Vec<Finding>, path: &str, text: &str) -> Vec<(Option<usize>, String)> {
        rule(&Tree::of(&[(path, text)])).into_iter().map(|f| (f.line, f.message)).collect()
    }

    #[test]
    fn code_is_told_from_comments_and_strings() {
        assert_eq!(code_of(r#"let a = "word // \" x"; // word"#), "let a = ; ");
        assert_eq!(code_of(r#"if c == '"' { word }"#), "if c == '\"' { word }");
    }

    #[test]
    fn unsafe_is_for_kernels_and_the_map() {
        let block = "//! Docs.\nfn f() { unsafe { g() } }\n";
        assert_eq!(found(unsafe_code, "crates/optim/src/lib.rs", block)[0].0, Some(2));
        assert!(found(unsafe_code, "crates/backend/src/lib.rs", block).is_empty());
        assert!(found(unsafe_code, "crates/checkpoint/src/source.rs", block).is_empty());
        assert_eq!(found(unsafe_code, "crates/checkpoint/src/load.rs", block).len(), 1);
        assert!(found(unsafe_code, "crates/optim/src/lib.rs", "// unsafe\nlet unsafe_code = 1;").is_empty());
    }

    #[test]
    fn invariants_name_the_line() {
        let open = "let device = Device::flex();";
        assert_eq!(found(invariants, "crates/optim/src/adamw.rs", open)[0].0, Some(1));
        assert!(
            found(invariants, "crates/optim/src/adamw.rs", "//! let device = Device::flex();").is_empty()
        );
        assert!(found(invariants, "crates/optim/tests/optim.rs", open).is_empty());
        assert!(found(invariants, "crates/backend/src/flex.rs", open).is_empty());
        assert_eq!(found(invariants, "crates/diffusion/src/lib.rs", "use burn::nn::Linear;").len(), 1);
        assert!(found(invariants, "crates/denoisers/src/lib.rs", "use burn::nn::Linear;").is_empty());
    }

    #[test]
    fn long_files_are_told() {
        assert!(found(length, "crates/optim/src/lib.rs", &"\n".repeat(400)).is_empty());
        let tree = Tree::of(&[("a.rs", "")]);
        assert!(length(&tree).is_empty());
        let long = "\n".repeat(401);
        assert_eq!(length(&Tree::of(&[("a.rs", &long)]))[0].weight, super::super::Weight::Warning);
        let longer = "\n".repeat(601);
        assert_eq!(length(&Tree::of(&[("a.rs", &longer)]))[0].weight, super::super::Weight::Error);
    }

    #[test]
    fn files_open_with_docs() {
        assert_eq!(found(module_docs, "crates/optim/src/adam.rs", "use burn;").len(), 1);
        assert!(found(module_docs, "crates/optim/src/adam.rs", "//! Adam.").is_empty());
    }

    #[test]
    fn open_work_and_machine_paths_are_told() {
        let open = format!("fine\n// {}: later", LEFT_OPEN[0]);
        assert_eq!(found(left_open, "a.rs", &open)[0].0, Some(2));
        let path = format!("open(\"{}someone/file\")", MACHINE_PATHS[1]);
        assert_eq!(found(machine_paths, "a.py", &path).len(), 1);
        let address = format!("https://example.org{}page", MACHINE_PATHS[1]);
        assert!(found(machine_paths, "a.md", &address).is_empty());
        let variable = format!("${{folder}}{}x", MACHINE_PATHS[2]);
        assert!(found(machine_paths, "a.md", &variable).is_empty());
    }
}
