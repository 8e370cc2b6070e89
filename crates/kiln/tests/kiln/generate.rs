//! `kiln generate`.

use kiln::backend::testing;
use kiln::picture::{Channels, Picture};
use kiln::{DrawOptions, PictureModel};

use crate::{fails, succeeds};

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

/// A small consistency model that takes a number, without its config: as a file of weights comes.
fn terrain() -> String {
    let case = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/cases/guided_consistency/checkpoint");
    case.to_owned()
}

#[test]
fn a_consistency_model_draws_in_one_step_and_in_several() {
    let dir = tempfile::tempdir().unwrap();
    let model = terrain();
    let draw = |steps: &str, label: &str, out: &str| {
        let arguments = ["generate", "--model", &model, "--label", label, "--steps", steps, "--count", "1"];
        succeeds(dir.path(), &[&arguments[..], &["--out", out]].concat());
        Picture::open(dir.path().join(out)).unwrap()
    };
    let one = draw("1", "0.3", "one.png");
    // Two levels: 16 x 16, between two pixels on each side.
    assert_eq!((one.width(), one.height(), one.channels()), (20, 20, Channels::Grey));
    let all = [draw("2", "0.3", "two.png"), draw("4", "0.3", "four.png"), draw("1", "0.8", "other.png")];
    for other in &all {
        assert_ne!(other.samples(), one.samples(), "steps and label make a difference");
    }
    assert_eq!(draw("1", "0.3", "again.png").samples(), one.samples());
    let larger = ["generate", "--model", &model, "--label", "0", "--count", "1", "--size", "32"];
    succeeds(dir.path(), &larger);
    assert_eq!(Picture::open(dir.path().join("kiln.png")).unwrap().width(), 36);
}

#[test]
fn one_step_is_the_network_at_the_most_noise() {
    use burn::tensor::Tensor;
    use kiln::backend::noise::{NoiseKey, normal};
    use kiln::checkpoint::{Checkpoint, Pretrained};
    use kiln::denoisers::guided::OutputRange;
    use kiln::denoisers::unet2d::ClassCondition;
    use kiln::denoisers::{ConsistencyConfig, GuidedUNet};
    use kiln::{DirectModel, DirectOptions, Label, LabelKind};

    for (name, device) in testing::devices() {
        let model = DirectModel::open(terrain(), &device).unwrap();
        assert_eq!((model.labels(), model.natural_size()), (LabelKind::Number, 16));
        let options = DirectOptions { seed: 4, steps: 1, size: None };
        let drawn = model.draw(&[Some(Label::Number(0.6))], &options, |_| Ok(())).unwrap();

        let folder = std::path::PathBuf::from(terrain());
        let config = std::fs::read_to_string(folder.join("config.json")).unwrap();
        let weights = Checkpoint::open(folder.join("diffusion_pytorch_model.safetensors")).unwrap();
        let network = weights.load_into(GuidedUNet::from_config(&config, &device).unwrap()).unwrap().module;
        let network = ConsistencyConfig::default().wrap(network).unwrap();
        let noise = normal([1, 1, 16, 16], NoiseKey::new(4), &device) * 80.0;
        let label = ClassCondition::Numbers(Tensor::from_data([0.6], &device));
        let clean = network.denoise(noise, &[80.0], Some(label), OutputRange::Clamped);
        let clean: Vec<f32> = clean.into_data().iter().collect();
        for (drawn, clean) in drawn[0].samples().iter().zip(clean) {
            let expected = (clean + 1.0) * 127.5;
            assert!((f32::from(*drawn) - expected).abs() < 0.6, "{name}: {drawn} for {expected}");
        }
    }
}

#[test]
fn labels_and_options_that_do_not_go_with_the_model() {
    let dir = tempfile::tempdir().unwrap();
    let model = terrain();
    let consistency = ["generate", "--model", &model];
    for (options, message) in [
        (&["--count", "1"][..], "--label NUMBER"),
        (&["--class", "3"], "--label NUMBER"),
        (&["--label", "0.3", "--solver", "ddim"], "--solver"),
        (&["--label", "0.3", "--guidance", "2"], "--guidance"),
        (&["--label", "0.3", "--size", "17"], "17 x 17"),
    ] {
        fails(dir.path(), &[&consistency[..], options].concat(), message);
    }
    fails(dir.path(), &["generate", "--label", "0.3"], "--label is for models that take a number");
    fails(dir.path(), &["generate", "--size", "32"], "--size is for consistency models");
    let other = terrain().replace("guided_consistency", "guided_half_width");
    fails(dir.path(), &["generate", "--model", &other], "takes 2 and gives 4");
    let other = terrain().replace("guided_consistency", "guided_one_level");
    fails(dir.path(), &["generate", "--model", &other], "3 numbers each");
    let other = terrain().replace("guided_consistency", "guided_heads_first");
    fails(dir.path(), &["generate", "--model", &other, "--class", "5"], "there is no class 5");
}
