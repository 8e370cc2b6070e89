"""Goldens of kiln-optim: torch.optim.Adam and AdamW, torch.nn.utils.clip_grad_norm_ and diffusers' EMAModel.

torch 2.15.0, diffusers 0.42.1. Writes crates/optim/tests/golden/optim.safetensors:

- `quadratic.*`: AdamW on 1/2 sum(scale (p - target)^2), its parameter after each of 50 steps;
- `net.*`: AdamW on a small network, each parameter after each of 50 steps, and its gradient in each;
- `defaults.*`: one parameter under AdamW's defaults, 50 steps with recorded gradients;
- `clip.*`: gradients, and what clip_grad_norm_ makes of them for several maximal norms;
- `ema.*`: weights over 40 updates, a trained and a frozen parameter, and their averages; with power warm-up as well;
- `option.*`: Adam and AdamW on recorded gradients, 50 steps for each option; cautious decay, which torch.optim lacks, by its
  formula (Chen et al. 2025) around torch's step without decay;
- `groups.*`: a network in three parameter groups under a cosine schedule, 50 steps with recorded gradients;

and crates/optim/tests/golden/adam*.pt, states of optimizers over a small network as torch.save writes them, with
`resume.*`: its gradients over 20 steps, and its parameters after 10 and after each of the 10 that follow the saving.
"""

from pathlib import Path

import torch
from diffusers.training_utils import EMAModel
from safetensors.torch import save_file

GOLDEN = Path(__file__).resolve().parents[2] / "crates/optim/tests/golden"
STEPS = 50
GOLDEN.mkdir(parents=True, exist_ok=True)
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

# The same weights, another warm-up.
start = torch.nn.Parameter(tensors["ema.start.trained"].clone())
ema = EMAModel(
    [start], decay=0.9, min_decay=0.3, update_after_step=5, use_ema_warmup=True, inv_gamma=2.0, power=0.75
)
averages = []
for weight in tensors["ema.weights.trained"]:
    ema.step([torch.nn.Parameter(weight)])
    averages.append(ema.shadow_params[0].detach().clone())
tensors["ema.power.averages.trained"] = torch.stack(averages)

# Gradients that grow and shrink, so that the largest second moment is not the last one.
scales = torch.logspace(-3, 1, 12)
gradients = torch.randn(STEPS, 12) * scales * (1.5 + torch.sin(torch.arange(STEPS) / 4))[:, None]
start = torch.randn(12)
tensors["option.gradients"], tensors["option.start"] = gradients, start


def trace(make, after=lambda p, before, optimizer: None):
    p = torch.nn.Parameter(start.clone())
    optimizer = make([p])
    rows = []
    for gradient in gradients:
        before = p.detach().clone()
        p.grad = gradient.clone()
        optimizer.step()
        after(p, before, optimizer)
        rows.append(p.detach().clone())
    return torch.stack(rows)


LR, DECAY = 0.02, 0.1
adam, adamw = torch.optim.Adam, torch.optim.AdamW
for name, kind in {"adam": adam, "adamw": adamw}.items():
    for option, options in {
        "plain": {"weight_decay": 0.0},
        "decay": {"weight_decay": DECAY},
        "amsgrad": {"weight_decay": DECAY, "amsgrad": True},
        "maximise": {"weight_decay": DECAY, "maximize": True},
        "betas": {"weight_decay": DECAY, "betas": (0.8, 0.95), "eps": 1e-4},
        "all": {"weight_decay": DECAY, "amsgrad": True, "maximize": True, "betas": (0.7, 0.9), "eps": 1e-6},
    }.items():
        tensors[f"option.{name}.{option}"] = trace(lambda p: kind(p, lr=LR, **options))
tensors["option.adam.defaults"] = trace(lambda p: adam(p))


def cautiously(p, before, optimizer):
    """p - lr (u + decay 1[u p >= 0] p), u being torch's update without decay, whose sign is exp_avg's."""
    with torch.no_grad():
        aligned = optimizer.state[p]["exp_avg"] * before >= 0
        p -= LR * DECAY * aligned * before


tensors["option.adamw.cautious"] = trace(lambda p: adamw(p, lr=LR, weight_decay=0.0), cautiously)
tensors["option.adamw.cautious_amsgrad"] = trace(
    lambda p: adamw(p, lr=LR, weight_decay=0.0, amsgrad=True), cautiously
)


class Net(torch.nn.Module):
    """Named as the module of the tests is."""

    def __init__(self):
        super().__init__()
        self.backbone = torch.nn.Linear(3, 4)
        self.norm = torch.nn.LayerNorm(4)
        self.head = torch.nn.Linear(4, 4)

    def forward(self, x):
        return self.head(torch.tanh(self.norm(self.backbone(x))))


def gradients_of(net):
    loss = (net(torch.randn(8, 3)) - torch.randn(8, 4)).square().mean()
    return dict(zip(dict(net.named_parameters()), torch.autograd.grad(loss, list(net.parameters()))))


def write_step(name, net, gradients, step):
    for key, parameter in net.named_parameters():
        parameter.grad = gradients[key].clone()
        tensors[f"{name}.{step}.gradient.{key}"] = gradients[key].clone()


def write_parameters(name, net):
    tensors.update({f"{name}.{key}": value.detach().clone() for key, value in net.named_parameters()})


net = Net()
write_parameters("groups.start", net)
named = dict(net.named_parameters())
backbone = {"backbone.weight", "backbone.bias"}
bare = {key for key in named if key.endswith("bias") or key.startswith("norm")} - backbone
optimizer = torch.optim.AdamW(
    [
        {"params": [named[key] for key in sorted(backbone)], "lr": 0.001},
        {"params": [named[key] for key in sorted(bare)], "weight_decay": 0.0},
        {"params": [named[key] for key in named if key not in backbone | bare]},
    ],
    lr=0.01,
    weight_decay=0.3,
)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=STEPS)
for step in range(STEPS):
    write_step("groups", net, gradients_of(net), step)
    optimizer.step()
    schedule.step()
    if step in (0, 9, STEPS - 1):
        write_parameters(f"groups.{step}.after", net)

for name, make in {
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1, amsgrad=True),
}.items():
    net = Net()
    optimizer = make(net.parameters())
    for step in range(20):
        if step == 10:
            torch.save(optimizer.state_dict(), GOLDEN / f"{name}.pt")
            write_parameters(f"resume.{name}.saved", net)
        write_step(f"resume.{name}", net, gradients_of(net), step)
        optimizer.step()
    write_parameters(f"resume.{name}.end", net)

save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, GOLDEN / "optim.safetensors")
