//! Runs of one process beside each other, as a table: `cargo xtask score --compare`.

use std::error::Error;
use std::path::Path;

use kiln::picture::Picture;
use kiln::training::data::{Pictures, Split};
use kiln::{DrawOptions, PictureModel};
use kiln_tests::judge::{Judge, MNIST, picture_values};

/// Prints a row for each model's file: loss on held-out digits, share read, attention's logits where the run tells them.
pub fn print(count: usize, models: &[&str]) -> Result<(), Box<dyn Error>> {
    let device = kiln::backend::open(Some("flex"))?;
    let judge = Judge::trained(&device)?;
    let data = Pictures::idx(MNIST, Split::Test)?;
    let (height, width) = (data.height() as u32, data.width() as u32);
    let pictures = (0..data.len())
        .map(|i| Picture::new(width, height, kiln::picture::Channels::Grey, data.sample(i).to_vec()))
        .collect::<Result<Vec<_>, _>>()?;
    let labels = data.labels().ok_or("the digits have labels")?;
    let known: Vec<_> = labels.iter().map(|&label| Some(label as usize)).collect();
    let wanted: Vec<_> = (0..10 * count).map(|i| Some(i / count)).collect();
    println!(
        "| run | steps | held-out loss | read as asked | largest logit, first quarter | last quarter | of the run |\n\
         |---|---|---|---|---|---|---|"
    );
    for path in models {
        let (path, model) = (Path::new(path), PictureModel::open(path, &device)?);
        let name = path.parent().and_then(Path::file_name).unwrap_or_default().display();
        let loss = model.held_out_loss(&pictures, &known, 0)?;
        let drawn = model.draw(&wanted, &DrawOptions::default(), |_| Ok(()))?;
        let drawn: Vec<_> = drawn.iter().map(picture_values).collect();
        let share = 100.0 * judge.share(&drawn, &wanted, &device);
        let steps = super::steps_of(path)?;
        let [first, last, most] =
            logits(path)?.map_or(["none"; 3].map(str::to_owned), |v| v.map(|v| format!("{v:.1}")));
        println!("| `{name}` | {steps} | {loss:.4} | {share:.1} % | {first} | {last} | {most} |");
    }
    Ok(())
}

/// Of a run's `logits.csv` the largest logit of any block: the median of the first quarter's rows after the start, of the last quarter's,
/// and the largest of all.
fn logits(model: &Path) -> Result<Option<[f64; 3]>, Box<dyn Error>> {
    let path = model.with_file_name("logits.csv");
    if !path.is_file() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(&path)?;
    let mut rows = Vec::new();
    for row in text.lines().skip(1) {
        let values = row.split(',').skip(1).map(str::parse).collect::<Result<Vec<f64>, _>>()?;
        rows.push(values.into_iter().fold(0.0, f64::max));
    }
    if rows.len() < 8 {
        return Err(format!("{} has fewer than eight rows", path.display()).into());
    }
    let median = |rows: &[f64]| {
        let mut sorted = rows.to_vec();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() / 2]
    };
    let quarter = rows.len() / 4;
    let most = rows.iter().copied().fold(0.0, f64::max);
    Ok(Some([median(&rows[..quarter]), median(&rows[rows.len() - quarter..]), most]))
}
