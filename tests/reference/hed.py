"""HED, the edge network beside ControlNet, in PyTorch (torch 2.15.0), with random weights and few channels.

    python tests/reference/hed.py

writes crates/conditioning/tests/golden/hed.safetensors (ControlNet's names: RGB, the mean of the side outputs) and
hed_vgg.safetensors (HED's own: BGR less ImageNet's mean, a weighted sum). Each holds the weights, `input.picture` (RGB in 0..255) and
`output.edges`. The network is written here from its published structure: VGG's five blocks, each with a 1 x 1 convolution to one
channel, enlarged linearly, and a sigmoid.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

BLOCKS = [(4, 2), (6, 2), (8, 3), (8, 3), (8, 3)]
GOLDEN = Path(__file__).parents[2] / "crates/conditioning/tests/golden"
VGG_MEAN = torch.tensor([104.00699, 116.66877, 122.67892]).reshape(1, 3, 1, 1)


def run(weights, picture, own):
    names = (lambda i, n: f"block{i}.conv{n + 1}") if own else (lambda i, n: f"block{i}.convs.{n}")
    side_name = (lambda i: f"dsn{i}") if own else (lambda i: f"block{i}.projection")
    layer = lambda name, x, padding: F.conv2d(x, weights[f"{name}.weight"].float(), weights[f"{name}.bias"].float(), padding=padding)
    h = picture.flip(1) - VGG_MEAN if own else picture - weights["norm"].float()
    sides = []
    for i, (_, layers) in enumerate(BLOCKS, 1):
        if i > 1:
            h = F.max_pool2d(h, 2, 2)
        for n in range(layers):
            h = F.relu(layer(names(i, n), h, 1))
        side = layer(side_name(i), h, 0)
        sides.append(F.interpolate(side, picture.shape[2:], mode="bilinear", align_corners=False))
    sides = torch.cat(sides, 1)
    return torch.sigmoid(layer("fuse", sides, 0) if own else sides.mean(1, keepdim=True))


def make(own):
    draw = torch.Generator().manual_seed(3 + own)
    noise = lambda *shape: torch.randn(shape, generator=draw)
    weights, before = {}, 3
    for i, (channels, layers) in enumerate(BLOCKS, 1):
        for n in range(layers):
            source = before if n == 0 else channels
            name = f"block{i}.conv{n + 1}" if own else f"block{i}.convs.{n}"
            # The first reads 0..255: its output is of the size of the others'.
            scale = (2 / (9 * source)) ** 0.5 / (64 if i == 1 and n == 0 else 1)
            weights[f"{name}.weight"] = noise(channels, source, 3, 3) * scale
            weights[f"{name}.bias"] = noise(channels) * 0.1
        side = f"dsn{i}" if own else f"block{i}.projection"
        weights[f"{side}.weight"] = noise(1, channels, 1, 1)
        weights[f"{side}.bias"] = noise(1) * 0.1
        before = channels
    if own:
        weights["fuse.weight"] = noise(1, 5, 1, 1) * 0.4
        weights["fuse.bias"] = noise(1) * 0.1
    else:
        weights["norm"] = 110 + 20 * noise(1, 3, 1, 1)
    weights = {name: tensor.half() for name, tensor in weights.items()}
    # Sides that do not halve evenly.
    picture = torch.randint(0, 256, (2, 3, 37, 50), generator=draw).float()
    edges = run(weights, picture, own)
    assert edges.std() > 0.05, edges.std()
    save_file({**weights, "input.picture": picture, "output.edges": edges}, GOLDEN / ("hed_vgg.safetensors" if own else "hed.safetensors"))


if __name__ == "__main__":
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for own in (False, True):
        make(own)
