//! A small language model of characters, with every kind of attention, of as many parameters: loss against steps and time.
//!
//! ```sh
//! RAYON_NUM_THREADS=1 cargo run --release --package kiln-attention --example language -- --out docs/src/images/language.svg
//! ```
//!
//! Reads the novel in `data/`, holds out its last tenth, trains one model after the other and keeps what it measured under
//! `--runs` (`target/language`): a kind whose run is whole is not trained again, so what was cut short goes on with the next
//! kind. Time is the process's processor time, without validation: with one thread, that of one core. `--kind` trains one,
//! `--steps` changes how long.

// A program that answers on its standard output.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::fmt::Write as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use burn::module::Module as _;
use burn::tensor::{Device, Int, Tensor, TensorData, activation};
use kiln_attention::{AttentionKind, LanguageModel, LanguageModelConfig};
use kiln_training::{BoxError, Observer, Schedule, StepContext, StepReport, Trainer, TrainerConfig};
use plotters::prelude::*;

#[path = "common/process.rs"]
mod process;

type Outcome<T> = Result<T, BoxError>;

const LENGTH: usize = 256;
const BATCH: usize = 8;
/// Steps between validations, over this many windows of the held-out tenth; after the last step, over all of it.
const EVERY: usize = 50;
const WINDOWS: usize = 24;

struct Arguments {
    kinds: Vec<(AttentionKind, &'static str)>,
    steps: usize,
    runs: PathBuf,
    out: Option<String>,
}

/// Characters as numbers: those to learn from, and the last tenth.
struct Text {
    alphabet: Vec<u8>,
    learned: Vec<i64>,
    held_out: Vec<i64>,
}

/// One row of a run's `curve.csv`: after `step` steps and `seconds` of processor time, losses in nats a character.
#[derive(Clone, Copy)]
struct Point {
    step: usize,
    seconds: f64,
    learned: f64,
    held_out: f64,
}

fn main() -> Outcome<()> {
    let arguments = arguments()?;
    let text = Text::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("data/pride-and-prejudice.txt.gz"))?;
    let mut curves = Vec::new();
    println!(
        "| attention | parameters | steps | processor time | loss, learned | loss, held out | bits a character |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    for (kind, name) in &arguments.kinds {
        let folder = arguments.runs.join(name);
        let curve = match finished(&folder, arguments.steps) {
            Some(curve) => curve,
            None => train(*kind, &text, &folder, arguments.steps)?,
        };
        let parameters = config(*kind, &text).init(&Device::flex()).num_params();
        let last = curve.last().ok_or("a run of no steps")?;
        println!(
            "| {name} | {parameters} | {} | {:.0} s | {:.3} | {:.3} | {:.3} |",
            last.step,
            last.seconds,
            last.learned,
            last.held_out,
            last.held_out / std::f64::consts::LN_2,
        );
        curves.push((*name, curve));
        if let Some(path) = &arguments.out {
            draw(path, &curves).map_err(|error| error.to_string())?;
        }
    }
    Ok(())
}

fn arguments() -> Outcome<Arguments> {
    let mut arguments = Arguments {
        kinds: AttentionKind::ALL.to_vec(),
        steps: 800,
        runs: PathBuf::from("target/language"),
        out: None,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("`{word}` wants a value"))?;
        match word.as_str() {
            "--kind" => arguments.kinds.retain(|(_, name)| *name == value),
            "--steps" => arguments.steps = value.parse()?,
            "--runs" => arguments.runs = value.into(),
            "--out" => arguments.out = Some(value),
            other => return Err(format!("unknown argument `{other}`").into()),
        }
    }
    if arguments.kinds.is_empty() {
        let names = AttentionKind::ALL.map(|(_, name)| name).join(", ");
        return Err(format!("there is no such kind; there are {names}").into());
    }
    Ok(arguments)
}

impl Text {
    fn read(path: &Path) -> Outcome<Self> {
        let mut text = Vec::new();
        flate2::read::GzDecoder::new(std::fs::File::open(path)?).read_to_end(&mut text)?;
        let mut alphabet = text.clone();
        alphabet.sort_unstable();
        alphabet.dedup();
        let number = |byte: &u8| alphabet.binary_search(byte).map(|i| i as i64).unwrap_or_default();
        let mut learned: Vec<i64> = text.iter().map(number).collect();
        let held_out = learned.split_off(learned.len() - learned.len() / 10);
        Ok(Self { alphabet, learned, held_out })
    }
}

fn config(kind: AttentionKind, text: &Text) -> LanguageModelConfig {
    LanguageModelConfig::new(text.alphabet.len(), kind).with_width(128).with_layers(3)
}

/// The mean loss over `[batch, LENGTH]` tokens, each told from those before it, for windows of `LENGTH` + 1 characters.
fn loss(model: &LanguageModel, text: &[i64], starts: &[usize], device: &Device) -> Tensor<1> {
    let batch = starts.len();
    let values: Vec<i64> = starts.iter().flat_map(|&i| text[i..=i + LENGTH].iter().copied()).collect();
    let windows = Tensor::<2, Int>::from_data(TensorData::new(values, [batch, LENGTH + 1]), device);
    let logits = model.forward(windows.clone().narrow(1, 0, LENGTH));
    let next = windows.narrow(1, 1, LENGTH).unsqueeze_dim::<3>(2);
    activation::log_softmax(logits, 2).gather(2, next).mean().neg()
}

fn train(kind: AttentionKind, text: &Text, folder: &Path, steps: usize) -> Outcome<Vec<Point>> {
    let device = Device::flex().autodiff();
    device.seed(1);
    let model = config(kind, text).init(&device);
    let config = TrainerConfig {
        steps,
        batch_size: BATCH,
        learning_rate: 2e-3,
        warmup_steps: 50,
        schedule: Schedule::Cosine { floor: 0.05, horizon: None },
        // The weights as they are, without a moving average.
        ema_decay: 0.0,
        seed: 1,
        checkpoint_every: steps,
        sample_every: Some(EVERY),
        ..TrainerConfig::default()
    };
    if folder.exists() {
        std::fs::remove_dir_all(folder)?;
    }
    let mut trainer = Trainer::new(config, model, folder)?;
    let places = text.learned.len() - LENGTH;
    let mut watch = Watch::new(&text.held_out, folder, steps)?;
    trainer.run(
        |model, context: &StepContext<'_>| {
            Ok(loss(model, &text.learned, &context.indices(places), context.device))
        },
        &mut watch,
    )?;
    Ok(watch.curve)
}

/// Keeps the curve, and does not count the time of validation.
struct Watch<'a> {
    held_out: &'a [i64],
    path: PathBuf,
    steps: usize,
    curve: Vec<Point>,
    recent: Vec<f64>,
    started: f64,
}

impl<'a> Watch<'a> {
    fn new(held_out: &'a [i64], folder: &Path, steps: usize) -> Outcome<Self> {
        let started = process::processor_seconds()?;
        let path = folder.join("curve.csv");
        Ok(Self { held_out, path, steps, curve: Vec::new(), recent: Vec::new(), started })
    }

    fn validate(&self, model: &LanguageModel, step: usize) -> f64 {
        let windows = (self.held_out.len() - 1) / LENGTH;
        let stride = if step == self.steps { 1 } else { windows / WINDOWS };
        let starts: Vec<usize> = (0..windows).step_by(stride).map(|window| window * LENGTH).collect();
        let sum: f64 = starts
            .chunks(BATCH)
            .map(|starts| {
                let mean: f32 = loss(model, self.held_out, starts, &Device::flex()).into_scalar();
                f64::from(mean) * starts.len() as f64
            })
            .sum();
        sum / starts.len() as f64
    }
}

impl Observer<LanguageModel> for Watch<'_> {
    fn on_step(&mut self, report: &StepReport) -> Outcome<()> {
        self.recent.push(f64::from(report.loss));
        Ok(())
    }

    fn on_sample(&mut self, step: usize, model: &LanguageModel) -> Outcome<()> {
        let before = process::processor_seconds()?;
        let learned = self.recent.iter().sum::<f64>() / self.recent.len().max(1) as f64;
        self.recent.clear();
        let held_out = self.validate(model, step);
        self.curve.push(Point { step, seconds: before - self.started, learned, held_out });
        let mut csv = String::from("step,seconds,learned,held_out\n");
        for Point { step, seconds, learned, held_out } in &self.curve {
            writeln!(csv, "{step},{seconds:.2},{learned:.5},{held_out:.5}")?;
        }
        std::fs::write(&self.path, csv)?;
        self.started += process::processor_seconds()? - before;
        Ok(())
    }
}

/// The curve of a run that has made all its steps.
fn finished(folder: &Path, steps: usize) -> Option<Vec<Point>> {
    let csv = std::fs::read_to_string(folder.join("curve.csv")).ok()?;
    let curve: Option<Vec<Point>> = csv
        .lines()
        .skip(1)
        .map(|line| {
            let [step, seconds, learned, held_out] =
                line.split(',').map(|x| x.parse::<f64>().ok()).collect::<Option<Vec<_>>>()?[..]
            else {
                return None;
            };
            Some(Point { step: step as usize, seconds, learned, held_out })
        })
        .collect();
    curve.filter(|curve| curve.last().is_some_and(|point| point.step == steps))
}

fn draw(path: &str, curves: &[(&str, Vec<Point>)]) -> Result<(), Box<dyn Error>> {
    type Axis = fn(&Point) -> f64;
    let colours = [RED, BLUE, RGBColor(0, 130, 60), RGBColor(230, 130, 0), RGBColor(130, 0, 160)];
    let area = SVGBackend::new(path, (960, 400)).into_drawing_area();
    area.fill(&WHITE)?;
    let panels = area.split_evenly((1, 2));
    let sides: [(&str, Axis); 2] =
        [("steps", |point| point.step as f64), ("seconds of a core", |point| point.seconds)];
    for (panel, (side, of)) in panels.iter().zip(sides) {
        let all = || curves.iter().flat_map(|(_, curve)| curve);
        let most = all().map(of).fold(1.0, f64::max);
        let least = all().map(|point| point.held_out).fold(f64::MAX, f64::min);
        let mut chart = ChartBuilder::on(panel)
            .caption("loss, held out", ("sans-serif", 16))
            .margin(12)
            .x_label_area_size(36)
            .y_label_area_size(48)
            .build_cartesian_2d(0.0..most, (least - 0.05)..2.6)?;
        chart.configure_mesh().x_desc(side).y_desc("nats a character").light_line_style(WHITE).draw()?;
        for ((name, curve), colour) in curves.iter().zip(colours) {
            let points = curve.iter().filter(|point| point.held_out < 2.6).map(|p| (of(p), p.held_out));
            chart
                .draw_series(LineSeries::new(points, colour.stroke_width(2)))?
                .label(*name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour));
        }
        chart.configure_series_labels().background_style(WHITE).border_style(BLACK).draw()?;
    }
    area.present()?;
    Ok(())
}
