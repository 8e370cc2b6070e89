//! T5's encoder: by the names of transformers, which whole files keep under a prefix. In no shape, and as published: the
//! distance beyond which positions are one.

use serde_json::json;

use super::keys::Keys;
use crate::{CheckpointError, StoredModel, View};

/// The encoder under `keys`.
pub(super) fn read(keys: &Keys) -> Result<StoredModel, CheckpointError> {
    let attention = "encoder.block.0.layer.0.SelfAttention";
    let [vocabulary, channels] = keys.sides("shared.weight")?;
    let [buckets, heads] = keys.sides(&format!("{attention}.relative_attention_bias.weight"))?;
    let inner = keys.side(&format!("{attention}.q.weight"), 0)?;
    let dense = "encoder.block.0.layer.1.DenseReluDense";
    let gated = keys.has(&format!("{dense}.wi_0.weight"));
    let first = format!("{dense}.{}.weight", if gated { "wi_0" } else { "wi" });
    if heads == 0 || !inner.is_multiple_of(heads) {
        let reason = format!("has {inner} rows, which {heads} heads don't divide");
        return Err(keys.wrong(&format!("{attention}.q.weight"), reason));
    }
    let config = json!({
        "architectures": ["T5EncoderModel"],
        "model_type": "t5",
        "vocab_size": vocabulary,
        "d_model": channels,
        "d_kv": inner / heads,
        "d_ff": keys.side(&first, 0)?,
        "num_heads": heads,
        "num_layers": keys.count("encoder.block"),
        "relative_attention_num_buckets": buckets,
        "relative_attention_max_distance": 128,
        "feed_forward_proj": if gated { "gated-gelu" } else { "relu" },
        "dense_act_fn": if gated { "gelu_new" } else { "relu" },
        "is_gated_act": gated,
        "layer_norm_epsilon": 1e-6,
        "dropout_rate": 0.1,
        "is_encoder_decoder": false,
        "use_cache": false,
        "tie_word_embeddings": true,
        "pad_token_id": 0,
        "eos_token_id": 1,
    });
    // The table of tokens may be there twice; a decoder, if there is one, is of no use here.
    let used = keys.names().filter(|name| {
        *name != "encoder.embed_tokens.weight" && !name.starts_with("decoder.") && *name != "lm_head.weight"
    });
    let views = used.map(|name| View::renamed(name, name)).collect();
    Ok(StoredModel::new(format!("{config:#}"), keys.file().part(keys.prefix()).view(views)?))
}
