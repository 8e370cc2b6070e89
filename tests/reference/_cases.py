"""What the scripts that make tests/cases share: a case is a checkpoint as Python saves it, and what Python computes.

    CASE/checkpoint/            a model folder
    CASE/reference.safetensors  `input.<name>` and `output.<name>`, names as in Python's forward; metadata: `request`

`kiln verify CASE/checkpoint CASE/reference.safetensors` computes the outputs again and compares them.
"""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

CASES = Path(__file__).resolve().parents[1] / "cases"


def randomise(model, seed=0, scale=0.3):
    """Weights that matter, all of them: fresh networks start with zeros (zero convolutions) and ones (norms).

    Values are such that f16 holds them exactly, so that a case stored in f16 computes in f32 what it says.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            fan_in = max(1, parameter[0].numel()) if parameter.dim() > 1 else 1
            value = noise / fan_in**0.5 if parameter.dim() > 1 else parameter + scale * noise
            parameter.copy_(value.half().float())
    return model.eval()


def save(case, model, inputs, outputs, request=None, half=True, **options):
    """Write a case: the model's folder (weights in f16 with `half`), the inputs and the outputs."""
    folder = CASES / case
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (model.half() if half else model).save_pretrained(folder / "checkpoint", **options)
    model.float()
    reference(folder, inputs, outputs, request)


def reference(folder, inputs, outputs, request=None):
    """Write a case's numbers beside its checkpoint."""
    tensors = {f"input.{name}": value for name, value in inputs.items()}
    tensors |= {f"output.{name}": value.float() for name, value in outputs.items()}
    tensors = {name: value.detach().contiguous().clone() for name, value in tensors.items()}
    save_file(tensors, folder / "reference.safetensors", metadata={"request": json.dumps(request or {})})
