"""Goldens of matching and scores in crates/detection/tests/detection/golden.

    python tests/reference/coco.py [PANOPTICAPI]

assignment.f32: the totals of scipy's assignments of 10,000 matrices that both sides make by a formula. coco.json: a small data
set and results, with pycocotools' twelve numbers of boxes and of masks. masks.json: what pycocotools makes of outlines, and
overlaps. panoptic.json: pictures, and what panopticapi (a checkout of github.com/cocodataset/panopticapi) says of them. Made
with scipy 1.17.1, pycocotools 2.0.11, numpy.
"""

import contextlib
import io
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from pycocotools import mask as masks
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from scipy.optimize import linear_sum_assignment

GOLDEN = Path(__file__).resolve().parents[2] / "crates/detection/tests/detection/golden"


def costs(matrix, rows, columns, levels):
    place = np.arange(rows * columns, dtype=np.uint32)
    x = np.uint32((matrix + 1) * 2654435761 % 2**32) ^ (place * np.uint32(2246822519))
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B)
    x = x ^ (x >> np.uint32(16))
    values = (x >> np.uint32(8)).astype(np.float32) % np.float32(levels) / np.float32(16) - np.float32(1)
    return values.reshape(rows, columns)


def assignment():
    totals = []
    for matrix in range(10_000):
        rows, columns = 1 + matrix % 24, 1 + matrix // 24 % 24
        cost = costs(matrix, rows, columns, 5 if matrix % 3 == 0 else 2**24)
        totals.append(cost.astype(np.float64)[linear_sum_assignment(cost)].sum())
    np.array(totals, dtype="<f4").tofile(GOLDEN / "assignment.f32")


def polygon(rng, box):
    x, y, w, h = box
    angles = np.sort(rng.random(rng.integers(3, 8))) * 2 * np.pi
    points = np.stack([x + w / 2 * (1 + np.cos(angles)), y + h / 2 * (1 + np.sin(angles))], 1)
    return [round(float(v), 2) for v in points.ravel()]


def coco():
    rng = np.random.default_rng(0)
    images = [dict(id=i, width=320, height=240, file_name=f"{i}.png") for i in range(1, 9)]
    categories = [dict(id=i, name=f"class {i}") for i in (1, 3, 4)]
    annotations, found = [], []
    for image in images:
        for _ in range(rng.integers(0, 6)):
            size = rng.choice([12, 50, 150])
            w, h = (rng.uniform(0.6, 1.3, 2) * size).round(2)
            x, y = rng.uniform(0, 320 - min(w, 300)), rng.uniform(0, 240 - min(h, 230))
            box = [round(float(v), 2) for v in (x, y, w, h)]
            category = int(rng.choice([1, 3, 4]))
            outline = [polygon(rng, box)]
            crowd = int(rng.random() < 0.15)
            area = float(masks.area(masks.merge(masks.frPyObjects(outline, 240, 320))))
            annotations.append(
                dict(id=len(annotations) + 1, image_id=image["id"], category_id=category, bbox=box, area=area,
                     iscrowd=crowd, segmentation=outline)
            )
            for _ in range(rng.integers(0, 3)):
                moved = [round(float(v + rng.normal(0, size / 12)), 2) for v in box]
                moved[2:] = [max(2.0, v) for v in moved[2:]]
                shape = masks.merge(masks.frPyObjects([polygon(rng, moved)], 240, 320))
                found.append(
                    dict(image_id=image["id"], category_id=category if rng.random() < 0.8 else 3, bbox=moved,
                         segmentation=dict(size=shape["size"], counts=shape["counts"].decode()),
                         # Equal scores too.
                         score=round(float(rng.random()), 1))
                )
    truth = dict(images=images, annotations=annotations, categories=categories, info={})
    result = dict(gt=truth, dt=found)
    with contextlib.redirect_stdout(io.StringIO()):
        data = COCO()
        data.dataset = json.loads(json.dumps(truth))
        data.createIndex()
        for kind in ("bbox", "segm"):
            score = COCOeval(data, data.loadRes(json.loads(json.dumps(found))), kind)
            score.evaluate()
            score.accumulate()
            score.summarize()
            result[kind] = [float(v) for v in score.stats]
    (GOLDEN / "coco.json").write_text(json.dumps(result))


def shapes():
    rng = np.random.default_rng(1)
    polygons = []
    for index in range(60):
        height, width = (int(v) for v in rng.integers(5, 40, 2))
        parts = []
        for _ in range(1 + index % 2):
            points = rng.uniform(-3, 42, (rng.integers(3, 7), 2))
            if index % 3 == 0:
                points = points.round()
            parts.append([round(float(v), 3) for v in points.ravel()])
        runs = masks.merge(masks.frPyObjects(parts, height, width))
        polygons.append(
            dict(polygons=parts, size=[height, width], counts=runs["counts"].decode(), area=int(masks.area(runs)),
                 bbox=[float(v) for v in masks.toBbox(runs)])
        )
    pictures = [rng.random((13, 17)) < share for share in (0.5, 0.3, 0.9, 0.05)]
    runs = [masks.encode(np.asfortranarray(picture.astype(np.uint8))) for picture in pictures]
    ious = masks.iou(runs, runs, [j % 2 for j in range(len(runs))])
    text = lambda mask: mask["counts"].decode()
    (GOLDEN / "masks.json").write_text(
        json.dumps(
            dict(polygons=polygons, masks=[text(mask) for mask in runs], ious=ious.tolist(),
                 union=text(masks.merge(runs[:3])), intersection=text(masks.merge(runs[:3], intersect=True)))
        )
    )


def panoptic(checkout):
    sys.path.insert(0, checkout)
    from panopticapi.evaluation import PQStat, pq_compute_single_core
    from panopticapi.utils import id2rgb
    from PIL import Image

    rng = np.random.default_rng(2)
    categories = [dict(id=i, name=f"class {i}", isthing=int(i < 4)) for i in range(1, 6)]
    images, matched = [], []
    with tempfile.TemporaryDirectory() as folder:
        for index in range(5):
            truth = np.zeros((16, 20), dtype=np.uint32)
            for number in range(1, 8):
                y, x = rng.integers(0, 12), rng.integers(0, 15)
                truth[y : y + rng.integers(3, 9), x : x + rng.integers(3, 9)] = number * 300
            guess = np.roll(truth, rng.integers(0, 2, 2), (0, 1))
            guess[rng.random(guess.shape) < 0.1] = 0
            guess[:2, :6] = 99
            classes = {int(i): int(rng.integers(1, 6)) for i in np.unique(truth) if i}
            segments = [
                dict(id=i, category_id=c, area=int((truth == i).sum()), iscrowd=int(c < 4 and rng.random() < 0.2))
                for i, c in classes.items()
            ]
            answers = [
                dict(id=int(i), category_id=classes.get(int(i), 1) if rng.random() < 0.85 else 2, iscrowd=0)
                for i in np.unique(guess) if i
            ]
            pair = []
            for side, ids, info in (("gt", truth, segments), ("pred", guess, answers)):
                (Path(folder) / side).mkdir(exist_ok=True)
                Image.fromarray(id2rgb(ids).astype(np.uint8)).save(Path(folder) / side / f"{index}.png")
                pair.append(dict(image_id=index, file_name=f"{index}.png", segments_info=json.loads(json.dumps(info))))
            matched.append(pair)
            images.append(
                dict(gt=dict(ids=truth.ravel().tolist(), segments=segments),
                     pred=dict(ids=guess.ravel().tolist(), segments=answers))
            )
        table = {category["id"]: category for category in categories}
        with contextlib.redirect_stdout(io.StringIO()):
            counts = pq_compute_single_core(0, matched, f"{folder}/gt", f"{folder}/pred", table)
    total = PQStat()
    total += counts
    quality = {
        name: total.pq_average(table, isthing=isthing)[0]
        for name, isthing in (("All", None), ("Things", True), ("Stuff", False))
    }
    (GOLDEN / "panoptic.json").write_text(json.dumps(dict(categories=categories, images=images, quality=quality)))


if __name__ == "__main__":
    GOLDEN.mkdir(parents=True, exist_ok=True)
    assignment()
    coco()
    shapes()
    if len(sys.argv) > 1:
        panoptic(sys.argv[1])
