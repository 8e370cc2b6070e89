//! Names that checkpoints give a DETR's tensors, and what they are called here: as transformers has always saved them.
//!
//! ```text
//! transformers 5, as it calls them itself   backbone., o_proj, mlp.fc1, mask_head.conv1.conv, bbox_attention.q_proj
//! timm's backbone                           conv1, bn1, layer1.0.conv1, layer1.0.bn1, layer1.0.downsample.0
//! before 5, learned positions               model.backbone.position_embedding.
//! before 5, conditional decoders            sa_qcontent_proj, ca_qcontent_proj, ...
//! ```

/// What stands for what, one piece of a name each.
const PIECES: &[(&str, &str)] = &[
    (".o_proj.", ".out_proj."),
    (".mlp.fc1.", ".fc1."),
    (".mlp.fc2.", ".fc2."),
    ("backbone.position_embedding.", "position_embedding."),
    (".sa_qcontent_proj.", ".self_attn.q_content_proj."),
    (".sa_qpos_proj.", ".self_attn.q_pos_proj."),
    (".sa_kcontent_proj.", ".self_attn.k_content_proj."),
    (".sa_kpos_proj.", ".self_attn.k_pos_proj."),
    (".sa_v_proj.", ".self_attn.v_proj."),
    (".ca_qcontent_proj.", ".encoder_attn.q_content_proj."),
    (".ca_qpos_proj.", ".encoder_attn.q_pos_proj."),
    (".ca_kcontent_proj.", ".encoder_attn.k_content_proj."),
    (".ca_kpos_proj.", ".encoder_attn.k_pos_proj."),
    (".ca_v_proj.", ".encoder_attn.v_proj."),
    (".ca_qpos_sine_proj.", ".encoder_attn.q_pos_sine_proj."),
    ("bbox_attention.q_proj.", "bbox_attention.q_linear."),
    ("bbox_attention.k_proj.", "bbox_attention.k_linear."),
    ("mask_head.conv1.conv.", "mask_head.lay1."),
    ("mask_head.conv1.norm.", "mask_head.gn1."),
    ("mask_head.conv2.conv.", "mask_head.lay2."),
    ("mask_head.conv2.norm.", "mask_head.gn2."),
    ("mask_head.fpn_stages.0.fpn_adapter.", "mask_head.adapter1."),
    ("mask_head.fpn_stages.0.refine.conv.", "mask_head.lay3."),
    ("mask_head.fpn_stages.0.refine.norm.", "mask_head.gn3."),
    ("mask_head.fpn_stages.1.fpn_adapter.", "mask_head.adapter2."),
    ("mask_head.fpn_stages.1.refine.conv.", "mask_head.lay4."),
    ("mask_head.fpn_stages.1.refine.norm.", "mask_head.gn4."),
    ("mask_head.fpn_stages.2.fpn_adapter.", "mask_head.adapter3."),
    ("mask_head.fpn_stages.2.refine.conv.", "mask_head.lay5."),
    ("mask_head.fpn_stages.2.refine.norm.", "mask_head.gn5."),
    ("mask_head.output_conv.", "mask_head.out_lay."),
];

/// Where the backbone stands in a detector.
const BACKBONE: &str = "backbone.conv_encoder.model.";

/// The name here of a tensor that a file calls otherwise.
pub(super) fn today(name: &str) -> Option<String> {
    let mut today = name.to_owned();
    for (theirs, ours) in PIECES {
        today = today.replace(theirs, ours);
    }
    if !today.contains("backbone.conv_encoder.") {
        today = today.replacen("model.backbone.", "model.backbone.conv_encoder.", 1);
    }
    if let Some((before, inner)) = today.split_once(BACKBONE) {
        let inner = inner.strip_prefix("_backbone.").unwrap_or(inner);
        if let Some(inner) = residual(inner) {
            today = format!("{before}{BACKBONE}{inner}");
        }
    }
    (today != name).then_some(today)
}

/// A name within timm's (and torchvision's) ResNet, as transformers' has it.
pub(super) fn residual(name: &str) -> Option<String> {
    let (stem, last) = name.rsplit_once('.')?;
    let fields: Vec<&str> = stem.split('.').collect();
    Some(match fields[..] {
        ["conv1"] => format!("embedder.embedder.convolution.{last}"),
        ["bn1"] => format!("embedder.embedder.normalization.{last}"),
        [stage, layer, ref rest @ ..] => {
            let stage = stage.strip_prefix("layer")?.parse::<usize>().ok()?.checked_sub(1)?;
            let part = match rest {
                ["downsample", "0"] => "shortcut.convolution".to_owned(),
                ["downsample", "1"] => "shortcut.normalization".to_owned(),
                [part] => {
                    let (kind, number) = match part.strip_prefix("conv") {
                        Some(number) => ("convolution", number),
                        None => ("normalization", part.strip_prefix("bn")?),
                    };
                    format!("layer.{}.{kind}", number.parse::<usize>().ok()?.checked_sub(1)?)
                }
                _ => return None,
            };
            format!("encoder.stages.{stage}.layers.{layer}.{part}.{last}")
        }
        _ => return None,
    })
}
