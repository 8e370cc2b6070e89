//! How a bench answers: one line of JSON a case, or with `--serve` one for each request.
//!
//! `list` gives `{"device": name, "cases": […]}`, `run NAME` gives `{"seconds": […], "peak_memory": bytes}`. The device is
//! synchronised inside the timed region.
//!
//! `C` is what a side makes its inputs on: a device.

// A program that answers on its standard output.
#![allow(clippy::print_stdout)]

use std::any::Any;
use std::fmt::Display;
use std::io::{BufRead, Write};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// As the program has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A request times its case for at least this long…
const AT_LEAST: Duration = Duration::from_millis(250);
/// …and this often.
const REPETITIONS: usize = 3;

/// One operation, its inputs made outside the clock.
pub struct Case<C> {
    name: String,
    /// Floating-point operations of its matrix products.
    flop: f64,
    /// Bytes that it must read and write at least.
    bytes: f64,
    prepare: Box<dyn Fn(&C) -> Operation>,
}

/// What is timed. What it gives is held until the device is done: a backend that fuses need not compute what is let go before.
pub type Operation = Box<dyn FnMut() -> Box<dyn Any>>;

/// `step`, to be repeated under the clock.
pub fn operation<T: 'static>(mut step: impl FnMut() -> T + 'static) -> Operation {
    Box::new(move || Box::new(step()))
}

/// A case of this name, floating-point operations and bytes.
pub fn case<C>(name: &str, flop: f64, bytes: f64, prepare: impl Fn(&C) -> Operation + 'static) -> Case<C> {
    Case { name: name.to_owned(), flop, bytes, prepare: Box::new(prepare) }
}

/// Times the cases as the command line asks. `open` finds a device by the names of a backend and of the type of floats that it is
/// to compute in, and gives its own name too; `sync` waits until it is done.
pub fn answer_requests<C, E: Display>(
    cases: &[Case<C>],
    open: impl Fn(&str, &str) -> Result<(C, String), E>,
    sync: impl Fn(&C) -> Result<(), E>,
) {
    let (mut backend, mut dtype) = (None, None);
    let mut serve = false;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--serve" => serve = true,
            "--backend" => backend = arguments.next(),
            "--dtype" => dtype = arguments.next(),
            // What `cargo bench` adds by itself.
            "--bench" => {}
            other => fail(&format!("unknown argument `{other}`")),
        }
    }
    let opened = open(backend.as_deref().unwrap_or("flex"), dtype.as_deref().unwrap_or("f32"));
    let (device, device_name) = opened.unwrap_or_else(|error| fail(&error.to_string()));
    let done = || sync(&device).map_err(|error| error.to_string());
    if !serve {
        for case in cases {
            let mut operation = (case.prepare)(&device);
            let mut line = time(&case.name, &mut operation, &done);
            line["case"] = case.name.as_str().into();
            answer(&line);
        }
        return;
    }
    // The last one asked for stays: it is asked for several times in a row.
    let mut prepared: Option<(&str, Operation)> = None;
    for request in std::io::stdin().lock().lines().map_while(Result::ok) {
        if request == "list" {
            let listed = cases.iter().map(|c| json!({ "name": c.name, "flop": c.flop, "bytes": c.bytes }));
            answer(&json!({ "device": device_name, "cases": listed.collect::<Value>() }));
            continue;
        }
        let name = request.strip_prefix("run ").unwrap_or(&request);
        let Some(case) = cases.iter().find(|case| case.name == name) else {
            fail(&format!("no case `{name}`"))
        };
        if prepared.as_ref().is_none_or(|(name, _)| *name != case.name) {
            // The old one goes before the new one comes.
            drop(prepared.take());
            prepared = Some((&case.name, (case.prepare)(&device)));
            forget_peak();
        }
        if let Some((name, operation)) = &mut prepared {
            answer(&time(name, operation, &done));
        }
    }
}

/// Seconds of each repetition, after one that is not counted, and the peak of the memory.
fn time(name: &str, operation: &mut Operation, done: &dyn Fn() -> Result<(), String>) -> Value {
    let mut once = || {
        let _made = operation();
        done().unwrap_or_else(|error| fail(&format!("{name}: {error}")));
    };
    once();
    let start = Instant::now();
    let mut seconds = Vec::new();
    while seconds.len() < REPETITIONS || start.elapsed() < AT_LEAST {
        let repetition = Instant::now();
        once();
        seconds.push(repetition.elapsed().as_secs_f64());
    }
    json!({ "seconds": seconds, "peak_memory": peak_memory() })
}

/// What was needed to make a case's inputs is no part of its memory. Linux alone can forget it.
fn forget_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// The most resident memory so far, in bytes, where the system tells (Linux).
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

fn answer(value: &Value) {
    println!("{value}");
    // Whoever asked may have gone away; then the next read ends this program.
    let _ = std::io::stdout().flush();
}

fn fail(message: &str) -> ! {
    let _ = writeln!(std::io::stderr(), "bench: {message}");
    std::process::exit(2)
}
