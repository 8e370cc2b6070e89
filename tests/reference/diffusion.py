"""Goldens of kiln_diffusion: what the schedulers of diffusers 0.42.1 do, with recorded noise.

Writes crates/diffusion/tests/golden/diffusion.json: `runs`, whole sampling runs of a made-up network `0.3 x + base(t)`, `grids`, the
timesteps of every spacing, and `ladders`, alphas_cumprod at some rungs. Run from the repository's root:
python tests/reference/diffusion.py
"""

import json
from pathlib import Path
from unittest import mock

import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    HeunDiscreteScheduler,
)

OUT = Path(__file__).resolve().parents[2] / "crates/diffusion/tests/golden/diffusion.json"
SHAPE = (2, 5)
SLOPE = 0.3
SCHEDULES = {
    "linear": dict(beta_schedule="linear", beta_start=1e-4, beta_end=0.02),
    "scaled_linear": dict(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012),
    "cosine": dict(beta_schedule="squaredcos_cap_v2"),
}
PREDICTIONS = {"noise": "epsilon", "sample": "sample", "v": "v_prediction"}


def numbers(tensor):
    return [float(f"{v:.9g}") for v in tensor.flatten().tolist()]


def run(name, scheduler, *, process, prediction, solver, steps, clip=False, options=None):
    """One run. `trace` is the sample after every step in the process's own scale (k-diffusion's is x / alpha)."""
    generator = torch.Generator().manual_seed(len(name) + steps)
    draw = lambda: torch.randn(SHAPE, generator=generator)
    scheduler.set_timesteps(steps)
    bases, noises, trace = {}, [], []
    base = lambda t: bases.setdefault(float(t), draw() * 0.7)
    start = draw()
    # k-diffusion's samplers hold x / alpha, and say so by their scale_model_input.
    over_alpha = isinstance(scheduler, (EulerDiscreteScheduler, HeunDiscreteScheduler))
    flow = process == "flow"
    alpha = lambda sigma: 1 / (1 + sigma**2) ** 0.5
    x = start / alpha(scheduler.sigmas[0]) if over_alpha else start.clone()

    def recorded(*args, **kwargs):
        noises.append(draw())
        return noises[-1]

    patch = mock.patch.multiple(
        "diffusers.schedulers.scheduling_ddpm", randn_tensor=recorded
    ), mock.patch.multiple("diffusers.schedulers.scheduling_ddim", randn_tensor=recorded)
    with patch[0], patch[1]:
        for index, t in enumerate(scheduler.timesteps):
            given = scheduler.scale_model_input(x, t) if over_alpha else x
            x = scheduler.step(SLOPE * given + base(t), t, x, **(options or {})).prev_sample
            sigmas = getattr(scheduler, "sigmas", None)
            shown = x * alpha(sigmas[index + 1]) if over_alpha else x
            trace.append(numbers(shown))
    two_stage = isinstance(scheduler, (HeunDiscreteScheduler, FlowMatchHeunDiscreteScheduler))
    if two_stage:  # every second call ends a step, and the last step is one call
        trace = trace[1::2] + trace[-1:]
    times = list(bases)
    return {
        "name": name,
        "process": process,
        "prediction": prediction,
        "solver": solver,
        "clip": clip,
        "timesteps": [t / 1000 for t in times] if flow else times,
        "bases": [numbers(b) for b in bases.values()],
        "noises": [numbers(n) for n in noises],
        "start": numbers(start),
        "trace": trace,
    }


def ladder_run(kind, schedule, prediction, solver, steps, *, spacing="trailing", clip=False, options=None, **config):
    scheduler = kind(
        num_train_timesteps=1000,
        prediction_type=PREDICTIONS[prediction],
        timestep_spacing=spacing,
        **SCHEDULES[schedule],
        **({"clip_sample": clip} if kind in (DDPMScheduler, DDIMScheduler) else {}),
        **config,
    )
    name = f"{kind.__name__} {schedule} {prediction} {spacing} {steps}"
    process = {"type": "ddpm", "schedule": SCHEDULES_IN_KILN[schedule]}
    return run(name, scheduler, process=process, prediction=prediction, solver=solver, steps=steps, clip=clip, options=options)


SCHEDULES_IN_KILN = {"linear": {"linear": {}}, "scaled_linear": {"scaled_linear": {}}, "cosine": "cosine"}
ANCESTRAL = lambda eta: {"type": "ancestral", "eta": eta}


def main():
    runs = [
        ladder_run(DDPMScheduler, "linear", "noise", ANCESTRAL(1.0), 10, spacing="leading", clip=True),
        ladder_run(DDPMScheduler, "scaled_linear", "v", ANCESTRAL(1.0), 7),
        ladder_run(DDPMScheduler, "cosine", "sample", ANCESTRAL(1.0), 8, spacing="linspace"),
        ladder_run(DDIMScheduler, "scaled_linear", "noise", ANCESTRAL(0.0), 10, spacing="leading", steps_offset=1),
        ladder_run(DDIMScheduler, "linear", "v", ANCESTRAL(0.5), 8, options={"eta": 0.5}),
        ladder_run(DDIMScheduler, "linear", "sample", ANCESTRAL(1.0), 5, options={"eta": 1.0}),
        ladder_run(DPMSolverMultistepScheduler, "scaled_linear", "noise", {"type": "dpmpp_2m"}, 9),
        ladder_run(DPMSolverMultistepScheduler, "linear", "v", {"type": "dpmpp_2m"}, 20),
        ladder_run(EulerDiscreteScheduler, "scaled_linear", "noise", {"type": "euler", "clock": "noise_ratio"}, 10),
        ladder_run(HeunDiscreteScheduler, "scaled_linear", "noise", {"type": "heun", "clock": "noise_ratio"}, 6),
    ]
    for name, kind, solver in (
        ("euler", FlowMatchEulerDiscreteScheduler, {"type": "euler"}),
        ("heun", FlowMatchHeunDiscreteScheduler, {"type": "heun"}),
    ):
        runs.append(
            run(f"{kind.__name__} shift 3", kind(shift=3.0), process="flow", prediction="velocity", solver=solver, steps=7)
        )

    grids = []
    for spacing in ("leading", "trailing", "linspace"):
        for steps in (1, 2, 3, 7, 10, 50, 333, 1000):
            scheduler = DDPMScheduler(timestep_spacing=spacing)
            scheduler.set_timesteps(steps)
            grids.append({"spacing": spacing, "steps": steps, "timesteps": scheduler.timesteps.tolist()})

    rungs = [0, 1, 2, 10, 99, 500, 741, 998, 999]
    ladders = [
        {
            "schedule": SCHEDULES_IN_KILN[name],
            "rungs": rungs,
            "alpha_bar": [DDPMScheduler(**config).alphas_cumprod[i].item() for i in rungs],
        }
        for name, config in SCHEDULES.items()
    ]
    OUT.parent.mkdir(parents=True, exist_ok=True)
    golden = {"slope": SLOPE, "shape": SHAPE, "runs": runs, "grids": grids, "ladders": ladders}
    OUT.write_text(json.dumps(golden, separators=(",", ":")) + "\n")
    print(OUT, OUT.stat().st_size)


if __name__ == "__main__":
    main()
