"""Goldens of kiln_backend::noise::TorchGenerator: what torch 2.15 draws on the CPU.

Writes crates/backend/tests/golden/noise.json. A case is a seed and the calls made one after another on one generator; of a long
result only its ends and its sums are kept. Run from the repository's root: python tests/reference/noise.py
"""

import json
from pathlib import Path

import torch

OUT = Path(__file__).resolve().parents[2] / "crates/backend/tests/golden/noise.json"
ENDS = 48


def shortest(value):
    """The decimal of at most nine digits that reads back as the same f32."""
    return float(f"{value:.9g}")


def call(generator, function, n):
    values = getattr(torch, function)(n, generator=generator)
    entry = {"function": function, "n": n}
    floats = [shortest(v) for v in values.tolist()]
    if n <= 2 * ENDS:
        entry["values"] = floats
    else:
        entry["head"] = floats[:ENDS]
        entry["tail"] = floats[-ENDS:]
        entry["sum"] = values.double().sum().item()
        entry["sum_of_squares"] = values.double().square().sum().item()
    return entry


def case(seed, calls):
    generator = torch.Generator().manual_seed(seed)
    # A seed goes into JSON as text: it may need all 64 bits.
    return {"seed": str(seed % 2**64), "calls": [call(generator, f, n) for f, n in calls]}


def main():
    cases = []
    for seed in (0, 42):
        cases += [case(seed, [("randn", n)]) for n in range(1, 41)]
    for seed in (1, 1234567890, 2**32, 2**32 + 5, 2**63 + 11, -1, -12345):
        cases += [case(seed, [("randn", n)]) for n in (1, 2, 15, 16, 17, 31)]
    for seed in (3, 2**40 + 9):
        cases += [case(seed, [("randn", n)]) for n in (255, 256, 1000, 16383, 16384)]
        cases += [case(seed, [("rand", n)]) for n in (1, 15, 16, 17, 1000)]
    successive = [
        [("randn", n) for n in (1, 1, 3, 2, 17, 2, 16, 5, 1, 33, 1, 15, 20, 1)],
        [("randn", 3), ("rand", 7), ("randn", 1), ("randn", 18), ("rand", 1), ("randn", 4), ("rand", 40), ("randn", 9)],
        [("randn", 623), ("randn", 1), ("randn", 625), ("rand", 1300), ("randn", 3)],
    ]
    for seed in (0, 7, 2**33 + 1):
        cases += [case(seed, calls) for calls in successive]
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps({"torch": torch.__version__.split("+")[0], "cases": cases}, separators=(",", ":")) + "\n")
    print(OUT, OUT.stat().st_size)


if __name__ == "__main__":
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    main()
