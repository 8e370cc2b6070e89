"""Cases of AutoencoderKL: tests/cases/autoencoder_*, and the golden of tiles in crates/autoencoder/tests/golden.

    python tests/reference/autoencoder.py

Tiny autoencoders with random weights, one case for each option. Weights are stored in f16, computed in f32.
Made with torch 2.15.0 and diffusers 0.42.1.
"""

import json
import shutil

import torch
from _cases import CASES, randomise, reference, save
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file

GOLDEN = CASES.parents[1] / "crates/autoencoder/tests/golden"

TINY = dict(
    block_out_channels=(4, 8),
    norm_num_groups=2,
    layers_per_block=1,
    latent_channels=4,
    down_block_types=("DownEncoderBlock2D",) * 2,
    up_block_types=("UpDecoderBlock2D",) * 2,
    sample_size=16,
)

# name: (options, height and width of the picture, batch)
OPTIONS = {
    "autoencoder_three_stages": (
        dict(
            block_out_channels=(4, 6, 8),
            layers_per_block=2,
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            in_channels=1,
            out_channels=2,
            act_fn="gelu",
            sample_size=[16, 24],
        ),
        (12, 20),
        2,
    ),
    "autoencoder_attention": (
        dict(
            down_block_types=("AttnDownEncoderBlock2D", "DownEncoderBlock2D"),
            up_block_types=("UpDecoderBlock2D", "AttnUpDecoderBlock2D"),
        ),
        (8, 8),
        1,
    ),
    "autoencoder_no_attention": (
        dict(mid_block_add_attention=False, use_quant_conv=False, latent_channels=3),
        (8, 12),
        1,
    ),
    # Sides that do not halve evenly lose their last row or column.
    "autoencoder_odd": (dict(use_post_quant_conv=False, act_fn="swish"), (11, 7), 1),
}


def compute(model, image, latent):
    with torch.no_grad():
        posterior = model.encode(image).latent_dist
        decoded = model.decode(latent).sample
    return {"latent_mean": posterior.mean, "latent_logvar": posterior.logvar, "image": decoded}


def old_names(case):
    """As files from before 2023 have it: other names for attention's parameters, fewer fields."""
    folder = CASES / case / "checkpoint"
    weights = load_file(folder / "diffusion_pytorch_model.safetensors")
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    for new, old in names.items():
        weights = {name.replace(f".{new}.", f".{old}."): value for name, value in weights.items()}
    save_file(weights, folder / "diffusion_pytorch_model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    kept = ("_class_name", "act_fn", "block_out_channels", "down_block_types", "in_channels", "latent_channels")
    kept += ("layers_per_block", "norm_num_groups", "out_channels", "sample_size", "up_block_types")
    config = {name: config[name] for name in kept} | {"_diffusers_version": "0.2.2"}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def tiles():
    """Pictures in tiles of 16 pixels (8 of a latent), whose last row and column are cut short."""
    model = randomise(AutoencoderKL(**TINY), 20)
    folder = GOLDEN / "tiled"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    model.half().save_pretrained(folder)
    model.float().enable_tiling()
    image, latent = torch.randn(2, 3, 44, 30).clamp(-1, 1), torch.randn(1, 4, 22, 15)
    reference(folder, {"image": image, "latent": latent}, compute(model, image, latent))


def main():
    torch.manual_seed(0)
    for seed, (name, (options, sides, batch)) in enumerate(OPTIONS.items()):
        model = randomise(AutoencoderKL(**{**TINY, **options}), seed)
        config = model.config
        image = torch.randn(batch, config.in_channels, *sides).clamp(-1, 1)
        latent = torch.randn(batch, config.latent_channels, *(side // 2 for side in sides))
        save(name, model, {"image": image, "latent": latent}, compute(model, image, latent))

    model = randomise(AutoencoderKL(**TINY), 10)
    # Variances beyond any use are clamped.
    model.quant_conv.bias.data[4:] = torch.tensor([40.0, -50.0, 0.0, 0.5])
    image, latent = torch.randn(1, 3, 8, 8).clamp(-1, 1), torch.randn(1, 4, 4, 4)
    save("autoencoder_old_names", model, {"image": image, "latent": latent}, compute(model, image, latent))
    old_names("autoencoder_old_names")
    # Python reads the older file too, and computes the same.
    again = AutoencoderKL.from_pretrained(CASES / "autoencoder_old_names/checkpoint", torch_dtype=torch.float32)
    for name, value in compute(again, image, latent).items():
        assert torch.equal(value, compute(model, image, latent)[name]), name

    tiles()


if __name__ == "__main__":
    main()
