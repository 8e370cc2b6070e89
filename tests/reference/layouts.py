"""Goldens of crates/checkpoint's layouts: tiny models with random weights, in diffusers' folders and in the files of their
first authors.

    python tests/reference/layouts.py

writes crates/checkpoint/tests/golden/layouts/CASE/original.safetensors, and beside it what diffusers or transformers have of
the same model, in PART.json: the config, and for each tensor shape and checksum (CRC-32) of its bytes in f16. How tensors
are called in an original file is written down here from the authors' modules (ldm, OpenCLIP, sd3-ref, ControlNet); where
diffusers' `from_single_file` can load such a file without a network, it is checked to give the same numbers.

Made with torch 2.15.0, diffusers 0.42.1, transformers 5.23.0.
"""

import json
import shutil
import tempfile
import zlib
from pathlib import Path

import torch
from diffusers import AutoencoderKL, ControlNetModel, SD3Transformer2DModel, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, T5Config, T5EncoderModel

GOLDEN = Path(__file__).resolve().parents[2] / "crates/checkpoint/tests/golden/layouts"


def randomise(model, seed):
    """Every tensor another, and exact in f16."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_((0.2 * torch.randn(parameter.shape, generator=generator)).half())
        for buffer in model.buffers():
            if buffer.is_floating_point():
                buffer.copy_(buffer.half())
    return model.eval()


# --- ldm -----------------------------------------------------------------------------------------------------------------

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}


def swap(name, table):
    """`name` with its first layer as `table` has it: {"norm1": "in_layers.0"} takes norm1.weight to in_layers.0.weight."""
    for here, there in table.items():
        if name == here or name.startswith(here + "."):
            return there + name[len(here) :]
    raise KeyError(name)


def ldm_down(name, config):
    """The way down and the middle, which U-Net and control network share; None for other names."""
    levels, layers = len(config["block_out_channels"]), config["layers_per_block"]
    part = name.split(".")
    if part[0] == "down_blocks":
        level, kind, layer, rest = int(part[1]), part[2], int(part[3]), ".".join(part[4:])
        first = 1 + level * (layers + 1)
        if kind == "resnets":
            return f"input_blocks.{first + layer}.0." + swap(rest, RESNET)
        if kind == "attentions":
            return f"input_blocks.{first + layer}.1.{rest}"
        assert level < levels - 1
        return f"input_blocks.{first + layers}.0." + swap(rest, {"conv": "op"})
    if part[0] == "mid_block":
        rest = ".".join(part[3:])
        if part[1] == "resnets":
            return f"middle_block.{2 * int(part[2])}." + swap(rest, RESNET)
        return f"middle_block.1.{rest}"
    stem = {
        "time_embedding.linear_1": "time_embed.0",
        "time_embedding.linear_2": "time_embed.2",
        "class_embedding.linear_1": "label_emb.0.0",
        "class_embedding.linear_2": "label_emb.0.2",
        "class_embedding": "label_emb",
        "add_embedding.linear_1": "label_emb.0.0",
        "add_embedding.linear_2": "label_emb.0.2",
        "conv_in": "input_blocks.0.0",
    }
    try:
        return swap(name, stem)
    except KeyError:
        return None


def ldm_unet(model):
    config, out = model.config, {}
    levels, layers = len(config["block_out_channels"]), config["layers_per_block"]
    for name, tensor in model.state_dict().items():
        there = ldm_down(name, config)
        part = name.split(".")
        if part[0] == "up_blocks":
            level, kind, layer, rest = int(part[1]), part[2], int(part[3]), ".".join(part[4:])
            first = level * (layers + 1)
            attends = config["up_block_types"][level].startswith("CrossAttn")
            if kind == "resnets":
                there = f"output_blocks.{first + layer}.0." + swap(rest, RESNET)
            elif kind == "attentions":
                there = f"output_blocks.{first + layer}.1.{rest}"
            else:
                there = f"output_blocks.{first + layers}.{2 if attends else 1}.{rest}"
        if there is None:
            there = swap(name, {"conv_norm_out": "out.0", "conv_out": "out.2"})
        out[there] = tensor
    return out


def ldm_control(model):
    out = {}
    last = 2 * len(model.config["conditioning_embedding_out_channels"]) - 1
    for name, tensor in model.state_dict().items():
        there = ldm_down(name, model.config)
        if there is None:
            part = name.split(".")
            if part[0] == "controlnet_down_blocks":
                there = f"zero_convs.{part[1]}.0.{part[2]}"
            elif part[0] == "controlnet_mid_block":
                there = f"middle_block_out.0.{part[1]}"
            else:
                assert part[0] == "controlnet_cond_embedding", name
                index = {"conv_in": 0, "conv_out": last}.get(part[1])
                index = int(part[2]) + 1 if index is None else index
                there = f"input_hint_block.{2 * index}.{part[-1]}"
        out[there] = tensor
    return out


def ldm_vae(model):
    out, levels = {}, len(model.config["block_out_channels"])
    shortcut = {"norm1": "norm1", "conv1": "conv1", "norm2": "norm2", "conv2": "conv2", "conv_shortcut": "nin_shortcut"}
    attention = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
    for name, tensor in model.state_dict().items():
        part = name.split(".")
        half, rest = part[0], ".".join(part[1:])
        if half in ("quant_conv", "post_quant_conv"):
            there = name
        elif part[1] in ("down_blocks", "up_blocks"):
            level = int(part[2]) if half == "encoder" else levels - 1 - int(part[2])
            there = f"{half}.{part[1][:-7]}.{level}."
            if part[3] == "resnets":
                there += f"block.{part[4]}." + swap(".".join(part[5:]), shortcut)
            else:
                there += f"{part[3][:-2]}.{'.'.join(part[5:])}"
        elif part[1] == "mid_block" and part[2] == "resnets":
            there = f"{half}.mid.block_{int(part[3]) + 1}." + swap(".".join(part[4:]), shortcut)
        elif part[1] == "mid_block":
            there = f"{half}.mid.attn_1." + swap(".".join(part[4:]), attention)
            if tensor.dim() == 2:
                tensor = tensor[:, :, None, None]
        else:
            there = f"{half}." + swap(
                rest, {"conv_in": "conv_in", "conv_out": "conv_out", "conv_norm_out": "norm_out"}
            )
        out[there] = tensor
    return out


# --- text encoders ---------------------------------------------------------------------------------------------------------


def with_prefix(state):
    """transformers saves a `CLIPTextModel` without the prefix that every published file has."""
    if any(name.startswith("text_model.") for name in state):
        return dict(state)
    return {f"text_model.{name}": tensor for name, tensor in state.items()}


def open_clip(model, last=None):
    """OpenCLIP's names; `last` is a layer that the file has and diffusers drops."""
    state, out = with_prefix(model.state_dict()), {}
    layers = model.config.num_hidden_layers
    table = {
        "layer_norm1": "ln_1",
        "layer_norm2": "ln_2",
        "self_attn.out_proj": "attn.out_proj",
        "mlp.fc1": "mlp.c_fc",
        "mlp.fc2": "mlp.c_proj",
    }
    for name, tensor in state.items():
        part = name.split(".")
        if "layers" in part:
            at, rest = f"transformer.resblocks.{part[3]}.", ".".join(part[4:])
            if rest.split(".")[1] in ("q_proj", "k_proj", "v_proj"):
                kind = part[-1]
                stem = ".".join(part[:5])
                parts = [state[f"{stem}.{which}_proj.{kind}"] for which in "qkv"]
                out[f"{at}attn.in_proj_{kind}"] = torch.cat(parts)
            else:
                out[at + swap(rest, table)] = tensor
    out["positional_embedding"] = state["text_model.embeddings.position_embedding.weight"]
    out["token_embedding.weight"] = state["text_model.embeddings.token_embedding.weight"]
    out["ln_final.weight"] = state["text_model.final_layer_norm.weight"]
    out["ln_final.bias"] = state["text_model.final_layer_norm.bias"]
    width = model.config.hidden_size
    projection = state.get("text_projection.weight")
    out["text_projection"] = torch.eye(width) * 0.5 if projection is None else projection.T.contiguous()
    out["logit_scale"] = torch.tensor(4.6)
    if last is not None:
        for name in [name for name in out if name.startswith("transformer.resblocks.0.")]:
            out[name.replace(".0.", f".{layers}.", 1)] = torch.full_like(out[name], last)
    return out


# --- sd3-ref ---------------------------------------------------------------------------------------------------------------


def sd3_transformer(model):
    state, out = model.state_dict(), {}
    last = model.config.num_layers - 1
    stem = {
        "pos_embed.pos_embed": "pos_embed",
        "pos_embed.proj": "x_embedder.proj",
        "time_text_embed.timestep_embedder.linear_1": "t_embedder.mlp.0",
        "time_text_embed.timestep_embedder.linear_2": "t_embedder.mlp.2",
        "time_text_embed.text_embedder.linear_1": "y_embedder.mlp.0",
        "time_text_embed.text_embedder.linear_2": "y_embedder.mlp.2",
        "context_embedder": "context_embedder",
        "norm_out.linear": "final_layer.adaLN_modulation.1",
        "proj_out": "final_layer.linear",
    }
    block = {
        "norm1.linear": "x_block.adaLN_modulation.1",
        "norm1_context.linear": "context_block.adaLN_modulation.1",
        "attn.to_out.0": "x_block.attn.proj",
        "attn.to_add_out": "context_block.attn.proj",
        "attn.norm_q": "x_block.attn.ln_q",
        "attn.norm_k": "x_block.attn.ln_k",
        "attn.norm_added_q": "context_block.attn.ln_q",
        "attn.norm_added_k": "context_block.attn.ln_k",
        "attn2.to_out.0": "x_block.attn2.proj",
        "attn2.norm_q": "x_block.attn2.ln_q",
        "attn2.norm_k": "x_block.attn2.ln_k",
        "ff.net.0.proj": "x_block.mlp.fc1",
        "ff.net.2": "x_block.mlp.fc2",
        "ff_context.net.0.proj": "context_block.mlp.fc1",
        "ff_context.net.2": "context_block.mlp.fc2",
    }
    fused = {
        "attn.to_q": ("x_block.attn.qkv", ["attn.to_q", "attn.to_k", "attn.to_v"]),
        "attn.add_q_proj": ("context_block.attn.qkv", ["attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"]),
        "attn2.to_q": ("x_block.attn2.qkv", ["attn2.to_q", "attn2.to_k", "attn2.to_v"]),
    }
    parts_of_fused = {name for _, names in fused.values() for name in names}

    def exchanged(tensor):
        scale, shift = tensor.chunk(2)
        return torch.cat([shift, scale])

    for name, tensor in state.items():
        part = name.split(".")
        if part[0] != "transformer_blocks":
            there = swap(name, stem)
            out[there] = exchanged(tensor) if name.startswith("norm_out") else tensor
            continue
        at, here, there, kind = int(part[1]), ".".join(part[2:-1]), f"joint_blocks.{part[1]}.", part[-1]
        if here in fused:
            target, names = fused[here]
            out[f"{there}{target}.{kind}"] = torch.cat([state[f"transformer_blocks.{at}.{n}.{kind}"] for n in names])
        elif here not in parts_of_fused:
            swapped = here == "norm1_context.linear" and at == last
            out[f"{there}{block[here]}.{kind}"] = exchanged(tensor) if swapped else tensor
    return out


# --- cases -----------------------------------------------------------------------------------------------------------------

UNET = dict(
    sample_size=8,
    block_out_channels=(8, 16),
    layers_per_block=2,
    down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    norm_num_groups=8,
    cross_attention_dim=16,
)
LINEAR = dict(UNET, use_linear_projection=True, attention_head_dim=(2, 4), layers_per_block=1)
XL = dict(
    LINEAR,
    block_out_channels=(8, 8, 8),
    attention_head_dim=(2, 2, 2),
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    transformer_layers_per_block=(1, 1, 2),
    addition_embed_type="text_time",
    addition_time_embed_dim=4,
    projection_class_embeddings_input_dim=16 + 6 * 4,
)
CONTROL = dict(
    {key: value for key, value in UNET.items() if key not in ("sample_size", "up_block_types")},
    conditioning_embedding_out_channels=(2, 3, 4, 5),
)
VAE = dict(
    block_out_channels=(4, 8),
    down_block_types=("DownEncoderBlock2D",) * 2,
    up_block_types=("UpDecoderBlock2D",) * 2,
    layers_per_block=1,
    norm_num_groups=4,
    sample_size=16,
)
SD3_VAE = dict(
    VAE,
    latent_channels=16,
    use_quant_conv=False,
    use_post_quant_conv=False,
    scaling_factor=1.5305,
    shift_factor=0.0609,
)
CLIP = dict(
    vocab_size=40,
    hidden_size=16,
    intermediate_size=24,
    num_attention_heads=2,
    max_position_embeddings=12,
    num_hidden_layers=2,
    projection_dim=16,
    bos_token_id=0,
    eos_token_id=2,
    pad_token_id=1,
)
T5 = dict(
    vocab_size=40,
    d_model=16,
    d_kv=4,
    d_ff=24,
    num_layers=2,
    num_heads=3,
    relative_attention_num_buckets=8,
    feed_forward_proj="gated-gelu",
)
MMDIT = dict(
    sample_size=8,
    patch_size=2,
    in_channels=16,
    out_channels=16,
    num_layers=2,
    attention_head_dim=8,
    num_attention_heads=2,
    joint_attention_dim=16,
    caption_projection_dim=16,
    pooled_projection_dim=20,
    pos_embed_max_size=6,
)


def clip(cls=CLIPTextModel, **options):
    return cls(CLIPTextConfig(**{**CLIP, **options}))


def prefixed(prefix, state):
    return {prefix + name: tensor for name, tensor in state.items()}


def betas():
    values = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    return {"betas": values.float(), "alphas_cumprod": torch.cumprod(1 - values, 0).float()}


def stable_diffusion_1():
    unet, vae, text = UNet2DConditionModel(**UNET), AutoencoderKL(**VAE), clip(hidden_act="quick_gelu")
    yield dict(unet=unet, vae=vae, text_encoder=text)
    state = prefixed("model.diffusion_model.", ldm_unet(unet)) | prefixed("first_stage_model.", ldm_vae(vae))
    state |= prefixed("cond_stage_model.transformer.", with_prefix(text.state_dict()))
    state["cond_stage_model.transformer.text_model.embeddings.position_ids"] = torch.arange(12)[None]
    state["model_ema.decay"] = torch.tensor(0.9999)
    state["model_ema.diffusion_modelinput_blocks00weight"] = torch.ones(2)
    yield state | betas()


def stable_diffusion_2():
    unet, vae = UNet2DConditionModel(**LINEAR), AutoencoderKL(**VAE)
    text = clip(hidden_act="gelu")
    yield dict(unet=unet, vae=vae, text_encoder=text)
    state = prefixed("model.diffusion_model.", ldm_unet(unet)) | prefixed("first_stage_model.", ldm_vae(vae))
    yield state | prefixed("cond_stage_model.model.", open_clip(text, last=3.0))


def stable_diffusion_xl():
    unet, vae = UNet2DConditionModel(**XL), AutoencoderKL(**{**VAE, "scaling_factor": 0.13025})
    text = clip(hidden_act="quick_gelu")
    second = clip(CLIPTextModelWithProjection, hidden_act="gelu")
    yield dict(unet=unet, vae=vae, text_encoder=text, text_encoder_2=second)
    state = prefixed("model.diffusion_model.", ldm_unet(unet)) | prefixed("first_stage_model.", ldm_vae(vae))
    state |= prefixed("conditioner.embedders.0.transformer.", with_prefix(text.state_dict()))
    yield state | prefixed("conditioner.embedders.1.model.", open_clip(second))


def stable_diffusion_3():
    transformer, vae = SD3Transformer2DModel(**MMDIT), AutoencoderKL(**SD3_VAE)
    first = clip(CLIPTextModelWithProjection, hidden_act="quick_gelu")
    second = clip(CLIPTextModelWithProjection, hidden_act="gelu", projection_dim=20)
    third = T5EncoderModel(T5Config(**T5))
    yield dict(transformer=transformer, vae=vae, text_encoder=first, text_encoder_2=second, text_encoder_3=third)
    with torch.no_grad():
        first.text_projection.weight.copy_(torch.eye(16))
    state = prefixed("model.diffusion_model.", sd3_transformer(transformer))
    state |= prefixed("first_stage_model.", ldm_vae(vae))
    state |= prefixed("text_encoders.clip_l.transformer.", first.state_dict())
    del state["text_encoders.clip_l.transformer.text_projection.weight"]  # it is the identity
    state |= prefixed("text_encoders.clip_g.transformer.", second.state_dict())
    state["text_encoders.clip_g.logit_scale"] = torch.tensor(4.6)
    yield state | prefixed("text_encoders.t5xxl.transformer.", third.state_dict())


def stable_diffusion_35():
    """Medium: norms of queries and keys, and blocks with two attentions. The transformer alone, without a prefix."""
    transformer = SD3Transformer2DModel(**{**MMDIT, "num_layers": 3, "qk_norm": "rms_norm", "dual_attention_layers": (0, 1)})
    yield dict(transformer=transformer)
    yield sd3_transformer(transformer)


def control_1():
    levels = {
        "block_out_channels": (8, 8, 16),
        "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    }
    control = ControlNetModel(**{**CONTROL, **levels})
    yield dict(controlnet=control)
    yield prefixed("control_model.", ldm_control(control))


def control_2():
    """Of Stable Diffusion 2, without the prefix."""
    linear = {"use_linear_projection": True, "attention_head_dim": (2, 4), "layers_per_block": 1}
    control = ControlNetModel(**{**CONTROL, **linear})
    yield dict(controlnet=control)
    yield ldm_control(control)


def autoencoder():
    vae = AutoencoderKL(**{**VAE, "layers_per_block": 2, "latent_channels": 3})
    yield dict(vae=vae)
    yield ldm_vae(vae)


CASES = [
    stable_diffusion_1,
    stable_diffusion_2,
    stable_diffusion_xl,
    stable_diffusion_3,
    stable_diffusion_35,
    control_1,
    control_2,
    autoencoder,
]


def half(state):
    return {n: (t.half() if t.is_floating_point() else t).contiguous().clone() for n, t in state.items()}


def save_part(path, model):
    """The config and the tensors that Python has of one network."""
    if hasattr(model.config, "to_dict"):
        config = {**model.config.to_dict(), "architectures": [type(model).__name__]}
        config.pop("transformers_version", None)
    else:
        config = {key: value for key, value in model.config.items() if not key.startswith("_")}
        config["_class_name"] = type(model).__name__
    tensors = {
        name: [list(tensor.shape), zlib.crc32(tensor.numpy().tobytes())]
        for name, tensor in sorted(half(model.state_dict()).items())
        if name != "encoder.embed_tokens.weight"
    }
    path.write_text(json.dumps({"config": config, "tensors": tensors}, sort_keys=True, default=str) + "\n")


def check(file, models):
    """diffusers' own loader gives the folder's tensors, for the classes that it can load without a network."""
    classes = (AutoencoderKL, ControlNetModel, SD3Transformer2DModel, UNet2DConditionModel)
    for part, model in models.items():
        if not isinstance(model, classes):
            continue
        with tempfile.TemporaryDirectory() as folder:
            model.save_config(folder)
            loaded = type(model).from_single_file(str(file), config=folder, local_files_only=True)
        expected, found = model.state_dict(), loaded.state_dict()
        assert expected.keys() == found.keys(), expected.keys() ^ found.keys()
        for name in expected:
            assert torch.equal(expected[name].float().half(), found[name].float().half()), (part, name)
        print(f"  {part}: from_single_file gives the same {len(expected)} tensors")


def main():
    shutil.rmtree(GOLDEN, ignore_errors=True)
    for case in CASES:
        steps = case()
        models = next(steps)
        for seed, model in enumerate(models.values()):
            randomise(model, seed)
        state = half(next(steps))
        folder = GOLDEN / case.__name__
        folder.mkdir(parents=True)
        for part, model in models.items():
            save_part(folder / f"{part}.json", model)
        save_file(state, folder / "original.safetensors", metadata={"format": "pt"})
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        print(f"{case.__name__}: {len(state)} tensors, {size / 1e3:.0f} kB")
        check(folder / "original.safetensors", models)


if __name__ == "__main__":
    main()
