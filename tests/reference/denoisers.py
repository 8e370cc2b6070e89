"""Goldens of crates/denoisers: tiny UNet2DModels with random weights, and what diffusers computes with them.

    python tests/reference/denoisers.py

writes crates/denoisers/tests/golden/CASE/{config.json, diffusion_pytorch_model.safetensors, reference.safetensors}.
Weights are stored in f16 (and computed with as such, in f32), to keep the files small.
Made with torch 2.15.0 and diffusers 0.42.1.
"""

import json
import shutil
from pathlib import Path

import torch
from diffusers import UNet2DModel
from safetensors.torch import save_file

GOLDEN = Path(__file__).resolve().parents[2] / "crates/denoisers/tests/golden"

TINY = dict(
    in_channels=2,
    out_channels=2,
    block_out_channels=(4, 8),
    norm_num_groups=2,
    layers_per_block=1,
    attention_head_dim=4,
    down_block_types=("DownBlock2D", "AttnDownBlock2D"),
    up_block_types=("AttnUpBlock2D", "UpBlock2D"),
)
PLAIN = dict(down_block_types=("DownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "UpBlock2D"))
TIMES = torch.tensor([999.0, 3.0])

# name: (config, sides, timesteps, class labels)
CASES = {
    "class_conditional": (dict(num_class_embeds=5, sample_size=8), (8, 8), TIMES, torch.tensor([4, 0])),
    "scale_shift": (
        dict(
            resnet_time_scale_shift="scale_shift",
            mid_block_scale_factor=1.4142135,
            flip_sin_to_cos=False,
            freq_shift=1,
            attn_norm_num_groups=4,
            act_fn="gelu",
        ),
        (8, 12),
        torch.tensor([0.5, 417.25]),
        None,
    ),
    "scale_shift_no_attention_norm": (
        dict(resnet_time_scale_shift="scale_shift", attention_head_dim=3, norm_eps=1e-3),
        (6, 6),
        TIMES,
        None,
    ),
    "no_attention": (
        dict(
            **PLAIN,
            block_out_channels=(4, 4),
            add_attention=False,
            downsample_padding=0,
            layers_per_block=2,
            class_embed_type="timestep",
            center_input_sample=True,
            sample_size=[10, 6],
            act_fn="swish",
        ),
        (10, 6),
        TIMES,
        torch.tensor([12.0, 700.0]),
    ),
    "resnet_resampling": (
        dict(
            block_out_channels=(4, 4, 8),
            down_block_types=("ResnetDownsampleBlock2D", "AttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D"),
            downsample_type="resnet",
            upsample_type="resnet",
            attention_head_dim=None,
            class_embed_type="identity",
            time_embedding_dim=6,
            mid_block_type=None,
        ),
        (12, 8),
        TIMES,
        torch.linspace(-1, 1, 12).reshape(2, 6),
    ),
    "fourier": (dict(time_embedding_type="fourier"), (4, 4), torch.tensor([0.013, 47.0]), None),
    "learned": (
        dict(time_embedding_type="learned", num_train_timesteps=10, in_channels=3, out_channels=1),
        (4, 4),
        torch.tensor([9, 0]),
        None,
    ),
    # diffusers itself refuses sides that don't halve evenly here; see `forward_odd`.
    "odd_sides": (dict(**PLAIN, block_out_channels=(4, 4)), (7, 9), TIMES, None),
}


def forward_odd(model, sample, timesteps):
    """UNet2DModel.forward, with UNet2DConditionModel's rule for sides that don't halve evenly: the upsampler is told the
    sides of the skip connection that comes next."""
    emb = model.time_embedding(model.time_proj(timesteps))
    x = model.conv_in(sample)
    skips = [x]
    for block in model.down_blocks:
        x, made = block(hidden_states=x, temb=emb)
        skips += made
    x = model.mid_block(x, emb)
    for block in model.up_blocks:
        taken = tuple(skips[-len(block.resnets) :])
        skips = skips[: -len(block.resnets)]
        size = skips[-1].shape[2:] if skips else None
        x = block(x, taken, emb, upsample_size=size)
    return model.conv_out(model.conv_act(model.conv_norm_out(x)))


def randomise(model):
    """Norms start at 1 and 0, which would hide a swap; and f16 must hold the weights exactly."""
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parameter.data += 0.3 * torch.randn_like(parameter)
        parameter.data = parameter.data.half().float()


def main():
    for seed, (name, (options, sides, timesteps, labels)) in enumerate(CASES.items()):
        torch.manual_seed(seed)
        model = UNet2DModel(**{**TINY, **options}).eval()
        randomise(model)
        sample = torch.randn(2, model.config.in_channels, *sides)
        with torch.no_grad():
            if name == "odd_sides":
                output = forward_odd(model, sample, timesteps)
            else:
                output = model(sample, timesteps, class_labels=labels).sample
        folder = GOLDEN / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        config = {key: value for key, value in model.config.items() if not key.startswith("_")}
        config = {"_class_name": "UNet2DModel", **config}
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        weights = {key: value.half().contiguous() for key, value in model.state_dict().items()}
        save_file(weights, folder / "diffusion_pytorch_model.safetensors", metadata={"format": "pt"})
        reference = {"input.sample": sample, "input.timestep": timesteps.float(), "output.sample": output}
        if labels is not None:
            reference["input.class_labels"] = labels.int() if labels.dtype == torch.int64 else labels
        save_file(reference, folder / "reference.safetensors")
        print(f"{name}: {sum(p.numel() for p in model.parameters())} parameters, |output| <= {output.abs().max():.3f}")


if __name__ == "__main__":
    main()
