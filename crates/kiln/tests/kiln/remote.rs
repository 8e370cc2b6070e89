//! Devices that workers lend, over loopback.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::{bare, idx};

/// A worker; it ends with the test.
struct Worker {
    process: Child,
    address: String,
}

impl Worker {
    fn begin(dir: &Path) -> Self {
        let options = ["worker", "--backend", "flex", "--listen", "127.0.0.1:0", "--token-file", "token"];
        let mut command = Command::new(env!("CARGO_BIN_EXE_kiln"));
        command.current_dir(dir).args(options).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.spawn().expect("the program starts");
        let mut address = String::new();
        let printed = process.stdout.take().expect("piped");
        BufReader::new(printed).read_line(&mut address).expect("the worker tells its address");
        Self { process, address: address.trim().to_owned() }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

const TRAIN: [&str; 13] = [
    "train",
    "--data",
    "data",
    "--channels",
    "8,8",
    "--batch-size",
    "6",
    "--checkpoint-every",
    "4",
    "--sample-every",
    "12",
    "--backend",
    "remote",
];

fn train(dir: &Path, out: &str, workers: &[&Worker], steps: usize) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kiln"));
    command
        .current_dir(dir)
        .args(TRAIN)
        .args(["--out", out, "--token-file", "token"])
        .args(["--steps", &steps.to_string()]);
    for worker in workers {
        command.args(["--host", &worker.address]);
    }
    command
}

fn losses(run: &Path) -> Vec<f64> {
    let text = fs::read_to_string(run.join("losses.csv")).unwrap_or_default();
    let loss = |row: &str| row.split(',').nth(1).and_then(|loss| loss.parse().ok());
    text.lines().skip(1).map_while(loss).collect()
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn prepared() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    idx(&dir.path().join("data"), 12);
    fs::write(dir.path().join("token"), "a long secret\n").unwrap();
    dir
}

#[test]
fn two_workers_train_as_one_does() {
    let dir = prepared();
    let here = [&TRAIN[..12], &["flex", "--steps", "12", "--out", "here"]].concat();
    let output = bare(dir.path(), &here);
    assert!(output.status.success(), "{}", told(&output));
    let (first, second) = (Worker::begin(dir.path()), Worker::begin(dir.path()));
    for (out, workers) in [("one", &[&first][..]), ("two", &[&first, &second])] {
        let output = train(dir.path(), out, workers, 12).output().unwrap();
        assert!(output.status.success(), "{out}: {}", told(&output));
    }
    let [here, one, two] = ["here", "one", "two"].map(|run| losses(&dir.path().join(run)));
    assert_eq!(here.len(), 12);
    assert_eq!((one.len(), two.len()), (12, 12));
    let apart = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(apart(&one, &two) <= 1e-5, "{one:?} {two:?}");
    // Other kernels: what is fused here is composed there.
    assert!(apart(&here, &one) <= 1e-4, "{here:?} {one:?}");

    // What was trained there is drawn with here, and there.
    for (backend, out) in [
        (&["--backend", "flex"][..], "a.png"),
        (&["--backend", "remote", "--host", &first.address, "--token-file", "token"], "b.png"),
    ] {
        let draw = ["generate", "--model", "two", "--count", "1", "--steps", "2", "--out", out];
        let output = bare(dir.path(), &[&draw[..], backend].concat());
        assert!(output.status.success(), "{}", told(&output));
        assert!(dir.path().join(out).exists());
    }
}

#[test]
fn a_worker_that_is_killed_is_one_error_and_leaves_the_last_checkpoint() {
    let dir = prepared();
    let (first, mut second) = (Worker::begin(dir.path()), Worker::begin(dir.path()));
    let run = dir.path().join("run");
    let mut begun = train(dir.path(), "run", &[&first, &second], 100_000);
    let begun = begun.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let since = Instant::now();
    while losses(&run).len() < 10 && since.elapsed() < Duration::from_secs(120) {
        std::thread::sleep(Duration::from_millis(5));
    }
    second.process.kill().unwrap();
    let output = begun.wait_with_output().unwrap();
    let told = told(&output);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert_eq!(told.lines().filter(|line| line.contains("went away")).count(), 1, "{told}");
    assert!(told.lines().last().is_some_and(|line| line.starts_with("kiln: ")), "{told}");
    let lines: Vec<_> = told.lines().filter(|line| !line.starts_with("step ")).collect();
    assert_eq!(lines.len(), 2, "what is trained, and the error: {told}");

    // The last checkpoint is whole: the run goes on from it, on the worker that is left.
    let kept = losses(&run).len() / 4 * 4;
    assert!(run.join(format!("checkpoint-{kept:08}.safetensors")).exists(), "{kept}: {told}");
    let output = train(dir.path(), "run", &[&first], kept + 4).arg("--resume").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(losses(&run).len(), kept + 4);

    // A command that does not train ends in the same way.
    let mut draw = Command::new(env!("CARGO_BIN_EXE_kiln"));
    draw.current_dir(dir.path()).args([
        "generate",
        "--count",
        "16",
        "--steps",
        "1000",
        "--backend",
        "remote",
    ]);
    draw.args(["--host", &first.address, "--token-file", "token"]);
    let drawing = draw.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_secs(2));
    drop(first);
    let output = drawing.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.starts_with("kiln: ") && told.contains("went away") && told.lines().count() == 1, "{told}");
    assert!(!dir.path().join("kiln.png").exists());
}

#[test]
fn strangers_and_mistakes_are_told_in_a_line() {
    let dir = prepared();
    let worker = Worker::begin(dir.path());
    let draw = ["generate", "--count", "1", "--steps", "1", "--backend", "remote"];
    fs::write(dir.path().join("other"), "another secret").unwrap();
    fs::write(dir.path().join("empty"), "\n").unwrap();
    let host = worker.address.as_str();
    let cases: [(&[&str], &str); 7] = [
        (&["--host", host, "--token-file", "other"], "it has another token"),
        (&["--host", host, "--token-file", "empty"], "the token is empty"),
        (&["--host", host, "--token-file", "missing"], "missing can't be read"),
        (&["--token-file", "token"], "needs a worker's address"),
        (&["--host", "nowhere", "--token-file", "token"], "`nowhere` is no worker's address"),
        (&["--host", "127.0.0.1:1", "--token-file", "token"], "the worker at 127.0.0.1:1 can't be used"),
        (&["--host", host, "--host", host, "--token-file", "token"], "one --host is enough here"),
    ];
    for (options, message) in cases {
        let output = bare(dir.path(), &[&draw[..], options].concat());
        let told = told(&output);
        assert_eq!(output.status.code(), Some(2), "{options:?}: {told}");
        assert!(
            told.starts_with("kiln: ") && told.contains(message) && told.lines().count() == 1,
            "{options:?}: {told}"
        );
    }
    let unsaid = ["worker", "--backend", "flex", "--listen", "127.0.0.1:0"];
    let output =
        Command::new(env!("CARGO_BIN_EXE_kiln")).args(unsaid).env_remove("KILN_TOKEN").output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", told(&output));
}
