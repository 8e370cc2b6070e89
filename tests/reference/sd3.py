"""Cases of Stable Diffusion 3's networks: tests/cases/sd3_*, and the positions' golden in crates/attention/tests/golden.

    python tests/reference/sd3.py

SD3Transformer2DModel and SD3ControlNetModel with tiny sizes and random weights, one case for each option that published
checkpoints use. Weights are stored in f16 (the table of positions too, which is then what counts), computed in f32.
Made with torch 2.15.0 and diffusers 0.42.1.
"""

import torch
from _cases import CASES, randomise, save
from diffusers import SD3ControlNetModel, SD3Transformer2DModel
from diffusers.models.embeddings import get_2d_sincos_pos_embed
from safetensors.torch import save_file

ATTENTION = CASES.parents[1] / "crates/attention/tests/golden"

# Two heads of 8 channels; every width differs from every other, so that none can be mistaken for another.
TINY = dict(
    sample_size=8,
    patch_size=2,
    in_channels=4,
    out_channels=4,
    num_layers=2,
    attention_head_dim=8,
    num_attention_heads=2,
    joint_attention_dim=12,
    caption_projection_dim=16,
    pooled_projection_dim=10,
    pos_embed_max_size=6,
)

# name: (options, height and width of the latent, batch, what is beside the plain call)
TRANSFORMERS = {
    "sd3_transformer_qk_norm": (dict(qk_norm="rms_norm", num_layers=3), (8, 8), 2, {}),
    "sd3_transformer_layer_norm": (dict(qk_norm="layer_norm"), (8, 8), 1, {}),
    "sd3_transformer_dual": (dict(qk_norm="rms_norm", dual_attention_layers=[0, 2], num_layers=3), (12, 8), 2, {}),
    "sd3_transformer_wide": (dict(), (4, 12), 1, {}),
    "sd3_transformer_patch": (
        dict(patch_size=4, in_channels=3, out_channels=5, sample_size=20, pos_embed_max_size=5),
        (12, 20),
        2,
        {},
    ),
    # A table that no formula gives: what the file says counts.
    "sd3_transformer_table": (dict(out_channels=None), (6, 10), 1, dict(scramble=True)),
    "sd3_transformer_computed": (dict(pos_embed_max_size=None), (4, 10), 2, {}),
    # Two residuals over four blocks, the last of which takes none; and three over four, which does not come out even.
    "sd3_transformer_controlled": (dict(num_layers=4), (8, 8), 2, dict(controls=2)),
    "sd3_transformer_controlled_uneven": (dict(num_layers=4), (8, 4), 1, dict(controls=3)),
    "sd3_transformer_skip": (dict(num_layers=3), (8, 8), 1, dict(skip_layers=[1])),
}

WITHOUT_POSITIONS = dict(use_pos_embed=False, pos_embed_type=None)
CONTROLNETS = {
    "sd3_controlnet_extra": (dict(extra_conditioning_channels=1), (8, 12), 2, 0.7),
    "sd3_controlnet_dual": (dict(qk_norm="rms_norm", dual_attention_layers=[1, 5]), (8, 8), 1, 1.0),
    # Stable Diffusion 3.5 large: the controlled network's tokens, and no prompt.
    "sd3_controlnet_single": (dict(joint_attention_dim=None, **WITHOUT_POSITIONS), (8, 8), 2, 1.0),
    "sd3_controlnet_tokens": (WITHOUT_POSITIONS, (8, 8), 1, 0.5),
    "sd3_controlnet_no_positions": (dict(pos_embed_type=None, num_layers=1, patch_size=4), (16, 8), 1, 1.0),
}


def model_of(kind, options, seed, scramble=False):
    torch.manual_seed(seed)
    model = randomise(kind(**{**TINY, **options}), seed)
    for name, buffer in model.named_buffers():
        if name.endswith("pos_embed"):
            if scramble:
                buffer.copy_(torch.randn(buffer.shape))
            if model.config.pos_embed_max_size is not None:
                buffer.copy_(buffer.half().float())
    return model


def inputs_of(config, sides, batch, seed):
    generator = torch.Generator().manual_seed(seed)
    randn = lambda *shape: torch.randn(shape, generator=generator)
    inputs = {
        "hidden_states": randn(batch, config.in_channels, *sides),
        "timestep": torch.tensor([899.5, 17.0])[:batch],
        "pooled_projections": randn(batch, config.pooled_projection_dim),
    }
    if config.joint_attention_dim is not None:
        inputs["encoder_hidden_states"] = randn(batch, 5, config.joint_attention_dim)
    return inputs, randn


@torch.no_grad()
def transformer(name, options, sides, batch, extras, seed):
    model = model_of(SD3Transformer2DModel, options, seed, extras.get("scramble", False))
    config = model.config
    inputs, randn = inputs_of(config, sides, batch, seed)
    call, request = dict(inputs), {}
    if "controls" in extras:
        tokens = sides[0] * sides[1] // config.patch_size**2
        width = config.num_attention_heads * config.attention_head_dim
        controls = [randn(batch, tokens, width) for _ in range(extras["controls"])]
        call["block_controlnet_hidden_states"] = controls
        inputs |= {f"block_controlnet_hidden_states.{i}": value for i, value in enumerate(controls)}
    if "skip_layers" in extras:
        call["skip_layers"] = request["skip_layers"] = extras["skip_layers"]
    output = model(**call).sample
    save(name, model, inputs, {"sample": output}, request)
    return output


@torch.no_grad()
def controlnet(name, options, sides, batch, scale, seed):
    model = model_of(SD3ControlNetModel, options, seed)
    config = model.config
    inputs, randn = inputs_of(config, sides, batch, seed)
    if not config.use_pos_embed:
        tokens = sides[0] * sides[1] // config.patch_size**2
        inputs["hidden_states"] = randn(batch, tokens, config.num_attention_heads * config.attention_head_dim)
    inputs["controlnet_cond"] = randn(batch, config.in_channels + config.extra_conditioning_channels, *sides)
    outputs = model(**inputs, conditioning_scale=scale).controlnet_block_samples
    inputs["conditioning_scale"] = torch.tensor([scale])
    save(name, model, inputs, {f"controlnet_block_samples.{i}": value for i, value in enumerate(outputs)})
    return torch.stack(outputs)


def positions():
    """name: width, rows and columns, base."""
    tables = {"square": (16, (6, 6), 4), "wide": (8, (2, 5), 4), "large": (64, (9, 7), 64)}
    tensors = {
        name: get_2d_sincos_pos_embed(width, grid, base_size=base).float() for name, (width, grid, base) in tables.items()
    }
    ATTENTION.mkdir(parents=True, exist_ok=True)
    save_file(tensors, ATTENTION / "sincos.safetensors")


def main():
    positions()
    for seed, (name, (options, sides, batch, extras)) in enumerate(TRANSFORMERS.items()):
        print(f"{name}: |output| <= {transformer(name, options, sides, batch, extras, seed).abs().max():.3f}")
    for seed, (name, (options, sides, batch, scale)) in enumerate(CONTROLNETS.items(), 100):
        print(f"{name}: |output| <= {controlnet(name, options, sides, batch, scale, seed).abs().max():.3f}")


if __name__ == "__main__":
    main()
