//! The page of processes by solver and steps.

use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;

use kiln::diffusion::{PROCESSES, SolverConfig};
use kiln::picture::grid;
use kiln::training::data::{Pictures, Split};
use kiln::{DrawOptions, PictureModel};
use kiln_tests::frechet::Normal;
use kiln_tests::judge::{Judge, MNIST, picture_values, values};

/// Names of the program's solvers, of each kind one or two.
const SOLVERS: [&str; 5] = ["ddpm", "ddim", "euler", "heun", "dpmpp-2m"];
const STEPS: [usize; 3] = [5, 10, 20];
/// The embedded model, where a path of a file could stand.
const EMBEDDED: &str = "embedded";

/// Draws `count` digits of each class with each model, solver and number of steps; writes the page, and the picture of
/// trajectories.
pub fn write(count: usize, page: &Path, picture: &Path, models: &[&str]) -> Result<(), Box<dyn Error>> {
    let device = kiln::backend::open(Some("flex"))?;
    let judge = Judge::trained(&device)?;
    let normal = |pictures: &[Vec<f32>]| Normal::of(&judge.features(pictures, &device));
    let training = normal(&values(&Pictures::idx(MNIST, Split::Train)?));
    let held_out = values(&Pictures::idx(MNIST, Split::Test)?);
    // As many as are drawn, since the distance falls with their number.
    let real = normal(&held_out[..held_out.len().min(10 * count)]);

    let mut rows = String::new();
    let mut frames = Vec::new();
    for path in models {
        let model = match *path {
            EMBEDDED => PictureModel::digits(&device)?,
            path => PictureModel::open(path, &device)?,
        };
        let process = PROCESSES.iter().find(|entry| entry.config == model.card().process);
        let process = process.map_or("another", |entry| entry.name);
        for solver in SOLVERS {
            write!(rows, "| {process} | {solver} |")?;
            for steps in STEPS {
                let options = DrawOptions {
                    solver: Some(SolverConfig::named(solver)?),
                    steps: Some(steps),
                    ..DrawOptions::default()
                };
                let classes: Vec<_> = (0..10 * count).map(|i| Some(i / count)).collect();
                let cell = match model.draw(&classes, &options, |_| Ok(())) {
                    Ok(drawn) => {
                        let drawn: Vec<_> = drawn.iter().map(picture_values).collect();
                        let read = judge.read(&drawn, &device);
                        let right =
                            read.iter().zip(&classes).filter(|&(&digit, class)| Some(digit) == *class);
                        let share = 100.0 * right.count() as f64 / drawn.len() as f64;
                        format!(" {share:.1} % | {:.1} |", normal(&drawn).distance(&training))
                    }
                    // A solver that does not go with the process is a row of the table too.
                    Err(error) => {
                        eprintln!("{process}, {solver}, {steps} steps: {error}");
                        " none | none |".to_owned()
                    }
                };
                eprintln!("{process} {solver} {steps}:{cell}");
                rows.push_str(&cell);
            }
            rows.push('\n');
        }
        let way = model.trajectory(Some(3), &DrawOptions { steps: Some(10), ..DrawOptions::default() })?;
        let way = &way[way.len().saturating_sub(10)..];
        frames.extend(way.iter().map(|[sample, _]| sample.clone()));
        frames.extend(way.iter().map(|[_, estimate]| estimate.clone()));
    }
    grid(&frames, 10, 2)?.write_png(picture)?;
    let picture = picture.strip_prefix(page.parent().unwrap_or(Path::new(""))).unwrap_or(picture);
    let text = format!(
        "# Processes, solvers, steps\n\n\
         Written by `cargo xtask score`. Each model draws {count} digits of each class (guidance 1.5, seed 0). *Read* is the share \
         that an independent reader takes for the class asked for, *distance* the squared Fréchet distance of the drawn digits to \
         the 9,000 of training in that reader's 64 features. As many held-out digits as are drawn are {:.1} from them.\n\n\
         | process | solver | {} |\n|---|---|{}\n{rows}\n\
         ![From noise to a three]({})\n\n\
         Ten steps from noise to a digit, DPM-Solver++(2M), a pair of rows for each model in the order of the table: above the \
         sample, at the contrast of a picture; below what the network took it for.\n",
        real.distance(&training),
        STEPS.map(|steps| format!("{steps} steps: read | distance")).join(" | "),
        "---|---|".repeat(STEPS.len()),
        picture.display(),
    );
    std::fs::write(page, text)?;
    println!("{}", page.display());
    Ok(())
}
