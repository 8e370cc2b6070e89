"""A model of `kiln train-autoregressive`, trained again in PyTorch from the same weights on the same batches.

    kiln train-autoregressive --data crates/kiln/data/mnist --out RUN --model fvsbn --twin
    python tests/reference/autoregressive_twin.py RUN

RUN holds `start.safetensors` (the first weights), `data.safetensors` (the pixels, and which of them each step takes), `scores.json` (what Kiln
reached, and the model) and losses.csv. Written from the papers' formulas; the optimizer is `torch.optim.AdamW`, the rate and the moving average
those that the book states. Prints the two means of -log p on what was held out, in nats, and the first step whose losses differ by more than 1e-3
of themselves. Models: independent, FVSBN, MADE with evenly spread degrees, PixelCNN; binary pixels. Made with torch 2.15.0.
"""

import csv
import json
import math
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file


def places(order):
    at = torch.empty(len(order), dtype=torch.long)
    at[torch.tensor(order)] = torch.arange(len(order))
    return at


def independent(p, config):
    return lambda x, given: p["bias"].T.expand(len(x), -1) + linear_given(p, "given.linear.weight", given)


def linear_given(p, name, given):
    return given @ p[name].T if name in p else 0.0


def fvsbn(p, config):
    at = places(config["order"])
    mask = (at[:, None] < at[None, :]).float()
    return lambda x, given: x @ (p["weight"] * mask) + p["bias"] + linear_given(p, "given.linear.weight", given)


def made(p, config):
    wiring = config["wirings"][0]
    assert len(config["wirings"]) == 1 and wiring["degrees"] is None
    n = len(wiring["order"])
    inputs = places(wiring["order"]) + 1
    degrees, least = [inputs], 1
    for width in config["hidden"]:
        span = n - 1 - least + 1
        degrees.append(torch.tensor([least + unit * span // width for unit in range(width)]))
        least = int(degrees[-1].min())

    def logits(x, given):
        h = x
        for i, (before, after) in enumerate(zip(degrees, degrees[1:])):
            mask = (after[:, None] >= before[None, :]).float()
            h = F.linear(h, p[f"layers.{i}.weight"] * mask, p[f"layers.{i}.bias"])
            h = (h + linear_given(p, "given_hidden.linear.weight", given) if i == 0 else h).relu()
        y = F.linear(h, p["output.weight"] * (inputs[:, None] > degrees[-1][None, :]).float(), p["output.bias"])
        if "direct.weight" in p:
            y = y + F.linear(x, p["direct.weight"] * (inputs[:, None] > inputs[None, :]).float())
        return y + linear_given(p, "given_output.linear.weight", given)

    return logits


def pixelcnn(p, config):
    canvas = config["canvas"]
    height, width = canvas["height"], canvas["width"]

    def conv(name, x, own):
        weight = p[name + ".conv.weight"]
        rows, columns = weight.shape[2:]
        mask = torch.ones(rows, columns)
        mask[rows // 2, columns // 2 + own :] = 0
        mask[rows // 2 + 1 :] = 0
        return F.conv2d(x, weight * mask, p[name + ".conv.bias"], padding=(rows // 2, columns // 2))

    def logits(x, given):
        h = conv("input", x.reshape(-1, 1, height, width), own=0)
        for i in range(config["blocks"]):
            given_here = linear_given(p, f"blocks.{i}.given.linear.weight", given)
            h = h if isinstance(given_here, float) else h + given_here[..., None, None]
            y = h
            for part in ("reduce", "conv", "expand"):
                y = conv(f"blocks.{i}.{part}", y.relu(), own=1)
            h = h + y
        for i in range(2):
            h = conv(f"outputs.{i}", h.relu(), own=1)
        return h.flatten(1)

    return logits


MODELS = {"independent": independent, "fvsbn": fvsbn, "made": made, "pixel_cnn": pixelcnn}


def rate(step, run):
    """Up along a line, then down along half a cosine to a hundredth."""
    if step < run["warmup"]:
        return run["rate"] * (step + 1) / run["warmup"]
    progress = (step - run["warmup"]) / max(run["steps"] - run["warmup"], 1)
    return run["rate"] * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))


def nats(logits, x):
    return F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)


def main(folder, learning_rate, warmup=100, decay=0.99, clip=100.0):
    torch.set_num_threads(1)
    scores = json.loads((folder / "scores.json").read_text())
    (name, config), = scores["run"]["model"].items()
    data = load_file(folder / "data.safetensors")
    p = {k: v.clone().requires_grad_() for k, v in load_file(folder / "start.safetensors").items()}
    average = {k: v.detach().clone() for k, v in p.items()}
    model = MODELS[name]
    train, held_out, order = data["train"], data["held_out"], data["order"].long()

    def given(labels, rows):
        if not config.get("given"):
            return None
        return F.one_hot(data[labels].long()[rows], config["given"]).float()

    run = {"rate": learning_rate, "warmup": warmup, "steps": len(order)}
    optimizer = torch.optim.AdamW(p.values(), lr=learning_rate, weight_decay=0.0)
    logits = model(p, config)
    kiln = [float(row["loss"]) for row in csv.DictReader((folder / "losses.csv").open())]
    parted = None
    started = time.monotonic()
    for step, rows in enumerate(order):
        for group in optimizer.param_groups:
            group["lr"] = rate(step, run)
        x = train[rows]
        loss = nats(logits(x, given("train_labels", rows)), x).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(p.values(), clip)
        optimizer.step()
        if parted is None and abs(loss.item() - kiln[step]) > 1e-3 * kiln[step]:
            parted = step
        n = step + 1
        keep = 0.0 if n == 1 else min(decay, n / (9 + n))
        with torch.no_grad():
            for k, v in p.items():
                average[k].lerp_(v, 1 - keep)
    seconds = time.monotonic() - started
    with torch.no_grad():
        logits = model(average, config)
        all_rows = torch.arange(len(held_out)).split(100)
        each = [nats(logits(held_out[rows], given("held_out_labels", rows)), held_out[rows]) for rows in all_rows]
    reached = torch.cat(each).mean().item()
    before = scores["held_out"]["nats"]
    print(
        f"{folder.name}: Kiln {before:.3f} nats, PyTorch {reached:.3f} ({100 * (before / reached - 1):+.3f} %); losses part at step "
        f"{parted}; {scores['seconds']:.0f} s and {seconds:.0f} s"
    )


if __name__ == "__main__":
    for run_folder in sys.argv[1:]:
        folder = Path(run_folder)
        kind = next(iter(json.loads((folder / "scores.json").read_text())["run"]["model"]))
        main(folder, 3e-2 if kind in ("independent", "fvsbn") else 1e-3)
