//! Files in the layouts of their first authors: which networks are in one, by its keys alone.
//!
//! ```text
//! keys and shapes ── a layout ──> config.json, as diffusers or transformers would have written it
//!                       └───────> views: each tensor under diffusers' name, nothing copied
//! ```
//!
//! | file | what it reads |
//! |---|---|
//! | `whole` | a whole Stable Diffusion 1, 2, XL or 3 in one file: which networks, under which prefixes |
//! | `compvis`, `unet` | CompVis's U-Net |
//! | `control` | control networks made from it |
//! | `autoencoder` | CompVis's autoencoder |
//! | `clip`, `t5` | text encoders |
//! | `sd3` | Stable Diffusion 3's transformer |
//! | `detr` | facebookresearch's DETR, of boxes and of masks |
//! | `guided` | OpenAI's U-Nets, which keep their names |
//! | `scheduler` | the scheduler that a whole model was published with |
//!
//! In each, `Row` tables say which layer there is which layer here (see `table`).

mod autoencoder;
mod clip;
mod compvis;
mod control;
mod detr;
mod guided;
mod keys;
mod scheduler;
mod sd3;
mod t5;
mod table;
mod unet;
mod whole;

use crate::{Checkpoint, CheckpointError, Contents, StoredModel};
use clip::{Act, Pooled};
use keys::Keys;
pub(crate) use sd3::layers as sd3_layers;

/// The networks of a file whose names are those of a known layout, seen under the names of diffusers and transformers, with
/// configs read off names and shapes; `None` for any other file. No tensor is read, but for a few numbers of a schedule.
///
/// What is in no name and no shape is taken to be as published (heads, groups of norms, activations, the scale of
/// latents); a note in the file's metadata (`num_heads`, `num_head_channels`, `norm_num_groups`,
/// `use_new_attention_order`) overrules it.
///
/// # Errors
///
/// [`CheckpointError::Missing`] with the tensor, as the file would name it, that the layout asks for and the file lacks;
/// [`CheckpointError::Entry`] with one that contradicts the others.
pub fn recognise(file: &Checkpoint) -> Result<Option<Contents>, CheckpointError> {
    if let Some(contents) = whole::read(file)? {
        return Ok(Some(contents));
    }
    let keys = Keys::new(file, "");
    alone(&keys).map(|model| model.map(Contents::Model))
}

/// One network without a prefix.
fn alone(keys: &Keys) -> Result<Option<StoredModel>, CheckpointError> {
    let model = if keys.any("joint_blocks.0.x_block.") {
        sd3::read(keys)?
    } else if keys.any("input_hint_block.") && keys.any("input_blocks.") {
        control::read(keys)?
    } else if detr::is_one(keys) {
        detr::read(keys)?
    } else if guided::is_one(keys) {
        guided::read(keys)?
    } else if keys.has("input_blocks.0.0.weight") && keys.any("output_blocks.0.") {
        whole::unet_alone(keys)?
    } else if keys.any("encoder.down.0.block.0.") && keys.any("decoder.up.0.block.0.") {
        autoencoder::read(keys, autoencoder::scaling_of(keys))?
    } else if keys.has("text_model.embeddings.position_embedding.weight") && !keys.any("vision_model.") {
        let pooled = if keys.has("text_projection.weight") { Pooled::Projected } else { Pooled::AsItIs };
        // OpenAI's one text encoder of this width against OpenCLIP's.
        let openai = keys.side("text_model.embeddings.token_embedding.weight", 1)? <= 768;
        clip::read(keys, if openai { Act::QuickGelu } else { Act::Gelu }, pooled)?
    } else if keys.has("shared.weight") && keys.any("encoder.block.0.layer.0.SelfAttention.") {
        t5::read(keys)?
    } else {
        return Ok(None);
    };
    Ok(Some(model))
}
