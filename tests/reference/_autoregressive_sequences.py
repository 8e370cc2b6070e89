"""Models of sequences in PyTorch, from their papers: an LSTM, WaveNet, a causal transformer with rotary positions and gated linear units.

Conventions as in `_autoregressive_vectors.py`. No program of its own: see `autoregressive_twin.py`. Made with torch 2.15.0.
"""

import torch
import torch.nn.functional as F
from torch import nn

import _autoregressive_families as families
from _autoregressive_vectors import Given, Model, places


def one_late(x):
    """[batch, n] to [batch, n, 2]: the value before, and whether there is none."""
    first = torch.zeros(x.shape[1])
    first[0] = 1
    return torch.stack([F.pad(x, (1, -1)), first.expand_as(x)], -1)


class Recurrent(Model):
    """By the loop of `torch.nn.LSTM`."""

    def __init__(self, config):
        super().__init__(config)
        self.order, hidden = config["order"], config["hidden"]
        self.layers = nn.ModuleList()
        for index in range(config["layers"]):
            parts = {
                "input": nn.Linear(hidden if index else 2, 4 * hidden),
                "state": nn.Linear(hidden, 4 * hidden, bias=False),
            }
            self.layers.append(nn.ModuleDict(parts))
        self.output = nn.Linear(hidden, self.width)
        self.given = Given(config["given"], 4 * hidden)

    def forward(self, x, given):
        h = one_late(families.shown(self.family, x)[:, self.order])
        for index, layer in enumerate(self.layers):
            weight = layer["input"].weight
            if index == 0 and given is not None:
                # What is given is read at every place.
                h = torch.cat([h, given[:, None].expand(-1, h.shape[1], -1)], -1)
                weight = torch.cat([weight, self.given.linear.weight], 1)
            bias = in_torch_order(layer["input"].bias)
            weights = [in_torch_order(weight), in_torch_order(layer["state"].weight), bias, torch.zeros_like(bias)]
            start = torch.zeros(1, len(x), len(bias) // 4)
            h, _, _ = torch.lstm(h, (start, start), weights, True, 1, 0.0, self.training, False, True)
        return self.output(h)[:, places(self.order)]


def in_torch_order(gates):
    """From output, forget, input, cell to input, forget, cell, output."""
    o, f, i, g = gates.chunk(4)
    return torch.cat([i, f, g, o])


class WaveNet(Model):
    def __init__(self, config):
        super().__init__(config)
        self.order, self.kernel, self.doublings = config["order"], config["kernel"], config["layers"]
        channels, skips = config["channels"], config["skip_channels"]
        self.input = nn.Linear(2, channels)
        self.layers = nn.ModuleList()
        for index in range(config["layers"] * config["stacks"]):
            layer = nn.Module()
            dilation = 2 ** (index % config["layers"])
            layer.conv = nn.Conv2d(channels, 2 * channels, (1, self.kernel), dilation=(1, dilation))
            layer.residual = nn.Linear(channels, channels)
            layer.skip = nn.Linear(channels, skips)
            layer.given = Given(config["given"], 2 * channels)
            self.layers.append(layer)
        self.outputs = nn.ModuleList([nn.Linear(skips, skips), nn.Linear(skips, self.width)])

    def forward(self, x, given):
        h = self.input(one_late(families.shown(self.family, x)[:, self.order])).transpose(1, 2)
        total = 0.0
        for layer in self.layers:
            back = (self.kernel - 1) * layer.conv.dilation[1]
            y = layer.conv(F.pad(h, (back, 0))[:, :, None])[:, :, 0]
            if given is not None:
                y = y + layer.given(given)[..., None]
            value, gate = y.chunk(2, 1)
            z = value.tanh() * gate.sigmoid()
            total = total + F.conv1d(z, layer.skip.weight[..., None], layer.skip.bias)
            h = h + F.conv1d(z, layer.residual.weight[..., None], layer.residual.bias)
        y = self.outputs[1](self.outputs[0](total.relu().transpose(1, 2)).relu())
        return y[:, places(self.order)]


def rotated(x, theta=10_000.0):
    """[batch, heads, n, width]: channels i and i + width / 2 turned by the place's angle."""
    n, half = x.shape[2], x.shape[3] // 2
    angles = torch.arange(n, dtype=torch.float64)[:, None] * theta ** (-torch.arange(half, dtype=torch.float64) / half)
    turns = torch.polar(torch.ones_like(angles), angles).to(torch.complex64)
    turned = torch.complex(x[..., :half], x[..., half:]) * turns
    return torch.cat([turned.real, turned.imag], -1)


class Block(nn.Module):
    def __init__(self, width, heads, hidden):
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_glu = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.Module()
        for name in ("to_q", "to_k", "to_v"):
            setattr(self.attention, name, nn.Linear(width, width, bias=False))
        self.attention.to_out = nn.ModuleList([nn.Linear(width, width)])
        self.glu = nn.Module()
        self.glu.to_gate = nn.Linear(width, hidden, bias=False)
        self.glu.to_value = nn.Linear(width, hidden, bias=False)
        self.glu.to_out = nn.Linear(hidden, width, bias=False)

    def forward(self, h):
        x = self.norm_attention(h)
        q, k, v = (
            getattr(self.attention, name)(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for name in ("to_q", "to_k", "to_v")
        )
        attended = F.scaled_dot_product_attention(rotated(q), rotated(k), v, is_causal=True)
        h = h + self.attention.to_out[0](attended.transpose(1, 2).flatten(2))
        x = self.norm_glu(h)
        return h + self.glu.to_out(F.silu(self.glu.to_gate(x)) * self.glu.to_value(x))


class Transformer(Model):
    """Tokens are the values, and one, or one a class, that a sample begins with."""

    def __init__(self, config):
        super().__init__(config | {"family": {"kind": "categorical", "levels": config["levels"]}})
        assert config["kind"] == "softmax"
        self.order, self.levels = config["order"], config["levels"]
        width, heads = config["width"], config["heads"]
        # As many numbers as two gated units of twice the width, 64 shared channels.
        unit = 6 * width**2 + 64 * width + 7 * width + 64 + 4 * 64
        hidden = -(-(2 * unit - (4 * width**2 + 5 * width)) // (3 * width))
        self.model = nn.Module()
        self.model.embedding = nn.Embedding(self.levels + max(config["given"], 1), width)
        self.model.position_scale = nn.Parameter(torch.full((1,), width**-0.5))
        self.model.layers = nn.ModuleList(Block(width, heads, hidden) for _ in range(config["layers"]))
        self.model.norm = nn.LayerNorm(width)

    def forward(self, x, given):
        model, n = self.model, x.shape[1]
        start = torch.zeros(len(x), 1).long() if given is None else given.argmax(1, keepdim=True)
        tokens = torch.cat([start + self.levels, x[:, self.order][:, :-1].long()], 1)
        half = model.embedding.embedding_dim // 2
        angles = torch.arange(n, dtype=torch.float64)[:, None] / 10_000 ** (torch.arange(half, dtype=torch.float64) / half)
        h = model.embedding(tokens) + torch.cat([angles.sin(), angles.cos()], 1).float() * model.position_scale
        for block in model.layers:
            h = block(h)
        logits = model.norm(h) @ model.embedding.weight.T
        return logits[:, places(self.order), : self.levels]
