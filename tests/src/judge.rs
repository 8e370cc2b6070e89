//! An independent reader of digits, and the question whether drawn digits are copies: what `kiln generate` is judged
//! by. It is a test tool: a small convolutional network, trained by `cargo run --release -p kiln-tests --bin judge -- train`.

use std::path::Path;

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn::nn::{Linear, LinearConfig, PaddingConfig2d, loss::CrossEntropyLossConfig};
use burn::tensor::{Device, Int, Tensor, TensorData, activation::relu, activation::softmax};
use kiln_backend::noise::uniform_values;
use kiln_checkpoint::{Checkpoint, CheckpointError, SaveOptions, StoredDType};
use kiln_picture::Picture;
use kiln_training::data::Pictures;
use kiln_training::{BoxError, Outcome, Schedule, StepContext, Trainer, TrainerConfig};

/// The digits that are in the repository.
pub const MNIST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/kiln/data/mnist");
/// The trained reader.
pub const WEIGHTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/judge.safetensors");

/// Reads digits of 28 x 28: two convolutions and two linear layers.
#[derive(Module, Debug)]
pub struct Judge {
    conv1: Conv2d,
    conv2: Conv2d,
    pool: MaxPool2d,
    fc1: Linear,
    fc2: Linear,
}

impl Judge {
    /// A reader that has learnt nothing.
    #[must_use]
    pub fn new(device: &Device) -> Self {
        let conv =
            |from, to| Conv2dConfig::new([from, to], [3, 3]).with_padding(PaddingConfig2d::Same).init(device);
        Self {
            conv1: conv(1, 16),
            conv2: conv(16, 32),
            pool: MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init(),
            fc1: LinearConfig::new(32 * 7 * 7, 64).init(device),
            fc2: LinearConfig::new(64, 10).init(device),
        }
    }

    /// The trained reader.
    ///
    /// # Errors
    /// If [`WEIGHTS`] can't be read.
    pub fn trained(device: &Device) -> Result<Self, CheckpointError> {
        Ok(Checkpoint::open(WEIGHTS)?.load_into(Self::new(device))?.module)
    }

    /// `[batch, 1, 28, 28]` in -1 to 1 → ten logits a picture, `[batch, 10]`.
    #[must_use]
    pub fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        self.fc2.forward(self.hidden(x))
    }

    /// What the last layer reads, `[batch, 64]`.
    fn hidden(&self, x: Tensor<4>) -> Tensor<2> {
        let x = self.pool.forward(relu(self.conv1.forward(x)));
        let x = self.pool.forward(relu(self.conv2.forward(x)));
        relu(self.fc1.forward(x.flatten(1, 3)))
    }

    /// The features of each picture that the Fréchet distance is taken in.
    #[must_use]
    pub fn features(&self, pictures: &[Vec<f32>], device: &Device) -> Vec<Vec<f64>> {
        let mut features = Vec::with_capacity(pictures.len());
        for chunk in pictures.chunks(250) {
            let x = TensorData::new(chunk.concat(), [chunk.len(), 1, 28, 28]);
            let values: Vec<f64> = self.hidden(Tensor::from_data(x, device)).into_data().iter().collect();
            features.extend(values.chunks_exact(values.len() / chunk.len()).map(<[f64]>::to_vec));
        }
        features
    }

    /// The digit that each picture shows.
    #[must_use]
    pub fn read(&self, pictures: &[Vec<f32>], device: &Device) -> Vec<usize> {
        let mut digits = Vec::with_capacity(pictures.len());
        for chunk in pictures.chunks(250) {
            let x = TensorData::new(chunk.concat(), [chunk.len(), 1, 28, 28]);
            let best = self.forward(Tensor::from_data(x, device)).argmax(1).into_data();
            digits.extend(best.iter::<i64>().map(|digit| digit as usize));
        }
        digits
    }
}

impl Judge {
    /// The share of pictures that show the class asked for.
    #[must_use]
    pub fn share(&self, pictures: &[Vec<f32>], classes: &[Option<usize>], device: &Device) -> f64 {
        let read = self.read(pictures, device);
        let right = read.iter().zip(classes).filter(|&(&read, class)| Some(read) == *class).count();
        right as f64 / pictures.len() as f64
    }

    /// The probability that the reader gives to the digit that it takes each picture for.
    #[must_use]
    pub fn confidence(&self, pictures: &[Vec<f32>], device: &Device) -> Vec<f64> {
        let mut probabilities = Vec::with_capacity(pictures.len());
        for chunk in pictures.chunks(250) {
            let x = TensorData::new(chunk.concat(), [chunk.len(), 1, 28, 28]);
            let logits = self.forward(Tensor::from_data(x, device));
            probabilities.extend(softmax(logits, 1).max_dim(1).into_data().iter::<f64>());
        }
        probabilities
    }
}

/// Trains the reader on the repository's 9,000 digits, each moved by up to two pixels, and keeps it in [`WEIGHTS`].
///
/// # Errors
/// If the folder of the run or the weights can't be written.
pub fn train(run: &Path, device: &Device) -> Result<(), Box<dyn std::error::Error>> {
    let data = Pictures::idx(MNIST, kiln_training::data::Split::Train)?;
    device.seed(0);
    let judge = kiln_denoisers::seeded(Judge::new(device), 0);
    let config = TrainerConfig {
        steps: 2_000,
        batch_size: 64,
        learning_rate: 2e-3,
        warmup_steps: 50,
        schedule: Schedule::Cosine { floor: 0.01, horizon: None },
        ema_decay: 0.99,
        ..TrainerConfig::default()
    };
    let mut trainer = Trainer::new(config, judge, run)?;
    let outcome = trainer.run(|judge, context| loss(judge, context, &data), &mut ())?;
    assert!(matches!(outcome, Outcome::Finished { .. }));
    let options = SaveOptions { dtype: StoredDType::F16, ..SaveOptions::default() };
    kiln_checkpoint::save(trainer.averaged(), WEIGHTS, &options)?;
    Ok(())
}

fn loss(judge: &Judge, context: &StepContext<'_>, data: &Pictures) -> Result<Tensor<1>, BoxError> {
    let batch = data.batch(&context.indices(data.len()));
    let shifts = uniform_values(2 * context.batch_size, context.noise_key(0));
    let shift = |i: usize| (shifts[i] * 5.0).floor() as isize - 2;
    let mut pixels = vec![-1.0; batch.pixels.len()];
    for (sample, (moved, original)) in pixels.chunks_mut(784).zip(batch.pixels.chunks(784)).enumerate() {
        let (dy, dx) = (shift(2 * sample), shift(2 * sample + 1));
        for (i, value) in moved.iter_mut().enumerate() {
            let (y, x) = ((i / 28) as isize + dy, (i % 28) as isize + dx);
            if (0..28).contains(&y) && (0..28).contains(&x) {
                *value = original[(y * 28 + x) as usize];
            }
        }
    }
    let labels: Vec<i64> = batch.labels.ok_or("the digits have labels")?.into_iter().map(i64::from).collect();
    let labels = Tensor::<1, Int>::from_data(TensorData::new(labels, [context.batch_size]), context.device);
    let logits = judge.forward(Tensor::from_data(TensorData::new(pixels, batch.shape), context.device));
    Ok(CrossEntropyLossConfig::new().init(context.device).forward(logits, labels))
}

/// The share of the repository's 1,000 held-out digits that `judge` reads rightly.
///
/// # Errors
/// If the digits can't be read.
pub fn accuracy(judge: &Judge, device: &Device) -> Result<f64, Box<dyn std::error::Error>> {
    let data = Pictures::idx(MNIST, kiln_training::data::Split::Test)?;
    let read = judge.read(&values(&data), device);
    let labels = data.labels().ok_or("the digits have labels")?;
    let right = read.iter().zip(labels).filter(|&(&read, &label)| read == label as usize).count();
    Ok(right as f64 / data.len() as f64)
}

/// Every picture of a data set in -1 to 1.
#[must_use]
pub fn values(data: &Pictures) -> Vec<Vec<f32>> {
    (0..data.len()).map(|i| data.sample(i).iter().map(|&v| f32::from(v) / 127.5 - 1.0).collect()).collect()
}

/// A grey picture in -1 to 1.
#[must_use]
pub fn picture_values(picture: &Picture) -> Vec<f32> {
    picture.samples().iter().map(|&v| f32::from(v) / 127.5 - 1.0).collect()
}

/// Which of its own pictures a nearest neighbour may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Neighbour {
    /// Any.
    Any,
    /// Any but itself: the data set against itself.
    Other,
}

/// The Euclidean distance of each picture to the nearest one of `among`.
#[must_use]
pub fn nearest(pictures: &[Vec<f32>], among: &[Vec<f32>], which: Neighbour, device: &Device) -> Vec<f32> {
    let matrix =
        |rows: &[Vec<f32>]| Tensor::<2>::from_data(TensorData::new(rows.concat(), [rows.len(), 784]), device);
    let all = matrix(among);
    let all_squares = all.clone().square().sum_dim(1).transpose();
    let mut distances = Vec::with_capacity(pictures.len());
    for (block, rows) in pictures.chunks(500).enumerate() {
        let x = matrix(rows);
        let squares = x.clone().square().sum_dim(1);
        // |x - y|² = |x|² - 2 x·y + |y|², clamped, as the difference rounds.
        let d = (squares - x.matmul(all.clone().transpose()) * 2.0 + all_squares.clone()).into_data();
        let d: Vec<f32> = d.iter::<f32>().collect();
        for (i, row) in d.chunks_exact(among.len()).enumerate() {
            let own = block * 500 + i;
            let others = row.iter().enumerate().filter(|&(j, _)| which == Neighbour::Any || j != own);
            let best = others.map(|(_, &d)| d).fold(f32::INFINITY, f32::min);
            distances.push(best.max(0.0).sqrt());
        }
    }
    distances
}

/// The value below which `share` of the values lie.
#[must_use]
pub fn percentile(values: &[f32], share: f64) -> f32 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f32::total_cmp);
    sorted[((sorted.len() - 1) as f64 * share) as usize]
}
