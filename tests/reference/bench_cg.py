"""SciPy's side of crates/optim/examples/tridiagonal.rs, and both in turn.

    cargo build --release --package kiln-optim --example tridiagonal
    python tests/reference/bench_cg.py TARGET/release/examples/tridiagonal

-1, 2.01, -1 on three diagonals, n = 1,000,000, to a residual of 1e-8 of the right side's length. SciPy has the matrix in
both forms that fit: CSR, and by diagonals.
"""

import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import cg

N = 1_000_000
ROUNDS = 5

diagonals = sp.diags([-np.ones(N - 1), np.full(N, 2.01), -np.ones(N - 1)], [-1, 0, 1])
matrices = {"scipy, csr": diagonals.tocsr(), "scipy, dia": diagonals.todia()}
right = np.modf(np.arange(1, N + 1) * 0.618033988749895)[0] - 0.5


def scipy(matrix):
    steps = 0

    def count(_):
        nonlocal steps
        steps += 1

    start = time.perf_counter()
    x, failed = cg(matrix, right, rtol=1e-8, atol=0.0, callback=count)
    seconds = time.perf_counter() - start
    assert not failed
    return x, seconds, steps, np.linalg.norm(right - matrix @ x) / np.linalg.norm(right)


times = {}
folder = tempfile.TemporaryDirectory()
solution = Path(folder.name) / "x"
command = [sys.argv[1], str(N), str(solution)]
for _ in range(ROUNDS):
    for line in subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines():
        name, seconds, rest = re.match(r"(.*): ([\d.]+) s, (.*)", line).groups()
        times.setdefault(f"kiln, {name} ({rest})", []).append(float(seconds))
    for name, matrix in matrices.items():
        x, seconds, steps, residual = scipy(matrix)
        times.setdefault(f"{name} ({steps} steps, residual {residual:.2e})", []).append(seconds)
for name, seconds in times.items():
    print(f"{statistics.median(seconds):8.4f} s  ({min(seconds):.4f} to {max(seconds):.4f})  {name}")
difference = np.abs(np.fromfile(solution) - x).max() / np.abs(x).max()
assert difference < 1e-10, difference
print(f"largest difference of the two solutions {difference:.1e} of the largest number")
