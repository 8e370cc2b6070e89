"""Goldens of the Fréchet distance in tests/src/frechet.rs, by scipy.linalg.sqrtm as FID's implementations take it.

scipy 1.17.1, numpy 2.4.6. Writes tests/tests/golden/frechet.safetensors: for each case two sets of features, one row a sample, and

    |m_1 - m_2|^2 + tr(C_1 + C_2 - 2 (C_1 C_2)^(1/2))

of their means and covariances (over n - 1). One case has fewer samples than features, so that its covariance has no inverse.
"""

from pathlib import Path

import numpy as np
import scipy
from safetensors.numpy import save_file
from scipy.linalg import sqrtm

GOLDEN = Path(__file__).resolve().parents[1] / "tests/golden/frechet.safetensors"


def distance(a, b):
    root = sqrtm(np.cov(a, rowvar=False) @ np.cov(b, rowvar=False))
    traces = np.trace(np.cov(a, rowvar=False)) + np.trace(np.cov(b, rowvar=False))
    return float(np.sum((a.mean(0) - b.mean(0)) ** 2) + traces - 2 * np.trace(root.real))


def main():
    rng = np.random.default_rng(0)
    tensors = {}
    for case, (size, counts) in enumerate([(2, (5, 7)), (6, (40, 30)), (8, (6, 50))]):
        first, second = (
            np.round(rng.normal(size=(count, size)) @ rng.normal(size=(size, size)) + rng.normal(size=size), 3)
            for count in counts
        )
        tensors |= {f"{case}.first": first, f"{case}.second": second}
        tensors[f"{case}.distance"] = np.array([distance(first, second)])
    GOLDEN.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, GOLDEN)
    print(f"scipy {scipy.__version__}, numpy {np.__version__}:", *(v for k, v in tensors.items() if "distance" in k))


if __name__ == "__main__":
    main()
