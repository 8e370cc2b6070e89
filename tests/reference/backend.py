"""Goldens of the fused operations: PyTorch's values and gradients.

Writes crates/backend/tests/golden/ops.safetensors. Each case is `NAME.input.K`, `NAME.output` and `NAME.grad.K`, the
gradients of sum(output * probe) with `NAME.probe`.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

GOLDEN = Path(__file__).resolve().parents[2] / "crates/backend/tests/golden"
tensors = {}


def record(name, function, *inputs):
    inputs = [x.clone().requires_grad_() for x in inputs]
    output = function(*inputs)
    probe = torch.randn(output.shape)
    (output * probe).sum().backward()
    tensors[f"{name}.probe"] = probe
    tensors[f"{name}.output"] = output.detach().contiguous()
    for i, x in enumerate(inputs):
        tensors[f"{name}.input.{i}"] = x.detach().contiguous()
        tensors[f"{name}.grad.{i}"] = x.grad.contiguous()


torch.manual_seed(0)
x = torch.cat([torch.randn(200) * 3, torch.tensor([-90.0, -20.0, -6.0, 0.0, 6.0, 20.0, 90.0])]).reshape(1, 1, 9, 23)
record("silu", F.silu, x)
record("gelu", F.gelu, x)
record("gelu_tanh", lambda x: F.gelu(x, approximate="tanh"), x)
record("quick_gelu", lambda x: x * torch.sigmoid(1.702 * x), x)

x = torch.randn(2, 12, 5, 7) * 2 + 3
w, b = torch.randn(12), torch.randn(12)
record("group_norm", lambda x, w, b: F.group_norm(x, 4, w, b, 1e-5), x, w, b)
record("group_norm_silu", lambda x, w, b: F.silu(F.group_norm(x, 3, w, b, 1e-6)), x, w, b)

q, k, v = torch.randn(2, 3, 6, 8), torch.randn(2, 3, 9, 8), torch.randn(2, 3, 9, 5)
mask = torch.randn(1, 3, 6, 9)
record("attention", F.scaled_dot_product_attention, q, k, v)
record("attention_causal", lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True), q, k, v)
record("attention_mask", lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v, attn_mask=m, scale=0.7), q, k, v, mask)

x = torch.randn(1, 2, 5, 6)
for mode in ["nearest", "bilinear", "bicubic"]:
    for size in [(10, 12), (3, 8), (11, 4)]:
        for corners in [None] if mode == "nearest" else [False, True]:
            name = f"{mode}_{size[0]}x{size[1]}" + ("_corners" if corners else "")
            record(name, lambda x: F.interpolate(x, size=size, mode=mode, align_corners=corners), x)

# Five steps of AdamW with a gradient a step.
param = torch.nn.Parameter(torch.randn(7, 5))
optimizer = torch.optim.AdamW([param], lr=0.02, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.1)
tensors["adamw.param.0"] = param.detach().clone()
for step in range(1, 6):
    param.grad = torch.randn(7, 5)
    tensors[f"adamw.grad.{step}"] = param.grad.clone()
    optimizer.step()
    tensors[f"adamw.param.{step}"] = param.detach().clone()
state = optimizer.state[param]
tensors["adamw.first_moment"] = state["exp_avg"].clone()
tensors["adamw.second_moment"] = state["exp_avg_sq"].clone()

record("elu", F.elu, tensors["silu.input.0"])

GOLDEN.mkdir(parents=True, exist_ok=True)
save_file(tensors, GOLDEN / "ops.safetensors")
