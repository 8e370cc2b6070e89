"""Ends of the probability-flow equation of mixtures of Gaussians, by scipy's RK45.

    python tests/reference/flow_ode.py

writes crates/diffusion/tests/golden/flow_ode.json: for each process, the ends of each start at tolerance 1e-12 (DOP853), and ends and evaluations of RK45
at looser ones. The equation is that of the angle, dz/dtheta = cos(theta) eps - sin(theta) x_0, on narrow components, so that it is stiff where a sample
chooses between them. Made with scipy, numpy.
"""

import json
from pathlib import Path

import numpy as np
from scipy.integrate import solve_ivp

OUT = Path(__file__).resolve().parents[2] / "crates/diffusion/tests/golden/flow_ode.json"
COMPONENTS = [(0.3, -1.0, 0.02), (0.5, 0.2, 0.05), (0.2, 1.5, 0.01)]
STARTS = [-1.9, -0.7, -0.05, 0.4, 1.1, 2.3]
# (alpha, sigma) at the start and at the end; the angle is all that the equation knows, for processes of norm 1 it is x too.
FROM, TO = 1.55, 0.02


def slope(theta, z):
    alpha, sigma = np.cos(theta), np.sin(theta)
    z = z[:, None]
    weights, means, stds = (np.array(column) for column in zip(*COMPONENTS))
    variances = (alpha * stds) ** 2 + sigma**2
    distance = z - alpha * means
    logits = np.log(weights) - 0.5 * np.log(variances) - 0.5 * distance**2 / variances
    share = np.exp(logits - logits.max(1, keepdims=True))
    share /= share.sum(1, keepdims=True)
    noise = (share * sigma * distance / variances).sum(1)
    data = (share * (means + alpha * stds**2 * distance / variances)).sum(1)
    return alpha * noise - sigma * data


def main():
    solve = lambda start, method, tolerance: solve_ivp(
        slope, (FROM, TO), np.array([start]), method=method, rtol=tolerance, atol=tolerance
    )
    exact = [solve(start, "DOP853", 1e-13).y[0, -1] for start in STARTS]
    runs = []
    for tolerance in (1e-4, 1e-6, 1e-8):
        each = [solve(start, "RK45", tolerance) for start in STARTS]
        runs.append(
            {
                "tolerance": tolerance,
                "ends": [run.y[0, -1] for run in each],
                "evaluations": [run.nfev for run in each],
            }
        )
    OUT.write_text(
        json.dumps(
            {"components": COMPONENTS, "starts": STARTS, "angles": [FROM, TO], "exact": exact, "runs": runs}, indent=1
        )
        + "\n"
    )


if __name__ == "__main__":
    main()
