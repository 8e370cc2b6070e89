//! What a verb does one after the other: each step named, timed, and the first failure named too.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Steps done so far, with their times.
#[derive(Default)]
pub struct Steps {
    done: Vec<(&'static str, Duration)>,
}

impl Steps {
    /// Does one step; its error is told with the step's name.
    pub fn step<T>(&mut self, name: &'static str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        println!("==> {name}");
        let start = Instant::now();
        let result = work();
        let time = start.elapsed();
        match &result {
            Ok(_) => println!("<== {name}: {:.1} s", time.as_secs_f64()),
            Err(_) => println!("<== {name}: FAILED after {:.1} s", time.as_secs_f64()),
        }
        self.done.push((name, time));
        result.with_context(|| format!("FAILED in step `{name}`"))
    }

    /// Prints what was done and how long each step took.
    pub fn print(&self) {
        let total: Duration = self.done.iter().map(|(_, time)| *time).sum();
        println!();
        for (name, time) in self.done.iter().chain([&("total", total)]) {
            println!("{name:<24}{:>9.1} s", time.as_secs_f64());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_is_named() {
        let mut steps = Steps::default();
        assert_eq!(steps.step("fine", || Ok(7)).unwrap(), 7);
        let error = steps.step("broken", || -> Result<()> { anyhow::bail!("the cause") }).unwrap_err();
        assert_eq!(format!("{error:#}"), "FAILED in step `broken`: the cause");
        assert_eq!(steps.done.len(), 2);
    }
}
