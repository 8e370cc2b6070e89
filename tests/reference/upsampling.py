"""Goldens of crates/upsampling: interpolation and FIR resampling, with their gradients.

    python tests/reference/upsampling.py

writes crates/upsampling/tests/golden/upsampling.safetensors: `CASE.x`, `CASE.y`, `CASE.grad` (of sum(y * weight) with respect to
x) and `CASE.weight`; the cases' options stand in the test.
Made with torch 2.15.0 and diffusers 0.42.1.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers.models.downsampling import downsample_2d
from diffusers.models.upsampling import upfirdn2d_native, upsample_2d
from safetensors.torch import save_file

GOLDEN = Path(__file__).resolve().parents[2] / "crates/upsampling/tests/golden"

BINOMIAL = (1, 3, 3, 1)
# Not symmetric: a filter the wrong way round shows.
LOPSIDED = (1.0, 4.0, -2.0, 0.5, 3.0)


def outer(kernel):
    kernel = torch.tensor(kernel)
    return torch.outer(kernel, kernel)


CASES = {
    "nearest_size": ((2, 3, 5, 7), lambda x: F.interpolate(x, size=(8, 9), mode="nearest")),
    "bilinear_factor": ((1, 2, 4, 5), lambda x: F.interpolate(x, scale_factor=(2, 3), mode="bilinear")),
    "bilinear_corners": (
        (1, 2, 4, 5),
        lambda x: F.interpolate(x, size=(7, 3), mode="bilinear", align_corners=True),
    ),
    "bicubic_factor": ((2, 1, 4, 3), lambda x: F.interpolate(x, scale_factor=2, mode="bicubic")),
    "fir_up": ((2, 3, 4, 6), lambda x: upsample_2d(x, BINOMIAL)),
    "fir_up_3_lopsided": ((1, 2, 3, 4), lambda x: upsample_2d(x, LOPSIDED, factor=3)),
    "fir_down": ((2, 3, 6, 8), lambda x: downsample_2d(x, BINOMIAL)),
    "fir_down_odd": ((1, 1, 7, 5), lambda x: downsample_2d(x, BINOMIAL)),
    "fir_down_3_lopsided": ((1, 2, 9, 7), lambda x: downsample_2d(x, LOPSIDED, factor=3)),
    "upfirdn": ((1, 2, 5, 4), lambda x: upfirdn2d_native(x, outer(LOPSIDED), up=3, down=2, pad=(4, -1))),
}


def main():
    torch.manual_seed(0)
    tensors = {}
    for name, (shape, compute) in CASES.items():
        x = torch.randn(shape, requires_grad=True)
        y = compute(x)
        weight = torch.randn_like(y)
        (y * weight).sum().backward()
        for part, value in {"x": x, "y": y, "weight": weight, "grad": x.grad}.items():
            tensors[f"{name}.{part}"] = value.detach().contiguous()
    GOLDEN.mkdir(parents=True, exist_ok=True)
    save_file(tensors, GOLDEN / "upsampling.safetensors")


if __name__ == "__main__":
    main()
