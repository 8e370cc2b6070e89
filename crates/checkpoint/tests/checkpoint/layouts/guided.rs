//! OpenAI's U-Nets: the config that is read off names and shapes, for networks laid out from their arguments.

use kiln_checkpoint::{Checkpoint, Contents, layout};
use rstest::rstest;
use serde_json::{Value, json};

use super::outline;

/// What ends a level of OpenAI's U-Net.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Change {
    Residual,
    Convolution,
    Nothing,
}

/// Names and shapes of OpenAI's U-Net, from its arguments.
struct Guided {
    width: usize,
    mult: Vec<usize>,
    layers: usize,
    attends: Vec<usize>,
    change: Change,
    outputs: usize,
    scale_shift: bool,
    tensors: Vec<(String, Vec<usize>)>,
}

impl Guided {
    fn layer(&mut self, name: &str, shape: &[usize]) {
        self.tensors.push((format!("{name}.weight"), shape.to_vec()));
        self.tensors.push((format!("{name}.bias"), vec![shape[0]]));
    }

    fn residual(&mut self, at: &str, inputs: usize, outputs: usize) {
        self.layer(&format!("{at}.in_layers.0"), &[inputs]);
        self.layer(&format!("{at}.in_layers.2"), &[outputs, inputs, 3, 3]);
        let embedded = if self.scale_shift { 2 * outputs } else { outputs };
        self.layer(&format!("{at}.emb_layers.1"), &[embedded, 4 * self.width]);
        self.layer(&format!("{at}.out_layers.0"), &[outputs]);
        self.layer(&format!("{at}.out_layers.3"), &[outputs, outputs, 3, 3]);
        if inputs != outputs {
            self.layer(&format!("{at}.skip_connection"), &[outputs, inputs, 1, 1]);
        }
    }

    fn attention(&mut self, at: &str, channels: usize) {
        self.layer(&format!("{at}.norm"), &[channels]);
        self.layer(&format!("{at}.qkv"), &[3 * channels, channels, 1]);
        self.layer(&format!("{at}.proj_out"), &[channels, channels, 1]);
    }

    fn file(mut self) -> Checkpoint {
        let width = self.width;
        self.layer("time_embed.0", &[4 * width, width]);
        self.layer("time_embed.2", &[4 * width, 4 * width]);
        let mut channels = self.mult[0] * width;
        self.layer("input_blocks.0.0", &[channels, 3, 3, 3]);
        let (mut skips, mut block, levels) = (vec![channels], 1, self.mult.len());
        for level in 0..levels {
            let wide = self.mult[level] * width;
            for _ in 0..self.layers {
                self.residual(&format!("input_blocks.{block}.0"), channels, wide);
                if self.attends.contains(&level) {
                    self.attention(&format!("input_blocks.{block}.1"), wide);
                }
                channels = wide;
                skips.push(channels);
                block += 1;
            }
            if level + 1 < levels {
                match self.change {
                    Change::Residual => self.residual(&format!("input_blocks.{block}.0"), channels, channels),
                    Change::Convolution => {
                        self.layer(&format!("input_blocks.{block}.0.op"), &[channels, channels, 3, 3]);
                    }
                    Change::Nothing => {}
                }
                skips.push(channels);
                block += 1;
            }
        }
        self.residual("middle_block.0", channels, channels);
        self.attention("middle_block.1", channels);
        self.residual("middle_block.2", channels, channels);
        let mut block = 0;
        for level in (0..levels).rev() {
            let wide = self.mult[level] * width;
            for layer in 0..=self.layers {
                let skip = skips.pop().unwrap();
                self.residual(&format!("output_blocks.{block}.0"), channels + skip, wide);
                channels = wide;
                let attends = self.attends.contains(&level);
                if attends {
                    self.attention(&format!("output_blocks.{block}.1"), wide);
                }
                if level > 0 && layer == self.layers {
                    let at = format!("output_blocks.{block}.{}", 1 + usize::from(attends));
                    match self.change {
                        Change::Residual => self.residual(&at, channels, channels),
                        Change::Convolution => self.layer(&format!("{at}.conv"), &[channels, channels, 3, 3]),
                        Change::Nothing => {}
                    }
                }
                block += 1;
            }
        }
        self.layer("out.0", &[channels]);
        self.layer("out.2", &[self.outputs, channels, 3, 3]);
        outline(&self.tensors)
    }
}

#[rstest]
#[case::guided(Change::Residual, 6, true, &[1, 2], &[1, 2, 2], 64)]
#[case::consistency(Change::Residual, 3, false, &[1], &[1, 3], 64)]
#[case::improved(Change::Convolution, 6, true, &[2], &[1, 2, 3, 4], 32)]
#[case::pooled(Change::Nothing, 3, false, &[0, 1], &[1, 1], 32)]
#[case::one_level(Change::Residual, 3, false, &[0], &[1], 32)]
fn guided_networks_are_read_off_their_keys(
    #[case] change: Change,
    #[case] outputs: usize,
    #[case] scale_shift: bool,
    #[case] attends: &[usize],
    #[case] mult: &[usize],
    #[case] width: usize,
    #[values(1, 3)] layers: usize,
) {
    let tensors = Vec::new();
    let (mult, attends) = (mult.to_vec(), attends.to_vec());
    let levels = mult.len();
    let (expected_mult, expected_attends) = (mult.clone(), attends.clone());
    let file = Guided { width, mult, layers, attends, change, outputs, scale_shift, tensors }.file();
    let Some(Contents::Model(model)) = layout::recognise(&file).unwrap() else { panic!("a model") };
    let config: Value = serde_json::from_str(&model.config).unwrap();
    assert_eq!(config["_class_name"], "GuidedUNet");
    assert_eq!(config["in_channels"], 3);
    assert_eq!(config["out_channels"], outputs);
    assert_eq!(config["model_channels"], width);
    assert_eq!(config["num_res_blocks"], layers);
    let expected: Vec<f64> = expected_mult.iter().map(|&mult| mult as f64).collect();
    assert_eq!(config["channel_mult"], json!(expected));
    let expected: Vec<usize> = expected_attends.iter().map(|level| 1 << level).collect();
    assert_eq!(config["attention_resolutions"], json!(expected));
    assert_eq!(config["use_scale_shift_norm"], scale_shift);
    if levels > 1 {
        assert_eq!(config["resblock_updown"], change == Change::Residual);
        assert_eq!(config["conv_resample"], change != Change::Nothing);
        let split_first = change == Change::Residual && outputs == 3;
        assert_eq!(config["use_new_attention_order"], split_first);
    }
    // A middle of 4 x 32 channels can have heads of 64, one of 32 can't; nor can a level of 96.
    let narrow =
        expected_attends.iter().map(|&level| expected_mult[level]).chain(expected_mult.last().copied());
    let heads = if narrow.into_iter().all(|mult| (mult * width).is_multiple_of(64)) { 64 } else { 32 };
    assert_eq!(config["num_head_channels"], heads);
    assert_eq!(model.weights.tensors().count(), file.tensors().count(), "the names stay");
}
