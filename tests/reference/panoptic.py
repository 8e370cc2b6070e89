"""Golden of segments in crates/detection/tests/detection/golden/segments.json.

    python tests/reference/panoptic.py

What transformers' `post_process_panoptic_segmentation` makes of class logits and masks: discs that overlap, stuff that is joined,
masks that lose most of their pixels, nothing found. Made with transformers 5.23.0, torch 2.15.0.
"""

import json
from pathlib import Path
from types import SimpleNamespace

import torch
from transformers import DetrImageProcessor

GOLDEN = Path(__file__).resolve().parents[2] / "crates/detection/tests/detection/golden/segments.json"


def discs(queries, rows, columns):
    """Masks before the sigmoid: high inside a disc, lower outside."""
    y, x = torch.meshgrid(torch.arange(rows) + 0.5, torch.arange(columns) + 0.5, indexing="ij")
    centres = torch.rand(queries, 2) * torch.tensor([rows, columns])
    radii = 1 + torch.rand(queries) * 0.4 * rows
    distance = ((y - centres[:, 0, None, None]) ** 2 + (x - centres[:, 1, None, None]) ** 2).sqrt()
    return 3 * (radii[:, None, None] - distance)


def case(name, seed, stuff=(), threshold=0.5, said=4.0):
    torch.manual_seed(seed)
    queries, classes, rows, columns, width, height = 7, 5, 6, 8, 29, 23
    logits = said * torch.randn(1, queries, classes)
    masks = discs(queries, rows, columns)[None]
    if stuff:
        # Stuff is told by the last queries, so that no number is given twice.
        logits[0, :, list(stuff)] -= 20
        logits[0, -2:, stuff[0]] += 40
    # As the file has them.
    logits, masks = (torch.tensor(json.loads(json.dumps(t.double().mul(1e4).round().div(1e4).tolist()))) for t in (logits, masks))
    result = DetrImageProcessor().post_process_panoptic_segmentation(
        SimpleNamespace(logits=logits, pred_masks=masks), threshold=threshold, label_ids_to_fuse=set(stuff), target_sizes=[(height, width)]
    )[0]
    assert not stuff or len({found["id"] for found in result["segments_info"]}) < len(result["segments_info"]), "nothing was joined"
    segments = {}
    for found in result["segments_info"]:
        id, label, score = found["id"], found["label_id"], found["score"]
        segments[id] = id, label, max(score, segments.get(id, (0, 0, 0))[2])
    return {
        "name": name,
        "shape": [queries, classes, rows, columns],
        "logits": logits.flatten().tolist(),
        "masks": masks.flatten().tolist(),
        "size": [width, height],
        "stuff": list(stuff),
        "threshold": threshold,
        # It says -1 everywhere where nothing is found.
        "ids": result["segmentation"].int().clamp_min(0).flatten().tolist(),
        "segments": list(segments.values()),
    }


def main():
    cases = [
        case("discs that overlap", 0),
        case("others", 1),
        case("a high threshold", 2, threshold=0.95),
        case("stuff is joined", 35, stuff=(1,)),
        case("stuff and things", 32, stuff=(2, 0)),
        case("nothing is found", 5, threshold=0.999, said=0.5),
    ]
    for made in cases:
        print(made["name"], made["segments"], sorted(set(made["ids"])))
    rounded = json.loads(json.dumps(cases), parse_float=lambda text: round(float(text), 6))
    GOLDEN.write_text(json.dumps(rounded, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
