//! `kiln train`, small: what it learns is judged elsewhere.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use kiln::picture::Picture;

use crate::{bare, command, fails, idx, succeeds};

const SMALL: [&str; 14] = [
    "train",
    "--data",
    "data",
    "--channels",
    "8,8",
    "--batch-size",
    "4",
    "--steps",
    "24",
    "--checkpoint-every",
    "4",
    "--sample-every",
    "12",
    "--out",
];

fn arguments(out: &'static str) -> Vec<&'static str> {
    [&SMALL[..], &[out]].concat()
}

fn losses(run: &Path) -> String {
    fs::read_to_string(run.join("losses.csv")).unwrap_or_default()
}

#[test]
fn a_run_that_is_killed_goes_on_as_if_it_had_not_been() {
    let dir = tempfile::tempdir().unwrap();
    idx(&dir.path().join("data"), 10);
    let told = succeeds(dir.path(), &arguments("whole"));
    assert_eq!(told.trim(), "whole/model.safetensors");

    let killed = dir.path().join("killed");
    let mut run = command(dir.path(), &arguments("killed"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    let begun = Instant::now();
    while losses(&killed).lines().count() < 10 && begun.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(1));
    }
    run.kill().unwrap();
    run.wait().unwrap();
    assert!(losses(&killed).lines().count() >= 10, "the run did not begin");
    fails(dir.path(), &arguments("killed"), "resume it");
    succeeds(dir.path(), &[&arguments("killed")[..], &["--resume"]].concat());

    let whole = dir.path().join("whole");
    assert_eq!(losses(&whole).lines().count(), 25, "a head and 24 steps");
    assert_eq!(losses(&killed), losses(&whole));
    for file in ["model.safetensors", "samples/step-00000024.png"] {
        assert_eq!(fs::read(killed.join(file)).unwrap(), fs::read(whole.join(file)).unwrap(), "{file}");
    }
    let samples = Picture::open(whole.join("samples/step-00000024.png")).unwrap();
    assert_eq!(samples.width(), 2 * 8 + 3 * 2, "a column a class");

    // The finished model draws, by its folder and by its file, and knows its classes.
    succeeds(dir.path(), &["generate", "--model", "whole", "--class", "1", "--count", "1", "--steps", "2"]);
    let file = "whole/model.safetensors";
    succeeds(dir.path(), &["generate", "--model", file, "--count", "1", "--steps", "2", "--solver", "ddpm"]);
    fails(dir.path(), &["generate", "--model", file, "--class", "2"], "there is no class 2");
}

#[test]
#[cfg(unix)]
fn an_interrupt_leaves_a_whole_checkpoint_and_status_130() {
    let dir = tempfile::tempdir().unwrap();
    idx(&dir.path().join("data"), 10);
    let mut long = arguments("run");
    long[8] = "100000";
    let mut run = command(dir.path(), &long).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    while losses(&dir.path().join("run")).lines().count() < 3 && begun.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(5));
    }
    let killed = std::process::Command::new("kill").args(["-INT", &run.id().to_string()]).status().unwrap();
    assert!(killed.success());
    assert_eq!(run.wait().unwrap().code(), Some(130));
    let steps = losses(&dir.path().join("run")).lines().count() - 1;
    let newest = format!("checkpoint-{steps:08}.safetensors");
    assert!(dir.path().join("run").join(&newest).exists(), "{newest}");
}

#[test]
fn folders_of_pictures_are_learnt_too() {
    let dir = tempfile::tempdir().unwrap();
    for (class, value) in [("dark", 20), ("light", 230)] {
        let folder = dir.path().join("data").join(class);
        fs::create_dir_all(&folder).unwrap();
        for i in 0..2 {
            let samples = vec![value; 3 * 11 * 9];
            let picture = Picture::new(11, 9, kiln::picture::Channels::Rgb, samples).unwrap();
            picture.write_png(folder.join(format!("{i}.png"))).unwrap();
        }
    }
    let options = ["--process", "ddpm", "--size", "8", "--steps", "4"];
    succeeds(dir.path(), &[&arguments("run")[..7], &options, &["--out", "run"]].concat());
    succeeds(dir.path(), &["generate", "--model", "run", "--class", "light", "--count", "1", "--steps", "2"]);
    let drawn = Picture::open(dir.path().join("kiln.png")).unwrap();
    assert_eq!(drawn.channels(), kiln::picture::Channels::Rgb);
}

/// One format for all of them: each is learnt, resumed, and drawn with.
#[rstest::rstest]
#[case("vp")]
#[case("ve")]
#[case("subvp")]
#[case("flow")]
#[case("edm")]
fn every_process_is_learnt_resumed_and_drawn_with(#[case] process: &str) {
    let dir = tempfile::tempdir().unwrap();
    idx(&dir.path().join("data"), 10);
    let train = |out: &str, steps: &str, more: &[&str]| {
        let arguments =
            ["train", "--data", "data", "--channels", "8,8", "--batch-size", "4", "--sample-every", "100"];
        let of_run = ["--process", process, "--steps", steps, "--checkpoint-every", "2", "--out", out];
        succeeds(dir.path(), &[&arguments[..], &of_run, more].concat());
        let model = fs::read(dir.path().join(out).join("model.safetensors")).unwrap();
        (losses(&dir.path().join(out)), model)
    };
    let whole = train("run", "4", &[]);
    assert!(
        whole.0.lines().skip(1).all(|row| row.split(',').nth(1).unwrap().parse::<f32>().unwrap() < 100.0)
    );
    // A run that is at its end is resumed to what it is; its schedule's horizon stays.
    assert_eq!(train("run", "4", &["--resume"]), whole);
    let draw = ["generate", "--model", "run", "--class", "1", "--count", "1", "--steps", "3"];
    succeeds(dir.path(), &draw);
    // Solvers of score networks, and the one that finds its own steps, draw with what any process taught.
    for solver in ["pc", "dopri5"] {
        succeeds(dir.path(), &[&draw[..], &["--solver", solver]].concat());
    }
    let anneal = [&draw[..], &["--solver", "langevin"]].concat();
    match process {
        // It starts where there is no data at all.
        "flow" => fails(dir.path(), &anneal, "no data to anneal towards"),
        _ => drop(succeeds(dir.path(), &anneal)),
    }
    succeeds(dir.path(), &[&draw[..], &["--solver", "dopri5", "--tolerance", "1e-1"]].concat());
    fails(
        dir.path(),
        &[&draw[..], &["--solver", "heun", "--tolerance", "1e-1"]].concat(),
        "--tolerance is for",
    );
    fails(dir.path(), &[&draw[..], &["--solver", "dopri5", "--tolerance", "0"]].concat(), "must be above 0");
}

#[test]
fn a_transformer_is_learnt_and_tells_its_attention_s_logits() {
    let dir = tempfile::tempdir().unwrap();
    idx(&dir.path().join("data"), 10);
    let head =
        ["train", "--data", "data", "--model", "mmdit", "--depth", "2", "--heads", "1", "--patch", "2"];
    let tail = ["--batch-size", "4", "--steps", "52", "--sample-every", "100"];
    for (out, more) in [
        ("plain", &["--time", "mode"][..]),
        ("normed", &["--qk-norm", "--time", "cosmap"]),
        ("even", &["--time", "uniform", "--process", "vp"]),
        ("middle", &["--time", "logit-normal"]),
    ] {
        succeeds(dir.path(), &[&head[..], &tail, more, &["--out", out]].concat());
        let logits = fs::read_to_string(dir.path().join(out).join("logits.csv")).unwrap();
        let rows: Vec<Vec<&str>> = logits.lines().map(|row| row.split(',').collect()).collect();
        assert_eq!(rows[0], ["step", "block0", "block1"]);
        assert_eq!((rows[1][0], rows[2][0], rows.len()), ("0", "50", 3), "{logits}");
        assert!(rows[1..].iter().flatten().all(|value| value.parse::<f32>().unwrap() >= 0.0), "{logits}");
        succeeds(dir.path(), &["generate", "--model", out, "--class", "1", "--count", "1", "--steps", "2"]);
    }
    fails(
        dir.path(),
        &["train", "--data", "data", "--model", "mmdit", "--patch", "3", "--out", "odd"],
        "patches of 3",
    );
}

/// SMLD's networks know levels of noise and no classes; both ways of learning a score lead to a model that draws.
#[test]
fn score_networks_are_learnt_by_denoising_and_by_slices() {
    let dir = tempfile::tempdir().unwrap();
    idx(&dir.path().join("data"), 10);
    let head = ["train", "--data", "data", "--width", "4", "--batch-size", "4", "--sample-every", "100"];
    for (out, model, loss) in [
        ("first", "ncsn", &["--loss", "dsm"][..]),
        ("first-sliced", "ncsn", &["--loss", "ssm"]),
        ("second", "ncsnv2", &[]),
        ("second-sliced", "ncsnv2", &["--loss", "ssm", "--process", "ve"]),
    ] {
        let train = |steps: &str, more: &[&str]| {
            let of_run = ["--model", model, "--checkpoint-every", "2", "--steps", steps, "--out", out];
            succeeds(dir.path(), &[&head[..], &of_run, loss, more].concat());
            losses(&dir.path().join(out))
        };
        let begun = train("4", &[]);
        let whole = train("6", &["--resume"]);
        assert!(whole.starts_with(&begun) && whole.lines().count() == 7, "{whole}");
        succeeds(dir.path(), &["generate", "--model", out, "--count", "1", "--steps", "2"]);
        fails(dir.path(), &["generate", "--model", out, "--class", "1"], "has no classes");
        let told = String::from_utf8(bare(dir.path(), &["info", out]).stdout).unwrap();
        assert!(told.to_lowercase().contains(&format!(" {model} ")), "{told}");
    }
    fails(
        dir.path(),
        &[&head[..], &["--model", "ncsn", "--process", "flow", "--out", "no"]].concat(),
        "ve alone",
    );
    fails(dir.path(), &[&head[..], &["--loss", "ssm", "--out", "no"]].concat(), "--model ncsn");
}

/// On the same digits and seed, slices and denoising are not the same loss.
#[test]
fn a_run_begun_with_one_loss_is_not_resumed_with_the_other() {
    let dir = tempfile::tempdir().unwrap();
    idx(&dir.path().join("data"), 10);
    let run =
        ["train", "--data", "data", "--width", "4", "--batch-size", "4", "--sample-every", "100", "--model"];
    let run = [&run[..], &["ncsn", "--steps", "2", "--out", "run"]].concat();
    succeeds(dir.path(), &run);
    fails(dir.path(), &[&run[..], &["--loss", "ssm", "--resume"]].concat(), "was trained with");
}
