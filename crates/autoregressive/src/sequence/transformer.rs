//! A causal transformer over the variables: a [`LanguageModel`] whose tokens are the values.
//!
//! ```text
//! tokens = [start, x_1, ..., x_{n-1}],      start = levels + class        numbers of p(x_i | x_<i) = the values' logits at place i
//! ```

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use kiln_attention::language_model::{AttentionKind, LanguageModel, LanguageModelConfig, LanguageModelState};

use crate::error::config;
use crate::{AutoregressiveError, AutoregressiveModel, Decoder, Family, Order};

/// Configuration of a [`Transformer`].
#[derive(Config, Debug)]
pub struct TransformerConfig {
    /// The order of the variables, and by it their number.
    pub order: Order,
    /// Values that a variable has.
    #[config(default = 2)]
    pub levels: usize,
    /// Which attention.
    #[config(default = "AttentionKind::Softmax")]
    pub kind: AttentionKind,
    /// Channels of a token: the heads' number of an even width.
    #[config(default = 64)]
    pub width: usize,
    /// Layers.
    #[config(default = 2)]
    pub layers: usize,
    /// Heads.
    #[config(default = 4)]
    pub heads: usize,
    /// Classes: a sample is given with one of them as one-hot. 0 for none.
    #[config(default = 0)]
    pub given: usize,
}

/// Attention to what came before; see the [module](self).
#[derive(Module, Debug)]
pub struct Transformer {
    model: LanguageModel,
    #[module(skip)]
    levels: usize,
    #[module(skip)]
    given: usize,
    #[module(skip)]
    order: Order,
}

impl TransformerConfig {
    /// The model on `device`.
    ///
    /// # Errors
    /// [`AutoregressiveError::Config`].
    pub fn init(&self, device: &Device) -> Result<Transformer, AutoregressiveError> {
        let Self { levels, width, layers, heads, given, kind, .. } = *self;
        Family::Categorical { levels }.check()?;
        if heads == 0 || width == 0 || !width.is_multiple_of(2 * heads) {
            return config("width", format!("of {width} does not come in {heads} heads of an even width"));
        }
        let model = LanguageModelConfig::new(levels + given.max(1), kind)
            .with_width(width)
            .with_layers(layers)
            .with_heads(heads);
        Ok(Transformer { model: model.init(device), levels, given, order: self.order.clone() })
    }
}

impl Transformer {
    /// The first token of each sample, `[batch, 1]`: the class's, if there are classes.
    fn start(&self, batch: usize, given: Option<&Tensor<2>>, device: &Device) -> Tensor<2, Int> {
        let class = match given {
            Some(given) if self.given > 0 => given.clone().argmax(1),
            _ => Tensor::zeros([batch, 1], device),
        };
        class.add_scalar(self.levels as i64)
    }
}

impl AutoregressiveModel for Transformer {
    fn family(&self) -> Family {
        Family::Categorical { levels: self.levels }
    }

    fn order(&self) -> &Order {
        &self.order
    }

    fn given(&self) -> usize {
        self.given
    }

    fn parameters(&self, x: Tensor<2>, given: Option<Tensor<2>>) -> Tensor<3> {
        let ([batch, n], device) = (x.dims(), x.device());
        let start = self.start(batch, given.as_ref(), &device);
        let seen = self.order.by_place(x, 1).narrow(1, 0, n - 1).int();
        let logits = self.model.forward(Tensor::cat(vec![start, seen], 1));
        self.order.by_variable(logits.narrow(2, 0, self.levels), 1)
    }

    fn decoder<'a>(&'a self, batch: usize, given: Option<Tensor<2>>) -> Box<dyn Decoder + 'a> {
        let start = self.start(batch, given.as_ref(), &crate::model::device(self));
        Box::new(TransformerDecoder { network: self, state: self.model.state(), unread: vec![start] })
    }
}

/// Keys and values are kept of all that was read.
struct TransformerDecoder<'a> {
    network: &'a Transformer,
    state: LanguageModelState,
    /// Tokens that are pushed and not read yet.
    unread: Vec<Tensor<2, Int>>,
}

impl Decoder for TransformerDecoder<'_> {
    fn next(&mut self) -> Tensor<2> {
        let tokens = Tensor::cat(std::mem::take(&mut self.unread), 1);
        let count = tokens.dims()[1];
        let logits = self.network.model.decode(tokens, &mut self.state);
        logits.narrow(1, count - 1, 1).squeeze_dim::<2>(1).narrow(1, 0, self.network.levels)
    }

    fn push(&mut self, value: Tensor<2>) {
        self.unread.push(value.int());
    }
}
