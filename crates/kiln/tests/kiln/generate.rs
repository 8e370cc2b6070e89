//! `kiln generate`.

use kiln::backend::testing;
use kiln::picture::{Channels, Picture};
use kiln::{DrawOptions, PictureModel};

use crate::succeeds;

#[test]
fn one_grid() {
    let dir = tempfile::tempdir().unwrap();
    let told = succeeds(dir.path(), &["generate", "--class", "7", "--count", "5", "--steps", "2"]);
    assert_eq!(told.trim(), "kiln.png");
    let grid = Picture::open(dir.path().join("kiln.png")).unwrap();
    // Three columns, two rows, two pixels between them.
    assert_eq!((grid.width(), grid.height()), (3 * 28 + 2 * 4, 2 * 28 + 2 * 3));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left");
}

#[test]
fn single_pictures_in_a_folder_that_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("a/b");
    let told =
        succeeds(dir.path(), &["generate", "--count", "3", "--steps", "2", "--out", out.to_str().unwrap()]);
    assert_eq!(told.trim(), out.to_str().unwrap());
    for name in ["00000.png", "00001.png", "00002.png"] {
        let picture = Picture::open(out.join(name)).unwrap();
        assert_eq!((picture.width(), picture.height(), picture.channels()), (28, 28, Channels::Grey));
        // Light on dark: most of a digit's picture is ground.
        let dark = picture.samples().iter().filter(|&&v| v < 64).count();
        assert!(dark > 400, "{dark} dark pixels");
    }
}

#[test]
fn the_seed_makes_the_picture() {
    let dir = tempfile::tempdir().unwrap();
    let draw = |seed: &str, out: &str| {
        succeeds(dir.path(), &["generate", "--count", "1", "--steps", "2", "--seed", seed, "--out", out]);
        std::fs::read(dir.path().join(out)).unwrap()
    };
    assert_eq!(draw("5", "a.png"), draw("5", "b.png"));
    assert_ne!(draw("5", "a.png"), draw("6", "c.png"));
}

#[test]
fn every_backend_draws_the_same_picture() {
    let options = DrawOptions { seed: 3, steps: Some(4), ..DrawOptions::default() };
    let mut first: Option<(&str, Vec<Picture>)> = None;
    for (name, device) in testing::devices() {
        let model = PictureModel::digits(&device).unwrap();
        let pictures = model.draw(&[Some(2), Some(8)], &options, |_| Ok(())).unwrap();
        let Some((reference, expected)) = &first else {
            first = Some((name, pictures));
            continue;
        };
        for (a, b) in pictures.iter().zip(expected) {
            let off = a.samples().iter().zip(b.samples()).map(|(a, b)| a.abs_diff(*b)).max();
            assert!(off <= Some(1), "{name} is {off:?} off {reference}");
        }
    }
    assert!(first.is_some(), "no backend could be opened");
}

#[test]
fn a_picture_does_not_depend_on_how_many_are_drawn() {
    let device = kiln::backend::open(Some("flex")).unwrap();
    let model = PictureModel::digits(&device).unwrap();
    let options = DrawOptions { steps: Some(3), ..DrawOptions::default() };
    let many = model.draw(&[Some(4); 18], &options, |_| Ok(())).unwrap();
    for index in [0, 17] {
        let options = DrawOptions { first: index as u64, ..options };
        let one = model.draw(&[Some(4)], &options, |_| Ok(())).unwrap();
        let off = one[0].samples().iter().zip(many[index].samples()).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(off <= Some(1), "picture {index} is {off:?} off");
    }
}

#[test]
fn progress_counts_every_step_and_can_stop() {
    let device = kiln::backend::open(Some("flex")).unwrap();
    let model = PictureModel::digits(&device).unwrap();
    let options = DrawOptions { steps: Some(2), ..DrawOptions::default() };
    let mut seen = Vec::new();
    model
        .draw(&[Some(0); 17], &options, |p| {
            seen.push((p.done, p.total));
            Ok(())
        })
        .unwrap();
    let total = seen[0].1;
    assert_eq!(seen, (1..=total).map(|done| (done, total)).collect::<Vec<_>>());
    let stopped = model.draw(&[Some(0)], &options, |_| Err("enough".to_owned())).unwrap_err();
    assert!(stopped.to_string().contains("enough"), "{stopped}");
}

#[test]
fn the_model_in_the_program_is_small() {
    let size =
        std::fs::metadata(concat!(env!("CARGO_MANIFEST_DIR"), "/models/digits.safetensors")).unwrap().len();
    assert!(size < 2_000_000, "{size} bytes");
}
