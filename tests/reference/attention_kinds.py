"""Goldens of attention beyond softmax in several heads: grouped heads and caps, linear attention, low rank, gated units, FLASH,
and positions.

    python tests/reference/attention_kinds.py

Writes crates/attention/tests/golden/kinds.safetensors: for each case its inputs, weights and output under CASE.NAME. Where
torch or transformers has the operation, theirs is called; the others are computed here from their definitions, in float64 and
with all similarities at once. Made with torch 2.15.0 and transformers 5.23.0.
"""

import math

import torch
import torch.nn.functional as F
from _cases import CASES
from safetensors.torch import save_file
from transformers import LlamaConfig, NystromformerConfig
from transformers.models.bloom.modeling_bloom import build_alibi_tensor
from transformers.models.gptj.modeling_gptj import apply_rotary_pos_emb as adjacent_rotary
from transformers.models.gptj.modeling_gptj import create_sinusoidal_positions
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb
from transformers.models.nystromformer.modeling_nystromformer import NystromformerSelfAttention
from transformers.models.t5.modeling_t5 import T5Attention

GOLDEN = CASES.parents[1] / "crates/attention/tests/golden"
TENSORS = {}


def put(case, **tensors):
    for name, tensor in tensors.items():
        tensor = tensor.detach()
        TENSORS[f"{case}.{name}"] = (tensor.float() if tensor.is_floating_point() else tensor).contiguous().clone()


def draw(seed, *shapes, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return [(torch.randn(shape, generator=generator) * scale).float().double() for shape in shapes]


def future(n):
    return torch.ones(n, n, dtype=torch.bool).triu(1)


def grouped():
    for seed, (groups, causal) in enumerate([(2, False), (2, True), (1, True), (4, False)]):
        q, k, v = draw(seed, (2, 4, 5, 6), (2, groups, 5, 6), (2, groups, 5, 6))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=True)
        put(f"grouped.{groups}.{'causal' if causal else 'all'}", q=q, k=k, v=v, y=y)
    q, k, v = draw(9, (2, 4, 5, 6), (2, 2, 5, 6), (2, 2, 5, 6), scale=2.0)
    scores = q @ k.repeat_interleave(2, 1).mT / math.sqrt(6)
    scores = (1.5 * torch.tanh(scores / 1.5)).masked_fill(future(5), -math.inf)
    put("capped", q=q, k=k, v=v, y=scores.softmax(-1) @ v.repeat_interleave(2, 1))


def normalised(similarity, v, causal):
    if causal:
        similarity = similarity.masked_fill(future(similarity.shape[-1]), 0)
    # Nothing is similar to a query: it gets zeros.
    return similarity / similarity.sum(-1, keepdim=True).clamp(min=1e-12) @ v


def linear():
    shape = (2, 3, 11, 6)
    q, k, v = draw(20, shape, shape, (2, 3, 11, 5))
    put("linear", q=q, k=k, v=v)
    n = shape[2]
    norm = lambda x: x / x.norm(dim=-1, keepdim=True)
    i = torch.arange(n, dtype=torch.float64)
    maps = {
        "elu_plus_one": (F.elu(q) + 1) @ (F.elu(k) + 1).mT,
        "relu": F.relu(q) @ F.relu(k).mT,
        "squared_relu": F.relu(q) ** 2 @ (F.relu(k) ** 2).mT,
        "exp": q.exp() @ k.exp().mT,
        "taylor": 1 + norm(q) @ norm(k).mT,
        "cosine": F.relu(q) @ F.relu(k).mT * torch.cos(math.pi / 2 * (i[:, None] - i) / 16),
    }
    (w,) = draw(21, (10, 6))
    x = lambda x: x / 6**0.25
    phi = lambda x: (x @ w.mT - x.square().sum(-1, keepdim=True) / 2).exp() / math.sqrt(10)
    maps["random"] = phi(x(q)) @ phi(x(k)).mT
    weight, bias = draw(22, (3, 6, 7), (3, 7))
    phi = lambda x: F.relu(x @ weight + bias[:, None])
    maps["learned"] = phi(q) @ phi(k).mT
    put("linear", projection=w, weight=weight, bias=bias)
    for name, similarity in maps.items():
        for causal in [False, True]:
            put(f"linear.{name}", **{"causal" if causal else "all": normalised(similarity, v, causal)})
    both = q.softmax(-1) @ (k.softmax(-2).mT @ v)
    # Of the past alone, keys are normalised over the past.
    steps = [q[:, :, t : t + 1].softmax(-1) @ (k[:, :, : t + 1].softmax(-2).mT @ v[:, :, : t + 1]) for t in range(n)]
    put("linear.two_softmax", all=both, causal=torch.cat(steps, 2))
    visible = torch.tensor([[1] * 7 + [0] * 4, [0, 1, 1, 1, 0, 1, 0, 1, 1, 1, 0]])
    similarity = maps["elu_plus_one"] * visible[:, None, None]
    put("linear.masked", visible=visible, all=normalised(similarity, v, False))


def low_rank():
    q, k, v, e, f = draw(30, (2, 3, 7, 6), (2, 3, 7, 6), (2, 3, 7, 6), (4, 9), (4, 9))
    y = F.scaled_dot_product_attention(q, e[:, :7] @ k, f[:, :7] @ v)
    put("linformer", q=q, k=k, v=v, key=e, value=f, y=y)
    put("linformer.shared", y=F.scaled_dot_product_attention(q, e[:, :7] @ k, e[:, :7] @ v))
    for landmarks in [4, 12]:
        config = NystromformerConfig(
            hidden_size=12, num_attention_heads=2, num_landmarks=landmarks, segment_means_seq_len=12,
            attention_probs_dropout_prob=0.0, inv_coeff_init_option=False,
        )  # fmt: skip
        layer = NystromformerSelfAttention(config).double().eval()
        layer.conv_kernel_size = None
        q, k, v = draw(31, (2, 12, 12), (2, 12, 12), (2, 12, 12))
        # In place of the projections of one input.
        layer.query.forward, layer.key.forward, layer.value.forward = (lambda _, x=x: x for x in (q, k, v))
        put(f"nystrom.{landmarks}", q=q, k=k, v=v, y=layer(q)[0])


def sparse():
    shape = (2, 2, 13, 4)
    q, k, v = draw(40, shape, shape, shape)
    put("sparse", q=q, k=k, v=v)
    offset = torch.arange(13)[None] - torch.arange(13)[:, None]
    near, regular = offset.abs() <= 2, offset % 4 == 0
    for name, seen in {"local": near, "atrous": regular, "strided": near | regular}.items():
        put(f"sparse.{name}", all=F.scaled_dot_product_attention(q, k, v, attn_mask=seen))
        put(f"sparse.{name}", causal=F.scaled_dot_product_attention(q, k, v, attn_mask=seen & (offset <= 0)))


def bias_of(table, n, causal):
    offset = torch.arange(n)[None] - torch.arange(n)[:, None]
    bucket = T5Attention._relative_position_bucket(offset, not causal, table.shape[0], 16)
    return table[bucket, 0]


def turned(x):
    """Rotary positions of `[batch, heads, n, s]`, halves."""
    n, s = x.shape[-2:]
    angle = torch.arange(n, dtype=torch.float64)[:, None] * 10000.0 ** (-torch.arange(0, s, 2, dtype=torch.float64) / s)
    a, b = x.chunk(2, -1)
    return torch.cat([a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()], -1)


def laplace(x):
    return 0.5 * (1 + torch.erf((x - math.sqrt(0.5)) / (math.sqrt(1 / (4 * math.pi)) * math.sqrt(2))))


def unit_weights(seed, heads, width=6, hidden=12, s=8):
    """Under the names of the layer's parameters."""
    shapes = {"unit.norm.weight": (width,), "unit.norm.bias": (width,)}
    for name, (to, of) in dict(gate=(hidden, width), value=(hidden, width), shared=(s, width), out=(width, hidden)).items():
        shapes |= {f"unit.to_{name}.weight": (to, of), f"unit.to_{name}.bias": (to,)}
    shapes |= {"shared.scale": (heads, s), "shared.offset": (heads, s), "bias.weight": (8, 1)}
    return dict(zip(shapes, draw(seed, *shapes.values(), scale=0.7)))


def project(x, w, name):
    return F.linear(x, w[f"unit.to_{name}.weight"], w[f"unit.to_{name}.bias"])


def unit(x, w):
    normed = F.layer_norm(x, x.shape[-1:], w["unit.norm.weight"], w["unit.norm.bias"], 1e-5)
    u, v, z = (F.silu(project(normed, w, name)) for name in ["gate", "value", "shared"])
    return u, v, turned(z[:, None] * w["shared.scale"][:, None] + w["shared.offset"][:, None])


def weights_of(function, products, bias, seen, count, s):
    if function == "softmax":
        return (products / math.sqrt(s) + bias).masked_fill(~seen, -math.inf).softmax(-1)
    scores = products / count + bias
    return (F.relu(scores) ** 2 if function == "squared_relu" else laplace(scores)) * seen


def gau():
    n, visible = 9, torch.tensor([[1] * 9, [1] * 6 + [0] * 3])
    x, w = draw(50, (2, n, 6))[0], unit_weights(51, 2)
    put("gau", x=x, visible=visible, **{f"layer.{name}": weight for name, weight in w.items()})
    u, v, heads = unit(x, w)
    products = heads[:, 0] @ heads[:, 1].mT
    for function in ["squared_relu", "laplace", "softmax"]:
        for causal in [False, True]:
            seen = visible[:, None].bool().expand(2, n, n)
            seen = seen & ~future(n) if causal else seen
            bias = bias_of(w["bias.weight"], n, causal)
            a = weights_of(function, products, bias, seen, seen.sum(-1, keepdim=True), 8)
            y = x + project(u * (a @ v), w, "out")
            put(f"gau.{function}", **{"causal" if causal else "all": y})


def flash():
    """Token by token: which chunk each is in decides what it sees."""
    n, g, visible = 11, 4, torch.tensor([[1] * 11, [1] * 6 + [0] * 5])
    x, w = draw(60, (2, n, 6))[0], unit_weights(61, 4)
    put("flash", x=x, visible=visible, **{f"layer.{name}": weight for name, weight in w.items()})
    u, v, heads = unit(x, w)
    q, k, q_far, k_far = heads.unbind(1)
    chunk = torch.arange(n) // g
    for causal in [False, True]:
        seen = visible[:, None].bool() & (chunk[:, None] == chunk)
        seen = seen & ~future(n) if causal else seen
        near = weights_of("squared_relu", q @ k.mT, bias_of(w["bias.weight"], n, causal), seen, g, 8) @ v
        far = visible[:, None].bool() & ((chunk < chunk[:, None]) if causal else torch.ones(n, n, dtype=torch.bool))
        far = (q_far @ k_far.mT * far) / far.sum(-1, keepdim=True).clamp(min=1) @ v
        y = x + project(u * (near + far), w, "out")
        put("flash", **{"causal" if causal else "all": y})


def positions():
    q, k = draw(70, (2, 2, 5, 8), (2, 2, 5, 8))
    put("rotary", x=q)
    config = LlamaConfig(hidden_size=16, num_attention_heads=2, max_position_embeddings=32)
    places = torch.arange(3, 8)[None]
    for name, parameters in {
        "plain": dict(rope_type="default", rope_theta=10000.0),
        "base": dict(rope_type="default", rope_theta=500.0),
        "linear": dict(rope_type="linear", rope_theta=10000.0, factor=4.0),
    }.items():
        config.rope_parameters = parameters
        cos, sin = LlamaRotaryEmbedding(config)(q.float(), places)
        put("rotary", **{name: apply_rotary_pos_emb(q.float(), k.float(), cos, sin)[0]})
    table = create_sinusoidal_positions(32, 8)[3:8][None]
    sin, cos = table.chunk(2, -1)
    put("rotary", adjacent=adjacent_rotary(q.float().transpose(1, 2), sin, cos).transpose(1, 2))
    for heads in [4, 6, 12]:
        # A bias of keys' places: softmax over keys sees only differences.
        alibi = build_alibi_tensor(torch.ones(1, 7), heads, torch.float32)
        put("alibi", **{str(heads): alibi.reshape(heads, 7)})


if __name__ == "__main__":
    for cases in [grouped, linear, low_rank, sparse, gau, flash, positions]:
        cases()
    save_file(TENSORS, GOLDEN / "kinds.safetensors")
    print(f"{len(TENSORS)} tensors, {sum(t.nbytes for t in TENSORS.values())} bytes")
