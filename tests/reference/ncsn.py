"""Files of NCSN and NCSNv2, as their trainings leave them: crates/denoisers/tests/golden/ncsn_*.

    python tests/reference/ncsn.py

There is no package of these networks; they are written here in PyTorch from the papers (Song and Ermon 2019, appendix A; 2020,
appendix B; Lin et al. 2017), with the parameter names and the file layout of what was published: `torch.save` of a list
[weights under "module.", optimizer's state, epoch, step, average]. One case for each network; weights are such that f16 holds
them, and are stored so. `NAME.pth` is the file, `NAME.safetensors` holds sample, levels and both scores. Made with torch 2.15.0.
"""

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from _cases import randomise
from safetensors.torch import save_file
from torch import nn

OUT = Path(__file__).resolve().parents[2] / "crates" / "denoisers" / "tests" / "golden"
# The case's activation; every layer calls this.
ACT = F.elu


class Plus(nn.Module):
    """Instance norm, and beside it the channels' means in comparison with each other."""

    def __init__(self, channels, levels=None):
        super().__init__()
        self.channels = channels
        if levels is None:
            self.alpha = nn.Parameter(torch.ones(channels))
            self.gamma = nn.Parameter(torch.ones(channels))
            self.beta = nn.Parameter(torch.zeros(channels))
        else:
            self.embed = nn.Embedding(levels, 3 * channels)

    def forward(self, x, y):
        if hasattr(self, "embed"):
            gamma, alpha, beta = self.embed(y)[..., None, None].chunk(3, dim=1)
        else:
            gamma, alpha, beta = (p[:, None, None] for p in (self.gamma, self.alpha, self.beta))
        means = x.mean(dim=(2, 3), keepdim=True)
        beside = (means - means.mean(1, keepdim=True)) / (means.var(1, keepdim=True) + 1e-5).sqrt()
        return gamma * (F.instance_norm(x) + alpha * beside) + beta


class Same(nn.Module):
    def forward(self, x, _):
        return x


def conv(inputs, outputs, reach=1, bias=True):
    return nn.Conv2d(inputs, outputs, 3, padding=reach, dilation=reach, bias=bias)


class Halving(nn.Module):
    def __init__(self, inputs, outputs, side):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, side, padding=side // 2)

    def forward(self, x):
        return F.avg_pool2d(self.conv(x), 2)


class Residual(nn.Module):
    def __init__(self, norm, inputs, outputs, reach, changes):
        super().__init__()
        self.normalize1, self.normalize2 = norm(inputs), norm(inputs)
        self.conv1 = conv(inputs, inputs, reach or 1)
        if changes and reach is None:
            self.conv2, self.shortcut = Halving(inputs, outputs, 3), Halving(inputs, outputs, 1)
        else:
            self.conv2 = conv(inputs, outputs, reach or 1)
            if changes:
                self.shortcut = conv(inputs, outputs, reach)

    def forward(self, x, y):
        h = self.conv1(ACT(self.normalize1(x, y)))
        h = self.conv2(ACT(self.normalize2(h, y)))
        return h + (self.shortcut(x) if hasattr(self, "shortcut") else x)


class Units(nn.Module):
    def __init__(self, norm, channels, count):
        super().__init__()
        self.count, self.normed = count, norm is not None
        for i in range(1, count + 1):
            for j in (1, 2):
                if self.normed:
                    self.add_module(f"{i}_{j}_norm", norm(channels))
                self.add_module(f"{i}_{j}_conv", conv(channels, channels, bias=False))

    def forward(self, x, y):
        for i in range(1, self.count + 1):
            h = x
            for j in (1, 2):
                if self.normed:
                    h = self.get_submodule(f"{i}_{j}_norm")(h, y)
                h = self.get_submodule(f"{i}_{j}_conv")(ACT(h))
            x = x + h
        return x


def norms(norm, channels):
    return nn.ModuleList([Same() if norm is None else norm(c) for c in channels])


class Fusion(nn.Module):
    def __init__(self, norm, inputs, outputs):
        super().__init__()
        self.convs = nn.ModuleList([conv(c, outputs) for c in inputs])
        self.norms = norms(norm, inputs)

    def forward(self, xs, size, y):
        each = zip(xs, self.norms, self.convs)
        return sum(F.interpolate(c(n(x, y)), size, mode="bilinear", align_corners=True) for x, n, c in each)


class Chain(nn.Module):
    def __init__(self, norm, channels):
        super().__init__()
        self.convs = nn.ModuleList([conv(channels, channels, bias=False) for _ in range(2)])
        self.norms = norms(norm, [channels] * 2)
        self.pool = F.max_pool2d if norm is None else F.avg_pool2d

    def forward(self, x, y):
        x = path = ACT(x)
        for convolve, norm in zip(self.convs, self.norms):
            path = convolve(self.pool(norm(path, y), 5, 1, 2))
            x = x + path
        return x


class Refine(nn.Module):
    def __init__(self, norm, inputs, outputs, last=False):
        super().__init__()
        self.adapt_convs = nn.ModuleList([Units(norm, c, 2) for c in inputs])
        self.output_convs = Units(norm, outputs, 3 if last else 1)
        if len(inputs) > 1:
            self.msf = Fusion(norm, inputs, outputs)
        self.crp = Chain(norm, outputs)

    def forward(self, xs, y):
        hs = [units(x, y) for x, units in zip(xs, self.adapt_convs)]
        h = self.msf(hs, xs[0].shape[2:], y) if len(xs) > 1 else hs[0]
        return self.output_convs(self.crp(h, y), y)


class Network(nn.Module):
    # name of a stage, its width as a multiple, its dilation; name of the block that joins it
    FOUR = [("res1", 1, None, "refine4"), ("res2", 2, None, "refine3"), ("res3", 2, 2, "refine2")]
    FOUR += [("res4", 2, 4, "refine1")]
    FIVE = [("res1", 1, None, "refine5"), ("res2", 2, None, "refine4"), ("res3", 2, None, "refine3")]
    FIVE += [("res4", 4, 2, "refine2"), ("res5", 4, 4, "refine1")]
    SIX = FIVE[:3] + [("res31", 2, None, "refine31")] + FIVE[3:]

    def __init__(self, stages, channels, width, sigmas, conditional):
        super().__init__()
        levels = len(sigmas) if conditional else None

        def norm(c):
            return Plus(c, levels)

        self.stages, self.conditional = stages, conditional
        if not conditional:
            self.register_buffer("sigmas", sigmas)
        self.begin_conv = conv(channels, width)
        self.normalizer = norm(width)
        self.end_conv = conv(width, channels)
        before = width
        for i, (name, times, reach, _) in enumerate(stages):
            out = width * times
            blocks = [Residual(norm, before, out, reach, i > 0), Residual(norm, out, out, reach, False)]
            self.add_module(name, nn.ModuleList(blocks))
            before = out
        inner = norm if conditional else None
        deepest = len(stages) - 1
        for i, (_, times, _, name) in enumerate(stages):
            inputs = [width * times] * (1 if i == deepest else 2)
            out = inputs[0] if i == deepest else width * stages[max(i - 1, 0)][1]
            self.add_module(name, Refine(inner, inputs, out, last=i == 0))

    def forward(self, x, y):
        h = self.begin_conv(2 * x - 1)
        layers = []
        for name, *_ in self.stages:
            for block in self.get_submodule(name):
                h = block(h, y)
            layers.append(h)
        h = layers.pop()
        h = self.get_submodule(self.stages[-1][3])([h], y)
        for *_, name in reversed(self.stages[:-1]):
            h = self.get_submodule(name)([layers.pop(), h], y)
        h = self.end_conv(ACT(self.normalizer(h, y)))
        return h if self.conditional else h / self.sigmas[y][:, None, None, None]


def geometric(begin, end, count):
    return torch.linspace(math.log(begin), math.log(end), count, dtype=torch.float64).exp().float()


def stored(tensor):
    """Weights as f16, which holds them; levels as they are."""
    return tensor.clone() if tensor.dim() == 1 and tensor.half().float().ne(tensor).any() else tensor.half()


def case(name, stages, channels, width, side, sigmas, conditional, average):
    network = Network(stages, channels, width, sigmas, conditional)
    generator = torch.Generator().manual_seed(1)
    sample = torch.rand(2, channels, *side, generator=generator)
    levels = torch.tensor([0, len(sigmas) - 2])
    numbers = {"sample": sample, "levels": levels}
    with torch.no_grad():
        shadow = {key: stored(value.detach()) for key, value in randomise(network, seed=2).named_parameters()}
        numbers["averaged"] = network(sample, levels)
        randomise(network, seed=3)
        numbers["trained"] = network(sample, levels)
    state = {f"module.{key}": stored(value) for key, value in network.state_dict().items()}
    optimizer = {"state": {0: {"step": 7, "exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 1e-4, "params": [0]}]}
    states = [state, optimizer]
    if average:
        states += [1, 7, shadow]
    else:
        del numbers["averaged"]
    torch.save(states, OUT / f"{name}.pth")
    save_file(numbers, OUT / f"{name}.safetensors")


if __name__ == "__main__":
    case("ncsn", Network.FOUR, 1, 4, (28, 28), geometric(1.0, 0.01, 10), True, False)
    case("ncsn_deeper", Network.FIVE, 1, 2, (16, 8), geometric(1.0, 0.01, 3), True, False)
    case("ncsnv2", Network.FOUR, 3, 4, (16, 16), geometric(50.0, 0.01, 12), False, True)
    case("ncsnv2_deeper", Network.FIVE, 3, 2, (16, 8), geometric(190.0, 0.01, 5), False, True)
    case("ncsnv2_deepest", Network.SIX, 3, 2, (16, 16), geometric(348.0, 0.01, 5), False, True)
