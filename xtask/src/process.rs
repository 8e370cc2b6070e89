//! Other programs: started with std's `Command`, their command line in every error.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;

use anyhow::{Context, Result, bail};

/// A `cargo` command in `folder`.
///
/// What the outer `cargo run` set about xtask itself is taken out of the environment: some build scripts
/// watch these variables and would run again.
pub fn cargo(folder: &Path) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.current_dir(folder);
    const OF_XTASK: [&str; 5] =
        ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_NAME", "CARGO_CRATE_NAME", "CARGO_PRIMARY_PACKAGE"];
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if OF_XTASK.iter().any(|prefix| text.starts_with(prefix)) {
            command.env_remove(&name);
        }
    }
    command
}

/// Whether `program` with these arguments starts and ends well; its output is dropped.
pub fn works(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Runs a command in the open: what it prints is seen as it is printed.
pub fn run(command: &mut Command) -> Result<()> {
    let line = command_line(command);
    println!("    $ {line}");
    let status = command.status().with_context(|| format!("cannot start `{line}`"))?;
    if !status.success() {
        bail!("`{line}` ended with {status}");
    }
    Ok(())
}

/// Runs a command in the open and gives back the lines that `keep` takes.
pub fn run_and_keep(command: &mut Command, keep: fn(&str) -> bool) -> Result<Vec<String>> {
    let line = command_line(command);
    println!("    $ {line}");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{line}`"))?;
    let (sender, receiver) = mpsc::channel();
    let streams: [Box<dyn Read + Send>; 2] = [
        Box::new(child.stdout.take().context("no output to read")?),
        Box::new(child.stderr.take().context("no errors to read")?),
    ];
    for stream in streams {
        let sender = sender.clone();
        std::thread::spawn(move || {
            // Lossy: a test may print what is no UTF-8.
            for bytes in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                if sender.send(String::from_utf8_lossy(&bytes).into_owned()).is_err() {
                    return;
                }
            }
        });
    }
    drop(sender);
    let mut kept = Vec::new();
    for text in receiver {
        println!("{text}");
        if keep(&text) {
            kept.push(text.trim().to_owned());
        }
    }
    let status = child.wait().with_context(|| format!("cannot wait for `{line}`"))?;
    if !status.success() {
        bail!("`{line}` ended with {status}");
    }
    Ok(kept)
}

/// What a command prints to its standard output.
pub fn output(command: &mut Command) -> Result<String> {
    let line = command_line(command);
    let output =
        command.stderr(Stdio::inherit()).output().with_context(|| format!("cannot start `{line}`"))?;
    if !output.status.success() {
        bail!("`{line}` ended with {}", output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{line}` printed what is not UTF-8"))
}

/// The command as a person would type it.
pub fn command_line(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned();
    let arguments = command.get_args().map(|argument| {
        let argument = argument.to_string_lossy();
        if argument.contains(' ') { format!("'{argument}'") } else { argument.into_owned() }
    });
    std::iter::once(name).chain(arguments).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_command_is_an_error_that_names_it() {
        let error = run(Command::new("sh").args(["-c", "exit 3"])).unwrap_err().to_string();
        assert!(error.contains("sh -c 'exit 3'") && error.contains('3'), "{error}");
        let error = output(&mut Command::new("no-such-program-here")).unwrap_err().to_string();
        assert!(error.contains("no-such-program-here"), "{error}");
    }

    #[test]
    fn kept_lines_come_from_both_streams() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo keep one; echo drop; echo keep two >&2"]);
        let mut kept = run_and_keep(&mut command, |line| line.starts_with("keep")).unwrap();
        kept.sort();
        assert_eq!(kept, ["keep one", "keep two"]);
    }
}
