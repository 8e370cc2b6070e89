//! How close each method comes to photographs that were reduced before: a table, and a sheet of one of them.
//!
//! ```text
//! cargo run --release --package kiln-upsampling --example psnr -- FOLDER LEARN [SHEET.jpg NAME [STEPS]]
//! ```
//!
//! Of every PNG, JPEG and WebP in FOLDER that is large enough, the 256 x 256 pixels in the middle are reduced to 64 x 64 by
//! PIL's bicubic filter, and enlarged four times by each method. PSNR = 10 log10(255² / mean squared error) over all three
//! channels in 8 bits, but for the outermost 4 pixels. SHEET shows the photograph whose name begins with NAME by all methods.
//!
//! Layers that learn are trained before, each alone, on patches of the photographs in the folder LEARN: 1000 STEPS if not given.
//! Max unpooling puts the small picture's pixels where max pooling found the brightest of each block in the large one: it is told
//! what the others are not.

mod learned;

use std::error::Error;
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::tensor::module::max_pool2d_with_indices;
use burn::tensor::ops::MaxPoolOptions;
use burn::tensor::{Device, Tensor};
use kiln_checkpoint::Checkpoint;
use kiln_picture::{Channels, Encoding, Filter, Picture, grid};
use kiln_upsampling::{
    AlignCorners, Antialias, Dat, DatConfig, MaxUnpool2d, Mode, Next, SrVgg, SrVggConfig, Target, Tiles,
    Upsample, bed_of_nails, bilinear_transposed, convolve_transposed, enlarge, weights,
};
use learned::{Learned, tensor};

const SIDE: u32 = 256;
const SCALE: usize = 4;

struct Methods {
    dat: Dat,
    realesr: SrVgg,
    learned: Learned,
    device: Device,
}

const NAMES: [&str; 17] = [
    "bed of nails",
    "max unpooling",
    "nearest",
    "nearest-exact",
    "bilinear",
    "bilinear, corners aligned",
    "transposed, bilinear start",
    "PyTorch's bicubic",
    "PIL's bicubic",
    "Lanczos",
    "transposed, learned",
    "resize convolution, learned",
    "CARAFE, learned",
    "DySample, learned",
    "ESPCN (pixel shuffle), learned",
    "realesr-animevideov3",
    "DAT-light",
];

fn loaded<M: Module>(bytes: &'static [u8], network: M) -> Result<M, Box<dyn Error>> {
    Ok(Checkpoint::from_bytes(bytes)?.load_into(network)?.module)
}

impl Methods {
    fn run(&self, name: &str, small: &Picture, photo: &Picture) -> Result<Picture, Box<dyn Error>> {
        let upsample = |mode| Upsample::new(Target::Factor([SCALE as f64; 2]), mode);
        let transposed = bilinear_transposed(3, SCALE, &self.device);
        let whole = Tiles { side: SIDE as usize, margin: 0, blend: 0 };
        let by = |network: &dyn Fn(Tensor<4>) -> Tensor<4>| {
            enlarge(small, SCALE, whole, &self.device, network, |_, _| Next::On)
        };
        Ok(match name {
            "bed of nails" => by(&|x| bed_of_nails(x, [SCALE; 2]))?,
            "max unpooling" => {
                let window = MaxPoolOptions::new([SCALE; 2]);
                let (_, places) = max_pool2d_with_indices(tensor(photo, &self.device), window);
                by(&|x| MaxUnpool2d::new([SCALE; 2]).forward(x, places.clone(), None))?
            }
            "nearest-exact" => by(&|x| upsample(Mode::NearestExact).forward(x))?,
            "nearest" => by(&|x| upsample(Mode::Nearest).forward(x))?,
            "bilinear" => by(&|x| upsample(Mode::Bilinear).forward(x))?,
            "bilinear, corners aligned" => {
                by(&|x| upsample(Mode::Bilinear).with_align_corners(AlignCorners::Yes).forward(x))?
            }
            "transposed, bilinear start" => by(&|x| convolve_transposed(&transposed, x))?,
            "PyTorch's bicubic" => by(&|x| upsample(Mode::Bicubic).forward(x))?,
            "PIL's bicubic" => small.resize(SIDE, SIDE, Filter::Bicubic)?,
            "Lanczos" => by(&|x| upsample(Mode::Lanczos).with_antialias(Antialias::Yes).forward(x))?,
            learned if learned.ends_with("learned") => {
                let device = &self.learned.device;
                enlarge(small, SCALE, whole, device, |x| self.learned.forward(learned, x), |_, _| Next::On)?
            }
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

/// Every photograph in the folder, if it is large enough.
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
            photos.push((path.file_stem().unwrap_or_default().to_string_lossy().into_owned(), photo));
        }
    }
    Ok(photos)
}

#[allow(clippy::print_stdout, reason = "an example's result")]
fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("name a folder of photographs")?;
    let learn = arguments.next().ok_or("name a folder of other photographs, to learn from")?;
    let (sheet, shown) = (arguments.next(), arguments.next());
    let steps = arguments.next().map_or(Ok(1000), |steps| steps.parse())?;
    let others: Vec<Picture> = photos(Path::new(&learn))?.into_iter().map(|(_, photo)| photo).collect();
    if others.is_empty() {
        return Err(format!("{learn}: no photograph of 256 x 256 pixels or more").into());
    }
    let device = Device::flex();
    let methods = Methods {
        dat: loaded(weights::DAT_LIGHT_X4, DatConfig::light(SCALE).init(&device))?,
        realesr: loaded(weights::REALESR_ANIME_X4, SrVggConfig::anime_video_v3().init(&device))?,
        learned: Learned::new(&others, steps)?,
        device,
    };
    let mut photos = photos(Path::new(&folder))?;
    for (_, photo) in &mut photos {
        *photo = photo.crop((photo.width() - SIDE) / 2, (photo.height() - SIDE) / 2, SIDE, SIDE)?;
    }
    println!("| dB | {} |", photos.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(" | "));
    println!("|---|{}", "---:|".repeat(photos.len()));
    let mut shots = Vec::new();
    for method in NAMES {
        let mut row = Vec::new();
        for (name, photo) in &photos {
            let small = photo.resize(SIDE / SCALE as u32, SIDE / SCALE as u32, Filter::Bicubic)?;
            let enlarged = methods.run(method, &small, photo)?;
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
        grid(&shots, 6, 4)?.write(sheet, Encoding::Jpeg { quality: 85 })?;
    }
    Ok(())
}
