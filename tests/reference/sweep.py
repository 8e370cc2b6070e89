"""Many scheduler configs by chance, each run by diffusers and by Kiln: how much of `scheduler_config.json` is read right.

    python tests/reference/sweep.py [--count 8] [--seed 0] [--only DDIM,EDMEuler] [--kiln target/debug/kiln] [--keep FOLDER]

makes `count` configs a class from the options below, replays each as schedulers.py does, and has `kiln verify` compare at 1e-3. Prints a line
for each class: how many hold, are refused with an error, differ; then what was refused and what differs. A config that diffusers itself refuses, or
whose numbers are not finite, is left out, and another drawn. Nothing of this is kept in the repository; schedulers.py has the cases that are.
"""

import argparse
import collections
import concurrent.futures
import contextlib
import io
import json
import random
import subprocess
import tempfile
import warnings
from pathlib import Path

import _cases
import diffusers
import schedulers
import torch
from schedulers import STABLE

warnings.filterwarnings("ignore")
diffusers.logging.set_verbosity_error()


def one_of(name, *values):
    """The option left out, or one of its values."""
    return [{}] + [{name: value} for value in values]


BETAS = [STABLE, {}, dict(beta_schedule="squaredcos_cap_v2")]
PREDICTION = one_of("prediction_type", "v_prediction", "sample")
SPACING = one_of("timestep_spacing", "leading", "trailing", "linspace")
OFFSET = one_of("steps_offset", 1)
FINAL = one_of("final_sigmas_type", "sigma_min")
ZERO_SNR = [{}] + one_of("rescale_betas_zero_snr", True)
LEVELS = [{}, dict(use_karras_sigmas=True), dict(use_exponential_sigmas=True), dict(use_beta_sigmas=True)]
FLOW = [dict(use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=shift) for shift in (1.0, 3.0)]
THRESHOLD = [{}, {}, dict(thresholding=True), dict(thresholding=True, sample_max_value=1.5, dynamic_thresholding_ratio=0.9)]
ORDER = one_of("solver_order", 1, 2, 3)
LOWER = one_of("lower_order_final", False, True)
CLIP = [{}, dict(clip_sample=True), dict(clip_sample=False), dict(clip_sample=True, clip_sample_range=0.8)]
RANGE = [{}, {}, dict(sigma_min=0.03, sigma_max=14.0)]
EDM = [
    one_of("prediction_type", "v_prediction"),
    one_of("sigma_schedule", "exponential"),
    one_of("sigma_data", 0.7),
    one_of("rho", 5.0),
    [{}, dict(sigma_min=0.01, sigma_max=50.0)],
    FINAL,
]

CLASSES = {
    "DDIM": [BETAS, PREDICTION, SPACING, OFFSET, ZERO_SNR, THRESHOLD, CLIP, one_of("set_alpha_to_one", True, False)],
    "DDIMInverse": [BETAS, PREDICTION, one_of("timestep_spacing", "leading", "trailing"), OFFSET, CLIP, [dict(set_alpha_to_one=False)]],
    "DDPM": [BETAS, PREDICTION, SPACING, OFFSET, ZERO_SNR, THRESHOLD, CLIP, one_of("variance_type", "fixed_small", "fixed_large", "learned_range")],
    "PNDM": [BETAS, PREDICTION, SPACING, OFFSET, one_of("skip_prk_steps", True, False), one_of("set_alpha_to_one", True, False)],
    "IPNDM": [[{}]],
    "LCM": [BETAS, PREDICTION, ZERO_SNR, THRESHOLD, CLIP, one_of("original_inference_steps", 25, 50), one_of("timestep_scaling", 1.0)],
    "TCD": [BETAS, PREDICTION, ZERO_SNR, THRESHOLD, CLIP, one_of("original_inference_steps", 25, 50)],
    "CMStochasticIterative": [one_of("num_train_timesteps", 18, 40), RANGE, one_of("rho", 5.0), one_of("clip_denoised", False), one_of("sigma_data", 0.7)],
    "EulerDiscrete": [BETAS, PREDICTION, SPACING, OFFSET, ZERO_SNR, LEVELS, FINAL, one_of("interpolation_type", "log_linear"), one_of("timestep_type", "continuous"), RANGE],
    "EulerAncestralDiscrete": [BETAS, PREDICTION, SPACING, OFFSET, ZERO_SNR],
    "HeunDiscrete": [BETAS, PREDICTION, SPACING, OFFSET, LEVELS, CLIP],
    "KDPM2Discrete": [BETAS, PREDICTION, SPACING, OFFSET, LEVELS],
    "KDPM2AncestralDiscrete": [BETAS, PREDICTION, SPACING, OFFSET, LEVELS],
    "LMSDiscrete": [BETAS, PREDICTION, SPACING, OFFSET, LEVELS],
    "DPMSolverMultistep": [
        BETAS, PREDICTION, SPACING, OFFSET, ZERO_SNR, LEVELS * 2 + [dict(use_lu_lambdas=True)] + FLOW, FINAL, THRESHOLD, ORDER, LOWER,
        one_of("euler_at_final", True, False), one_of("algorithm_type", "dpmsolver", "dpmsolver++", "sde-dpmsolver++"),
        one_of("solver_type", "midpoint", "heun"), one_of("lambda_min_clipped", -5.1),
    ],
    "DPMSolverSinglestep": [
        BETAS, PREDICTION, LEVELS * 2 + FLOW, FINAL, THRESHOLD, ORDER, LOWER, one_of("algorithm_type", "dpmsolver", "dpmsolver++", "sde-dpmsolver++"),
        one_of("solver_type", "midpoint", "heun"), one_of("lambda_min_clipped", -5.1),
    ],
    "DEISMultistep": [BETAS, PREDICTION, SPACING, OFFSET, LEVELS * 2 + FLOW, THRESHOLD, ORDER, LOWER],
    "UniPCMultistep": [
        BETAS, PREDICTION, SPACING, OFFSET, ZERO_SNR, LEVELS * 2 + FLOW, FINAL, THRESHOLD, ORDER, LOWER, one_of("predict_x0", True, False),
        one_of("solver_type", "bh1", "bh2"), one_of("disable_corrector", [0], [1, 2]), RANGE,
    ],
    "SASolver": [
        BETAS, PREDICTION, SPACING, OFFSET, LEVELS * 2 + FLOW, THRESHOLD, LOWER, one_of("algorithm_type", "noise_prediction"),
        one_of("predictor_order", 1, 3, 4), one_of("corrector_order", 1, 3, 4), one_of("lambda_min_clipped", -5.1),
    ],
    "EDMEuler": EDM,
    "EDMDPMSolverMultistep": EDM + [
        ORDER, LOWER, one_of("euler_at_final", True, False), THRESHOLD, one_of("algorithm_type", "sde-dpmsolver++"), one_of("solver_type", "midpoint", "heun"),
    ],
    "FlowMatchEulerDiscrete": [
        one_of("shift", 3.0), LEVELS, one_of("shift_terminal", 0.1), one_of("use_dynamic_shifting", True), one_of("time_shift_type", "linear"),
        one_of("stochastic_sampling", True), one_of("invert_sigmas", True), one_of("num_train_timesteps", 500),
    ],
    "FlowMatchHeunDiscrete": [one_of("shift", 3.0), one_of("num_train_timesteps", 500)],
}


def configs(axes, count, chance):
    """At most so many configs, all different, and their numbers of steps."""
    found = {}
    for _ in range(4 * count):
        config = {}
        for axis in axes:
            config |= chance.choice(axis)
        if config.get("use_flow_sigmas"):
            config["prediction_type"] = "flow_prediction"
        found[json.dumps(config, sort_keys=True), chance.choice([4, 6, 7, 10, 17])] = None
    return list(found)[:count]


def make(kind, config, steps, folder, chance):
    """A case, where diffusers makes one."""
    arguments = {}
    if kind == "DDIM":
        arguments = chance.choice([{}, dict(eta=0.7)])
    elif kind == "TCD":
        arguments = dict(eta=chance.choice([0.0, 0.3]))
    elif config.get("use_dynamic_shifting"):
        arguments = dict(mu=0.8)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            scheduler, inputs, found, request = schedulers.run(kind, config, steps, arguments)
    except Exception:
        return False
    if not all(torch.isfinite(values).all() for values in found.values()):
        return False
    scheduler.save_config(folder / "checkpoint")
    _cases.reference(folder, inputs, found, request)
    return True


def verify(kiln, folder):
    run = [kiln, "verify", folder / "checkpoint", folder / "reference.safetensors", "--backend", "flex"]
    ended = subprocess.run(run, capture_output=True, text=True)
    return {0: "hold", 1: "differ"}.get(ended.returncode, "refused"), (ended.stdout + ended.stderr).strip()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only")
    parser.add_argument("--kiln", type=Path, default=Path("target/debug/kiln"))
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    folder = options.keep or Path(tempfile.mkdtemp())
    _cases.CASES = folder
    cases, left_out = [], collections.Counter()
    for kind, axes in CLASSES.items():
        if options.only and kind not in options.only.split(","):
            continue
        made = 0
        for text, steps in configs(axes, 8 * options.count, chance):
            case = folder / f"{kind}_{made:03}"
            if not make(kind, json.loads(text), steps, case, chance):
                left_out[kind] += 1
                continue
            cases.append((kind, text, steps, case))
            made += 1
            if made == options.count:
                break
    tally, told = collections.defaultdict(collections.Counter), []
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for (kind, text, steps, case), (verdict, said) in zip(cases, pool.map(lambda case: verify(options.kiln, case[3]), cases)):
            tally[kind][verdict] += 1
            if verdict != "hold":
                told.append(f"{verdict} {kind} {text}, {steps} steps ({case.name}): {said.splitlines()[-1]}")
    for kind, counts in tally.items():
        print(kind, dict(counts))
    print("left out", dict(left_out))
    print("all", dict(sum(tally.values(), collections.Counter())))
    print("\n".join(told))


if __name__ == "__main__":
    main()
