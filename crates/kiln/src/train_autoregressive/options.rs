//! The options of `kiln train-autoregressive`.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use kiln::autoregressive::zoo::ModelConfig;
use kiln::autoregressive::{
    AutoregressiveModel, Canvas, DirectLinks, Family, FvsbnConfig, GatedPixelCnnConfig, IndependentConfig,
    MadeConfig, NadeConfig, Order, OrderlessNadeConfig, PixelCnnConfig, PixelCnnPlusPlusConfig,
    PixelRnnConfig, Recurrence, RecurrentConfig, TransformerConfig, Values, WaveNetConfig, Wiring,
};

use crate::cli::share;
use crate::device::Backend;

#[derive(Debug, Args)]
pub struct TrainAutoregressive {
    /// A folder with MNIST's four IDX files (Fashion-MNIST's are the same), one IDX file, or a folder of pictures
    #[arg(long, value_name = "PATH")]
    pub data: PathBuf,
    /// The folder of the run: checkpoints, losses.csv, samples, model.safetensors, scores.json
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Go on with the run in --out, bit for bit as if it had not stopped
    #[arg(long)]
    pub resume: bool,
    /// How p(x) is made of conditionals
    #[arg(long, value_name = "NAME")]
    pub model: Name,
    /// Give every conditional the picture's class: p(x | y), and by Bayes a classifier
    #[arg(long)]
    pub labels: bool,
    /// Grey levels of a pixel. 2: a pixel is white with its own brightness as probability, drawn once for all
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(2..=256))]
    pub levels: u32,
    /// Height and width that pictures are reduced to; without it, IDX data keep their own, and a folder's are 28
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(2..=256))]
    pub size: Option<u32>,
    /// Read a folder's pictures in colour (IDX data are always grey)
    #[arg(long)]
    pub colour: bool,
    /// Hidden units, features or channels; without it, as the model's row in the documentation
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub hidden: Option<u32>,
    /// Layers or blocks; without it, as the model's row in the documentation
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    pub layers: Option<u32>,
    /// MADE: orders that are learnt at once, each with degrees of its own
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub orders: u32,
    /// Steps of the whole run
    #[arg(long, value_name = "N", default_value_t = 3_000)]
    pub steps: usize,
    /// Pictures in a step
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub batch_size: usize,
    /// The rate after the warm-up; it falls along a cosine to a hundredth at the end. Without it, 1e-3; for models with no hidden
    /// units 3e-2, for NADE 2e-2
    #[arg(long, value_name = "RATE")]
    pub learning_rate: Option<f64>,
    /// Steps in which the rate rises
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub warmup: usize,
    /// Decay of the moving average of the weights, which is what is scored and drawn with
    #[arg(long, value_name = "SHARE", default_value_t = 0.99, value_parser = share)]
    pub ema_decay: f64,
    /// The norm that gradients are clipped to
    #[arg(long, value_name = "NORM", default_value_t = 100.0)]
    pub clip_norm: f64,
    /// Weight decay of AdamW
    #[arg(long, value_name = "RATE", default_value_t = 0.0)]
    pub weight_decay: f64,
    /// The seed of weights, order and pixels
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub seed: u64,
    /// Steps between checkpoints
    #[arg(long, value_name = "N", default_value_t = 500)]
    pub checkpoint_every: usize,
    /// Also write what another program needs to train the same: start.safetensors with the first weights, and
    /// data.safetensors with the pixels and the order in which the steps take them
    #[arg(long)]
    pub twin: bool,
    #[command(flatten)]
    pub backend: Backend,
}

/// The models, from no dependence at all to all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "kebab-case")]
pub enum Name {
    /// Independent pixels; with --labels, naive Bayes
    Independent,
    /// A chain of logistic regressions
    Fvsbn,
    /// A chain of hidden layers that share their weights
    Nade,
    /// One network for all orders
    OrderlessNade,
    /// A masked autoencoder
    Made,
    /// An LSTM over the pixels
    Recurrent,
    /// Dilated causal convolutions over the pixels
    Wavenet,
    /// A causal transformer over the pixels
    Transformer,
    /// PixelRNN's Row LSTM
    RowLstm,
    /// PixelRNN's Diagonal BiLSTM
    DiagonalBilstm,
    /// Masked convolutions
    Pixelcnn,
    /// Two stacks of gated masked convolutions
    GatedPixelcnn,
    /// Shifted convolutions at three resolutions; beyond two levels a mixture of logistics
    PixelcnnPlusPlus,
}

/// The pictures that a model is of.
#[derive(Debug, Clone, Copy)]
pub struct Format {
    pub channels: usize,
    pub height: usize,
    pub width: usize,
    pub classes: usize,
}

impl Format {
    /// How many values a pixel's channel has under a model.
    pub fn levels<M: AutoregressiveModel>(&self, model: &M) -> Result<usize> {
        match model.family().values() {
            Values::Levels(levels) => Ok(levels),
            Values::Real => bail!("the model is of real numbers, which are no picture's"),
        }
    }
}

impl TrainAutoregressive {
    /// The rate that is asked for, or that suits the model: regressions have far to go, and no minimum but one; NADE's hidden units are
    /// sums over all pixels, which small steps leave where they began.
    pub fn rate(&self) -> f64 {
        self.learning_rate.unwrap_or(match self.model {
            Name::Independent | Name::Fvsbn => 3e-2,
            Name::Nade => 2e-2,
            _ => 1e-3,
        })
    }

    /// What the options ask for.
    pub fn config(&self, format: Format) -> ModelConfig {
        let Format { channels, height, width, classes } = format;
        let given = if self.labels { classes } else { 0 };
        let levels = self.levels as usize;
        let family = if levels == 2 { Family::Bernoulli } else { Family::Categorical { levels } };
        let canvas = Canvas { channels, height, width, family };
        let order = || Order::raster([channels, height, width]);
        let hidden = |default: usize| self.hidden.map_or(default, |n| n as usize);
        let layers = |default: usize| self.layers.map_or(default, |n| n as usize);
        let wide = |default: usize| vec![hidden(default); layers(1)];
        match self.model {
            Name::Independent => ModelConfig::Independent(
                IndependentConfig::new(channels * height * width).with_family(family).with_given(given),
            ),
            Name::Fvsbn => {
                ModelConfig::Fvsbn(FvsbnConfig::new(order()).with_family(family).with_given(given))
            }
            Name::Nade => {
                ModelConfig::Nade(NadeConfig::new(order(), hidden(500)).with_family(family).with_given(given))
            }
            Name::OrderlessNade => ModelConfig::OrderlessNade(
                OrderlessNadeConfig::new(order(), vec![hidden(500); layers(2)])
                    .with_family(family)
                    .with_given(given),
            ),
            Name::Made => {
                let mut wirings = vec![Wiring::even(order())];
                let more = (self.orders - 1) as usize;
                wirings.extend(Wiring::agnostic(channels * height * width, more, self.seed));
                let made = MadeConfig::new(wirings, wide(500)).with_direct(DirectLinks::Masked);
                ModelConfig::Made(made.with_family(family).with_given(given))
            }
            Name::Recurrent => ModelConfig::Recurrent(
                RecurrentConfig::new(order(), hidden(64))
                    .with_layers(layers(1))
                    .with_family(family)
                    .with_given(given),
            ),
            Name::Wavenet => ModelConfig::WaveNet(
                WaveNetConfig::new(order())
                    .with_channels(hidden(24))
                    .with_skip_channels(2 * hidden(24))
                    .with_layers(layers(10))
                    .with_stacks(1)
                    .with_family(family)
                    .with_given(given),
            ),
            Name::Transformer => ModelConfig::Transformer(
                TransformerConfig::new(order())
                    .with_levels(levels)
                    .with_width(hidden(64))
                    .with_layers(layers(2))
                    .with_given(given),
            ),
            Name::RowLstm | Name::DiagonalBilstm => {
                let recurrence = match self.model {
                    Name::RowLstm => Recurrence::RowLstm,
                    _ => Recurrence::DiagonalBiLstm,
                };
                let rnn =
                    PixelRnnConfig::new(canvas, recurrence).with_hidden(hidden(16)).with_layers(layers(2));
                ModelConfig::PixelRnn(rnn.with_given(given))
            }
            Name::Pixelcnn => ModelConfig::PixelCnn(
                PixelCnnConfig::new(canvas)
                    .with_features(hidden(32))
                    .with_blocks(layers(5))
                    .with_given(given),
            ),
            Name::GatedPixelcnn => ModelConfig::GatedPixelCnn(
                GatedPixelCnnConfig::new(canvas)
                    .with_features(hidden(24))
                    .with_layers(layers(5))
                    .with_given(given),
            ),
            Name::PixelcnnPlusPlus => {
                let logistics = Family::LogisticMixture { levels, components: 5, channels };
                let family = if levels == 2 && channels == 1 { family } else { logistics };
                let model = PixelCnnPlusPlusConfig::new(Canvas { family, ..canvas });
                let model = model.with_features(hidden(24)).with_blocks(layers(1)).with_dropout(0.0);
                ModelConfig::PixelCnnPlusPlus(model.with_given(given))
            }
        }
    }
}
