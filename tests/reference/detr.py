"""Cases of DETR: tests/cases/detr_* and train_detr_*; goldens in crates/detection/tests/detection/golden.

    python tests/reference/detr.py

Tiny networks with random weights, stored in f16 and computed in f32, one for each option that a config may have; and a
dilated ResNet-18 of timm's, too large to keep, whose weights both sides make by the same formula. Made with torch 2.15.0,
transformers 5.23.0, timm 1.0.31 (and torchvision 0.29.2, which it imports), scipy 1.17.1.
"""

import numpy as np
import torch
from _cases import CASES, randomise, reference, save
from safetensors.torch import save_file
from transformers import DetrConfig, DetrForObjectDetection, DetrForSegmentation, ResNetConfig

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
}

# The boxes of each picture: as many as there are, none, and more than there are queries.
COUNTS = [2, 0, 7]


def config(options, backbone):
    return DetrConfig(**SMALL | options, backbone_config=ResNetConfig(**BACKBONE | backbone))


def network(cls, options, backbone, seed):
    model = randomise(cls(config(options, backbone)), seed)
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


def main():
    for seed, (case, arguments) in enumerate(FORWARD.items()):
        forward(case, *arguments, seed)
    loss("detr_loss_auxiliary", DetrForObjectDetection, dict(auxiliary_loss=True, decoder_layers=3), COUNTS, None, 20)
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


if __name__ == "__main__":
    main()
