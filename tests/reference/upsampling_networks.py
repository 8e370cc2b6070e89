"""Goldens of crates/upsampling's networks: ESPCN, FCN heads and the U-Net that labels pixels, written out in PyTorch, and a
small DAT with the options that DAT-light leaves alone, by spandrel.

    python tests/reference/upsampling_networks.py

writes crates/upsampling/tests/golden/heads.safetensors (`CASE.x0` and so on, `CASE.y`, and `CASE.p.NAME` for each parameter;
weights and inputs in half precision, which is what PyTorch computed with) and dat_variants.txt: of every published DAT its name,
scale, tensors, parameters, and the FNV-1a hash of its sorted lines "NAME SIDE,SIDE,...".
Made with torch 2.15.0, spandrel 0.4.2 and einops 0.8.2 (`pip install --no-deps spandrel==0.4.2 einops==0.8.2`).
"""

import importlib
import importlib.util
import sys
import types
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

GOLDEN = Path(__file__).resolve().parents[2] / "crates/upsampling/tests/golden"


def dat_class():
    """spandrel's DAT, without its package's own imports, which want torchvision."""
    root = Path(importlib.util.find_spec("spandrel").submodule_search_locations[0])
    for name in ["spandrel", "spandrel.architectures", "spandrel.architectures.DAT"]:
        module = types.ModuleType(name)
        module.__path__ = [str(root.joinpath(*name.split(".")[1:]))]
        sys.modules[name] = module
    return importlib.import_module("spandrel.architectures.DAT.__arch.DAT").DAT


class Espcn(nn.Module):
    def __init__(self, scale, channels, first, second):
        super().__init__()
        self.scale = scale
        self.body = nn.Sequential(
            nn.Conv2d(channels, first, 5, padding=2),
            nn.Tanh(),
            nn.Conv2d(first, second, 3, padding=1),
            nn.Tanh(),
            nn.Conv2d(second, channels * scale**2, 3, padding=1),
        )

    def forward(self, x):
        return F.pixel_shuffle(self.body(x), self.scale)


class Finer(nn.Module):
    def __init__(self, features, classes):
        super().__init__()
        self.upsample = nn.ConvTranspose2d(classes, classes, 4, 2, 1, groups=classes, bias=False)
        self.score = nn.Conv2d(features, classes, 1)


class Fcn(nn.Module):
    """Scores from the coarsest features; each finer level's are added to them twice as large."""

    def __init__(self, features, classes, levels):
        super().__init__()
        eighth, sixteenth, coarsest = features
        self.score = nn.Conv2d(coarsest, classes, 1)
        self.finer = nn.ModuleList(Finer(from_, classes) for from_ in [sixteenth, eighth][:levels])
        left = 32 >> levels
        self.last = nn.ConvTranspose2d(classes, classes, 2 * left, left, left // 2, groups=classes, bias=False)

    def forward(self, eighth, sixteenth, coarsest):
        scores = self.score(coarsest)
        for level, features in zip(self.finer, [sixteenth, eighth]):
            scores = level.upsample(scores) + level.score(features)
        return self.last(scores)


def twice(from_, to):
    layers = [[nn.Conv2d(a, to, 3, padding=1), nn.BatchNorm2d(to), nn.ReLU()] for a in (from_, to)]
    return nn.Sequential(*layers[0], *layers[1])


class Up(nn.Module):
    def __init__(self, from_, to):
        super().__init__()
        self.upsample = nn.ConvTranspose2d(from_, to, 2, 2)
        self.layers = twice(2 * to, to)


class UNet(nn.Module):
    def __init__(self, channels, classes, levels):
        super().__init__()
        self.down = nn.ModuleList(twice(a, b) for a, b in zip([channels, *levels], levels))
        self.up = nn.ModuleList(Up(b, a) for a, b in reversed(list(zip(levels, levels[1:]))))
        self.score = nn.Conv2d(levels[0], classes, 1)

    def forward(self, x):
        passed = []
        for i, layers in enumerate(self.down):
            x = layers(x if i == 0 else F.max_pool2d(x, 2))
            passed.append(x)
        for up, kept in zip(self.up, reversed(passed[:-1])):
            x = up.layers(torch.cat([kept, up.upsample(x)], 1))
        return self.score(x)


BUFFERS = ("num_batches_tracked", "relative_position_index", "rpe_biases", "attn_mask_0", "attn_mask_1")


def stored(network):
    return {name: value for name, value in network.state_dict().items() if not name.endswith(BUFFERS)}


def fnv(lines):
    hash_ = 0xCBF29CE484222325
    for byte in "\n".join(sorted(lines)).encode():
        hash_ = (hash_ ^ byte) * 0x100000001B3 % 2**64
    return hash_


def main():
    torch.manual_seed(0)
    dat = dat_class()
    small = dict(
        img_size=8, split_size=[4, 8], depth=[3, 1], embed_dim=32, num_heads=[4, 2], expansion_factor=4,
        resi_connection="1conv", upsampler="pixelshuffle", upscale=2, drop_path_rate=0.0,
    )
    features = [(1, 5, 8, 12), (1, 6, 4, 6), (1, 7, 2, 3)]
    cases = {
        "espcn": (Espcn(3, 1, 8, 6), [(2, 1, 7, 5)]),
        "fcn32": (Fcn([5, 6, 7], 3, 0), features),
        "fcn16": (Fcn([5, 6, 7], 3, 1), features),
        "fcn8": (Fcn([5, 6, 7], 3, 2), features),
        "unet": (UNet(2, 3, [4, 6, 8]), [(2, 2, 12, 8)]),
        "dat": (dat(**small), [(1, 3, 13, 18)]),
    }
    tensors = {}
    for case, (network, shapes) in cases.items():
        network.eval()
        with torch.no_grad():
            for name, value in network.state_dict().items():
                if name.endswith(BUFFERS):
                    continue
                if name.endswith("running_var"):
                    value.uniform_(0.5, 2.0)
                elif value.dim() > 1 and case != "dat":
                    value.normal_(0.0, 0.3)
                elif value.dim() > 1:
                    value.normal_(0.0, (2.0 / value[0].numel()) ** 0.5)
                else:
                    value.add_(torch.randn_like(value) * 0.1)
                value.copy_(value.half())
            inputs = [torch.rand(shape).half().float() for shape in shapes]
            y = network(*inputs)
        for name, value in stored(network).items():
            tensors[f"{case}.p.{name}"] = value.half().contiguous()
        for i, x in enumerate(inputs):
            tensors[f"{case}.x{i}"] = x.half()
        tensors[f"{case}.y"] = y.contiguous()
    save_file(tensors, GOLDEN / "heads.safetensors")

    whole = dict(img_size=64, embed_dim=180, depth=[6] * 6, num_heads=[6] * 6, resi_connection="1conv")
    variants = {
        "DAT": dict(split_size=[8, 32], expansion_factor=4, **whole),
        "DAT-S": dict(split_size=[8, 16], expansion_factor=2, **whole),
        "DAT-2": dict(split_size=[8, 32], expansion_factor=2, **whole),
        "DAT-light": dict(
            split_size=[8, 32], expansion_factor=2, img_size=64, embed_dim=60, depth=[18], num_heads=[6],
            resi_connection="3conv", upsampler="pixelshuffledirect",
        ),
    }
    rows = []
    for name, options in variants.items():
        for scale in (2, 3, 4):
            network = dat(upscale=scale, **options)
            state = stored(network)
            lines = [f"{key} {','.join(map(str, value.shape))}" for key, value in state.items()]
            parameters = sum(p.numel() for p in network.parameters())
            rows.append(f"{name} {scale} {len(lines)} {parameters} {fnv(lines):016x}\n")
    (GOLDEN / "dat_variants.txt").write_text("".join(rows))


if __name__ == "__main__":
    main()
