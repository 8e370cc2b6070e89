"""Goldens of kiln_diffusion's guidance, times of training and learned variance.

Writes crates/diffusion/tests/golden/guidance.json:

- `guided`: runs of three steps through diffusers 0.42.1's AdaptiveProjectedGuidance and ClassifierFreeGuidance (rescale, momentum, threshold, eta);
- `times`: its compute_density_for_timestep_sampling, with the numbers that it draws recorded;
- `bound`: the terms of improved DDPM's variational bound for learned variances, by the formulas of Nichol and Dhariwal 2021 (equations 4 to 6, 15), in torch 2.15.0
  and f64, with the tanh approximation of the normal distribution function that their code takes.

Run from the repository's root: python tests/reference/guidance.py
"""

import json
import math
from pathlib import Path
from unittest import mock

import torch
from diffusers import AdaptiveProjectedGuidance, ClassifierFreeGuidance
from diffusers.training_utils import compute_density_for_timestep_sampling

OUT = Path(__file__).resolve().parents[2] / "crates/diffusion/tests/golden/guidance.json"
SHAPE = (2, 3, 4)
STEPS = 3


def numbers(tensor):
    return [float(f"{v:.9g}") for v in tensor.flatten().tolist()]


def guided():
    generator = torch.Generator().manual_seed(11)
    draw = lambda: torch.randn(SHAPE, generator=generator)
    pairs = [(draw(), draw() * 0.8) for _ in range(STEPS)]
    options = [
        dict(scale=5.0),
        dict(scale=5.0, rescale=0.7),
        dict(scale=3.0, rescale=1.0),
        dict(scale=4.0, projection=dict(eta=0.0)),
        dict(scale=4.0, projection=dict(eta=1.0, threshold=2.5)),
        dict(scale=6.0, projection=dict(eta=0.3, threshold=2.5, momentum=-0.5)),
        dict(scale=6.0, rescale=0.5, projection=dict(eta=0.0, threshold=50.0, momentum=0.75)),
        dict(scale=6.0, projection=dict(eta=0.0, threshold=2.5, momentum=-0.75, base="conditional")),
    ]
    runs = []
    for option in options:
        projection = option.get("projection")
        rescale = option.get("rescale", 0.0)
        if projection is None:
            guider = ClassifierFreeGuidance(guidance_scale=option["scale"], guidance_rescale=rescale)
        else:
            original = projection.get("base") == "conditional"
            guider = AdaptiveProjectedGuidance(
                guidance_scale=option["scale"] - 1 if original else option["scale"],
                adaptive_projected_guidance_momentum=projection.get("momentum"),
                adaptive_projected_guidance_rescale=projection.get("threshold", 0.0),
                eta=projection["eta"],
                guidance_rescale=rescale,
                use_original_formulation=original,
            )
        outputs = []
        for step, (conditional, unconditional) in enumerate(pairs):
            guider.set_state(step=step, num_inference_steps=STEPS, timestep=None)
            guider.prepare_inputs({})
            outputs.append(numbers(guider.forward(conditional, unconditional).pred))
        runs.append({"guidance": option, "outputs": outputs})
    return {"pairs": [[numbers(c), numbers(u)] for c, u in pairs], "runs": runs}


def times():
    cases = []
    torch.manual_seed(5)
    drawn = torch.rand(12)
    normals = torch.randn(12)
    for mean, std in ((0.0, 1.0), (-0.5, 0.6), (0.8, 1.7)):
        with mock.patch("torch.normal", lambda mean, std, **_: mean + std * normals):
            out = compute_density_for_timestep_sampling("logit_normal", 12, logit_mean=mean, logit_std=std)
        cases.append({"times": {"logit_normal": {"mean": mean, "std": std}}, "drawn": numbers(normals), "share": numbers(out)})
    for scale in (1.29, -0.7, 0.0):
        with mock.patch("torch.rand", lambda **_: drawn):
            out = compute_density_for_timestep_sampling("mode", 12, mode_scale=scale)
        cases.append({"times": {"mode": {"scale": scale}}, "drawn": numbers(drawn), "share": numbers(out)})
    return cases


def bound():
    rungs, shape = 20, (4, 2, 5)
    generator = torch.Generator().manual_seed(3)
    draw = lambda: torch.randn(shape, generator=generator, dtype=torch.float64)
    betas = torch.linspace(1e-4, 0.02, rungs, dtype=torch.float64)
    alpha_bar = torch.cumprod(1 - betas, 0)
    before = torch.cat([torch.ones(1, dtype=torch.float64), alpha_bar[:-1]])
    posterior = betas * (1 - before) / (1 - alpha_bar)
    log_least = torch.log(torch.cat([posterior[1:2], posterior[1:]]))
    # All levels, the two ends too.
    levels = torch.randint(0, 256, shape, generator=generator)
    levels[0, 0, 0], levels[0, 0, 1] = 0, 255
    data = levels.double() / 127.5 - 1
    noise, output, spread = draw(), draw(), torch.tanh(draw())
    index = torch.tensor([0, 1, 7, 19])
    at = lambda table: table[index][:, None, None]
    x = at(alpha_bar).sqrt() * data + (1 - at(alpha_bar)).sqrt() * noise
    # Near the truth, as a network's output is.
    output = noise + 0.1 * output
    estimate = (x - (1 - at(alpha_bar)).sqrt() * output) / at(alpha_bar).sqrt()

    def mean(clean):
        of_data = at(betas) * at(before).sqrt() / (1 - at(alpha_bar))
        of_x = (1 - at(before)) * (1 - at(betas)).sqrt() / (1 - at(alpha_bar))
        return of_data * clean + of_x * x

    share = (spread + 1) / 2
    log_variance = share * at(torch.log(betas)) + (1 - share) * at(log_least)
    ours, theirs = mean(data), mean(estimate)
    kl = 0.5 * (
        -1 + log_variance - at(log_least) + torch.exp(at(log_least) - log_variance)
        + (ours - theirs) ** 2 * torch.exp(-log_variance)
    )
    below = lambda z: 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))
    inverse = torch.exp(-0.5 * log_variance)
    upper, lower = below(inverse * (data - theirs + 1 / 255)), below(inverse * (data - theirs - 1 / 255))
    log = lambda p: torch.log(p.clamp(min=1e-12))
    likelihood = torch.where(data < -0.999, log(upper), torch.where(data > 0.999, log(1 - lower), log(upper - lower)))
    flat = lambda v: v.flatten(1).mean(1) / math.log(2)
    terms = torch.where(index == 0, flat(-likelihood), flat(kl))
    return {
        "rungs": rungs, "shape": shape, "index": index.tolist(), "data": numbers(data), "noise": numbers(noise),
        "output": numbers(output), "spread": numbers(spread), "terms": numbers(terms),
        "simple": numbers(((output - noise) ** 2).flatten(1).mean(1)),
    }


def main():
    OUT.parent.mkdir(parents=True, exist_ok=True)
    golden = {"shape": SHAPE, "guided": guided(), "times": times(), "bound": bound()}
    OUT.write_text(json.dumps(golden, separators=(",", ":")) + "\n")
    print(OUT, OUT.stat().st_size)


if __name__ == "__main__":
    main()
