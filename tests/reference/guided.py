"""Cases of OpenAI's U-Net: tests/cases/guided_*.

    python tests/reference/guided.py

There is no package of guided-diffusion; the network is written here in PyTorch from the papers (Nichol and Dhariwal 2021;
Dhariwal and Nichol 2021; Song et al. 2023), with the parameter names of the files that were published. One case for each
way of cutting `qkv` into heads, of changing the resolution and of telling a label. Weights are stored in f16, computed in f32.
Inputs are named as UNet2DModel's: `sample`, `timestep`, `class_labels`; `sigma` in place of `timestep` for a consistency model.
Made with torch 2.15.0.
"""

import json
import math
import shutil

import torch
import torch.nn.functional as F
from _cases import CASES, randomise, reference
from safetensors.torch import save_file
from torch import nn

DEFAULTS = dict(
    in_channels=3,
    out_channels=3,
    model_channels=32,
    num_res_blocks=1,
    channel_mult=[1, 1],
    attention_resolutions=[],
    num_heads=1,
    num_heads_upsample=-1,
    num_head_channels=-1,
    use_new_attention_order=False,
    use_scale_shift_norm=False,
    resblock_updown=False,
    conv_resample=True,
    num_classes=None,
    label_channels=None,
)


def norm(channels):
    return nn.GroupNorm(32, channels)


def halve(x):
    return F.avg_pool2d(x, 2)


def double(x):
    return x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)


class Residual(nn.Module):
    def __init__(self, config, channels, out, resample=None):
        super().__init__()
        width = 4 * config["model_channels"]
        self.scale_shift, self.resample = config["use_scale_shift_norm"], resample
        self.in_layers = nn.Sequential(norm(channels), nn.SiLU(), nn.Conv2d(channels, out, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(width, out * (2 if self.scale_shift else 1)))
        self.out_layers = nn.Sequential(norm(out), nn.SiLU(), nn.Dropout(0.0), nn.Conv2d(out, out, 3, padding=1))
        self.skip_connection = nn.Identity() if channels == out else nn.Conv2d(channels, out, 1)

    def forward(self, x, time):
        normalise, act, convolve = self.in_layers
        h = act(normalise(x))
        if self.resample is not None:
            x, h = self.resample(x), self.resample(h)
        h = convolve(h)
        time = self.emb_layers(time)[..., None, None]
        if self.scale_shift:
            scale, shift = time.chunk(2, dim=1)
            h = self.out_layers[0](h) * (1 + scale) + shift
            h = self.out_layers[3](F.silu(h))
        else:
            h = self.out_layers(h + time)
        return self.skip_connection(x) + h


class Attention(nn.Module):
    def __init__(self, config, channels, heads):
        super().__init__()
        width = config["num_head_channels"]
        self.heads = heads if width == -1 else channels // width
        self.three_first = config["use_new_attention_order"]
        self.norm = norm(channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv1d(channels, channels, 1)

    def forward(self, x, _):
        batch, channels, height, width = x.shape
        flat = x.flatten(2)
        qkv = self.qkv(self.norm(flat))
        if self.three_first:
            q, k, v = qkv.reshape(batch, 3, self.heads, -1, height * width).unbind(1)
        else:
            q, k, v = qkv.reshape(batch, self.heads, 3, -1, height * width).unbind(2)
        scores = torch.einsum("bhdq,bhdk->bhqk", q, k) / math.sqrt(q.shape[2])
        h = torch.einsum("bhqk,bhdk->bhdq", scores.softmax(-1), v).reshape(flat.shape)
        return (flat + self.proj_out(h)).reshape(x.shape)


class Down(nn.Module):
    def __init__(self, channels, convolves):
        super().__init__()
        if convolves:
            self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x, _):
        return self.op(x) if hasattr(self, "op") else halve(x)


class Up(nn.Module):
    def __init__(self, channels, convolves):
        super().__init__()
        if convolves:
            self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x, _):
        return self.conv(double(x)) if hasattr(self, "conv") else double(x)


class Plain(nn.Conv2d):
    """A convolution among layers that are told the time."""

    def forward(self, x, _):
        return super().forward(x)


def block(*layers):
    return nn.ModuleList(layers)


def run(layers, x, time):
    for layer in layers:
        x = layer(x, time)
    return x


class UNet(nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.config = config = {**DEFAULTS, **options}
        base, mult = config["model_channels"], config["channel_mult"]
        width = 4 * base
        self.time_embed = nn.Sequential(nn.Linear(base, width), nn.SiLU(), nn.Linear(width, width))
        if config["num_classes"] is not None:
            self.label_emb = nn.Embedding(config["num_classes"], width)
        elif config["label_channels"] is not None:
            inputs = config["label_channels"]
            self.label_emb = nn.Sequential(nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, width))
        heads = config["num_heads"]
        heads_up = heads if config["num_heads_upsample"] == -1 else config["num_heads_upsample"]
        channels = first = int(mult[0] * base)
        self.input_blocks = nn.ModuleList([block(Plain(config["in_channels"], channels, 3, padding=1))])
        widths = [channels]
        for level, factor in enumerate(mult):
            out = int(factor * base)
            for _ in range(config["num_res_blocks"]):
                layers = [Residual(config, channels, out)]
                channels = out
                if 2**level in config["attention_resolutions"]:
                    layers.append(Attention(config, channels, heads))
                self.input_blocks.append(block(*layers))
                widths.append(channels)
            if level < len(mult) - 1:
                down = (
                    Residual(config, channels, channels, halve)
                    if config["resblock_updown"]
                    else Down(channels, config["conv_resample"])
                )
                self.input_blocks.append(block(down))
                widths.append(channels)
        self.middle_block = block(
            Residual(config, channels, channels),
            Attention(config, channels, heads),
            Residual(config, channels, channels),
        )
        self.output_blocks = nn.ModuleList()
        for level, factor in reversed(list(enumerate(mult))):
            out = int(factor * base)
            for i in range(config["num_res_blocks"] + 1):
                layers = [Residual(config, channels + widths.pop(), out)]
                channels = out
                if 2**level in config["attention_resolutions"]:
                    layers.append(Attention(config, channels, heads_up))
                if level > 0 and i == config["num_res_blocks"]:
                    layers.append(
                        Residual(config, channels, channels, double)
                        if config["resblock_updown"]
                        else Up(channels, config["conv_resample"])
                    )
                self.output_blocks.append(block(*layers))
        self.out = nn.Sequential(norm(first), nn.SiLU(), nn.Conv2d(first, config["out_channels"], 3, padding=1))

    def forward(self, x, timesteps, y=None):
        half = self.config["model_channels"] // 2
        frequencies = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32) / half)
        phases = timesteps.float()[:, None] * frequencies[None]
        time = self.time_embed(torch.cat([phases.cos(), phases.sin()], dim=1))
        if y is not None:
            time = time + self.label_emb(y)
        skips = []
        for layers in self.input_blocks:
            x = run(layers, x, time)
            skips.append(x)
        x = run(self.middle_block, x, time)
        for layers in self.output_blocks:
            x = run(layers, torch.cat([x, skips.pop()], dim=1), time)
        return self.out(x)


def consistency(model, noisy, sigma, difficulty, sigma_data=0.5, sigma_min=0.002):
    """Song et al. 2023, appendix C: at sigma_min the picture is given back."""
    factor = lambda value: value[:, None, None, None]
    total = sigma**2 + sigma_data**2
    c_skip = sigma_data**2 / ((sigma - sigma_min) ** 2 + sigma_data**2)
    c_out = (sigma - sigma_min) * sigma_data / total.sqrt()
    output = model(noisy * factor(total.rsqrt()), 250 * sigma.log(), difficulty[:, None])
    return (factor(c_out) * output + factor(c_skip) * noisy).clamp(-1, 1)


# name: (options, height and width, timesteps, label)
CASES_OF_UNET = {
    "guided_heads_first": (
        dict(attention_resolutions=[2], num_heads=2, num_heads_upsample=4, num_classes=5),
        (8, 12),
        torch.tensor([999.0, 3.0]),
        torch.tensor([4, 0]),
    ),
    # As the 512 px network on ImageNet: the outermost level is narrower than the time embedding's base.
    "guided_half_width": (
        dict(
            model_channels=64,
            channel_mult=[0.5, 0.5],
            in_channels=2,
            out_channels=4,
            conv_resample=False,
        ),
        (4, 8),
        torch.tensor([512.5]),
        None,
    ),
    # Attention at the outermost level, and no other level: nothing is resampled.
    "guided_one_level": (
        dict(
            channel_mult=[1],
            num_res_blocks=1,
            attention_resolutions=[1],
            num_head_channels=8,
            use_new_attention_order=True,
            label_channels=3,
        ),
        (4, 6),
        torch.tensor([0.0, 250.0]),
        torch.tensor([[0.1, -1.0, 2.0], [0.7, 0.0, 0.3]]),
    ),
}


def save(case, model, inputs, outputs, request=None):
    folder = CASES / case
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "checkpoint").mkdir(parents=True)
    config = {"_class_name": "GuidedUNet", **model.config}
    (folder / "checkpoint/config.json").write_text(json.dumps(config, indent=2) + "\n")
    weights = {name: value.half().contiguous() for name, value in model.state_dict().items()}
    save_file(weights, folder / "checkpoint/diffusion_pytorch_model.safetensors", metadata={"format": "pt"})
    reference(folder, inputs, outputs, request)
    print(f"{case}: {sum(p.numel() for p in model.parameters())} parameters")


def main():
    torch.manual_seed(0)
    for seed, (name, (options, sides, times, label)) in enumerate(CASES_OF_UNET.items()):
        model = randomise(UNet(**options), seed)
        x = torch.randn(len(times), model.config["in_channels"], *sides)
        with torch.no_grad():
            output = model(x, times, label)
        inputs = {"sample": x, "timestep": times} | ({} if label is None else {"class_labels": label})
        save(name, model, inputs, {"sample": output})

    model = randomise(
        UNet(
            in_channels=1,
            out_channels=1,
            attention_resolutions=[2],
            num_head_channels=16,
            use_new_attention_order=True,
            use_scale_shift_norm=True,
            resblock_updown=True,
            label_channels=1,
        ),
        7,
    )
    # Large enough that some pixels are clamped.
    model.out[2].weight.data *= 4
    sigma = torch.tensor([80.0, 0.7, 0.002])
    noisy = torch.randn(3, 1, 8, 8) * sigma[:, None, None, None]
    difficulty = torch.tensor([0.0, 0.35, 1.0])
    with torch.no_grad():
        clean = consistency(model, noisy, sigma, difficulty)
    inputs = {"sample": noisy, "sigma": sigma, "class_labels": difficulty}
    save("guided_consistency", model, inputs, {"denoised": clean}, {"clip_denoised": True})
    print(f"clamped: {(clean.abs() == 1).float().mean():.2f}")


if __name__ == "__main__":
    main()
