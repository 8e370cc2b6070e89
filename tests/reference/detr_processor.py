"""Goldens of crates/detection's processor: pictures as transformers' DetrImageProcessor makes them ready.

    python tests/reference/detr_processor.py

writes crates/detection/tests/detection/golden/processor: pictures in PNG and JPEG, in colours, grey, with a palette and with an alpha
channel, of odd sizes; and processor.safetensors with what becomes of each. Made with torch 2.15.0, transformers 5.23.0, Pillow 12.
"""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers.models.detr.image_processing_pil_detr import DetrImageProcessorPil

GOLDEN = Path(__file__).resolve().parents[2] / "crates/detection/tests/detection/golden/processor"
SIZES = {"usual": {"shortest_edge": 32, "longest_edge": 53}, "exact": {"height": 24, "width": 40}}


def waves(width, height, channels, seed):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    planes = [127 + 90 * np.sin(x / (3 + i) + y / (5 - i) + seed) + rng.normal(0, 12, x.shape) for i in range(channels)]
    return np.clip(np.stack(planes, -1), 0, 255).astype(np.uint8)


def main():
    GOLDEN.mkdir(parents=True, exist_ok=True)
    pictures = {
        "wide.png": Image.fromarray(waves(67, 41, 3, 1)),
        "tall.jpg": Image.fromarray(waves(37, 101, 3, 2)),
        "grey.png": Image.fromarray(waves(50, 50, 1, 3)[..., 0]),
        "palette.png": Image.fromarray(waves(40, 33, 3, 4)).convert("P"),
    }
    tensors = {}
    for name, picture in pictures.items():
        picture.save(GOLDEN / name, quality=90)
        shown = Image.open(GOLDEN / name).convert("RGB")
        for kind, size in SIZES.items():
            processor = DetrImageProcessorPil(size=size, do_pad=False)
            values = processor(images=shown, return_tensors="pt")["pixel_values"]
            tensors[f"{kind}.{name}"] = values.contiguous()
    save_file(tensors, GOLDEN / "processor.safetensors")


if __name__ == "__main__":
    main()
