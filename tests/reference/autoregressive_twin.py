"""A model of `kiln train-autoregressive`, trained again in PyTorch from the same weights on the same batches.

    kiln train-autoregressive --data crates/kiln/data/mnist --out RUN --model fvsbn --twin
    python tests/reference/autoregressive_twin.py RUN

RUN holds `start.safetensors` (the first weights), `data.safetensors` (the pixels, and which of them each step takes), `scores.json` (what Kiln
reached, and the model) and losses.csv (each step's rate and loss). The models are written from their papers, in the files beside this one; the
optimizer is `torch.optim.AdamW`, gradients are clipped to a norm of 100, and the moving average's decay rises to 0.99, as the book states.
Prints the two means of -log p on what was held out, in nats, how far the first losses are apart, and the first step whose losses differ by more
than 1e-3 of themselves. Every model; MADE with one wiring of evenly spread degrees. Made with torch 2.15.0.
"""

import csv
import json
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from _autoregressive_pixels import GatedPixelCnn, PixelCnn, PixelCnnPlusPlus, PixelRnn
from _autoregressive_sequences import Recurrent, Transformer, WaveNet
from _autoregressive_vectors import Fvsbn, Independent, Made, Nade, OrderlessNade

MODELS = {
    "independent": Independent,
    "fvsbn": Fvsbn,
    "nade": Nade,
    "orderless_nade": OrderlessNade,
    "made": Made,
    "recurrent": Recurrent,
    "wave_net": WaveNet,
    "transformer": Transformer,
    "pixel_rnn": PixelRnn,
    "pixel_cnn": PixelCnn,
    "gated_pixel_cnn": GatedPixelCnn,
    "pixel_cnn_plus_plus": PixelCnnPlusPlus,
}


def build(config):
    """From `{"name": {..}}`, as Kiln's files have it."""
    (name, fields), = config.items()
    return MODELS[name](fields)


def one_hot(data, labels, rows, classes):
    return F.one_hot(data[labels].long()[rows], classes).float() if classes else None


def main(folder, decay=0.99, clip=100.0):
    torch.set_num_threads(1)
    torch.manual_seed(0)
    scores = json.loads((folder / "scores.json").read_text())
    classes = next(iter(scores["run"]["model"].values()))["given"]
    data = load_file(folder / "data.safetensors")
    train, held_out, order = data["train"], data["held_out"], data["order"].long()
    model, averaged = build(scores["run"]["model"]), build(scores["run"]["model"])
    for each in (model, averaged):
        each.load_state_dict(load_file(folder / "start.safetensors"))
    kiln = list(csv.DictReader((folder / "losses.csv").open()))
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.0)
    parted, first_apart = None, 0.0
    started = time.monotonic()
    for step, rows in enumerate(order):
        for group in optimizer.param_groups:
            group["lr"] = float(kiln[step]["learning_rate"])
        loss = model.loss(train[rows], one_hot(data, "train_labels", rows, classes), step * len(rows))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        apart = abs(loss.item() / float(kiln[step]["loss"]) - 1)
        first_apart = apart if step == 0 else first_apart
        parted = step if parted is None and apart > 1e-3 else parted
        n = step + 1
        keep = 0.0 if n == 1 else min(decay, n / (9 + n))
        with torch.no_grad():
            for average, weight in zip(averaged.parameters(), model.parameters()):
                average.lerp_(weight, 1 - keep)
    seconds = time.monotonic() - started
    with torch.no_grad():
        averaged.eval()
        batches = torch.arange(len(held_out)).split(100)
        each = [averaged.log_prob(held_out[rows], one_hot(data, "held_out_labels", rows, classes)) for rows in batches]
    reached = -torch.cat(each).mean().item()
    before = scores["held_out"]["nats"]
    print(
        f"{folder.name}: Kiln {before:.3f} nats, PyTorch {reached:.3f} ({100 * (before / reached - 1):+.3f} %); first losses apart by "
        f"{first_apart:.1e}, by 1e-3 at step {parted}; {scores['seconds']:.0f} s and {seconds:.0f} s"
    )


if __name__ == "__main__":
    for run_folder in sys.argv[1:]:
        main(Path(run_folder))
