//! One side of a comparison: a program that stays up and times cases on request.
//!
//! It reads one word or case a line and answers with one line of JSON: to `list`, what it computes on and its cases as
//! `{"device": …, "cases": [{"name": …, "flop": …, "bytes": …}]}`; to `run NAME`, `{"seconds": [….], "peak_memory": …}`, one
//! number a repetition and the bytes that the program had at most.
//! It ends when its input does.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::table::{Measured, median};
use crate::process;

/// What a case is and how much work it does.
#[derive(Clone, Debug)]
pub struct Case {
    /// As in `group_norm_silu [1,320,64,64]`.
    pub name: String,
    /// Floating-point operations of the matrix products in it; 0 where it has none.
    pub flop: f64,
    /// Bytes that it must read and write at least.
    pub bytes: f64,
}

/// A program that times cases.
pub struct Side {
    name: &'static str,
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Side {
    /// Starts the program.
    pub fn start(name: &'static str, mut command: Command) -> Result<Self> {
        let line = process::command_line(&command);
        println!("    $ {line}");
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start `{line}`"))?;
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().context("no output to read")?);
        Ok(Self { name, child, input, output })
    }

    /// The name of the device that this side computes on, and the cases that it knows.
    pub fn list(&mut self) -> Result<(String, Vec<Case>)> {
        let answer = self.ask("list")?;
        let device = answer["device"].as_str().with_context(|| format!("{} named no device", self.name))?;
        let listed = answer["cases"].as_array().with_context(|| format!("{} listed no cases", self.name))?;
        let parse = |value: &Value| {
            let name = value["name"].as_str().context("a case has no name")?.to_owned();
            let number = |key: &str| value[key].as_f64().unwrap_or(0.0);
            Ok(Case { name, flop: number("flop"), bytes: number("bytes") })
        };
        Ok((device.to_owned(), listed.iter().map(parse).collect::<Result<_>>()?))
    }

    /// The median time of one request as [`Side::time`] gives it; `None` if this side says that it can't, with its reason printed.
    pub fn time_if_possible(&mut self, case: &Case) -> Result<Option<Measured>> {
        let answer = self.ask(&format!("run {}", case.name))?;
        if let Some(problem) = answer["problem"].as_str() {
            println!("    {}: {} can't: {problem}", case.name, self.name);
            return Ok(None);
        }
        self.measured(case, &answer).map(Some)
    }

    /// The median time of one request, and the most memory that the program had until then.
    pub fn time(&mut self, case: &Case) -> Result<Measured> {
        let answer = self.ask(&format!("run {}", case.name))?;
        self.measured(case, &answer)
    }

    fn measured(&self, case: &Case, answer: &Value) -> Result<Measured> {
        let seconds: Vec<f64> =
            answer["seconds"].as_array().into_iter().flatten().filter_map(Value::as_f64).collect();
        let seconds = median(&seconds)
            .with_context(|| format!("{} gave no times for {}: {answer}", self.name, case.name))?;
        Ok(Measured { seconds, peak_memory: answer["peak_memory"].as_u64() })
    }

    fn ask(&mut self, request: &str) -> Result<Value> {
        let input = self.input.as_mut().context("the input is closed")?;
        let gone = || format!("{} ended at `{request}`", self.name);
        writeln!(input, "{request}").with_context(gone)?;
        input.flush().with_context(gone)?;
        let mut line = String::new();
        self.output.read_line(&mut line).with_context(gone)?;
        if line.is_empty() {
            bail!("{} ended at `{request}`: its own message stands above", self.name);
        }
        serde_json::from_str(&line)
            .with_context(|| format!("{} answered `{request}` with: {line}", self.name))
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        // The end of its input ends the program.
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(script: &str) -> Side {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Side::start("toy", command).unwrap()
    }

    #[test]
    fn a_side_lists_and_times() {
        let mut toy = side(
            r#"read x; echo '{"device":"abacus","cases":[{"name":"a [1]","flop":2,"bytes":3}]}'; read x; test "$x" = "run a [1]" && echo '{"seconds":[3,1,2],"peak_memory":7}'"#,
        );
        let (device, cases) = toy.list().unwrap();
        assert_eq!(device, "abacus");
        assert_eq!((cases[0].name.as_str(), cases[0].flop, cases[0].bytes), ("a [1]", 2.0, 3.0));
        let measured = toy.time(&cases[0]).unwrap();
        assert_eq!((measured.seconds, measured.peak_memory), (2.0, Some(7)));
    }

    #[test]
    fn a_side_that_ends_or_babbles_is_an_error() {
        let error = format!("{:#}", side("read x; exit 1").list().unwrap_err());
        assert!(error.contains("toy ended at `list`"), "{error}");
        let error = format!("{:#}", side("read x; echo hello").list().unwrap_err());
        assert!(error.contains("hello"), "{error}");
    }
}
