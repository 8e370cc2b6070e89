"""Cases of `ControlNetModel`, one for each option that changes the computation (torch 2.15.0, diffusers 0.42.1).

    python tests/reference/controlnet.py

writes tests/cases/controlnet_*. Random weights (zero convolutions too), 4 to 12 channels, stored in f16.
"""

import torch
from _cases import randomise, save
from diffusers import ControlNetModel
from unet2d_condition import TIMES, arguments, draw

TINY = dict(
    block_out_channels=(4, 8),
    norm_num_groups=2,
    layers_per_block=1,
    cross_attention_dim=6,
    attention_head_dim=2,
    down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
    conditioning_embedding_out_channels=(4, 6),
)

# name: options, sides, sides of the picture, scale, further inputs (a shape stands for noise of that shape)
CASES = {
    # Shuffle: residuals are averaged over the pixels, and guess mode does not grade them.
    "pooled": (
        dict(global_pool_conditions=True, controlnet_conditioning_channel_order="bgr"),
        (8, 8),
        (16, 16),
        0.7,
        {"guess_mode": torch.tensor([1])},
    ),
    "guess": (
        dict(layers_per_block=2, use_linear_projection=True, attention_head_dim=(1, 4)),
        (8, 8),
        (16, 16),
        1.3,
        {"guess_mode": torch.tensor([1])},
    ),
    "sdxl": (
        dict(
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            transformer_layers_per_block=(1, 2),
            num_attention_heads=(1, 4),
            addition_embed_type="text_time",
            addition_time_embed_dim=4,
            projection_class_embeddings_input_dim=5 + 6 * 4,
        ),
        (8, 8),
        (16, 16),
        1.0,
        {
            "added_cond_kwargs.text_embeds": (2, 5),
            "added_cond_kwargs.time_ids": torch.tensor([[1024.0, 768, 0, 12, 1024, 1024], [512, 512, 3, 0, 640, 512]]),
        },
    ),
    # Sides that don't halve evenly; a picture of one channel, three convolutions of stride 2.
    "odd_sides": (
        dict(conditioning_channels=1, conditioning_embedding_out_channels=(2, 4, 4, 4), mid_block_type="UNetMidBlock2D"),
        (5, 7),
        (40, 56),
        1.0,
        {},
    ),
    "class": (
        dict(
            num_class_embeds=5,
            conditioning_embedding_out_channels=(3,),
            mid_block_scale_factor=1.5,
            resnet_time_scale_shift="scale_shift",
            only_cross_attention=True,
            downsample_padding=0,
        ),
        (8, 8),
        (8, 8),
        1.0,
        {"class_labels": torch.tensor([3, 0])},
    ),
    "text": (
        dict(addition_embed_type="text", addition_embed_type_num_heads=2, upcast_attention=True),
        (8, 8),
        (16, 16),
        1.0,
        {},
    ),
}


def main():
    for seed, (name, (options, sides, picture, scale, given)) in enumerate(CASES.items()):
        torch.manual_seed(seed)
        model = randomise(ControlNetModel(**{**TINY, **options}), seed)
        inputs = draw(
            {
                "sample": (2, model.config.in_channels, *sides),
                "timestep": TIMES,
                "encoder_hidden_states": (2, 5, 6),
                "controlnet_cond": torch.rand(2, model.config.conditioning_channels, *picture),
                "conditioning_scale": torch.tensor([scale]),
                **given,
            }
        )
        keywords = arguments(inputs) | {"conditioning_scale": scale, "guess_mode": "guess_mode" in inputs}
        with torch.no_grad():
            output = model(**keywords)
        outputs = {f"down_block_res_samples.{i}": x for i, x in enumerate(output.down_block_res_samples)}
        outputs["mid_block_res_sample"] = output.mid_block_res_sample
        save(f"controlnet_{name}", model, inputs, outputs)
        print(f"{name}: {sum(p.numel() for p in model.parameters())} parameters")


if __name__ == "__main__":
    main()
