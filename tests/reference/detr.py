"""Cases of DETR: tests/cases/detr_* and train_detr_*; goldens in crates/detection/tests/detection/golden.

    python tests/reference/detr.py [attention]

Tiny networks with random weights, stored in f16 and computed in f32, one for each option that a config may have; and a
dilated ResNet-18 of timm's, too large to keep, whose weights both sides make by the same formula. Made with torch 2.15.0,
transformers 5.23.0, timm 1.0.31 (and torchvision 0.29.2, which it imports), scipy 1.17.1.
"""

import sys

import numpy as np
import torch
from _cases import CASES, randomise, reference, save
from safetensors.torch import load_file, save_file
from transformers import (
    ConditionalDetrForObjectDetection,
    DetrConfig,
    DetrForObjectDetection,
    DetrForSegmentation,
    ResNetConfig,
)

GOLDEN = CASES.parents[1] / "crates/detection/tests/detection/golden"

# Every width differs from every other, so that none can be mistaken for another.
SMALL = dict(
    d_model=16,
    num_queries=5,
    encoder_layers=1,
    decoder_layers=2,
    encoder_attention_heads=2,
    decoder_attention_heads=4,
    encoder_ffn_dim=20,
    decoder_ffn_dim=28,
    num_labels=3,
)
BACKBONE = dict(embedding_size=5, hidden_sizes=[4, 6, 8, 12], depths=[1, 1, 1, 1], layer_type="basic")
ALL = ["stage1", "stage2", "stage3", "stage4"]

# name: (class, options, options of the backbone, height, width, sizes of the pictures in the padding)
FORWARD = {
    "detr_learned": (
        DetrForObjectDetection,
        dict(position_embedding_type="learned", activation_function="gelu"),
        dict(out_features=["stage4"]),
        (40, 69),
        [(40, 69), (33, 50)],
    ),
    "detr_padded": (
        DetrForObjectDetection,
        dict(encoder_layers=2),
        dict(depths=[1, 2, 1, 2], out_features=ALL),
        (50, 67),
        [(33, 67), (50, 30)],
    ),
    "detr_bottleneck": (
        DetrForObjectDetection,
        dict(auxiliary_loss=True, activation_function="silu", num_channels=1),
        dict(
            layer_type="bottleneck",
            downsample_in_first_stage=True,
            downsample_in_bottleneck=True,
            hidden_act="gelu",
            num_channels=1,
            out_features=["stage1", "stage3"],
        ),
        (64, 96),
        None,
    ),
    "detr_segmentation_odd": (
        DetrForSegmentation,
        # Width and heads are a multiple of eight, as the head needs.
        dict(encoder_attention_heads=8, num_queries=3),
        dict(out_features=ALL),
        (43, 77),
        [(43, 40), (20, 77)],
    ),
    "detr_conditional": (
        ConditionalDetrForObjectDetection,
        dict(encoder_attention_heads=4, decoder_layers=3, auxiliary_loss=True),
        dict(out_features=["stage3"]),
        (50, 67),
        [(33, 67), (50, 30)],
    ),
}

# The boxes of each picture: as many as there are, none, and more than there are queries.
COUNTS = [2, 0, 7]


def config(options, backbone, cls=DetrForObjectDetection):
    return cls.config_class(**SMALL | options, backbone_config=ResNetConfig(**BACKBONE | backbone))


def network(cls, options, backbone, seed):
    model = randomise(cls(config(options, backbone, cls)), seed)
    generator = torch.Generator().manual_seed(seed + 1)
    for name, buffer in model.named_buffers():
        if "normalization" in name:
            noise = torch.rand(buffer.shape, generator=generator)
            value = {"running_var": 0.5 + noise, "weight": 0.7 + 0.6 * noise}.get(name.split(".")[-1], noise - 0.5)
            buffer.copy_(value.half().float())
    return model


def pictures(count, channels, height, width, seed):
    values = torch.randn(count, channels, height, width, generator=torch.Generator().manual_seed(seed))
    return values.half().float()


def stored(inputs):
    """Inputs in types that take little room: pictures in f16, which holds them exactly, and masks in bytes."""
    small = {"pixel_values": torch.float16, "pixel_mask": torch.uint8, "masks": torch.uint8}
    return {name: value.to(small.get(name.split(".")[-1], value.dtype)) for name, value in inputs.items()}


def forward(case, cls, options, backbone, sides, sizes, seed):
    model = network(cls, options, backbone, seed)
    inputs = {"pixel_values": pictures(len(sizes or [0]), model.config.num_channels, *sides, seed)}
    if sizes:
        mask = torch.zeros(len(sizes), *sides, dtype=torch.int64)
        for visible, (height, width) in zip(mask, sizes):
            visible[:height, :width] = 1
        inputs["pixel_mask"] = mask
        inputs["pixel_values"] *= mask[:, None]
    with torch.no_grad():
        found = model(**inputs)
    names = ["logits", "pred_boxes", "pred_masks"]
    outputs = {name: found[name] for name in names if name in found}
    save(case, model, stored(inputs), outputs)


def labels(counts, classes, seed, masks=None):
    generator = torch.Generator().manual_seed(seed)
    result = []
    for count in counts:
        centre = torch.rand(count, 2, generator=generator) * 0.6 + 0.2
        size = torch.rand(count, 2, generator=generator) * 0.35 + 0.02
        label = {
            "class_labels": torch.randint(classes, (count,), generator=generator),
            "boxes": torch.cat([centre, size], -1),
        }
        if masks:
            label["masks"] = (torch.rand(count, *masks, generator=generator) > 0.6).float()
        result.append(label)
    return result


def flat(labels):
    return {f"labels.{i}.{name}": value for i, label in enumerate(labels) for name, value in label.items()}


def losses(found):
    return {"loss": found.loss.reshape(1)} | {
        f"loss_dict.{name}": value.reshape(1) for name, value in found.loss_dict.items()
    }


def loss(case, cls, options, counts, masks, seed):
    model = network(cls, options, dict(out_features=ALL), seed)
    values = pictures(len(counts), 3, 36, 44, seed)
    wanted = labels(counts, 3, seed, masks)
    with torch.no_grad():
        found = model(pixel_values=values, labels=wanted)
    save(case, model, stored({"pixel_values": values} | flat(wanted)), losses(found))


def train(case, request, options, seed):
    model = network(DetrForObjectDetection, options | dict(dropout=0.0), dict(out_features=["stage4"]), seed)
    counts = [2, 1]
    values, wanted = pictures(2, 3, 40, 32, seed), labels(counts, 3, seed)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    for parameter in model.model.backbone.parameters():
        parameter.requires_grad_(False)
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = getattr(torch.optim, request["optimizer"])(
        learning,
        lr=request["learning_rate"],
        betas=request["betas"],
        eps=request["epsilon"],
        weight_decay=request["weight_decay"],
    )
    taken = []
    for _ in range(request["train_steps"]):
        found = model(pixel_values=values, labels=wanted)
        taken.append(found.loss.detach())
        optimizer.zero_grad()
        found.loss.backward()
        torch.nn.utils.clip_grad_norm_(learning, request["clip_max_norm"])
        optimizer.step()
    with torch.no_grad():
        found = model(pixel_values=values)
    outputs = {"losses": torch.stack(taken), "logits": found.logits, "pred_boxes": found.pred_boxes}
    model.load_state_dict(start)
    save(case, model, stored({"pixel_values": values} | flat(wanted)), outputs, request)


def by_formula(name, shape):
    """Numbers that depend on the tensor's name and the place in it alone: the same in any language."""
    seed = 2166136261
    for byte in name.encode():
        seed = (seed ^ byte) * 16777619 % 2**32
    x = np.arange(int(np.prod(shape)), dtype=np.uint32) * np.uint32(2654435761) + np.uint32(seed)
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B)
    x = x ^ (x >> np.uint32(16))
    u = (x.astype(np.float64) / 2**32 * 2 - 1).astype(np.float32).reshape(shape)
    if len(shape) > 1:
        return u * np.float32((3 / np.prod(shape[1:])) ** 0.5)
    centre = 1 if name.endswith(("running_var", "norm.weight", "bn1.weight", "bn2.weight", "downsample.1.weight")) else 0
    return np.float32(centre) + np.float32(0.2) * u


def dilated():
    """A dilated ResNet-18 of timm's: outputs alone are kept."""
    options = dict(use_timm_backbone=True, backbone="resnet18", dilation=True, use_pretrained_backbone=False)
    model = DetrForObjectDetection(DetrConfig(**SMALL | dict(num_queries=4), **options)).eval()
    # The names that published files have.
    filled = {}
    for name, value in model.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        stored = name.replace("model.backbone.model.", "model.backbone.conv_encoder.model.")
        stored = stored.replace("o_proj", "out_proj").replace(".mlp.", ".")
        filled[name] = torch.from_numpy(by_formula(stored, tuple(value.shape)))
    model.load_state_dict(filled, strict=False)
    values = pictures(1, 3, 64, 96, 5)
    with torch.no_grad():
        found = model(pixel_values=values)
    GOLDEN.mkdir(parents=True, exist_ok=True)
    tensors = {
        "pixel_values": values,
        "logits": found.logits,
        "pred_boxes": found.pred_boxes,
        "encoder_last_hidden_state": found.encoder_last_hidden_state,
    }
    save_file({name: value.contiguous() for name, value in tensors.items()}, GOLDEN / "dilated.safetensors")


# What the authors' modules (github.com/facebookresearch/detr, models/{backbone,transformer,detr,segmentation}.py) call what.
FACEBOOK = {
    ".fc1.": ".linear1.",
    ".fc2.": ".linear2.",
    "model.query_position_embeddings.": "query_embed.",
    "model.input_projection.": "input_proj.",
    "class_labels_classifier.": "class_embed.",
    "bbox_predictor.": "bbox_embed.",
    "model.position_embedding.row_embeddings.": "backbone.1.row_embed.",
    "model.position_embedding.column_embeddings.": "backbone.1.col_embed.",
    "model.decoder.layernorm.": "transformer.decoder.norm.",
    "model.encoder.": "transformer.encoder.",
    "model.decoder.": "transformer.decoder.",
    "bbox_attention.q_proj": "bbox_attention.q_linear",
    "bbox_attention.k_proj": "bbox_attention.k_linear",
    "mask_head.conv1.conv": "mask_head.lay1",
    "mask_head.conv1.norm": "mask_head.gn1",
    "mask_head.conv2.conv": "mask_head.lay2",
    "mask_head.conv2.norm": "mask_head.gn2",
    "mask_head.output_conv": "mask_head.out_lay",
    ".mlp.": ".",
    ".o_proj.": ".out_proj.",
}
STAGES = {
    "fpn_adapter": ["adapter1", "adapter2", "adapter3"],
    "refine.conv": ["lay3", "lay4", "lay5"],
    "refine.norm": ["gn3", "gn4", "gn5"],
}
BODY = {
    "embedder.embedder.convolution": "conv1",
    "embedder.embedder.normalization": "bn1",
    "shortcut.convolution": "downsample.0",
    "shortcut.normalization": "downsample.1",
}


def of_facebook(name):
    for i in range(3):
        for theirs, ours in STAGES.items():
            name = name.replace(f"mask_head.fpn_stages.{i}.{theirs}", f"mask_head.{ours[i]}")
    if ".backbone." in name or name.startswith("backbone."):
        before, inner = name.split("model.backbone.model.") if "model.backbone.model." in name else (None, None)
        assert inner, name
        for theirs, ours in BODY.items():
            inner = inner.replace(theirs, ours)
        parts = inner.split(".")
        if parts[0] == "encoder":
            stage, layer, rest = int(parts[2]), parts[4], parts[5:]
            if rest[0] == "layer":
                kind = "conv" if rest[2] == "convolution" else "bn"
                rest = [f"{kind}{int(rest[1]) + 1}", *rest[3:]]
            parts = [f"layer{stage + 1}", layer, *rest]
        return f"{before}backbone.0.body." + ".".join(parts)
    encoder = ".encoder." in name
    for theirs, ours in FACEBOOK.items():
        name = name.replace(theirs, ours)
    name = name.replace("encoder_attn_layer_norm", "norm2").replace("encoder_attn", "multihead_attn")
    name = name.replace("self_attn_layer_norm", "norm1")
    return name.replace("final_layer_norm", "norm2" if encoder else "norm3")


def facebook(case, cls, options, backbone, seed):
    """A file of the authors': names above, queries, keys and values in one, all in {"model": ...}."""
    heads = dict(encoder_attention_heads=8, decoder_attention_heads=8)
    model = network(cls, heads | options, backbone, seed)
    values = pictures(1, 3, 50, 67, seed)
    with torch.no_grad():
        found = model(pixel_values=values)
    state = {of_facebook(name): value for name, value in model.state_dict().items() if "num_batches" not in name}
    for name in [name for name in state if ".q_proj." in name]:
        parts = [state.pop(name.replace(".q_proj.", f".{part}_proj.")) for part in "qkv"]
        state[name.replace(".q_proj.", ".in_proj_")] = torch.cat(parts)
    torch.save({"model": {name: value.half() for name, value in state.items()}}, GOLDEN / f"{case}.pth")
    names = ["logits", "pred_boxes", "pred_masks"]
    outputs = {name: found[name].contiguous() for name in names if name in found}
    save_file({"pixel_values": values} | outputs, GOLDEN / f"{case}.safetensors")


def attention():
    """attention.safetensors: where the last layer of the decoder of three of the cases looks."""
    looks = {}
    for case in ["detr_learned", "detr_padded", "detr_conditional"]:
        kind = ConditionalDetrForObjectDetection if "conditional" in case else DetrForObjectDetection
        network = kind.from_pretrained(CASES / case / "checkpoint", attn_implementation="eager").float().eval()
        inputs = load_file(CASES / case / "reference.safetensors")
        with torch.inference_mode():
            found = network(
                inputs["input.pixel_values"].float(),
                pixel_mask=inputs.get("input.pixel_mask"),
                output_attentions=True,
            )
        looks[case] = found.cross_attentions[-1].contiguous()
    save_file(looks, GOLDEN / "attention.safetensors")


def main():
    if sys.argv[1:] == ["attention"]:
        return attention()
    GOLDEN.mkdir(parents=True, exist_ok=True)
    learned = dict(position_embedding_type="learned")
    facebook("facebook_boxes", DetrForObjectDetection, learned, dict(out_features=["stage4"]), 40)
    bottleneck = dict(layer_type="bottleneck", hidden_sizes=[8, 12, 16, 20], depths=[1, 2, 1, 1], out_features=ALL)
    facebook("facebook_masks", DetrForSegmentation, dict(), bottleneck, 41)
    for seed, (case, arguments) in enumerate(FORWARD.items()):
        forward(case, *arguments, seed)
    loss("detr_loss_auxiliary", DetrForObjectDetection, dict(auxiliary_loss=True, decoder_layers=3), COUNTS, None, 20)
    focal = dict(auxiliary_loss=True, class_cost=3, focal_alpha=0.4)
    loss("detr_loss_conditional", ConditionalDetrForObjectDetection, focal, COUNTS, None, 22)
    costs = dict(
        class_cost=2,
        bbox_cost=1,
        giou_cost=3,
        eos_coefficient=0.3,
        bbox_loss_coefficient=3,
        giou_loss_coefficient=1,
        mask_loss_coefficient=2,
        dice_loss_coefficient=3,
    )
    masks = dict(encoder_attention_heads=8, auxiliary_loss=True) | costs
    loss("detr_loss_masks", DetrForSegmentation, masks, [2, 1], (36, 44), 21)
    request = dict(
        optimizer="AdamW",
        learning_rate=1e-3,
        betas=[0.8, 0.99],
        epsilon=1e-7,
        weight_decay=0.05,
        train_steps=4,
        clip_max_norm=0.5,
        backbone="all of it frozen, as transformers leaves it here",
    )
    train("train_detr_plain", request, dict(), 30)
    dilated()
    attention()


if __name__ == "__main__":
    main()
