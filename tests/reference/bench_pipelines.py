"""PyTorch's side of `cargo xtask bench pipelines --torch`, and the checkpoint that both sides draw with.

    python tests/reference/bench_pipelines.py make FOLDER
    python tests/reference/bench_pipelines.py draw FOLDER --steps 2 --threads 2 --out picture.png

`make` writes Stable Diffusion 1.5 with random weights (bench_models.json) in 16 bits, as diffusers does: 2.0 GB. `draw` is what
a user's script does: load, in --dtype, and one picture of 512 x 512 with guidance; with --accelerator on the GPU that torch finds. torch 2.15.0, diffusers 0.42.1, transformers 5.23.0.
"""

import argparse
import gzip
import json
from pathlib import Path

import torch

import bench_ops

HERE = Path(__file__).parent
PROMPT = "a lighthouse in the rain"


def clip_tokenizer():
    """CLIP's vocabulary of 49,408 pieces, from OpenAI's list of merges in crates/text."""
    from transformers import CLIPTokenizer
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    lines = gzip.open(HERE / "../../crates/text/assets/bpe_simple_vocab_16e6.txt.gz").read().decode().split("\n")
    merges = [tuple(line.split()) for line in lines[1 : 49152 - 256 - 2 + 1]]
    letters = list(bytes_to_unicode().values())
    pieces = letters + [letter + "</w>" for letter in letters] + ["".join(merge) for merge in merges]
    pieces += ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, merges=merges, model_max_length=77)


def make(folder):
    from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    configs = json.loads((HERE / "bench_models.json").read_text())
    torch.manual_seed(0)
    StableDiffusionPipeline(
        vae=AutoencoderKL(**configs["vae"]),
        text_encoder=CLIPTextModel(CLIPTextConfig(**configs["clip"])),
        tokenizer=clip_tokenizer(),
        unet=UNet2DConditionModel(**configs["unet"]),
        scheduler=EulerDiscreteScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).to(torch.float16).save_pretrained(folder)


def draw(folder, steps, out, dtype, device):
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(folder, torch_dtype=dtype).to(device)
    pipeline.set_progress_bar_config(disable=True)
    pipeline(PROMPT, num_inference_steps=steps, height=512, width=512).images[0].save(out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["make", "draw"])
    parser.add_argument("folder")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", default="picture.png")
    parser.add_argument("--accelerator", action="store_true")
    parser.add_argument("--dtype", choices=bench_ops.DTYPES, default="f32")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.what == "make":
        make(options.folder)
    else:
        dtype, device = bench_ops.DTYPES[options.dtype], bench_ops.device_for(options.accelerator)
        draw(options.folder, options.steps, options.out, dtype, device)
