"""Cases of UNet2DModel that score SDE and older files bring: tests/cases/unet2d_*.

    python tests/reference/score_sde.py

NCSN++ (google/ncsnpp-*) with its stages, beside which a picture goes along, and DDPM's files from 2022. Tiny sizes, random
weights, stored in f16 and computed in f32. What other options compute stands in crates/denoisers/tests/golden (denoisers.py).
Made with torch 2.15.0 and diffusers 0.42.1.
"""

import json
import math

import torch
from _cases import CASES, randomise, save
from diffusers import UNet2DModel
from safetensors.torch import load_file, save_file

NCSNPP = dict(
    attention_head_dim=None,
    layers_per_block=1,
    mid_block_scale_factor=math.sqrt(2),
    norm_eps=1e-6,
    norm_num_groups=None,
    time_embedding_type="fourier",
)
SIGMAS = torch.tensor([0.013, 47.0])

# name: (options, height and width, timesteps)
OPTIONS = {
    # Widths such that the two ways of counting groups on the way up differ, and both divide.
    "unet2d_ncsnpp": (
        dict(
            NCSNPP,
            block_out_channels=(32, 16),
            down_block_types=("AttnSkipDownBlock2D", "SkipDownBlock2D"),
            up_block_types=("SkipUpBlock2D", "AttnSkipUpBlock2D"),
        ),
        (8, 12),
        SIGMAS,
    ),
    "unet2d_ncsnpp_attention_within": (
        dict(
            NCSNPP,
            attention_head_dim=8,
            block_out_channels=(32, 32),
            down_block_types=("SkipDownBlock2D", "AttnSkipDownBlock2D"),
            up_block_types=("AttnSkipUpBlock2D", "SkipUpBlock2D"),
            time_embedding_dim=24,
        ),
        (8, 8),
        SIGMAS,
    ),
    # The picture begins and ends within; samples in 0..1 are brought to -1..1 before it is made of them.
    "unet2d_ncsnpp_mixed": (
        dict(
            NCSNPP,
            block_out_channels=(4, 8, 8),
            down_block_types=("SkipDownBlock2D", "SkipDownBlock2D", "AttnDownBlock2D"),
            up_block_types=("UpBlock2D", "SkipUpBlock2D", "SkipUpBlock2D"),
            norm_num_groups=2,
            time_embedding_type="positional",
            center_input_sample=True,
            act_fn="gelu",
        ),
        (8, 16),
        torch.tensor([999.0, 3.0]),
    ),
    "unet2d_ddpm_2022": (
        dict(
            attention_head_dim=None,
            block_out_channels=(4, 8),
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
            downsample_padding=0,
            flip_sin_to_cos=False,
            freq_shift=1,
            layers_per_block=1,
            norm_eps=1e-6,
            norm_num_groups=2,
        ),
        (8, 8),
        torch.tensor([999, 3]),
    ),
}


def as_in_2022(case):
    """Other names for attention's parameters; fields that were added later are not there, one that went is."""
    folder = CASES / case / "checkpoint"
    weights = load_file(folder / "diffusion_pytorch_model.safetensors")
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    for new, old in names.items():
        weights = {name.replace(f".{new}.", f".{old}."): value for name, value in weights.items()}
    save_file(weights, folder / "diffusion_pytorch_model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    kept = "_class_name act_fn attention_head_dim block_out_channels center_input_sample down_block_types downsample_padding "
    kept += "flip_sin_to_cos freq_shift in_channels layers_per_block mid_block_scale_factor norm_eps norm_num_groups "
    kept += "out_channels sample_size time_embedding_type up_block_types"
    config = {name: config[name] for name in kept.split()}
    config |= {"_diffusers_version": "0.0.4", "resamp_with_conv": True}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def main():
    torch.manual_seed(0)
    for seed, (name, (options, sides, times)) in enumerate(OPTIONS.items()):
        model = randomise(UNet2DModel(**options), seed)
        if options.get("time_embedding_type") == "fourier":
            # Fixed frequencies; half precision is what counts.
            model.time_proj.weight.data = (16 * torch.randn_like(model.time_proj.weight)).half().float()
        sample = torch.randn(len(times), 3, *sides)
        with torch.no_grad():
            output = model(sample, times).sample
        print(f"{name}: {sum(p.numel() for p in model.parameters())} parameters, |output| <= {output.abs().max():.3f}")
        save(name, model, {"sample": sample, "timestep": times}, {"sample": output})
    as_in_2022("unet2d_ddpm_2022")
    again = UNet2DModel.from_pretrained(CASES / "unet2d_ddpm_2022/checkpoint", torch_dtype=torch.float32)
    with torch.no_grad():
        assert torch.equal(again(sample, times).sample, output)


if __name__ == "__main__":
    main()
