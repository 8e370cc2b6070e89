//! Names that diffusers itself has given up.

/// The attention of diffusers' first releases, layer by layer.
const ATTENTION: &[(&str, &str)] =
    &[("query", "to_q"), ("key", "to_k"), ("value", "to_v"), ("proj_attn", "to_out.0")];

/// Today's name of a tensor of an attention over pixels that diffusers' first releases called otherwise: `query`, `key`,
/// `value` and `proj_attn`, then too linear layers, in blocks called `attentions`. `None` for any other tensor. For
/// [`Pretrained::rename`](crate::Pretrained::rename).
///
/// ```
/// use kiln_checkpoint::layout::legacy_attention;
///
/// let name = "encoder.mid_block.attentions.0.proj_attn.weight";
/// assert_eq!(legacy_attention(name).as_deref(), Some("encoder.mid_block.attentions.0.to_out.0.weight"));
/// assert_eq!(legacy_attention("encoder.mid_block.attentions.0.to_q.weight"), None);
/// ```
#[must_use]
pub fn legacy_attention(name: &str) -> Option<String> {
    let mut parts: Vec<&str> = name.split('.').collect();
    let [.., attentions, index, layer, _] = &mut parts[..] else { return None };
    if *attentions != "attentions" || index.parse::<usize>().is_err() {
        return None;
    }
    let (_, today) = ATTENTION.iter().find(|(old, _)| old == layer)?;
    *layer = today;
    Some(parts.join("."))
}
