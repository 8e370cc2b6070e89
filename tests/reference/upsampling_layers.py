"""Goldens of crates/upsampling's layers: PyTorch's upsampling, shuffling, unpooling and transposed convolution with their
gradients, CARAFE and DySample written out in PyTorch, and Lanczos as PIL has it.

    python tests/reference/upsampling_layers.py

writes crates/upsampling/tests/golden/layers.safetensors: `CASE.x`, `CASE.y`, `CASE.weight`, `CASE.grad` (of sum(y * weight) with
respect to x), and, where a case has them, `CASE.indices`, `CASE.kernel`, `CASE.bias`, `CASE.kernel_grad`, `CASE.p0` and so on.
Made with torch 2.15.0 on one thread.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

GOLDEN = Path(__file__).resolve().parents[2] / "crates/upsampling/tests/golden"


def up(**options):
    return lambda x: F.interpolate(x, **options)


MAPS = {
    "nearest_factor": ((1, 2, 5, 7), up(scale_factor=(1.7, 2.3), mode="nearest")),
    "nearest_1d": ((1, 2, 7), up(size=11, mode="nearest")),
    "nearest_3d": ((1, 2, 3, 4, 2), up(size=(5, 3, 4), mode="nearest")),
    "exact_size": ((1, 2, 5, 7), up(size=(8, 3), mode="nearest-exact")),
    "exact_factor": ((1, 2, 5, 7), up(scale_factor=(1.7, 2.3), mode="nearest-exact")),
    "linear_factor": ((2, 2, 7), up(scale_factor=2.6, mode="linear")),
    "linear_corners": ((2, 2, 7), up(size=12, mode="linear", align_corners=True)),
    "bilinear_fraction": ((1, 2, 5, 6), up(scale_factor=(2.5, 1.3), mode="bilinear")),
    "bilinear_anti": ((1, 2, 9, 8), up(size=(4, 11), mode="bilinear", antialias=True)),
    "bilinear_anti_corners": (
        (1, 2, 9, 8),
        up(size=(4, 11), mode="bilinear", antialias=True, align_corners=True),
    ),
    "bicubic_fraction": ((1, 2, 5, 6), up(scale_factor=(2.5, 1.3), mode="bicubic")),
    "bicubic_corners": ((1, 2, 5, 6), up(size=(9, 4), mode="bicubic", align_corners=True)),
    "bicubic_anti": ((1, 2, 9, 8), up(size=(4, 11), mode="bicubic", antialias=True)),
    "lanczos_anti": ((1, 2, 9, 8), up(size=(4, 11), mode="lanczos", antialias=True)),
    "lanczos_factor": ((1, 2, 9, 8), up(scale_factor=2.0, mode="lanczos", antialias=True)),
    "trilinear_factor": ((1, 2, 3, 4, 3), up(scale_factor=(2.0, 1.5, 2.0), mode="trilinear")),
    "trilinear_corners": ((1, 2, 3, 4, 3), up(size=(5, 6, 4), mode="trilinear", align_corners=True)),
    "upsampling_nearest_2d": ((1, 2, 3, 4), nn.UpsamplingNearest2d(scale_factor=2)),
    "upsampling_bilinear_2d": ((1, 2, 3, 4), nn.UpsamplingBilinear2d(size=(5, 9))),
    "shuffle": ((2, 18, 3, 4), nn.PixelShuffle(3)),
    "unshuffle": ((2, 2, 6, 9), nn.PixelUnshuffle(3)),
}

# name: (input, pooling, unpooling, output size)
UNPOOLED = {
    "unpool_1d": ((2, 3, 9), nn.MaxPool1d(2, return_indices=True), nn.MaxUnpool1d(2), [9]),
    "unpool_2d": ((2, 3, 7, 9), nn.MaxPool2d((2, 3), return_indices=True), nn.MaxUnpool2d((2, 3)), [7, 9]),
    "unpool_2d_padded": (
        (1, 2, 8, 8),
        nn.MaxPool2d(3, 3, 1, return_indices=True),
        nn.MaxUnpool2d(3, 3, 1),
        [8, 8],
    ),
    "unpool_3d": ((1, 2, 4, 4, 6), nn.MaxPool3d(2, return_indices=True), nn.MaxUnpool3d(2), None),
    # Windows overlap: several outputs of the pooling come from one place.
    "unpool_overlap": (
        (2, 3, 7, 7),
        nn.MaxPool2d(3, 1, return_indices=True),
        nn.MaxUnpool2d(3, 1),
        None,
    ),
}

TRANSPOSED = {
    "transposed_1d": ((2, 4, 5), nn.ConvTranspose1d(4, 6, 3, 2, 1, 1, groups=2, dilation=2)),
    "transposed_2d": ((2, 4, 5, 4), nn.ConvTranspose2d(4, 6, (3, 4), (2, 3), (1, 2), (1, 0), groups=2, dilation=(1, 2))),
    "transposed_2d_depthwise": ((1, 3, 4, 5), nn.ConvTranspose2d(3, 3, 4, 2, 1, groups=3, bias=False)),
    "transposed_3d": ((1, 2, 3, 3, 2), nn.ConvTranspose3d(2, 4, (2, 3, 2), (1, 2, 2), (0, 1, 0), (0, 1, 1), groups=2)),
}


class Carafe(nn.Module):
    def __init__(self, channels, factor, kernel, encoder, compressed):
        super().__init__()
        self.factor, self.kernel = factor, kernel
        self.compress = nn.Conv2d(channels, compressed, 1)
        self.encode = nn.Conv2d(compressed, (factor * kernel) ** 2, encoder, padding=encoder // 2)

    def forward(self, x):
        n, c, h, w = x.shape
        s, k = self.factor, self.kernel
        weights = F.pixel_shuffle(self.encode(self.compress(x)), s).softmax(1)
        around = F.unfold(x, k, padding=k // 2).view(n, c * k * k, h, w)
        around = F.interpolate(around, scale_factor=s, mode="nearest").view(n, c, k * k, s * h, s * w)
        return (around * weights.unsqueeze(1)).sum(2)


class DySample(nn.Module):
    """Offsets are counted in input pixels; grid_sample wants -1 to 1."""

    def __init__(self, channels, factor, groups):
        super().__init__()
        self.factor, self.groups = factor, groups
        self.offset = nn.Conv2d(channels, 2 * groups * factor**2, 1)

    def forward(self, x):
        n, c, h, w = x.shape
        s, g = self.factor, self.groups
        offset = F.pixel_shuffle(self.offset(x) * 0.25, s).view(n, 2, g, s * h, s * w)
        across = (torch.arange(s * w) + 0.5) / s - 0.5 + offset[:, 0]
        down = ((torch.arange(s * h) + 0.5) / s - 0.5)[:, None] + offset[:, 1]
        grid = torch.stack([(2 * across + 1) / w - 1, (2 * down + 1) / h - 1], -1).view(n * g, s * h, s * w, 2)
        y = F.grid_sample(x.view(n * g, c // g, h, w), grid, padding_mode="border", align_corners=False)
        return y.view(n, c, s * h, s * w)


def backward(tensors, name, x, y):
    weight = torch.randn_like(y)
    (y * weight).sum().backward()
    for part, value in {"x": x, "y": y, "weight": weight, "grad": x.grad}.items():
        tensors[f"{name}.{part}"] = value.detach().clone().contiguous()


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    tensors = {}
    for name, (shape, compute) in MAPS.items():
        x = torch.randn(shape, requires_grad=True)
        backward(tensors, name, x, compute(x))
    for name, (shape, pool, unpool, size) in UNPOOLED.items():
        x, indices = pool(torch.randn(shape))
        # Not the maxima themselves: inputs of one index must differ, that one sees which was kept.
        x = torch.randn_like(x).requires_grad_()
        backward(tensors, name, x, unpool(x, indices, output_size=size))
        tensors[f"{name}.indices"] = indices.clone()
    for name, (shape, layer) in TRANSPOSED.items():
        x = torch.randn(shape, requires_grad=True)
        backward(tensors, name, x, layer(x))
        tensors[f"{name}.kernel"] = layer.weight.detach().clone()
        tensors[f"{name}.kernel_grad"] = layer.weight.grad.clone()
        if layer.bias is not None:
            tensors[f"{name}.bias"] = layer.bias.detach().clone()
    for name, shape, layer in [
        ("carafe", (1, 6, 4, 5), Carafe(6, 2, 3, 3, 4)),
        ("dysample", (1, 8, 5, 4), DySample(8, 2, 4)),
    ]:
        for parameter in layer.parameters():
            nn.init.normal_(parameter, std=0.5)
        x = torch.randn(shape, requires_grad=True)
        backward(tensors, name, x, layer(x))
        for i, parameter in enumerate(layer.parameters()):
            tensors[f"{name}.p{i}"] = parameter.detach().clone()
            tensors[f"{name}.p{i}_grad"] = parameter.grad.clone()
    GOLDEN.mkdir(parents=True, exist_ok=True)
    save_file(tensors, GOLDEN / "layers.safetensors")


if __name__ == "__main__":
    main()
