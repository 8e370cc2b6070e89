"""What the numbers of a site mean, in PyTorch: log p in nats by the formulas of `crates/autoregressive/src/family.rs`' sources.

Salimans et al. 2017 for the mixture of discretised logistics, Uria et al. 2013 for the mixture of normals. No program of its own: see
`autoregressive_twin.py` and `autoregressive.py`. Made with torch 2.15.0.
"""

import math

import torch
import torch.nn.functional as F
from torch.distributions import Categorical, MixtureSameFamily, Normal


def width(family):
    match family["kind"]:
        case "bernoulli":
            return 1
        case "categorical":
            return family["levels"]
        case "gaussian_mixture":
            return 3 * family["components"]
        case "logistic_mixture":
            c = family["channels"]
            return family["components"] * (1 + 2 * c + c * (c - 1) // 2)


def shown(family, x):
    """The values as a network is shown them."""
    match family["kind"]:
        case "categorical":
            return x / (family["levels"] - 1)
        case "logistic_mixture":
            return 2 * x / (family["levels"] - 1) - 1
    return x


def log_prob(family, numbers, x):
    """[batch, sites, width] and [batch, variables] to [batch, sites]."""
    match family["kind"]:
        case "bernoulli":
            return -F.binary_cross_entropy_with_logits(numbers[..., 0], x, reduction="none")
        case "categorical":
            return Categorical(logits=numbers).log_prob(x)
        case "gaussian_mixture":
            logits, means, log_stds = numbers.chunk(3, -1)
            return MixtureSameFamily(Categorical(logits=logits), Normal(means, log_stds.exp())).log_prob(x)
        case "logistic_mixture":
            return discretised_logistics(family, numbers, x)


def discretised_logistics(family, numbers, x):
    """By the difference of two distribution functions, in f64: what PixelCNN++'s paper writes down."""
    levels, channels, components = family["levels"], family["channels"], family["components"]
    batch, sites, _ = numbers.shape
    parts = numbers.double().unflatten(-1, (-1, components)).unbind(-2)
    x = shown(family, x.double()).view(batch, channels, sites)[..., None]
    total = parts[0].log_softmax(-1)
    moves = [part.tanh() for part in parts[1 + 2 * channels :]]
    for c in range(channels):
        mean, log_scale = parts[1 + 2 * c], parts[2 + 2 * c].clamp(min=-7)
        for earlier in range(c):
            mean = mean + moves[c * (c - 1) // 2 + earlier] * x[:, earlier]
        v, half = x[:, c], 1 / (levels - 1)
        upper = torch.where(v > 1 - half, math.inf, v + half)
        lower = torch.where(v < half - 1, -math.inf, v - half)
        mass = ((upper - mean) / log_scale.exp()).sigmoid() - ((lower - mean) / log_scale.exp()).sigmoid()
        total = total + mass.clamp(min=1e-300).log()
    return total.logsumexp(-1).to(numbers.dtype)
