"""Kiln's uniforms: Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") in numpy.

A row is a function of seed, sample and step alone, as `kiln_backend::noise` states. No program of its own: see `autoregressive_twin.py`.
"""

import numpy as np

LOW = np.uint64(0xFFFFFFFF)


def philox(key, counter):
    """Four words, each an array of the counters' shape."""
    k0, k1 = (np.asarray(k, dtype=np.uint64) for k in key)
    c0, c1, c2, c3 = (np.asarray(c, dtype=np.uint64) for c in counter)
    for _ in range(10):
        a, b = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
        c0, c1, c2, c3 = (b >> np.uint64(32)) ^ c1 ^ k0, b & LOW, (a >> np.uint64(32)) ^ c3 ^ k1, a & LOW
        k0, k1 = (k0 + np.uint64(0x9E3779B9)) & LOW, (k1 + np.uint64(0xBB67AE85)) & LOW
    return c0, c1, c2, c3


def halves(word):
    return word & 0xFFFFFFFF, word >> 32


def uniforms(rows, count, sample, step=0, seed=0):
    """[rows, count] of float32: row i is that of sample `sample` + i."""
    samples = np.arange(sample, sample + rows, dtype=np.uint64)[:, None]
    of_samples = samples & LOW, samples >> np.uint64(32)
    k0, k1, c2, c3 = philox(halves(seed), (*halves(step), *of_samples))
    blocks = np.arange(-(-count // 4), dtype=np.uint64)[None]
    words = np.stack(philox((k0, k1), (blocks, np.uint64(0), c2, c3)), -1).reshape(rows, -1)[:, :count]
    return (words >> np.uint64(8)).astype(np.float32) / np.float32(16_777_216)
