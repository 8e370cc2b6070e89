"""Models of vectors in PyTorch, from their papers: independent variables, FVSBN, NADE and RNADE, orderless NADE, MADE.

Every module takes [batch, variables] and what is given (or None), and gives the numbers of each site, [batch, sites, width]; its parameters
have the names of Kiln's files. No program of its own: see `autoregressive_twin.py`. Made with torch 2.15.0.
"""

import torch
import torch.nn.functional as F
from torch import nn

import _autoregressive_families as families
from _autoregressive_philox import uniforms


def places(order):
    """The place of each variable."""
    return torch.tensor(order).argsort()


class Given(nn.Module):
    """A map of what is given, if anything is."""

    def __init__(self, given, outputs):
        super().__init__()
        if given:
            self.linear = nn.Linear(given, outputs, bias=False)

    def forward(self, given):
        return self.linear(given) if hasattr(self, "linear") else 0.0

    def everywhere(self, given):
        return self.linear(given)[..., None, None] if hasattr(self, "linear") else 0.0


class Model(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.family = config.get("family", {"kind": "bernoulli"})
        self.width = families.width(self.family)

    def log_prob(self, x, given):
        """[batch]."""
        return families.log_prob(self.family, self(x, given), x).sum(1)

    def loss(self, x, given, first_sample):
        return -self.log_prob(x, given).mean()


class Independent(Model):
    def __init__(self, config):
        super().__init__(config)
        self.bias = nn.Parameter(torch.zeros(config["variables"], self.width))
        self.given = Given(config["given"], config["variables"] * self.width)

    def forward(self, x, given):
        return self.bias + torch.zeros_like(x)[..., None] + offset(self.given(given), self.bias.shape)


def offset(y, shape):
    return y if isinstance(y, float) else y.unflatten(1, shape)


class Fvsbn(Model):
    def __init__(self, config):
        super().__init__(config)
        at = places(config["order"])
        n = len(at)
        self.weight = nn.Parameter(torch.zeros(n, n * self.width))
        self.bias = nn.Parameter(torch.zeros(n * self.width))
        self.given = Given(config["given"], n * self.width)
        mask = (at[:, None] < at.repeat_interleave(self.width)[None, :]).float()
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x, given):
        y = families.shown(self.family, x) @ (self.weight * self.mask) + self.bias + self.given(given)
        return y.unflatten(1, (-1, self.width))


class Nade(Model):
    """By the running sum of the paper, all variables' hidden layers side by side."""

    def __init__(self, config):
        super().__init__(config)
        self.order = config["order"]
        n, d = len(self.order), config["hidden"]
        self.encoder = nn.Linear(n, d)
        self.decoder = nn.Parameter(torch.zeros(n, d, self.width))
        self.bias = nn.Parameter(torch.zeros(n, self.width))
        self.given = Given(config["given"], d)
        self.rectified = config["units"] == "rectified"
        if self.rectified:
            self.scale = nn.Parameter(torch.zeros(n))

    def forward(self, x, given):
        order = torch.tensor(self.order)
        x = families.shown(self.family, x)[:, order]
        terms = x[:, :-1, None] * self.encoder.weight.T[order[:-1]]
        start = (self.encoder.bias + self.given(given)).expand(len(x), -1)
        a = torch.cat([start[:, None], terms], 1).cumsum(1)
        h = (a * self.scale[order, None]).relu() if self.rectified else a.sigmoid()
        y = torch.einsum("bnd,ndw->bnw", h, self.decoder[order]) + self.bias[order]
        return y[:, places(self.order)]


class OrderlessNade(Model):
    def __init__(self, config):
        super().__init__(config)
        self.order = config["order"]
        n, widths = len(self.order), config["hidden"]
        self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in zip([2 * n] + widths, widths))
        self.output = nn.Linear(widths[-1], n * self.width)
        self.given = Given(config["given"], widths[0])

    def told(self, x, seen, given):
        h = self.layers[0](torch.cat([families.shown(self.family, x) * seen, seen], 1)) + self.given(given)
        for layer in self.layers[1:]:
            h = layer(h.relu())
        return self.output(h.relu()).unflatten(1, (-1, self.width))

    def forward(self, x, given):
        at = places(self.order)
        columns = [self.told(x, (at < at[i]).float().expand_as(x), given)[:, i] for i in range(x.shape[1])]
        return torch.stack(columns, 1)

    def loss(self, x, given, first_sample):
        """One order and one place in it a row, by Kiln's own numbers: a function of seed, sample and draw."""
        batch, n = x.shape
        counts = torch.from_numpy(uniforms(1, batch, first_sample, 1 << 62)[0]).double()
        counts = (counts * n).long()
        ranks = torch.from_numpy(uniforms(batch, n, first_sample)).argsort(dim=1, stable=True).argsort(1)
        seen = (ranks < counts[:, None]).float()
        each = families.log_prob(self.family, self.told(x, seen, given), x)
        return -((each * (1 - seen)).sum(1) * n / (n - counts)).mean()


class Made(Model):
    """Under its first wiring, whose hidden units have evenly spread degrees."""

    def __init__(self, config):
        super().__init__(config)
        wiring, *others = config["wirings"]
        assert not others and wiring["degrees"] is None
        inputs = places(wiring["order"]) + 1
        outputs, widths, n = inputs.repeat_interleave(self.width), config["hidden"], len(inputs)
        self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in zip([n] + widths, widths))
        self.output = nn.Linear(widths[-1], n * self.width)
        self.direct = nn.Linear(n, n * self.width, bias=False) if config["direct"] == "masked" else None
        self.given_hidden = Given(config["given"], widths[0])
        self.given_output = Given(config["given"], n * self.width)
        degrees, least, masks = inputs, 1, []
        for hidden in widths:
            spread = torch.tensor([least + unit * (n - least) // hidden for unit in range(hidden)])
            masks.append((spread[:, None] >= degrees[None, :]).float())
            degrees, least = spread, int(spread.min())
        self.masks = masks
        self.output_mask = (outputs[:, None] > degrees[None, :]).float()
        self.direct_mask = (outputs[:, None] > inputs[None, :]).float()

    def forward(self, x, given):
        x = families.shown(self.family, x)
        h = x
        for i, (layer, mask) in enumerate(zip(self.layers, self.masks)):
            h = F.linear(h, layer.weight * mask, layer.bias)
            h = (h + self.given_hidden(given) if i == 0 else h).relu()
        y = F.linear(h, self.output.weight * self.output_mask, self.output.bias) + self.given_output(given)
        if self.direct is not None:
            y = y + F.linear(x, self.direct.weight * self.direct_mask)
        return y.unflatten(1, (-1, self.width))
