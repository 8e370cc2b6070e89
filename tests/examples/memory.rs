//! How much memory it takes to load Stable Diffusion 1.5's U-Net: 860 million parameters, drawn at random.
//!
//!     cargo run --release -p kiln-tests --example memory -- f16 f32      # stored as, computed in
//!
//! It writes a model folder of that size into the system's folder for temporary files, loads it, and prints the peak of the
//! process's anonymous memory (`RssAnon` of `/proc/self/status`, so on Linux only) beside the size of the parameters.
#![allow(clippy::print_stdout, reason = "an example speaks to whoever runs it")]

use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use burn::tensor::{DType, Device, FloatDType, TensorData};
use kiln_checkpoint::{Contents, Parameter, Pretrained, parameters};
use kiln_denoisers::UNet2DCondition;

const CONFIG: &str = r#"{
    "_class_name": "UNet2DConditionModel",
    "act_fn": "silu", "attention_head_dim": 8, "block_out_channels": [320, 640, 1280, 1280], "center_input_sample": false,
    "cross_attention_dim": 768,
    "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
    "downsample_padding": 1, "flip_sin_to_cos": true, "freq_shift": 0, "in_channels": 4, "layers_per_block": 2,
    "mid_block_scale_factor": 1, "norm_eps": 1e-05, "norm_num_groups": 32, "out_channels": 4, "sample_size": 64,
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"]
}"#;

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut arguments = std::env::args().skip(1).map(|name| match name.as_str() {
        "f32" => Ok(FloatDType::F32),
        "f16" => Ok(FloatDType::F16),
        "bf16" => Ok(FloatDType::BF16),
        other => Err(format!("{other} is none of f32, f16 and bf16")),
    });
    let stored = arguments.next().ok_or("stored as which type?")??;
    let computed = arguments.next().ok_or("computed in which type?")??;
    let device = kiln_backend::open_with(Some("flex"), computed)?;

    let folder = tempfile::tempdir()?;
    let outline = parameters(&UNet2DCondition::from_config(CONFIG, &device)?);
    let count: u64 = outline.iter().map(elements).sum();
    write(folder.path(), &outline, stored)?;
    let size = count * DType::from(computed).size() as u64;

    let before = anonymous()?;
    let start = Instant::now();
    let (loaded, peak) = with_peak(|| load(folder.path(), &device));
    let model = loaded?;
    let mb = |bytes: u64| bytes as f64 / 1e6;
    println!("{count} parameters stored as {stored:?}, {:.0} MB computed in {computed:?}", mb(size));
    println!(
        "anonymous memory: {:.0} MB before, {:.0} MB at most, {:.0} MB after",
        mb(before),
        mb(peak),
        mb(anonymous()?)
    );
    println!(
        "peak / parameters = {:.3}, in {:.1} s",
        peak as f64 / size as f64,
        start.elapsed().as_secs_f64()
    );
    drop(model);
    Ok(())
}

fn load(folder: &Path, device: &Device) -> Result<UNet2DCondition, Box<dyn Error + Send + Sync>> {
    match Contents::open(folder)? {
        Contents::Model(model) => Ok(model.load(device)?),
        other => Err(format!("not a model: {other:?}").into()),
    }
}

/// A model folder, written piece by piece so that it is in no one's memory.
fn write(
    folder: &Path,
    parameters: &[Parameter],
    stored: FloatDType,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    std::fs::write(folder.join("config.json"), CONFIG)?;
    let dtype = DType::from(stored);
    let name = match stored {
        FloatDType::F16 => "F16",
        FloatDType::BF16 => "BF16",
        _ => "F32",
    };
    let mut offset = 0;
    let mut entries = Vec::new();
    for parameter in parameters {
        let end = offset + elements(parameter) * dtype.size() as u64;
        entries.push(format!(
            r#""{}":{{"dtype":"{name}","shape":{:?},"data_offsets":[{offset},{end}]}}"#,
            parameter.name, parameter.shape
        ));
        offset = end;
    }
    let header = format!("{{{}}}", entries.join(","));
    let mut file = BufWriter::new(File::create(folder.join("diffusion_pytorch_model.safetensors"))?);
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(header.as_bytes())?;
    // A million small values of either sign, over and over: what they are changes nothing about memory.
    let values: Vec<f32> =
        (0..1_000_000u32).map(|i| f32::from(i.wrapping_mul(40503) as u16) / 65536.0 - 0.5).collect();
    let block = TensorData::new(values, [1_000_000]).convert_dtype(dtype);
    while offset > 0 {
        let piece = block.as_bytes().len().min(usize::try_from(offset)?);
        file.write_all(&block.as_bytes()[..piece])?;
        offset -= piece as u64;
    }
    file.flush()?;
    Ok(())
}

fn elements(parameter: &Parameter) -> u64 {
    parameter.shape.iter().map(|&side| side as u64).product()
}

/// What `work` gives, and the most anonymous memory that was seen meanwhile, every other millisecond.
fn with_peak<T: Send>(work: impl FnOnce() -> T + Send) -> (T, u64) {
    let (peak, done) = (AtomicU64::new(0), AtomicBool::new(false));
    let given = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                peak.fetch_max(anonymous().unwrap_or(u64::MAX), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        let given = work();
        done.store(true, Ordering::Relaxed);
        given
    });
    (given, peak.into_inner())
}

/// Anonymous memory of this process in bytes.
fn anonymous() -> Result<u64, Box<dyn Error + Send + Sync>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).ok_or("no RssAnon")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}
