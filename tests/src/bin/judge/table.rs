//! The page of processes by solver and steps.

use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;

use kiln::diffusion::PROCESSES;
use kiln::picture::grid;
use kiln::training::data::{Pictures, Split};
use kiln::{DrawOptions, PictureModel};
use kiln_tests::frechet::Normal;
use kiln_tests::judge::{Judge, MNIST, picture_values, values};

/// Names of the program's solvers, of each kind one, with the scale of guidance. (DDIM's step is Euler's in the noise ratio, and a flow's in
/// time too.)
const SOLVERS: [(&str, f64); 5] =
    [("ddpm", 1.0), ("ddim", 1.0), ("heun", 1.0), ("dpmpp-2m", 1.0), ("dpmpp-2m", 1.5)];
/// Evaluations of the network for a picture; guidance makes each a pair.
const EVALUATIONS: [usize; 3] = [6, 10, 20];
/// The embedded model, where a path of a file could stand, and the steps that the README says it was trained for.
const EMBEDDED: &str = "embedded";
const EMBEDDED_STEPS: usize = 4200;

/// Draws `count` digits of each class with each model, solver and number of steps; writes the page, and the picture of
/// trajectories.
pub fn write(count: usize, page: &Path, picture: &Path, models: &[&str]) -> Result<(), Box<dyn Error>> {
    let device = kiln::backend::open(Some("flex"))?;
    let judge = Judge::trained(&device)?;
    let normal = |pictures: &[Vec<f32>]| Normal::of(&judge.features(pictures, &device));
    let training = normal(&values(&Pictures::idx(MNIST, Split::Train)?));
    let held_out = values(&Pictures::idx(MNIST, Split::Test)?);
    let classes: Vec<_> = (0..10 * count).map(|i| Some(i / count)).collect();

    let mut rows = String::new();
    let mut frames = Vec::new();
    for path in models {
        let model = match *path {
            EMBEDDED => PictureModel::digits(&device)?,
            path => PictureModel::open(path, &device)?,
        };
        let process = PROCESSES.iter().find(|entry| entry.config == model.card().process);
        let process = process.map_or("another", |entry| entry.name);
        let trained = if *path == EMBEDDED { EMBEDDED_STEPS } else { super::steps_of(Path::new(path))? };
        for (solver, guidance) in SOLVERS {
            let entry = kiln::diffusion::SOLVERS.iter().find(|entry| entry.name == solver);
            let entry = entry.ok_or_else(|| format!("there is no solver {solver}"))?;
            let guided = if guidance == 1.0 { String::new() } else { format!(", guidance {guidance}") };
            write!(rows, "| {process}, {trained} | {solver}{guided} |")?;
            for evaluations in EVALUATIONS {
                let steps = evaluations / entry.evaluations as usize;
                let options = DrawOptions {
                    solver: Some(entry.config),
                    steps: Some(steps),
                    guidance: Some(guidance),
                    ..DrawOptions::default()
                };
                let cell = match model.draw(&classes, &options, |_| Ok(())) {
                    Ok(drawn) => {
                        let drawn: Vec<_> = drawn.iter().map(picture_values).collect();
                        let share = judge.share(&drawn, &classes, &device);
                        format!(" {:.1} % | {:.1} |", 100.0 * share, normal(&drawn).distance(&training))
                    }
                    // A solver that does not go with the process is a row of the table too.
                    Err(error) => {
                        eprintln!("{process}, {solver}, {steps} steps: {error}");
                        " none | none |".to_owned()
                    }
                };
                eprintln!("{process} {solver}{guided} {steps}:{cell}");
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
    let all = 10 * count;
    let text = format!(
        "# Digits by process, solver and steps\n\n\
         One U-Net (874,057 parameters), trained once for each process on the 9,000 digits in the repository, and drawn with by \
         different solvers. [Training](training.md#models-that-draw) has the commands that train the models; this page is written from them by\n\n\
         ```sh\ncargo xtask score --runs runs --count {count}\n```\n\n\
         Each row draws {count} digits of each class (seed 0), {all} in all. *Read* is the share that an independent reader, a \
         small convolutional network that reads 98.5 % of held-out digits, takes for the class asked for: of {all} digits, a share of 99 % is \
         known to {error:.1} points (one standard deviation). *Distance* is the squared Fréchet distance of the drawn digits to the 9,000 of training in \
         that reader's 64 features (as FID is in Inception's; other pictures' numbers can't be compared with these). The distance of a few \
         pictures is too large, since their own covariance is a rough estimate: {floor}. The number beside a process is the steps that it was \
         trained for, of {EMBEDDED_STEPS} that the learning rate was to fall over. An evaluation is one asking of the network, of which Heun's rule takes \
         two a step; guidance makes each a pair. The last row of each process is what `kiln generate` does unasked, with its 20 steps.\n\n\
         | process, trained | solver | {head} |\n|---|---|{line}\n{rows}\n\
         ![From noise to a three]({picture})\n\n\
         Ten steps from noise to a digit, DPM-Solver++(2M), a pair of rows for each model in the order of the table: above the \
         sample, at the contrast of a picture; below what the network took it for.\n",
        error = 100.0 * (0.99 * 0.01 / all as f64).sqrt(),
        floor = floor(&held_out, all, &normal, &training),
        head = EVALUATIONS.map(|n| format!("{n} evaluations: read | distance")).join(" | "),
        line = "---|---|".repeat(EVALUATIONS.len()),
        picture = picture.display(),
    );
    std::fs::write(page, text)?;
    println!("{}", page.display());
    Ok(())
}

/// What as many real digits would score, as a clause: by parts of the held-out ones, where there are several.
fn floor(
    held_out: &[Vec<f32>],
    count: usize,
    normal: &dyn Fn(&[Vec<f32>]) -> Normal,
    training: &Normal,
) -> String {
    let parts: Vec<f64> = held_out.chunks_exact(count).map(|part| normal(part).distance(training)).collect();
    let all = normal(held_out).distance(training);
    let whole = format!("all {} held-out digits are {all:.1} from those of training", held_out.len());
    match parts.iter().copied().reduce(f64::min).zip(parts.iter().copied().reduce(f64::max)) {
        Some((least, most)) if parts.len() > 1 => {
            format!("{whole}, and {count} of them, in {} draws, {least:.1} to {most:.1}", parts.len())
        }
        _ => whole,
    }
}
