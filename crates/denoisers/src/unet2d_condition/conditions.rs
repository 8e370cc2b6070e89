//! What a network may be told beside the sample and its time.

use burn::tensor::Tensor;

use crate::unet2d::ClassCondition;

/// The optional inputs of a forward pass; which a network needs, its config says. Names are diffusers' own.
#[derive(Clone, Debug, Default)]
pub struct Conditions {
    /// States of the prompt, `[batch, tokens, cross_attention_dim]`.
    pub encoder_hidden_states: Option<Tensor<3>>,
    /// 1 for each of those states that may be seen and 0 for the others, `[batch, tokens]`; all may, if not given.
    pub encoder_attention_mask: Option<Tensor<2>>,
    /// The class, for networks with a class embedding.
    pub class_labels: Option<ClassCondition>,
    /// A vector that enters the time embedding, `[batch, time_cond_proj_dim]`: the guidance scale of a distilled network.
    pub timestep_cond: Option<Tensor<2>>,
    /// The pooled prompt, `[batch, channels]` (SDXL, Kandinsky 2.1; diffusers: `added_cond_kwargs["text_embeds"]`).
    pub text_embeds: Option<Tensor<2>>,
    /// Original size, crop and target size, `[batch, 6]`, or other numbers (SDXL; `added_cond_kwargs["time_ids"]`).
    pub time_ids: Option<Tensor<2>>,
    /// An image embedding, `[batch, channels]` (Kandinsky 2; `added_cond_kwargs["image_embeds"]`).
    pub image_embeds: Option<Tensor<2>>,
}

impl Conditions {
    /// The conditions of a network that is told a prompt alone: its states, `[batch, tokens, cross_attention_dim]`.
    #[must_use]
    pub fn prompt(encoder_hidden_states: Tensor<3>) -> Self {
        Self { encoder_hidden_states: Some(encoder_hidden_states), ..Self::default() }
    }

    pub(super) fn states(&self) -> Tensor<3> {
        self.encoder_hidden_states.clone().expect("this network needs `encoder_hidden_states`")
    }

    pub(super) fn text_embeds(&self, what: &str) -> Tensor<2> {
        self.text_embeds.clone().unwrap_or_else(|| panic!("{what} needs `text_embeds`"))
    }

    pub(super) fn time_ids(&self) -> Tensor<2> {
        self.time_ids.clone().expect("SDXL's addition needs `time_ids`")
    }

    pub(super) fn image_embeds(&self) -> Tensor<2> {
        self.image_embeds.clone().expect("this network needs `image_embeds`")
    }
}

/// What a control network adds to a U-Net: one tensor for each of its skip connections, and one for its middle.
#[derive(Clone, Debug)]
pub struct ControlResiduals {
    /// For the skip connections, in the order that the way down makes them; of their shapes, or broadcast to them.
    pub down: Vec<Tensor<4>>,
    /// For the result of the middle stage.
    pub mid: Tensor<4>,
}

impl ControlResiduals {
    /// The sum of two networks' residuals.
    ///
    /// # Panics
    ///
    /// If they are not of the same number or shapes.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        assert_eq!(self.down.len(), other.down.len(), "both have as many residuals on the way down");
        let down = self.down.into_iter().zip(other.down).map(|(one, other)| one + other).collect();
        Self { down, mid: self.mid + other.mid }
    }
}
