"""Cases of `kiln verify` for schedulers: what diffusers' schedulers make of recorded outputs of a network.

    python tests/reference/schedulers.py

writes tests/cases/scheduler_NAME/{checkpoint/scheduler_config.json, reference.safetensors}. For each call i of the network:
`input.model_outputs[i]` is what it returned, `input.noises[i]` the noise that the step drew (zeros where it draws none);
`output.scaled_samples[i]` what it was given, `output.prev_samples[i]` the step's result, fed to the next step.
Made with torch 2.15.0 and diffusers 0.42.1.
"""

import importlib
import inspect
import shutil

import diffusers
import torch
from _cases import CASES, reference
from diffusers.schedulers import ScoreSdeVeScheduler
from diffusers.schedulers.deprecated import ScoreSdeVpScheduler

STABLE = dict(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
V = dict(prediction_type="v_prediction")
X0 = dict(prediction_type="sample")

# name: (class, config, steps, arguments of step)
RUNS = {
    "ddim_eta": ("DDIM", STABLE | dict(clip_sample=False, timestep_spacing="leading"), 6, dict(eta=0.7)),
    "ddim_clip": ("DDIM", dict(clip_sample=True, clip_sample_range=0.8), 5, {}),
    "ddim_zero_snr": ("DDIM", STABLE | V | dict(rescale_betas_zero_snr=True, timestep_spacing="trailing", clip_sample=False), 7, {}),
    "ddim_threshold": ("DDIM", dict(thresholding=True, sample_max_value=1.5, dynamic_thresholding_ratio=0.9), 5, {}),
    "ddim_linspace": ("DDIM", STABLE | dict(timestep_spacing="linspace", clip_sample=False), 5, {}),
    "ddim_sample_cosine": ("DDIM", X0 | dict(beta_schedule="squaredcos_cap_v2", clip_sample=False), 9, {}),
    "ddpm_large": ("DDPM", dict(variance_type="fixed_large"), 5, {}),
    "ddpm_large_trailing": ("DDPM", dict(variance_type="fixed_large", timestep_spacing="trailing", clip_sample=False), 4, {}),
    "ddpm_learned": ("DDPM", dict(variance_type="learned_range", beta_schedule="squaredcos_cap_v2"), 6, {}),
    "ddpm_sigmoid": ("DDPM", X0 | dict(beta_schedule="sigmoid", num_train_timesteps=100), 10, {}),
    "ddpm_threshold": ("DDPM", dict(thresholding=True, sample_max_value=2.0), 5, {}),
    "ddpm_linspace": ("DDPM", dict(timestep_spacing="linspace", clip_sample=False), 8, {}),
    "pndm_runge_kutta": ("PNDM", STABLE | dict(skip_prk_steps=False), 10, {}),
    "pndm_v": ("PNDM", STABLE | V | dict(skip_prk_steps=True, steps_offset=1), 7, {}),
    "ddim_inverse": ("DDIMInverse", STABLE | dict(clip_sample=False, set_alpha_to_one=False, steps_offset=1), 6, {}),
    "ddim_inverse_to_data": ("DDIMInverse", V | dict(timestep_spacing="trailing"), 5, {}),
    "ipndm": ("IPNDM", dict(), 8, {}),
    "consistency_models": ("CMStochasticIterative", dict(), 4, {}),
    "consistency_models_unclipped": ("CMStochasticIterative", dict(num_train_timesteps=18, sigma_max=20.0, rho=5.0, clip_denoised=False), 3, {}),
    "pndm_trailing": ("PNDM", STABLE | dict(skip_prk_steps=True, timestep_spacing="trailing", set_alpha_to_one=True), 5, {}),
    "euler_karras": ("EulerDiscrete", STABLE | dict(use_karras_sigmas=True), 6, {}),
    "euler_exponential": ("EulerDiscrete", STABLE | dict(use_exponential_sigmas=True), 6, {}),
    "euler_beta": ("EulerDiscrete", STABLE | dict(use_beta_sigmas=True), 6, {}),
    "euler_v_trailing": ("EulerDiscrete", STABLE | V | dict(timestep_spacing="trailing", rescale_betas_zero_snr=True), 5, {}),
    "euler_log_linear": ("EulerDiscrete", STABLE | dict(interpolation_type="log_linear"), 5, {}),
    "euler_leading": ("EulerDiscrete", STABLE | dict(timestep_spacing="leading", steps_offset=1, final_sigmas_type="sigma_min"), 5, {}),
    "euler_continuous": (
        "EulerDiscrete",
        STABLE | V | dict(timestep_type="continuous", use_karras_sigmas=True, sigma_min=0.002, sigma_max=700.0),
        5,
        {},
    ),
    "euler_sample": ("EulerDiscrete", STABLE | X0, 5, {}),
    "euler_ancestral_v": ("EulerAncestralDiscrete", STABLE | V | dict(timestep_spacing="trailing"), 6, {}),
    "heun_karras": ("HeunDiscrete", STABLE | dict(use_karras_sigmas=True), 5, {}),
    "heun_clip": ("HeunDiscrete", dict(clip_sample=True, timestep_spacing="trailing"), 4, {}),
    "dpm2": ("KDPM2Discrete", STABLE, 5, {}),
    "dpm2_karras": ("KDPM2Discrete", STABLE | dict(use_karras_sigmas=True), 5, {}),
    "dpm2_ancestral": ("KDPM2AncestralDiscrete", STABLE, 5, {}),
    "lms": ("LMSDiscrete", STABLE, 8, {}),
    "lms_karras": ("LMSDiscrete", STABLE | V | dict(use_karras_sigmas=True), 6, {}),
    "dpmpp_2m": ("DPMSolverMultistep", STABLE, 20, {}),
    "dpmpp_2m_heun": ("DPMSolverMultistep", STABLE | dict(solver_type="heun", timestep_spacing="leading", steps_offset=1), 6, {}),
    "dpmpp_3m": ("DPMSolverMultistep", STABLE | dict(solver_order=3), 18, {}),
    "dpmpp_3m_few": ("DPMSolverMultistep", STABLE | dict(solver_order=3), 6, {}),
    "dpmpp_1m_trailing": ("DPMSolverMultistep", STABLE | dict(solver_order=1, timestep_spacing="trailing", thresholding=True), 5, {}),
    "dpmpp_2m_sde_karras": ("DPMSolverMultistep", STABLE | dict(algorithm_type="sde-dpmsolver++", use_karras_sigmas=True), 6, {}),
    "dpmpp_3m_sde": ("DPMSolverMultistep", STABLE | dict(algorithm_type="sde-dpmsolver++", solver_order=3), 17, {}),
    "dpmpp_2m_sde_heun": ("DPMSolverMultistep", STABLE | dict(algorithm_type="sde-dpmsolver++", solver_type="heun"), 5, {}),
    "dpm_2m": ("DPMSolverMultistep", STABLE | dict(algorithm_type="dpmsolver", final_sigmas_type="sigma_min"), 16, {}),
    "dpm_3m_v": ("DPMSolverMultistep", STABLE | V | dict(algorithm_type="dpmsolver", final_sigmas_type="sigma_min", solver_order=3), 17, {}),
    "dpmpp_2m_euler_at_final": ("DPMSolverMultistep", STABLE | dict(euler_at_final=True, final_sigmas_type="sigma_min"), 16, {}),
    "dpmpp_2m_flow": (
        "DPMSolverMultistep",
        dict(use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=3.0),
        6,
        {},
    ),
    "unipc_flow": (
        "UniPCMultistep",
        dict(use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=2.0),
        6,
        {},
    ),
    "dpmpp_2s_lowered": ("DPMSolverSinglestep", STABLE | dict(lower_order_final=True, final_sigmas_type="sigma_min"), 6, {}),
    "dpmpp_2s": ("DPMSolverSinglestep", STABLE | dict(solver_order=2), 6, {}),
    "dpmpp_2s_odd": ("DPMSolverSinglestep", STABLE | dict(solver_order=2, solver_type="heun"), 7, {}),
    "dpmpp_3s": ("DPMSolverSinglestep", STABLE | dict(solver_order=3), 9, {}),
    "dpmpp_3s_heun": ("DPMSolverSinglestep", STABLE | dict(solver_order=3, solver_type="heun"), 8, {}),
    "dpm_2s": ("DPMSolverSinglestep", STABLE | dict(algorithm_type="dpmsolver", final_sigmas_type="sigma_min", use_karras_sigmas=True), 8, {}),
    "deis": ("DEISMultistep", STABLE, 6, {}),
    "deis_3": ("DEISMultistep", STABLE | dict(solver_order=3), 9, {}),
    "unipc_3": ("UniPCMultistep", STABLE | dict(solver_order=3), 8, {}),
    "unipc_bh1": ("UniPCMultistep", STABLE | dict(solver_type="bh1", use_karras_sigmas=True, final_sigmas_type="sigma_min"), 6, {}),
    "unipc_noise": ("UniPCMultistep", STABLE | dict(predict_x0=False, final_sigmas_type="sigma_min", disable_corrector=[0]), 6, {}),
    "unipc_v": ("UniPCMultistep", STABLE | V | dict(lower_order_final=True, timestep_spacing="trailing"), 5, {}),
    "sa_solver": ("SASolver", STABLE, 10, {}),
    "sa_solver_high": ("SASolver", STABLE | dict(predictor_order=3, corrector_order=4, lower_order_final=False, timestep_spacing="trailing"), 12, {}),
    "sa_solver_noise": ("SASolver", STABLE | V | dict(algorithm_type="noise_prediction", predictor_order=3, corrector_order=3), 8, {}),
    "sa_solver_flow": ("SASolver", dict(use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=3.0, corrector_order=1), 6, {}),
    "lcm_v": ("LCM", V | dict(timestep_scaling=10.0, original_inference_steps=25), 4, {}),
    "tcd": ("TCD", dict(clip_sample=False), 4, dict(eta=0.3)),
    "tcd_none": ("TCD", dict(), 5, dict(eta=0.0)),
    "edm_euler_exponential": ("EDMEuler", dict(sigma_schedule="exponential"), 5, {}),
    "edm_euler_v": ("EDMEuler", V | dict(sigma_data=1.0, sigma_max=120.0), 5, {}),
    "edm_dpmpp_2m": ("EDMDPMSolverMultistep", dict(), 6, {}),
    "flow_euler": ("FlowMatchEulerDiscrete", dict(), 6, {}),
    "flow_euler_terminal": ("FlowMatchEulerDiscrete", dict(shift=2.0, shift_terminal=0.1), 5, {}),
    "flow_euler_karras": ("FlowMatchEulerDiscrete", dict(shift=3.0, use_karras_sigmas=True), 5, {}),
    "flow_euler_dynamic": ("FlowMatchEulerDiscrete", dict(use_dynamic_shifting=True), 5, dict(mu=0.8)),
    "flow_euler_stochastic": ("FlowMatchEulerDiscrete", dict(stochastic_sampling=True), 5, {}),
    "flow_heun": ("FlowMatchHeunDiscrete", dict(shift=3.0), 5, {}),
}

# Of the score equations: name: (class, config, steps).
SCORE_RUNS = {
    "score_ve": ("ScoreSdeVe", dict(sigma_max=50.0), 6),
    "score_ve_two_corrections": ("ScoreSdeVe", dict(correct_steps=2, snr=0.17, sigma_min=0.02, sampling_eps=1e-3), 4),
    "score_vp": ("ScoreSdeVp", dict(), 8),
    "score_vp_short": ("ScoreSdeVp", dict(beta_min=0.2, beta_max=12.0, sampling_eps=0.01, num_train_timesteps=1000), 5),
}


def run(kind, config, steps, arguments):
    """One run of a scheduler over a made-up network's outputs."""
    generator = torch.Generator().manual_seed(7)
    randn = lambda *shape: torch.randn(shape, generator=generator)
    scheduler = getattr(diffusers, kind + "Scheduler")(**config)
    module = importlib.import_module(type(scheduler).__module__)
    drawn = []

    def record(shape, **_):
        drawn.append(randn(*shape))
        return drawn[-1]

    if hasattr(module, "randn_tensor"):
        module.randn_tensor = record
    request = dict(arguments)
    setup = {"mu": arguments["mu"]} if "mu" in arguments else {}
    scheduler.set_timesteps(steps, **setup)
    channels = 4 if config.get("variance_type") == "learned_range" else 2
    sample = randn(1, 2, 4, 4)
    if kind.startswith(("Euler", "Heun", "KDPM2", "LMS", "EDM", "CM")):
        sample = sample * scheduler.init_noise_sigma
    start = sample
    takes = {"eta": arguments["eta"]} if "eta" in arguments else {}
    outputs, noises, scaled, previous, asked = [], [], [], [], []
    timesteps = scheduler.timesteps.clone()
    for timestep in timesteps:
        drawn.clear()
        given = scheduler.scale_model_input(sample, timestep) if hasattr(scheduler, "scale_model_input") else sample
        output = randn(1, channels, 4, 4) * 0.7 + 0.1
        outputs.append(output)
        scaled.append(given)
        sample = scheduler.step(output, timestep, sample, **takes).prev_sample
        previous.append(sample)
        noises.append(drawn[0] if drawn else torch.zeros(1, 2, 4, 4))
    inputs = {
        "sample": start,
        "model_outputs": torch.stack(outputs),
        "noises": torch.stack(noises),
        "num_inference_steps": torch.tensor([steps]),
    }
    found = {
        "prev_samples": torch.stack(previous),
        "scaled_samples": torch.stack(scaled),
        "timesteps": timesteps.float(),
    }
    if hasattr(scheduler, "sigmas") and not kind.startswith("KDPM2"):
        # A level that no step goes to is left out.
        found["sigmas"] = scheduler.sigmas[: len(timesteps) + 1]
    # SASolver's adds noise as on a ladder, on a flow too.
    if hasattr(scheduler, "add_noise") and not (kind == "SASolver" and config.get("use_flow_sigmas")):
        original, noise = randn(2, 2, 4, 4), randn(2, 2, 4, 4)
        at = scheduler.timesteps[[0, len(timesteps) // 2]]
        inputs |= {"add_noise.original": original, "add_noise.noise": noise, "add_noise.timesteps": at}
        found["add_noise"] = scheduler.add_noise(original, noise, at)
    return scheduler, inputs, found, request


def run_score(kind, config, steps):
    """One run of a score equation, as diffusers' pipelines take it: corrections before each step, and the mean of the last one."""
    generator = torch.Generator().manual_seed(7)
    randn = lambda *shape: torch.randn(shape, generator=generator)
    scheduler = (ScoreSdeVeScheduler if kind == "ScoreSdeVe" else ScoreSdeVpScheduler)(**config)
    drawn = []

    def record(shape, **_):
        drawn.append(randn(*shape))
        return drawn[-1]

    importlib.import_module(type(scheduler).__module__).randn_tensor = record
    exploding = kind == "ScoreSdeVe"
    scheduler.set_timesteps(steps)
    sample = randn(1, 2, 4, 4)
    if exploding:
        scheduler.set_sigmas(steps)
        sample = sample * scheduler.init_noise_sigma
    start, outputs, given, previous, told = sample, [], [], [], []

    def ask(sample, level):
        # A score is about as large as the noise over its level.
        outputs.append((randn(1, 2, 4, 4) * 0.7 + 0.1) / (level if exploding else 1.0))
        given.append(sample)
        told.append(level if exploding else level * (scheduler.config.num_train_timesteps - 1))
        return outputs[-1]

    for i, t in enumerate(scheduler.timesteps):
        if exploding:
            for _ in range(scheduler.config.correct_steps):
                sample = scheduler.step_correct(ask(sample, scheduler.sigmas[i]), sample).prev_sample
                previous.append(sample)
            stepped = scheduler.step_pred(ask(sample, scheduler.sigmas[i]), t, sample)
            sample, mean = stepped.prev_sample, stepped.prev_sample_mean
        else:
            sample, mean = scheduler.step_pred(ask(sample, t), sample, t)
        previous.append(sample)
    previous[-1] = mean
    inputs = {
        "sample": start,
        "model_outputs": torch.stack(outputs),
        "noises": torch.stack(drawn),
        "num_inference_steps": torch.tensor([steps]),
    }
    found = {
        "prev_samples": torch.stack(previous),
        "scaled_samples": torch.stack(given),
        "timesteps": torch.stack(told).float(),
    }
    return scheduler, inputs, found, {}


def main():
    runs = {name: run(*options) for name, options in RUNS.items()}
    runs |= {name: run_score(*options) for name, options in SCORE_RUNS.items()}
    for name, (scheduler, inputs, found, request) in runs.items():
        folder = CASES / f"scheduler_{name}"
        shutil.rmtree(folder, ignore_errors=True)
        scheduler.save_config(folder / "checkpoint")
        reference(folder, inputs, found, request)
        finite = all(torch.isfinite(value).all() for value in found.values())
        print(f"{name}: {'ok' if finite else 'NOT FINITE'}")


if __name__ == "__main__":
    main()
