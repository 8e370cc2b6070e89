"""Goldens of attention: diffusers' `Attention` layer, and T5's buckets of relative positions.

    python tests/reference/attention.py

Writes crates/attention/tests/golden/softmax.safetensors (each layer's weights under CASE.layer., its inputs and its output)
and t5_buckets.json. Made with torch 2.15.0, diffusers 0.42.1 and transformers 5.23.0.
"""

import json

import torch
from _cases import CASES, randomise
from diffusers.models.attention_processor import Attention
from safetensors.torch import save_file
from transformers.models.t5.modeling_t5 import T5Attention

GOLDEN = CASES.parents[1] / "crates/attention/tests/golden"

# name: (options, tokens of the sample and of the context, mask)
LAYERS = {
    "self": (dict(), (7, None), None),
    "cross": (dict(cross_attention_dim=10), (5, 3), None),
    "bias": (dict(bias=True), (6, None), None),
    "rms": (dict(qk_norm="rms_norm", eps=1e-6), (6, None), None),
    "rms_large_eps": (dict(qk_norm="rms_norm", eps=0.1, bias=True), (6, None), None),
    "layer_norm": (dict(qk_norm="layer_norm", eps=1e-6, cross_attention_dim=10), (6, 4), None),
    "layer_norm_large_eps": (dict(qk_norm="layer_norm", eps=0.1), (6, None), None),
    "one_head": (dict(heads=1, dim_head=12, upcast_attention=True), (4, None), None),
    "masked": (dict(cross_attention_dim=10), (5, 8), [1, 1, 0, 1, 1, 1, 0, 0]),
}


def layers():
    tensors = {}
    for seed, (name, (options, (n, m), mask)) in enumerate(LAYERS.items()):
        torch.manual_seed(seed)
        layer = randomise(Attention(**{**dict(query_dim=12, heads=3, dim_head=8), **options}), seed)
        x = torch.randn(2, n, 12)
        context = torch.randn(2, m, 10) if m else None
        arguments = {}
        if mask is not None:
            visible = torch.tensor(mask, dtype=torch.bool)
            tensors[f"{name}.visible"] = visible.to(torch.int64)[None].repeat(2, 1)
            bias = torch.zeros(1, 1, len(mask)).masked_fill(~visible, float("-inf"))
            arguments = dict(attention_mask=bias.expand(2, 1, -1))
        with torch.no_grad():
            y = layer(x, encoder_hidden_states=context, **arguments)
        tensors |= {f"{name}.layer.{key}": value for key, value in layer.state_dict().items()}
        tensors |= {f"{name}.x": x, f"{name}.y": y}
        if context is not None:
            tensors[f"{name}.context"] = context
    tensors = {key: value.contiguous().clone() for key, value in tensors.items()}
    save_file(tensors, GOLDEN / "softmax.safetensors")


def buckets():
    cases = []
    for count, distance in [(32, 128), (8, 16), (14, 12), (6, 100), (64, 512), (4, 3), (32, 9), (33, 128)]:
        for bidirectional in [True, False]:
            reach = 2 * distance
            offsets = torch.arange(-reach, reach + 1)
            found = T5Attention._relative_position_bucket(offsets, bidirectional, count, distance)
            if not bidirectional and count // 2 >= distance:
                continue
            cases.append(dict(buckets=count, max_distance=distance, bidirectional=bidirectional, first=-reach, of=found.tolist()))
    (GOLDEN / "t5_buckets.json").write_text(json.dumps(cases, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    GOLDEN.mkdir(parents=True, exist_ok=True)
    layers()
    buckets()
