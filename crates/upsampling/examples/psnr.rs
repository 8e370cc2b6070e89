//! How close each method comes to photographs that were reduced before: a table, and a sheet of one of them.
//!
//! ```text
//! cargo run --release --package kiln-upsampling --example psnr -- FOLDER [SHEET.png [NAME]]
//! ```
//!
//! Of every PNG, JPEG and WebP in FOLDER that is large enough, the 256 x 256 pixels in the middle are reduced to 64 x 64 by
//! PIL's bicubic filter, and enlarged four times by each method. PSNR = 10 log10(255² / mean squared error) over all three
//! channels in 8 bits, but for the outermost 4 pixels. SHEET shows the photograph whose name begins with NAME by all methods.

use std::error::Error;
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use kiln_checkpoint::Checkpoint;
use kiln_picture::{Channels, Filter, Picture, grid};
use kiln_upsampling::{
    AlignCorners, Antialias, Dat, DatConfig, Mode, Next, SrVgg, SrVggConfig, Target, Tiles, Upsample,
    bed_of_nails, bilinear_transposed, enlarge, weights,
};

const SIDE: u32 = 256;
const SCALE: usize = 4;

struct Methods {
    dat: Dat,
    realesr: SrVgg,
    device: Device,
}

const NAMES: [&str; 10] = [
    "bed of nails",
    "nearest",
    "bilinear",
    "bilinear, corners aligned",
    "transposed, bilinear start",
    "PyTorch's bicubic",
    "PIL's bicubic",
    "Lanczos",
    "realesr-animevideov3",
    "DAT-light",
];

fn loaded<M: Module>(bytes: &'static [u8], network: M) -> Result<M, Box<dyn Error>> {
    Ok(Checkpoint::from_bytes(bytes)?.load_into(network)?.module)
}

impl Methods {
    fn run(&self, name: &str, small: &Picture) -> Result<Picture, Box<dyn Error>> {
        let upsample = |mode| Upsample::new(Target::Factor([SCALE as f64; 2]), mode);
        let transposed = bilinear_transposed(3, SCALE, &self.device);
        let whole = Tiles { side: SIDE as usize, margin: 0, blend: 0 };
        let by = |network: &dyn Fn(Tensor<4>) -> Tensor<4>| {
            enlarge(small, SCALE, whole, &self.device, network, |_, _| Next::On)
        };
        Ok(match name {
            "bed of nails" => by(&|x| bed_of_nails(x, [SCALE; 2]))?,
            "nearest" => by(&|x| upsample(Mode::Nearest).forward(x))?,
            "bilinear" => by(&|x| upsample(Mode::Bilinear).forward(x))?,
            "bilinear, corners aligned" => {
                by(&|x| upsample(Mode::Bilinear).with_align_corners(AlignCorners::Yes).forward(x))?
            }
            "transposed, bilinear start" => by(&|x| transposed.forward(x))?,
            "PyTorch's bicubic" => by(&|x| upsample(Mode::Bicubic).forward(x))?,
            "PIL's bicubic" => small.resize(SIDE, SIDE, Filter::Bicubic)?,
            "Lanczos" => by(&|x| upsample(Mode::Lanczos).with_antialias(Antialias::Yes).forward(x))?,
            "realesr-animevideov3" => by(&|x| self.realesr.forward(x))?,
            _ => by(&|x| self.dat.forward(x))?,
        })
    }
}

fn psnr(a: &Picture, b: &Picture) -> Result<f64, Box<dyn Error>> {
    let border = SCALE as u32;
    let inner = |p: &Picture| p.crop(border, border, p.width() - 2 * border, p.height() - 2 * border);
    let (a, b) = (inner(a)?, inner(b)?);
    let squares = a.samples().iter().zip(b.samples()).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2));
    let mean = squares.sum::<f64>() / a.samples().len() as f64;
    Ok(10.0 * (255.0_f64.powi(2) / mean).log10())
}

fn photos(folder: &Path) -> Result<Vec<(String, Picture)>, Box<dyn Error>> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    paths.retain(|path| {
        path.extension().is_some_and(|e| ["png", "jpg", "jpeg", "webp"].iter().any(|known| e == *known))
    });
    paths.sort();
    let mut photos = Vec::new();
    for path in paths {
        let photo = Picture::open(&path)?.convert(Channels::Rgb);
        if photo.width() >= SIDE && photo.height() >= SIDE {
            let crop = photo.crop((photo.width() - SIDE) / 2, (photo.height() - SIDE) / 2, SIDE, SIDE)?;
            photos.push((path.file_stem().unwrap_or_default().to_string_lossy().into_owned(), crop));
        }
    }
    Ok(photos)
}

#[allow(clippy::print_stdout, reason = "an example's result")]
fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("name a folder of photographs")?;
    let (sheet, shown) = (arguments.next(), arguments.next());
    let device = Device::flex();
    let methods = Methods {
        dat: loaded(weights::DAT_LIGHT_X4, DatConfig::light(SCALE).init(&device))?,
        realesr: loaded(weights::REALESR_ANIME_X4, SrVggConfig::anime_video_v3().init(&device))?,
        device,
    };
    let photos = photos(Path::new(&folder))?;
    println!("| dB | {} |", photos.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(" | "));
    println!("|---|{}", "---:|".repeat(photos.len()));
    let mut shots = Vec::new();
    for method in NAMES {
        let mut row = Vec::new();
        for (name, photo) in &photos {
            let small = photo.resize(SIDE / SCALE as u32, SIDE / SCALE as u32, Filter::Bicubic)?;
            let enlarged = methods.run(method, &small)?;
            row.push(format!("{:.2}", psnr(&enlarged, photo)?));
            if shown.as_deref().is_some_and(|shown| name.starts_with(shown)) {
                shots.push(enlarged);
            }
        }
        println!("| {method} | {} |", row.join(" | "));
    }
    if let Some(sheet) = sheet {
        shots.extend(
            photos
                .iter()
                .filter(|(name, _)| shown.as_deref().is_some_and(|s| name.starts_with(s)))
                .map(|(_, photo)| photo.clone()),
        );
        grid(&shots, 4, 4)?.write_png(sheet)?;
    }
    Ok(())
}
