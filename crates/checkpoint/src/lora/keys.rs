//! What a tensor of a LoRA is, by its name: which network's, which layer's, which factor.
//!
//! | written by | a factor's name |
//! |---|---|
//! | PEFT, diffusers | `unet.mid_block.….to_q.lora_A.weight`, `text_encoder.….q_proj.lora_B.weight`, `transformer.…` |
//! | diffusers before PEFT | `….to_q.lora.down.weight`, `….q_proj.lora_linear_layer.up.weight` |
//! | diffusers' first | `….attn1.processor.to_q_lora.down.weight`, with or without `unet.` |
//! | kohya, LyCORIS | `lora_unet_mid_block_…_to_q.lora_down.weight`, `….lora_up.weight`, `….lora_mid.weight`, `….alpha` |
//!
//! Kohya writes an underscore for each point, and nothing says which underscore was one. So layers are compared with underscores throughout.

use super::LoraPart;

/// A tensor's part in a LoRA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    Down,
    Up,
    Mid,
    Alpha,
}

/// What a name says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) part: LoraPart,
    /// The layer, with underscores for points.
    pub(super) layer: String,
    /// The layer with its points, where the file has them: notes about layers name them so.
    pub(super) dotted: Option<String>,
    pub(super) role: Role,
}

/// What else a name may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// Another kind of adapter.
    Kind(&'static str),
    Unknown,
}

/// What a factor's name ends in. An underscore in place of the first point belongs to diffusers' first layout.
const ROLES: &[(&str, Role)] = &[
    (".lora_A.weight", Role::Down),
    (".lora_B.weight", Role::Up),
    (".lora_A.default.weight", Role::Down),
    (".lora_B.default.weight", Role::Up),
    (".lora.down.weight", Role::Down),
    (".lora.up.weight", Role::Up),
    (".lora_linear_layer.down.weight", Role::Down),
    (".lora_linear_layer.up.weight", Role::Up),
    (".lora_down.weight", Role::Down),
    (".lora_up.weight", Role::Up),
    (".lora_mid.weight", Role::Mid),
    ("_lora.down.weight", Role::Down),
    ("_lora.up.weight", Role::Up),
    (".alpha", Role::Alpha),
];

/// Parts of names that other kinds of adapters have.
const KINDS: &[(&str, &str)] = &[
    (".dora_scale", "DoRA (weights split into direction and length)"),
    ("lora_magnitude_vector", "DoRA (weights split into direction and length)"),
    (".hada_", "LoHa (Hadamard products)"),
    (".lokr_", "LoKr (Kronecker products)"),
    (".oft_", "OFT (orthogonal transforms)"),
    (".on_input", "IA3 (learnt scales)"),
    (".diff", "a whole difference of weights"),
    (".lora_embedding_", "an embedding's adapter"),
    (".lora_B.bias", "a bias"),
    (".lora_up.bias", "a bias"),
    (".lora.up.bias", "a bias"),
];

const PARTS: &[(&str, LoraPart)] = &[
    ("unet.", LoraPart::Denoiser),
    ("transformer.", LoraPart::Denoiser),
    ("diffusion_model.", LoraPart::Denoiser),
    ("text_encoder.", LoraPart::TextEncoder),
    ("text_encoder_2.", LoraPart::TextEncoder2),
    ("text_encoder_3.", LoraPart::TextEncoder3),
    ("lora_unet_", LoraPart::Denoiser),
    ("lora_transformer_", LoraPart::Denoiser),
    ("lora_te_", LoraPart::TextEncoder),
    ("lora_te1_", LoraPart::TextEncoder),
    ("lora_te2_", LoraPart::TextEncoder2),
    ("lora_te3_", LoraPart::TextEncoder3),
];

impl Key {
    pub(super) fn read(name: &str) -> Result<Self, Refused> {
        if let Some((_, kind)) = KINDS.iter().find(|(part, _)| name.contains(part)) {
            return Err(Refused::Kind(kind));
        }
        let (stem, role, ending) = ROLES
            .iter()
            .find_map(|(ending, role)| Some((name.strip_suffix(ending)?, *role, *ending)))
            .ok_or(Refused::Unknown)?;
        // PEFT's own files, of one network that is not named.
        let stem = stem.strip_prefix("base_model.model.").unwrap_or(stem);
        let (part, prefix) = PARTS
            .iter()
            .find(|(prefix, _)| stem.starts_with(prefix))
            .map_or((LoraPart::Denoiser, ""), |(prefix, part)| (*part, *prefix));
        let mut layer = stem[prefix.len()..].replace(".processor.", ".");
        if ending.starts_with('_') {
            layer = of_processor(&layer, part);
        }
        let is_dotted = !prefix.ends_with('_');
        Ok(Self { part, role, layer: layer.replace('.', "_"), dotted: is_dotted.then_some(layer) })
    }
}

/// The layer that an attention processor's is in truth: in text encoders they had the U-Net's names too.
fn of_processor(layer: &str, part: LoraPart) -> String {
    let names: [(&str, &str); 4] = match part {
        LoraPart::Denoiser => [("to_q", "to_q"), ("to_k", "to_k"), ("to_v", "to_v"), ("to_out", "to_out.0")],
        _ => [("to_q", "q_proj"), ("to_k", "k_proj"), ("to_v", "v_proj"), ("to_out", "out_proj")],
    };
    let named = names.iter().find_map(|(from, to)| Some(format!("{}{to}", layer.strip_suffix(from)?)));
    named.unwrap_or_else(|| layer.to_owned())
}
