//! `cargo xtask docs`: rustdoc for every crate, the book, and the links between pages.

use anyhow::Result;

use crate::workspace::Workspace;
use crate::{process, tidy};

/// Checks links, builds rustdoc and, where mdBook is installed, the book.
pub fn run(workspace: &Workspace) -> Result<()> {
    tidy::check_links(workspace)?;
    let mut doc = process::cargo(&workspace.root);
    doc.args(["doc", "--locked", "--workspace", "--no-deps"]);
    process::run(doc.env("RUSTDOCFLAGS", "-D warnings"))?;
    println!("    {}", workspace.target_folder()?.join("doc/kiln/index.html").display());

    let mut mdbook = std::process::Command::new("mdbook");
    if process::works(mdbook.arg("--version")) {
        let mut build = std::process::Command::new("mdbook");
        process::run(build.current_dir(&workspace.root).args(["build", "docs"]))?;
        println!("    {}", workspace.root.join("docs/book/index.html").display());
    } else {
        println!(
            "    mdBook is not installed, so the book was not built: `cargo install mdbook`, then again;"
        );
        println!("    its pages can be read as they are, from docs/src/SUMMARY.md on");
    }
    Ok(())
}
