"""PyTorch's side of `cargo xtask bench models --torch`: the cases of crates/kiln/benches/models.rs, same names.

diffusers' and transformers' networks with the configs of bench_models.json and random weights. Requests and answers are
bench_ops.py's. With --flop it prints the floating-point operations of each case's products instead, which bench_models.json has.
"""

import json
import sys
from pathlib import Path

import torch

import bench_ops

CONFIGS = json.loads(Path(__file__).with_name("bench_models.json").read_text())
BATCH = 64


def unet():
    from diffusers import UNet2DConditionModel

    network = UNet2DConditionModel(**CONFIGS["unet"]).eval()
    sample, prompt = torch.randn(1, 4, 64, 64), torch.randn(1, 77, 768)
    return lambda: network(sample, 500, prompt).sample


def decoder():
    from diffusers import AutoencoderKL

    network = AutoencoderKL(**CONFIGS["vae"]).eval()
    # The way down is no part of the case, as it takes no time; its 34 million numbers are of the memory on both sides.
    latent = torch.randn(1, 4, 64, 64)
    return lambda: network.decode(latent).sample


def clip():
    from transformers import CLIPTextConfig, CLIPTextModel

    network = CLIPTextModel(CLIPTextConfig(**CONFIGS["clip"])).eval()
    ids = torch.arange(77)[None]
    return lambda: network(ids).last_hidden_state


def sd3():
    from diffusers import SD3Transformer2DModel

    network = SD3Transformer2DModel(**CONFIGS["sd3"]).eval()
    sample, prompt, pooled = torch.randn(1, 16, 64, 64), torch.randn(1, 333, 4096), torch.randn(1, 2048)
    time = torch.tensor([500])
    return lambda: network(sample, prompt, pooled, time).sample


def detr():
    from transformers import DetrConfig, DetrForObjectDetection, ResNetConfig

    backbone = ResNetConfig(out_features=["stage4"])
    config = DetrConfig(use_timm_backbone=False, use_pretrained_backbone=False, backbone=None, backbone_config=backbone)
    network = DetrForObjectDetection(config).eval()
    picture = torch.randn(1, 3, 800, 1066)
    return lambda: network(picture).logits


def dat():
    # spandrel's, as upsampling_networks.py says how to install it.
    from upsampling_networks import dat_class

    light = dict(split_size=[8, 32], expansion_factor=2, img_size=64, embed_dim=60, depth=[18], num_heads=[6])
    network = dat_class()(upscale=2, resi_connection="3conv", upsampler="pixelshuffledirect", **light).eval()
    picture = torch.randn(1, 3, 256, 256)
    return lambda: network(picture)


def training_step():
    from diffusers import UNet2DModel

    with torch.inference_mode(False):
        network = UNet2DModel(**CONFIGS["digits"])
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)
        sample, target = torch.randn(BATCH, 1, 28, 28), torch.randn(BATCH, 1, 28, 28)

    def step():
        with torch.inference_mode(False), torch.enable_grad():
            optimizer.zero_grad()
            (network(sample, 500).sample - target).square().mean().backward()
            optimizer.step()

    return step


def flop(operation):
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    # Attention in one kernel is not counted on a CPU.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        operation()
    return counter.get_total_flops()


def cases():
    networks = {
        "SD 1.5 U-Net, 64x64 latents": unet,
        "SD 1.5 VAE decoder, to 512x512": decoder,
        "CLIP-L text, 77 tokens": clip,
        "SD3-medium transformer, 2 blocks, 64x64 latents": sd3,
        "DETR-R50, 800x1066": detr,
        "DAT-light x2, 256x256": dat,
        "digit U-Net, training step of 64": training_step,
    }
    matmul = {"matmul [1024,1024]": (2 * bench_ops.MATMUL**3, 0, bench_ops.matmul)}
    return matmul | {name: (CONFIGS["flop"][name], 0, network) for name, network in networks.items()}


if __name__ == "__main__":
    if "--flop" in sys.argv:
        for name, (_, _, prepare) in cases().items():
            with torch.inference_mode():
                operation = prepare()
                print(f"{flop(operation) / 1e9:8.1f}e9 {name}")
    else:
        with torch.inference_mode():
            bench_ops.main(cases())
