"""Goldens of kiln_optim::quadratic: numpy.linalg on dense forms, scipy.sparse.linalg.cg on sparse systems.

numpy, scipy of requirements.txt. Writes crates/optim/tests/golden/quadratic.safetensors, everything in f64:

- `form.N.*`: A (symmetric, of full rank or not), b; its eigenvalues, and the x of least length with A x = -b;
- `sparse.*`: a five-point Laplacian with varying coefficients as rows, columns, values; the right side; x after each of 12
  iterations of cg, without a preconditioner and with Jacobi's.
"""

from pathlib import Path

import numpy as np
import scipy.sparse as sp
from safetensors.numpy import save_file
from scipy.sparse.linalg import LinearOperator, cg

GOLDEN = Path(__file__).resolve().parents[2] / "crates/optim/tests/golden"
tensors = {}
rng = np.random.default_rng(0)

for index, (size, rank, definite) in enumerate([(2, 2, True), (7, 7, True), (7, 7, False), (9, 6, True), (12, 12, True)]):
    basis = np.linalg.qr(rng.normal(size=(size, size)))[0]
    eigenvalues = 10 ** rng.uniform(-2, 2, size=size)
    if not definite:
        eigenvalues *= np.where(rng.random(size) < 0.5, -1, 1)
    eigenvalues[rank:] = 0
    a = basis * eigenvalues @ basis.T
    a = (a + a.T) / 2
    # In the range of A, so that there is a solution.
    b = a @ rng.normal(size=size)
    tensors |= {
        f"form.{index}.a": a,
        f"form.{index}.b": b,
        f"form.{index}.eigenvalues": np.linalg.eigvalsh(a),
        f"form.{index}.x": np.linalg.pinv(a, rcond=1e-12, hermitian=True) @ -b,
    }

edge = 6
size = edge * edge
matrix = sp.lil_matrix((size, size))
for i in range(size):
    for j in (i + 1 if (i + 1) % edge else None, i + edge if i + edge < size else None):
        if j is not None:
            weight = rng.uniform(0.1, 3)
            matrix[i, j] = matrix[j, i] = -weight
            matrix[i, i] += weight
            matrix[j, j] += weight
    matrix[i, i] += rng.uniform(0.01, 2)
matrix = matrix.tocsr()
right = rng.normal(size=size)
coo = matrix.tocoo()
tensors |= {
    "sparse.rows": coo.row.astype(np.int64),
    "sparse.columns": coo.col.astype(np.int64),
    "sparse.values": coo.data,
    "sparse.right": right,
}
diagonal = matrix.diagonal()
for name, preconditioner in {
    "plain": None,
    "jacobi": LinearOperator((size, size), matvec=lambda r: r / diagonal, dtype=np.float64),
}.items():
    path = []
    cg(matrix, right, rtol=0.0, atol=0.0, maxiter=12, M=preconditioner, callback=lambda x: path.append(x.copy()))
    tensors[f"sparse.{name}"] = np.stack(path)

save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, GOLDEN / "quadratic.safetensors")
