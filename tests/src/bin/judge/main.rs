//! Judges a model of digits: `judge train [RUN]` trains the reader; `judge score [MODEL] [COUNT]` draws COUNT digits of
//! each class at the model's defaults and tells how many are read as what was asked for, and how many are near copies;
//! `judge table COUNT PAGE PICTURE MODEL...` writes a page with each model by solver and steps (`cargo xtask score`);
//! `judge compare COUNT MODEL...` prints runs beside each other (`cargo xtask score --compare`); `judge without COUNT MODEL...` judges models
//! that draw without classes.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod compare;
mod table;
mod without;

use std::error::Error;
use std::path::Path;

use kiln::training::data::{Pictures, Split};
use kiln::{DrawOptions, PictureModel};
use kiln_tests::judge::{self, Judge, MNIST, Neighbour, nearest, percentile, picture_values, values};

fn main() -> Result<(), Box<dyn Error>> {
    let device = kiln::backend::open(Some("flex"))?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["train"] => judge::train(tempfile::tempdir()?.path(), &device)?,
        ["train", run] => judge::train(run.as_ref(), &device)?,
        ["score"] => score(&PictureModel::digits(&device)?, 100)?,
        ["score", model] => score(&PictureModel::open(model, &device)?, 100)?,
        ["score", model, count] => score(&PictureModel::open(model, &device)?, count.parse()?)?,
        ["table", count, page, picture, ref models @ ..] => {
            return table::write(count.parse()?, page.as_ref(), picture.as_ref(), models);
        }
        ["compare", count, ref models @ ..] => return compare::print(count.parse()?, models),
        ["without", count, ref models @ ..] => return without::print(count.parse()?, models),
        _ => {
            return Err("judge train [RUN] | judge score [MODEL] [COUNT] | judge table COUNT PAGE PICTURE MODEL... | judge compare COUNT MODEL... | judge without COUNT MODEL...".into());
        }
    }
    println!(
        "the reader's share of held-out digits: {:.4}",
        judge::accuracy(&Judge::trained(&device)?, &device)?
    );
    Ok(())
}

fn score(model: &PictureModel, count: usize) -> Result<(), Box<dyn Error>> {
    let device = kiln::backend::open(Some("flex"))?;
    let reader = Judge::trained(&device)?;
    let classes: Vec<_> = (0..10 * count).map(|i| Some(i / count)).collect();
    let drawn = model.draw(&classes, &DrawOptions::default(), |_| Ok(()))?;
    let drawn: Vec<_> = drawn.iter().map(picture_values).collect();
    let read = reader.read(&drawn, &device);
    for class in 0..10 {
        let right = read[class * count..][..count].iter().filter(|&&read| read == class).count();
        println!("class {class}: {right} of {count} read as {class}");
    }
    println!("share read as the class asked for: {:.4}", reader.share(&drawn, &classes, &device));

    let training = values(&Pictures::idx(MNIST, Split::Train)?);
    let near = percentile(&nearest(&training, &training, Neighbour::Other, &device), 0.01);
    let distances = nearest(&drawn, &training, Neighbour::Any, &device);
    let copies = distances.iter().filter(|&&d| d < near).count();
    println!(
        "nearer to a training digit than {near:.3} (1st percentile among those): {:.4}; median distance {:.3}",
        copies as f64 / drawn.len() as f64,
        percentile(&distances, 0.5)
    );
    Ok(())
}

/// How many steps the model's file in a run's folder has behind it: those of the newest checkpoint, with which it was written.
fn steps_of(model: &Path) -> Result<usize, Box<dyn Error>> {
    let folder = model.parent().unwrap_or(Path::new("."));
    let mut newest = None;
    for file in std::fs::read_dir(folder)? {
        let name = file?.file_name();
        let steps =
            name.to_str().and_then(|name| name.strip_prefix("checkpoint-")?.strip_suffix(".safetensors"));
        newest = newest.max(steps.and_then(|steps| steps.parse().ok()));
    }
    newest.ok_or_else(|| format!("{} has no checkpoint", folder.display()).into())
}
