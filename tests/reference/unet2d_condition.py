"""Cases of `UNet2DConditionModel`, one for each option that changes the computation (torch 2.15.0, diffusers 0.42.1).

    python tests/reference/unet2d_condition.py

writes tests/cases/unet2d_condition_*. Random weights, 4 to 12 channels, stored in f16.
"""

import torch
from _cases import randomise, save
from diffusers import UNet2DConditionModel

TINY = dict(
    block_out_channels=(4, 8),
    norm_num_groups=2,
    layers_per_block=1,
    cross_attention_dim=6,
    attention_head_dim=2,
    down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
)
SIMPLE = dict(
    down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
    up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
    mid_block_type="UNetMidBlock2DSimpleCrossAttn",
    attention_head_dim=4,
)
ATTENDING = dict(
    down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
)
TIMES = torch.tensor([981, 3])

# name: options, sides, further inputs (a shape stands for noise of that shape)
CASES = {
    # Stable Diffusion 2: heads of one width everywhere, linear layers around the transformers.
    "linear": (dict(ATTENDING, use_linear_projection=True, attention_head_dim=(2, 4), upcast_attention=True), (8, 8), {}),
    # SDXL: additions, transformers of several blocks, none at the outermost stage.
    "sdxl": (
        dict(
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 2),
            use_linear_projection=True,
            attention_head_dim=(1, 2),
            addition_embed_type="text_time",
            addition_time_embed_dim=4,
            projection_class_embeddings_input_dim=5 + 6 * 4,
        ),
        (8, 8),
        {
            "added_cond_kwargs.text_embeds": (2, 5),
            "added_cond_kwargs.time_ids": torch.tensor([[1024.0, 768, 0, 12, 1024, 1024], [512, 512, 3, 0, 640, 512]]),
        },
    ),
    # SSD-1B: layers of one stage have transformers of unlike depths, and the way up its own.
    "nested": (
        dict(
            ATTENDING,
            layers_per_block=2,
            transformer_layers_per_block=[1, [2, 0]],
            reverse_transformer_layers_per_block=[[0, 1, 2], 1],
            norm_num_groups=4,
        ),
        (8, 8),
        {},
    ),
    # The x4 upscaler: a table of noise levels, a picture beside the sample, attention to the prompt alone.
    "class_table": (
        dict(ATTENDING, in_channels=7, num_class_embeds=5, only_cross_attention=(True, False)),
        (8, 8),
        {"class_labels": torch.tensor([4, 0])},
    ),
    "class_timestep": (
        dict(class_embed_type="timestep", center_input_sample=True, conv_in_kernel=1, conv_out_kernel=5),
        (8, 8),
        {"class_labels": torch.tensor([20.0, 700.0])},
    ),
    # Stable unCLIP.
    "class_projection": (
        dict(class_embed_type="projection", projection_class_embeddings_input_dim=7),
        (8, 8),
        {"class_labels": (2, 7)},
    ),
    "class_concat": (
        dict(
            class_embed_type="simple_projection",
            projection_class_embeddings_input_dim=7,
            class_embeddings_concat=True,
            mid_block_only_cross_attention=True,
        ),
        (8, 8),
        {"class_labels": (2, 7)},
    ),
    # Karlo: attention to pixels and prompt at once, time as scale and shift, the class as it is.
    "class_identity": (
        dict(SIMPLE, class_embed_type="identity", resnet_time_scale_shift="scale_shift", only_cross_attention=(False, True)),
        (8, 8),
        {"class_labels": (2, 16)},
    ),
    # Latent consistency models: the guidance scale as a vector.
    "guidance": (dict(time_cond_proj_dim=3, flip_sin_to_cos=False, freq_shift=1), (8, 8), {"timestep_cond": (2, 3)}),
    "no_middle": (dict(mid_block_type=None, attention_head_dim=3), (8, 8), {}),
    # diffusers does not turn `attention_head_dim` round for the way up.
    "self_attention": (
        dict(
            block_out_channels=(4, 12),
            mid_block_type="UNetMidBlock2D",
            down_block_types=("AttnDownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "AttnUpBlock2D"),
            attention_head_dim=(2, 3),
        ),
        (8, 6),
        {},
    ),
    "lists": (
        dict(
            ATTENDING,
            cross_attention_dim=[6, 6],
            layers_per_block=[1, 2],
            transformer_layers_per_block=[2, 1],
            only_cross_attention=True,
            attention_head_dim=[4, 3],
        ),
        (8, 8),
        {},
    ),
    "odd_sides": (
        dict(
            block_out_channels=(4, 4, 8),
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D", "CrossAttnUpBlock2D"),
        ),
        (7, 10),
        {},
    ),
    "masked": (ATTENDING, (8, 8), {"encoder_attention_mask": torch.tensor([[1.0, 1, 0, 1, 0], [0.0, 0, 0, 0, 1]])}),
    "time": (
        dict(
            timestep_post_act="gelu",
            time_embedding_dim=6,
            time_embedding_act_fn="silu",
            act_fn="gelu",
            norm_eps=1e-3,
            downsample_padding=0,
            mid_block_scale_factor=1.5,
            dropout=0.1,
            out_channels=3,
        ),
        (8, 8),
        {},
    ),
    # DeepFloyd IF: T5's states are projected, and pooled into the time embedding.
    "text": (
        dict(
            SIMPLE,
            cross_attention_dim=32,
            cross_attention_norm="group_norm",
            encoder_hid_dim=6,
            encoder_hid_dim_type="text_proj",
            addition_embed_type="text",
            addition_embed_type_num_heads=2,
            act_fn="gelu",
            time_embedding_act_fn="gelu",
            resnet_skip_time_act=True,
            resnet_out_scale_factor=1.4,
            resnet_time_scale_shift="scale_shift",
        ),
        (8, 8),
        {"encoder_attention_mask": torch.tensor([[1.0, 1, 1, 0, 0], [1.0, 1, 1, 1, 1]])},
    ),
    # Kandinsky 2.2: no prompt, but an image embedding.
    "image": (
        dict(
            SIMPLE,
            encoder_hid_dim=7,
            encoder_hid_dim_type="image_proj",
            addition_embed_type="image",
            resnet_time_scale_shift="scale_shift",
            out_channels=8,
        ),
        (8, 8),
        {"added_cond_kwargs.image_embeds": (2, 7), "encoder_hidden_states": None},
    ),
    # Kandinsky 2.1: both.
    "text_image": (
        dict(
            SIMPLE,
            encoder_hid_dim=5,
            encoder_hid_dim_type="text_image_proj",
            addition_embed_type="text_image",
            only_cross_attention=True,
        ),
        (8, 8),
        {
            "added_cond_kwargs.image_embeds": (2, 6),
            "added_cond_kwargs.text_embeds": (2, 6),
            "encoder_hidden_states": (2, 3, 5),
        },
    ),
    # Residuals that say what there is and not where.
    "controlled_pooled": (
        {},
        (8, 8),
        {
            "down_block_additional_residuals.0": (2, 4, 1, 1),
            "down_block_additional_residuals.1": (2, 4, 1, 1),
            "down_block_additional_residuals.2": (2, 4, 1, 1),
            "down_block_additional_residuals.3": (2, 8, 1, 1),
            "mid_block_additional_residual": (2, 8, 1, 1),
        },
    ),
}


def arguments(inputs):
    """Keyword arguments from names with a dot."""
    keywords = {}
    for name, value in inputs.items():
        head, _, tail = name.partition(".")
        if head == "added_cond_kwargs":
            keywords.setdefault(head, {})[tail] = value
        elif head == "down_block_additional_residuals":
            keywords.setdefault(head, []).append(value)
        else:
            keywords[name] = value
    return keywords


def draw(given):
    """Inputs, where a shape stands for noise of that shape and None for no input."""
    drawn = {name: torch.randn(value) if isinstance(value, tuple) else value for name, value in given.items()}
    return {name: value for name, value in drawn.items() if value is not None}


def main():
    for seed, (name, (options, sides, given)) in enumerate(CASES.items()):
        torch.manual_seed(seed)
        model = randomise(UNet2DConditionModel(**{**TINY, **options}), seed)
        sample = (2, model.config.in_channels, *sides)
        states = (2, 5, model.config.encoder_hid_dim or (TINY | options)["cross_attention_dim"])
        if isinstance(states[2], list):
            states = (2, 5, states[2][0])
        inputs = draw({"sample": sample, "timestep": TIMES, "encoder_hidden_states": states, **given})
        keywords = arguments(inputs)
        keywords.setdefault("encoder_hidden_states", None)
        with torch.no_grad():
            output = model(**keywords).sample
        save(f"unet2d_condition_{name}", model, inputs, {"sample": output})
        print(f"{name}: {sum(p.numel() for p in model.parameters())} parameters, |output| <= {output.abs().max():.3f}")


if __name__ == "__main__":
    main()
