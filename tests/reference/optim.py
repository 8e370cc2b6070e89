"""Goldens of kiln-optim: torch.optim.AdamW, torch.nn.utils.clip_grad_norm_ and diffusers' EMAModel.

Writes crates/optim/tests/golden/optim.safetensors:

- `quadratic.*`: AdamW on 1/2 sum(scale (p - target)^2), its parameter after each of 50 steps;
- `net.*`: AdamW on a small network, each parameter after each of 50 steps, and its gradient in each;
- `defaults.*`: one parameter under AdamW's defaults, 50 steps with recorded gradients;
- `clip.*`: gradients, and what clip_grad_norm_ makes of them for several maximal norms;
- `ema.*`: weights over 40 updates, a trained and a frozen parameter, and their averages.
"""

from pathlib import Path

import torch
from diffusers.training_utils import EMAModel
from safetensors.torch import save_file

GOLDEN = Path(__file__).resolve().parents[2] / "crates/optim/tests/golden"
STEPS = 50
tensors = {}


def record(name, optimizer, parameters, loss):
    """Writes the start of each parameter, and its trace and its gradients over STEPS steps."""
    traces, gradients = {key: [] for key in parameters}, {key: [] for key in parameters}
    for key, parameter in parameters.items():
        tensors[f"{name}.start.{key}"] = parameter.detach().clone()
    for step in range(STEPS):
        optimizer.zero_grad()
        loss(step).backward()
        optimizer.step()
        for key, parameter in parameters.items():
            traces[key].append(parameter.detach().clone())
            gradients[key].append(parameter.grad.clone())
    for key in parameters:
        tensors[f"{name}.trace.{key}"] = torch.stack(traces[key])
        tensors[f"{name}.gradients.{key}"] = torch.stack(gradients[key])


torch.manual_seed(0)

# Curvatures over three orders of magnitude.
scale, target = torch.logspace(-2, 1, 12), torch.randn(12)
p = torch.nn.Parameter(torch.randn(12) * 2)
tensors["quadratic.scale"], tensors["quadratic.target"] = scale, target
optimizer = torch.optim.AdamW([p], lr=0.05, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1)
record("quadratic", optimizer, {"p": p}, lambda _: (scale * (p - target) ** 2).sum() / 2)

# tanh(x W1 + b1) W2 fitted to y: mean squared error.
x, y = torch.randn(16, 3), torch.randn(16, 2)
net = {
    "w1": torch.nn.Parameter(torch.randn(3, 8)),
    "b1": torch.nn.Parameter(torch.randn(8)),
    "w2": torch.nn.Parameter(torch.randn(8, 2) / 3),
}
tensors["net.x"], tensors["net.y"] = x, y
optimizer = torch.optim.AdamW(net.values(), lr=0.01, weight_decay=0.05)
record("net", optimizer, net, lambda _: ((torch.tanh(x @ net["w1"] + net["b1"]) @ net["w2"] - y) ** 2).mean())

gradients = torch.randn(STEPS, 6) * torch.logspace(-6, 2, 6)
q = torch.nn.Parameter(torch.randn(6))
record("defaults", torch.optim.AdamW([q]), {"q": q}, lambda step: (q * gradients[step]).sum())

a, b = torch.randn(4, 5) * 3, torch.randn(7)
tensors["clip.a"], tensors["clip.b"] = a, b
for max_norm in [0.5, 5.0, 100.0]:
    parameters = [torch.nn.Parameter(torch.zeros_like(g)) for g in (a, b)]
    for parameter, gradient in zip(parameters, (a, b)):
        parameter.grad = gradient.clone()
    tensors["clip.norm"] = torch.nn.utils.clip_grad_norm_(parameters, max_norm).reshape(1).clone()
    tensors[f"clip.{max_norm:g}.a"], tensors[f"clip.{max_norm:g}.b"] = (x.grad for x in parameters)

trained, frozen = torch.nn.Parameter(torch.randn(5)), torch.nn.Parameter(torch.randn(3), requires_grad=False)
ema = EMAModel([trained, frozen], decay=0.7)
names = {"trained": trained, "frozen": frozen}
tensors |= {f"ema.start.{key}": weight.detach().clone() for key, weight in names.items()}
weights, averages = {key: [] for key in names}, {key: [] for key in names}
for _ in range(40):
    with torch.no_grad():
        for weight in names.values():
            weight.add_(torch.randn(weight.shape) / 4)
    ema.step([trained, frozen])
    for (key, weight), average in zip(names.items(), ema.shadow_params):
        weights[key].append(weight.detach().clone())
        averages[key].append(average.detach().clone())
for key in names:
    tensors[f"ema.weights.{key}"] = torch.stack(weights[key])
    tensors[f"ema.averages.{key}"] = torch.stack(averages[key])

GOLDEN.mkdir(parents=True, exist_ok=True)
save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, GOLDEN / "optim.safetensors")
