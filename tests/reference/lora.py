"""LoRAs of the tiny pipelines of pipelines.py in every layout, and what diffusers draws with them (torch 2.15.0, diffusers 0.42.1,
transformers 5.23.0, peft 0.21.2, accelerate 1.15.0).

    python tests/reference/lora.py

reads crates/pipelines/tests/golden/stable_diffusion and stable_diffusion_3, and writes crates/pipelines/tests/golden/loras/

    NAME.safetensors    a LoRA with random factors
    runs.json           a list: the pipeline, its files with their weights, the request
    runs.safetensors    RUN.image

What is added to U-Nets and transformers is diffusers' own doing wherever it reads the layout (`load_lora_weights`, `set_adapters`). Otherwise
the products are added to the weights by module name: in kohya's files, whose cores and fused projections diffusers does not know; under notes of
PEFT's config, of which it applies those that it wrote itself; and in text encoders, whose names diffusers 0.42 does not find in transformers 5.
"""

import json
import shutil
from pathlib import Path

import torch
from diffusers import StableDiffusion3Pipeline, StableDiffusionPipeline
from pipelines import GOLDEN, PROMPT
from safetensors.torch import load_file, save_file

LORAS = GOLDEN / "loras"
CLASSES = {"stable_diffusion": StableDiffusionPipeline, "stable_diffusion_3": StableDiffusion3Pipeline}


def base(name):
    # The folder has control networks too: they are passed over.
    index = json.loads((GOLDEN / name / "model_index.json").read_text())
    absent = dict(safety_checker=None, requires_safety_checker=False) if name == "stable_diffusion" else {}
    kind = CLASSES[name]
    parts = {key: value for key, value in index.items() if isinstance(value, list) and key not in ("controlnet", "feature_extractor", "image_encoder", "safety_checker")}
    import diffusers
    import transformers

    libraries = {"diffusers": diffusers, "transformers": transformers}
    for key, (library, cls) in parts.items():
        loader = getattr(libraries[library], cls)
        absent[key] = loader.from_pretrained(GOLDEN / name / key)
        if isinstance(absent[key], torch.nn.Module):
            absent[key].float()
    if name == "stable_diffusion":
        absent["feature_extractor"] = None
    pipeline = kind(**absent)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


class Draw:
    def __init__(self, seed):
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, *shape):
        return (torch.randn(shape, generator=self.generator) * 0.3).half()


def layers(module, wanted):
    """Linear and convolutional layers whose name ends so."""
    return {
        name: layer
        for name, layer in module.named_modules()
        if isinstance(layer, (torch.nn.Linear, torch.nn.Conv2d)) and any(name.endswith(end) for end in wanted)
    }


def factors(layer, rank, draw):
    """(down, up) in the shapes that peft and kohya keep them in."""
    shape = layer.weight.shape
    down = draw(rank, *shape[1:])
    up = draw(shape[0], rank, *([1] * (len(shape) - 2)))
    return down, up


ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]
CLIP = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"]
# What kohya trains beside attention, and LyCORIS' LoCon.
LOCON = ATTENTION + ["proj_in", "proj_out", "ff.net.0.proj", "ff.net.2", "conv1", "conv2", "time_emb_proj", "conv_shortcut", "downsamplers.0.conv", "conv_in"]


def each(module, wanted, rank, draw):
    found = layers(module, wanted)
    assert found
    return {name: factors(layer, rank, draw) for name, layer in found.items()}


def make(sd, sd3):
    """Each file: its tensors, and its notes."""
    files = {}

    draw = Draw(1)
    tensors = {}
    for prefix, module, wanted in [("unet", sd.unet, LOCON), ("text_encoder", sd.text_encoder, CLIP)]:
        for name, (down, up) in each(module, wanted, 2, draw).items():
            name = name if prefix == "unet" else "text_model." + name
            tensors[f"{prefix}.{name}.lora_A.weight"], tensors[f"{prefix}.{name}.lora_B.weight"] = down, up
    files["peft"] = (tensors, None)
    # The same factors with notes: another scale for all, and one for some.
    notes = {"unet.r": 2, "unet.lora_alpha": 3, "unet.alpha_pattern": {"conv_in": 1, "attn1.to_q": 5}, "unet.rank_pattern": {}, "unet.use_rslora": False}
    notes |= {"text_encoder.r": 2, "text_encoder.lora_alpha": 4, "text_encoder.alpha_pattern": {}, "text_encoder.use_rslora": True}
    files["peft_with_notes"] = (tensors, notes)

    draw = Draw(2)
    tensors = {}
    for prefix, module, wanted in [("unet", sd.unet, ATTENTION), ("text_encoder", sd.text_encoder, CLIP)]:
        for name, (down, up) in each(module, wanted, 3, draw).items():
            infix = "lora" if prefix == "unet" else "lora_linear_layer"
            name = name if prefix == "unet" else "text_model." + name
            tensors[f"{prefix}.{name}.{infix}.down.weight"], tensors[f"{prefix}.{name}.{infix}.up.weight"] = down, up
    files["diffusers"] = (tensors, None)

    draw = Draw(3)
    for prefix in ["", "unet."]:
        tensors = {}
        for name, (down, up) in each(sd.unet, ATTENTION, 2, Draw(3)).items():
            block, layer = name.rsplit(".to_", 1)
            layer = layer.removesuffix(".0")
            tensors[f"{prefix}{block}.processor.to_{layer}_lora.down.weight"], tensors[f"{prefix}{block}.processor.to_{layer}_lora.up.weight"] = down, up
        if prefix:
            for name, (down, up) in each(sd.text_encoder, CLIP[:4], 2, draw).items():
                block, layer = name.rsplit(".", 1)
                layer = "to_" + layer.removesuffix("_proj")
                tensors[f"text_encoder.text_model.{block}.{layer}_lora.down.weight"], tensors[f"text_encoder.text_model.{block}.{layer}_lora.up.weight"] = down, up
        files["processors" if prefix else "processors_bare"] = (tensors, None)

    draw = Draw(4)
    tensors = {}
    for te, suffix in [("te", "kohya"), ("te1", "kohya_te1")]:
        for prefix, module, wanted in [("unet", sd.unet, LOCON), (te, sd.text_encoder, CLIP)]:
            if prefix == "unet" and te == "te1":
                continue
            for name, (down, up) in each(module, wanted, 4, draw).items():
                name = name if prefix == "unet" else "text_model." + name
                key = f"lora_{prefix}_" + name.replace(".", "_")
                tensors[f"{key}.lora_down.weight"], tensors[f"{key}.lora_up.weight"] = down, up
                tensors[f"{key}.alpha"] = torch.tensor(2.0 if "attn" in key else 1.0)
        files[suffix] = (tensors, None)
        tensors = {}

    # LyCORIS' core: down and up are 1 x 1, and the core is the 3 x 3 between.
    draw = Draw(5)
    tensors = {}
    for name, layer in layers(sd.unet, ["conv1", "conv2"]).items():
        key = "lora_unet_" + name.replace(".", "_")
        outputs, inputs, h, w = layer.weight.shape
        tensors |= {f"{key}.lora_down.weight": draw(3, inputs, 1, 1), f"{key}.lora_up.weight": draw(outputs, 2, 1, 1), f"{key}.lora_mid.weight": draw(2, 3, h, w), f"{key}.alpha": torch.tensor(1.5)}
    files["with_core"] = (tensors, None)

    draw = Draw(6)
    tensors = {}
    wanted = ATTENTION + ["add_q_proj", "add_k_proj", "add_v_proj", "to_add_out", "ff.net.0.proj", "norm1.linear", "proj_out"]
    for name, (down, up) in each(sd3.transformer, wanted, 2, draw).items():
        tensors[f"transformer.{name}.lora_A.weight"], tensors[f"transformer.{name}.lora_B.weight"] = down, up
    for prefix, module in [("text_encoder", sd3.text_encoder), ("text_encoder_2", sd3.text_encoder_2)]:
        for name, (down, up) in each(module, CLIP[:4], 2, draw).items():
            tensors[f"{prefix}.{name}.lora_A.weight"], tensors[f"{prefix}.{name}.lora_B.weight"] = down, up
    files["sd3_peft"] = (tensors, None)

    # By the names of its authors, queries, keys and values in one.
    draw = Draw(7)
    tensors = {}
    heads, blocks = 16, len(sd3.transformer.transformer_blocks)
    wide = {"qkv": (3 * heads, heads), "proj": (heads, heads), "fc1": (4 * heads, heads), "fc2": (heads, 4 * heads)}
    for i in range(blocks):
        for half in ["x_block", "context_block"]:
            for layer in ["attn_qkv", "attn_proj", "mlp_fc1", "mlp_fc2", "adaLN_modulation_1"]:
                is_last = half == "context_block" and i == blocks - 1
                if is_last and layer not in ("attn_qkv", "adaLN_modulation_1"):
                    continue
                outputs, inputs = wide[layer.split("_")[1]] if "adaLN" not in layer else ((2 if is_last else 6) * heads, heads)
                key = f"lora_unet_joint_blocks_{i}_{half}_{layer}"
                tensors |= {f"{key}.lora_down.weight": draw(2, inputs), f"{key}.lora_up.weight": draw(outputs, 2), f"{key}.alpha": torch.tensor(1.0)}
    key = "lora_unet_final_layer_adaLN_modulation_1"
    tensors |= {f"{key}.lora_down.weight": draw(2, heads), f"{key}.lora_up.weight": draw(2 * heads, 2), f"{key}.alpha": torch.tensor(1.0)}
    for te, module in [("te1", sd3.text_encoder), ("te2", sd3.text_encoder_2)]:
        for name, (down, up) in each(module, CLIP[:4], 2, draw).items():
            key = f"lora_{te}_text_model_" + name.removeprefix("text_model.").replace(".", "_")
            tensors |= {f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up, f"{key}.alpha": torch.tensor(1.0)}
    for name, layer in layers(sd3.text_encoder_3, ["SelfAttention.q", "wo"]).items():
        down, up = factors(layer, 2, draw)
        key = "lora_te3_" + name.replace(".", "_")
        tensors |= {f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up}
    files["sd3_kohya"] = (tensors, None)
    return files


def product(up, down):
    return torch.einsum("or,rihw->oihw", up[:, :, 0, 0], down) if down.ndim == 4 else up @ down


def swap(x):
    return torch.cat(x.chunk(2)[::-1])


def products(name):
    """What a kohya file adds, by its own names."""
    tensors = {key: value.float() for key, value in load_file(LORAS / f"{name}.safetensors").items()}
    for key in {key.split(".")[0] for key in tensors}:
        down, up = tensors[f"{key}.lora_down.weight"], tensors[f"{key}.lora_up.weight"]
        scale = tensors.get(f"{key}.alpha", torch.tensor(float(down.shape[0]))).item() / down.shape[0]
        if f"{key}.lora_mid.weight" in tensors:
            core = tensors[f"{key}.lora_mid.weight"]
            yield key, scale * torch.einsum("or,rqhw,qi->oihw", up.flatten(1), core, down.flatten(1))
        else:
            yield key, scale * product(up, down)


def add_by_hand(pipeline, name, weight):
    modules = {}
    for prefix, part in [("unet", "unet"), ("unet", "transformer"), ("te", "text_encoder"), ("te1", "text_encoder"), ("te2", "text_encoder_2"), ("te3", "text_encoder_3")]:
        for layer, module in (getattr(pipeline, part, None) or torch.nn.Module()).named_modules():
            modules[f"lora_{prefix}_" + layer.replace(".", "_")] = module
            modules[f"lora_{prefix}_text_model_" + layer.replace(".", "_")] = module
    names = {
        "x_block_attn_qkv": ["attn_to_q", "attn_to_k", "attn_to_v"],
        "context_block_attn_qkv": ["attn_add_q_proj", "attn_add_k_proj", "attn_add_v_proj"],
        "x_block_attn_proj": ["attn_to_out_0"],
        "context_block_attn_proj": ["attn_to_add_out"],
        "x_block_mlp_fc1": ["ff_net_0_proj"],
        "x_block_mlp_fc2": ["ff_net_2"],
        "context_block_mlp_fc1": ["ff_context_net_0_proj"],
        "context_block_mlp_fc2": ["ff_context_net_2"],
        "x_block_adaLN_modulation_1": ["norm1_linear"],
        "context_block_adaLN_modulation_1": ["norm1_context_linear"],
    }
    used = 0
    for key, added in products(name):
        targets = [key]
        if "joint_blocks" in key:
            block, layer = key.removeprefix("lora_unet_joint_blocks_").split("_", 1)
            if layer == "context_block_adaLN_modulation_1" and int(block) + 1 == len(pipeline.transformer.transformer_blocks):
                added = swap(added)
            targets = [f"lora_unet_transformer_blocks_{block}_{target}" for target in names[layer]]
        elif "final_layer" in key:
            added, targets = swap(added), ["lora_unet_norm_out_linear"]
        for target, part in zip(targets, added.chunk(len(targets))):
            modules[target].weight.data += weight * part
            used += 1
    assert used


def main():
    shutil.rmtree(LORAS, ignore_errors=True)
    LORAS.mkdir(parents=True)
    for name, (tensors, notes) in make(base("stable_diffusion"), base("stable_diffusion_3")).items():
        metadata = None if notes is None else {"lora_adapter_metadata": json.dumps(notes)}
        save_file(tensors, LORAS / f"{name}.safetensors", metadata)

    quick = dict(prompt=PROMPT, num_inference_steps=2, seed=3)
    quick3 = quick | dict(guidance_scale=5.0, max_sequence_length=20)
    by_hand = {"with_core", "sd3_kohya", "peft_with_notes", "kohya", "kohya_te1"}
    runs, pictures = [], {}
    for pipeline_name, request, loras in [
        ("stable_diffusion", quick, {}),
        ("stable_diffusion", quick, {"peft": 1.0}),
        ("stable_diffusion", quick, {"peft": -0.6}),
        ("stable_diffusion", quick, {"peft_with_notes": 1.0}),
        ("stable_diffusion", quick, {"diffusers": 0.8}),
        ("stable_diffusion", quick, {"processors": 1.0}),
        ("stable_diffusion", quick, {"processors_bare": 1.0}),
        ("stable_diffusion", quick, {"kohya": 0.7}),
        ("stable_diffusion", quick, {"kohya_te1": 1.0}),
        ("stable_diffusion", quick, {"with_core": 1.0}),
        ("stable_diffusion", quick, {"peft": 0.5, "diffusers": -0.4}),
        ("stable_diffusion_3", quick3, {"sd3_peft": 0.9}),
        ("stable_diffusion_3", quick3, {"sd3_kohya": 1.0}),
    ]:
        pipeline = base(pipeline_name)
        if set(loras) & by_hand:
            for name, weight in loras.items():
                if name == "peft_with_notes":
                    add_with_notes(pipeline, weight)
                else:
                    add_by_hand(pipeline, name, weight)
        elif loras:
            for name in loras:
                tensors = load_file(LORAS / f"{name}.safetensors")
                add_to_text_encoders(pipeline, tensors, loras[name])
                tensors = {key: value for key, value in tensors.items() if not key.startswith("text_encoder")}
                if name == "processors_bare":
                    # What the U-Net's own `load_attn_procs` takes.
                    tensors = {"unet." + key: value for key, value in tensors.items()}
                pipeline.load_lora_weights(tensors, adapter_name=name)
            pipeline.set_adapters(list(loras), list(loras.values()))
        arguments = dict(request)
        arguments["generator"] = torch.Generator().manual_seed(arguments.pop("seed"))
        with torch.no_grad():
            image = pipeline(output_type="pt", **arguments).images
        run = "+".join(f"{name}:{weight}" for name, weight in loras.items()) or "none"
        runs.append({"name": run, "pipeline": pipeline_name, "loras": [[f"{name}.safetensors", weight] for name, weight in loras.items()], "request": request})
        pictures[f"{run}.image"] = image.float().contiguous().clone()
    plain = pictures["none.image"]
    for run in runs[1:]:
        image = pictures[run["name"] + ".image"]
        if run["pipeline"] == "stable_diffusion":
            print(run["name"], "differs from no LoRA by", float((image - plain).abs().max()))
            assert (image - plain).abs().max() > 0.02
    (LORAS / "runs.json").write_text(json.dumps(runs, indent=1) + "\n")
    save_file(pictures, LORAS / "runs.safetensors")


def add_to_text_encoders(pipeline, tensors, weight):
    downs = [".lora_A.weight", ".lora_linear_layer.down.weight", "_lora.down.weight"]
    ups = [".lora_B.weight", ".lora_linear_layer.up.weight", "_lora.up.weight"]
    old = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}
    for key in [key for key in tensors if key.startswith("text_encoder")]:
        for down, up in zip(downs, ups):
            if key.endswith(down):
                name = key.removesuffix(down)
                part, layer = name.split(".", 1)
                block, last = layer.removeprefix("text_model.").rsplit(".", 1)
                encoder = getattr(pipeline, part)
                # transformers 5 has `text_model` in one of its classes, and not in the other.
                encoder = encoder._modules.get("text_model", encoder)
                target = encoder.get_submodule(f"{block}.{old.get(last, last)}")
                target.weight.data += weight * product(tensors[name + up].float(), tensors[key].float())


def add_with_notes(pipeline, weight):
    """As PEFT's config in the notes says it."""
    tensors = {key: value.float() for key, value in load_file(LORAS / "peft_with_notes.safetensors").items()}
    special = {"conv_in": 1, "attn1.to_q": 5}
    for key in [key for key in tensors if "lora_A" in key]:
        name = key.removesuffix(".lora_A.weight")
        part, layer = name.split(".", 1)
        down, up = tensors[key], tensors[f"{name}.lora_B.weight"]
        if part == "unet":
            alpha = next((alpha for end, alpha in special.items() if layer == end or layer.endswith("." + end)), 3)
            scale = alpha / 2
        else:
            scale, layer = 4 / 2**0.5, layer.removeprefix("text_model.")
        target = getattr(pipeline, part).get_submodule(layer)
        target.weight.data += weight * scale * product(up, down)


if __name__ == "__main__":
    main()
