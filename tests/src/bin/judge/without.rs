//! Models that draw without classes: how sure the reader is of what they drew.

use std::error::Error;

use kiln::training::data::{Pictures, Split};
use kiln::{DrawOptions, PictureModel};
use kiln_tests::frechet::Normal;
use kiln_tests::judge::{Judge, MNIST, picture_values, values};

/// A reader that gives its digit at least this probability is sure of it.
const SURE: f64 = 0.9;

/// Prints a row for each model's file, and one for the held-out digits: the share that the reader is sure of, how the digits are
/// distributed, the Fréchet distance.
pub fn print(count: usize, models: &[&str]) -> Result<(), Box<dyn Error>> {
    let device = kiln::backend::open(Some("flex"))?;
    let judge = Judge::trained(&device)?;
    let normal = |pictures: &[Vec<f32>]| Normal::of(&judge.features(pictures, &device));
    let training = normal(&values(&Pictures::idx(MNIST, Split::Train)?));
    let row = |name: &str, pictures: &[Vec<f32>]| {
        let sure = judge.confidence(pictures, &device).iter().filter(|&&p| p >= SURE).count();
        let read = judge.read(pictures, &device);
        let of_each = (0..10).map(|digit| read.iter().filter(|&&read| read == digit).count().to_string());
        println!(
            "| {name} | {:.1} % | {:.1} | {} |",
            100.0 * sure as f64 / pictures.len() as f64,
            normal(pictures).distance(&training),
            of_each.collect::<Vec<_>>().join(" ")
        );
    };
    println!("| {count} pictures of | reader sure | distance | read as 0 to 9 |\n|---|---|---|---|");
    let held_out = values(&Pictures::idx(MNIST, Split::Test)?);
    row("held-out digits", &held_out[..count.min(held_out.len())]);
    for path in models {
        let model = PictureModel::open(path, &device)?;
        let drawn = model.draw(&vec![None; count], &DrawOptions::default(), |_| Ok(()))?;
        row(&format!("`{path}`"), &drawn.iter().map(picture_values).collect::<Vec<_>>());
    }
    Ok(())
}
