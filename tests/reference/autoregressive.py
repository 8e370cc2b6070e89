"""Goldens of kiln-autoregressive: log p of a few samples by models that are written in PyTorch from their papers.

Writes crates/autoregressive/tests/golden/NAME.safetensors, one a model: its weights under Kiln's names, drawn anew with a standard deviation of
0.4 or 0.2, and in `_golden.*` the samples, what they are given with and log p of each site; metadata `config` is Kiln's configuration. The models stand
in the `_autoregressive_*.py` beside this file. Run from the repository's root: python tests/reference/autoregressive.py

Made with torch 2.15.0, safetensors.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

import _autoregressive_families as families
from autoregressive_twin import build

OUT = Path(__file__).resolve().parents[2] / "crates/autoregressive/tests/golden"
ORDER = [3, 0, 5, 1, 4, 2]
BERNOULLI = {"kind": "bernoulli"}
SIX = {"order": ORDER, "family": BERNOULLI, "given": 3}


def canvas(family, height=4, width=5, channels=1):
    return {"channels": channels, "height": height, "width": width, "family": family}


def categorical(levels):
    return {"kind": "categorical", "levels": levels}


def logistics(channels):
    return {"kind": "logistic_mixture", "levels": 16, "components": 2, "channels": channels}


RNN = {"hidden": 3, "layers": 2, "kernel": 3, "given": 2}
PLUS_PLUS = {"features": 3, "blocks": 1, "halvings": 2, "dropout": 0.0}
CASES = {
    "fvsbn": {"fvsbn": SIX},
    "nade": {"nade": SIX | {"hidden": 7, "units": "sigmoid"}},
    "rnade": {
        "nade": SIX | {"family": {"kind": "gaussian_mixture", "components": 2}, "hidden": 7, "units": "rectified", "given": 0}
    },
    "orderless_nade": {"orderless_nade": SIX | {"hidden": [7, 6]}},
    "made": {
        "made": {
            "wirings": [{"order": ORDER, "degrees": None}],
            "hidden": [9, 8],
            "family": categorical(3),
            "direct": "masked",
            "given": 3,
        }
    },
    "recurrent": {"recurrent": SIX | {"hidden": 5, "layers": 2}},
    "wave_net": {"wave_net": SIX | {"channels": 3, "skip_channels": 4, "layers": 2, "stacks": 2, "kernel": 3}},
    "transformer": {
        "transformer": {"order": ORDER, "levels": 3, "kind": "softmax", "width": 8, "layers": 2, "heads": 2, "given": 3}
    },
    "row_lstm": {"pixel_rnn": RNN | {"canvas": canvas(BERNOULLI), "recurrence": "row_lstm"}},
    "diagonal_bilstm": {"pixel_rnn": RNN | {"canvas": canvas(BERNOULLI), "recurrence": "diagonal_bi_lstm"}},
    "pixel_cnn": {"pixel_cnn": {"canvas": canvas(categorical(4), channels=3), "features": 6, "blocks": 2, "kernel": 5, "given": 2}},
    "gated_pixel_cnn": {
        "gated_pixel_cnn": {
            "canvas": canvas(BERNOULLI, 5, 6), "features": 3, "layers": 2, "first_kernel": 5, "kernel": 3, "given": 2,
        }
    },
    "pixel_cnn_plus_plus": {"pixel_cnn_plus_plus": PLUS_PLUS | {"canvas": canvas(logistics(3), 5, 7, 3), "given": 2}},
}


def samples(model, n):
    kind = model.family["kind"]
    if kind == "gaussian_mixture":
        return torch.randn(3, n)
    return torch.randint(model.family.get("levels", 2), (3, n)).float()


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    for seed, (name, config) in enumerate(CASES.items()):
        torch.manual_seed(seed)
        (fields,) = config.values()
        model = build(config).eval()
        with torch.no_grad():
            # Deeper, so that fewer wild values are wanted: in tails the formula with two distribution functions has no digits.
            std = 0.2 if name == "pixel_cnn_plus_plus" else 0.4
            for weight in model.parameters():
                # A number of few binary digits, so that a small file holds it whole.
                weight.copy_((std * torch.randn_like(weight)).half())
            n = model.size[0] * model.size[1] * model.size[2] if hasattr(model, "size") else len(ORDER)
            x = samples(model, n)
            given = torch.eye(fields["given"])[torch.arange(3) % fields["given"]] if fields["given"] else None
            each = families.log_prob(model.family, model(x, given), x)
        tensors = {key: value.half().contiguous() for key, value in model.state_dict().items()}
        tensors |= {"_golden.x": x, "_golden.log_prob": each.contiguous()}
        if given is not None:
            tensors["_golden.given"] = given
        path = OUT / f"{name}.safetensors"
        save_file(tensors, path, metadata={"config": json.dumps(config)})
        print(path.name, path.stat().st_size, -each.min())


if __name__ == "__main__":
    main()
