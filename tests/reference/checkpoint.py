"""Goldens of crates/checkpoint: what torch.save writes, in every form that people have, and the tensors that are in it.

    python tests/reference/checkpoint.py

writes crates/checkpoint/tests/golden/NAME.pt, beside tensors.safetensors (and views.safetensors, ...) with what each holds.
None of the files does harm: those that ask to run something ask for `print`.
Made with torch 2.15.0, safetensors 0.8.0 and numpy 2.4.6.
"""

import argparse
import fractions
import io
import pickle
import shutil
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy
import torch
from safetensors.torch import save_file

GOLDEN = Path(__file__).resolve().parents[2] / "crates/checkpoint/tests/golden"

FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.uint16, torch.uint32, torch.uint64)


def tensors():
    """One of each type, of different shapes; some of the names are not ASCII."""
    generator = torch.Generator().manual_seed(0)
    made = OrderedDict()
    for dtype in FLOATS:
        made[f"float.{str(dtype).removeprefix('torch.')}"] = torch.randn(2, 3, generator=generator).to(dtype)
    for dtype in INTEGERS:
        values = torch.randint(0, 100, (4,), generator=generator)
        made[f"integer.{str(dtype).removeprefix('torch.')}"] = values.to(dtype)
    made["bool"] = torch.tensor([True, False, True])
    made["naïve.名.weight"] = torch.tensor([1.5, -2.5])
    made["scalar"] = torch.tensor(7.25)
    made["empty"] = torch.zeros(0, 3)
    return made


def views():
    """Tensors that are not rows of a storage of their own."""
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    tied = torch.arange(6, dtype=torch.float16)
    return {
        "transposed": base.t(),
        "column": base[:, 2],
        "strided": base[1::2, ::3],
        "rows": base[2:],
        "permuted": torch.arange(24, dtype=torch.int64).reshape(2, 3, 4).permute(2, 0, 1),
        "expanded": torch.tensor([[1.0], [2.0]]).expand(2, 3),
        "channels_last": torch.arange(36.0).reshape(1, 3, 3, 4).to(memory_format=torch.channels_last),
        "tied.encoder": tied,
        "tied.decoder": tied,
        "part_of_tied": tied[2:4],
        "parameter": torch.nn.Parameter(torch.tensor([3.0, 4.0])),
    }


def checkpoint():
    """What a trainer leaves: the weights among its own state, with a class as a key as Lightning had it."""
    weights = OrderedDict(weight=torch.tensor([[1.0, 2.0]]), bias=torch.tensor([3.0]))
    return {
        "epoch": 3,
        "global_step": numpy.float64(1234.5),
        "pytorch-lightning_version": "1.4.2",
        "state_dict": weights,
        "callbacks": {fractions.Fraction: {"best": torch.tensor(0.5), "path": Path("a/b")}},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.tensor([9.0])}}, "param_groups": [{"lr": 1e-4}]}],
        "hyper_parameters": argparse.Namespace(width=320, names=("a", "b"), seed=2**70),
        "shape": torch.Size([1, 2]),
        "device": torch.device("cpu"),
        "dtype": torch.float32,
        "set": {1, 2},
        "bytes": b"\x00\xff",
        "array": numpy.arange(3),
    }


class Asks:
    """Unpickled in Python, this calls a function."""

    def __reduce__(self):
        return print, ("run by a file",)


def plain(tensors):
    return {name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}


def deflated(path, to, only=""):
    """The same zip with those of its entries compressed that have `only` in their names."""
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(to, "w") as target:
        for info in source.infolist():
            how = zipfile.ZIP_DEFLATED if only in info.filename else zipfile.ZIP_STORED
            target.writestr(zipfile.ZipInfo(info.filename), source.read(info), how)


def main():
    shutil.rmtree(GOLDEN, ignore_errors=True)
    GOLDEN.mkdir(parents=True)
    save_file(plain(tensors()), GOLDEN / "tensors.safetensors")
    torch.save(tensors(), GOLDEN / "tensors.pt")
    for protocol in (1, 3, 4, 5):
        torch.save(tensors(), GOLDEN / f"tensors_protocol_{protocol}.pt", pickle_protocol=protocol)
    # Types without a class of storage have no legacy form.
    old = OrderedDict((name, t) for name, t in tensors().items() if t.dtype not in INTEGERS[5:])
    save_file(plain(old), GOLDEN / "legacy.safetensors")
    torch.save(old, GOLDEN / "legacy.pt", _use_new_zipfile_serialization=False)
    torch.save(old, GOLDEN / "legacy_protocol_4.pt", _use_new_zipfile_serialization=False, pickle_protocol=4)

    save_file(plain(views()), GOLDEN / "views.safetensors")
    torch.save(views(), GOLDEN / "views.pt")
    torch.save(views(), GOLDEN / "views_legacy.pt", _use_new_zipfile_serialization=False)

    save_file(plain(checkpoint()["state_dict"]), GOLDEN / "checkpoint.safetensors")
    torch.save(checkpoint(), GOLDEN / "checkpoint.pt")
    for wrapper in ("model", "params_ema", "module"):
        torch.save({wrapper: checkpoint()["state_dict"], "step": 7}, GOLDEN / f"in_{wrapper}.pt")
    torch.save({"ema": {"state_dict": checkpoint()["state_dict"]}}, GOLDEN / "in_two.pt")
    # Names that begin like a wrapper, but belong to the weights.
    torch.save({f"model.{name}": t for name, t in checkpoint()["state_dict"].items()}, GOLDEN / "flat.pt")
    torch.save({"encoder": {"layers": [t for t in checkpoint()["state_dict"].values()]}}, GOLDEN / "nested.pt")

    torch.save({"weight": torch.zeros(2), "more": Asks()}, GOLDEN / "executes.pt")
    torch.save({"weight": torch.zeros(2), "more": Asks()}, GOLDEN / "executes_legacy.pt", _use_new_zipfile_serialization=False)
    for protocol in (0, 2, 4):
        (GOLDEN / f"executes_{protocol}.pkl").write_bytes(pickle.dumps(Asks(), protocol))
    torch.save(torch.nn.Linear(1, 1), GOLDEN / "module.pt")
    script = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), script)
    (GOLDEN / "script.pt").write_bytes(script.getvalue())
    (GOLDEN / "no_tensors.pkl").write_bytes(pickle.dumps({"a": [1, 2.5, None], "b": "text"}))

    deflated(GOLDEN / "in_model.pt", GOLDEN / "deflated.pt")
    # Two megabytes of zeros in two kilobytes.
    torch.save({"weight": torch.zeros(1 << 19)}, GOLDEN / "bomb_inside.pt")
    deflated(GOLDEN / "bomb_inside.pt", GOLDEN / "bomb.pt", only="data/")
    (GOLDEN / "bomb_inside.pt").unlink()


if __name__ == "__main__":
    main()
