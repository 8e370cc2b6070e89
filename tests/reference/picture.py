"""Goldens of kiln-picture, from Pillow: resizing, conversion, decoding with every EXIF orientation.

    python tests/reference/picture.py        # writes crates/picture/tests/golden/

What was done stands in a file's name; expected samples are kept as PNG. Needs pillow 13.0.0 and numpy.
"""

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

GOLDEN = Path(__file__).resolve().parents[2] / "crates/picture/tests/golden"
FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "hamming": Image.Resampling.HAMMING,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
# Odd sizes; smaller, larger, one side only, both ways at once, down to a line and a pixel. (34, 23) and (34, 22) lie on
# both sides of where Pillow 13 takes the vertical pass first.
SIZES = [(17, 13), (41, 31), (37, 11), (7, 29), (55, 5), (3, 47), (1, 1), (36, 29), (34, 23), (34, 22)]
SOURCE = (37, 29)


def source(mode: str) -> Image.Image:
    """Noise upon a ramp, with hard edges for the kernels to overshoot at, and alpha from 0 to 255."""
    width, height = SOURCE
    bands = len(mode)
    rng = np.random.default_rng(20250 + bands)
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(bands), indexing="ij")
    values = 90 + 3 * x - 2 * y + 25 * c + rng.integers(-40, 41, (height, width, bands))
    values[(x // 6 + y // 5) % 3 == 0] = 255
    values[(x // 5 + y // 7) % 4 == 0] = 0
    if mode in ("LA", "RGBA"):
        alpha = np.clip(rng.integers(-60, 320, (height, width)), 0, 255)
        alpha[:8, :9] = 0
        alpha[-8:, -9:] = 255
        values[..., -1] = alpha
    values = np.clip(values, 0, 255).astype(np.uint8)
    return Image.fromarray(values[..., 0] if bands == 1 else values, mode=mode)


def save(image: Image.Image, name: str) -> None:
    image.save(GOLDEN / name, optimize=True)


def resized() -> None:
    """One PNG a mode and filter: the results for all SIZES, one under the other, at the left, on zeros."""
    for mode in ("L", "LA", "RGB", "RGBA"):
        image = source(mode)
        save(image, f"source.{mode}.png")
        for name, resample in FILTERS.items():
            sheet = np.zeros((sum(h for _, h in SIZES), max(w for w, _ in SIZES), len(mode)), np.uint8)
            top = 0
            for width, height in SIZES:
                result = np.asarray(image.resize((width, height), resample)).reshape(height, width, -1)
                sheet[top : top + height, :width] = result
                top += height
            save(Image.fromarray(sheet[..., 0] if mode == "L" else sheet, mode=mode), f"resized.{mode}.{name}.png")


def far() -> None:
    """Reductions and enlargements by large factors, where weights are many and small."""
    rng = np.random.default_rng(7)
    wide = Image.fromarray(rng.integers(0, 256, (3, 1003), np.uint8), mode="L")
    save(wide, "wide.png")
    for name, resample in FILTERS.items():
        save(wide.resize((11, 2), resample), f"wide.reduced.{name}.png")
    for name, resample in FILTERS.items():
        save(wide.resize((1501, 1), resample), f"wide.enlarged.{name}.png")


def converted() -> None:
    for mode in ("L", "LA", "RGB", "RGBA"):
        for to in ("L", "LA", "RGB", "RGBA"):
            if to != mode:
                save(source(mode).convert(to), f"converted.{mode}.{to}.png")


def covered() -> None:
    """torchvision's Resize(n) and CenterCrop(n): its formulas (transforms/functional.py), Pillow's pixels."""
    image = source("RGB")
    for name, image in (("wide", image), ("high", image.transpose(Image.Transpose.ROTATE_90))):
        for side in (8, 12, 29, 41):
            width, height = image.size
            short, long = min(width, height), max(width, height)
            new_long = int(side * long / short)
            size = (side, new_long) if width <= height else (new_long, side)
            left, top = (int(round((length - side) / 2.0)) for length in size)
            fitted = image.resize(size, Image.Resampling.BICUBIC).crop((left, top, left + side, top + side))
            save(fitted, f"covered.{name}.{side}.png")


def oriented() -> None:
    """The letter F, blocks of 8 x 8 so that JPEG keeps it, under each of the eight orientations, in three formats."""
    letter = ["XXXX.", "X....", "XXX..", "X....", "X....", "X...."]
    blocks = np.array([[230 if cell == "X" else 20 for cell in row] for row in letter], np.uint8)
    upright = np.kron(blocks, np.ones((8, 8), np.uint8))
    upright = np.stack([upright, upright // 2, 255 - upright], axis=-1)
    save(Image.fromarray(upright), "upright.png")
    # How a file of each orientation stores the upright picture: the inverse of what exif_transpose does.
    T = Image.Transpose
    stored_by = {
        1: None, 2: T.FLIP_LEFT_RIGHT, 3: T.ROTATE_180, 4: T.FLIP_TOP_BOTTOM,
        5: T.TRANSPOSE, 6: T.ROTATE_90, 7: T.TRANSVERSE, 8: T.ROTATE_270,
    }
    for orientation, how in stored_by.items():
        stored = Image.fromarray(upright)
        stored = stored if how is None else stored.transpose(how)
        exif = Image.Exif()
        exif[0x0112] = orientation
        stored.save(GOLDEN / f"orientation.{orientation}.jpg", quality=95, subsampling=0, exif=exif)
        for ending in ("png", "webp"):
            stored.save(GOLDEN / f"orientation.{orientation}.{ending}", exif=exif.tobytes(), **LOSSLESS[ending])
            with Image.open(GOLDEN / f"orientation.{orientation}.{ending}") as back:
                assert np.array_equal(np.asarray(ImageOps.exif_transpose(back).convert("RGB")), upright)


LOSSLESS = {"png": {"optimize": True}, "webp": {"lossless": True}}


def decoded() -> None:
    """Files of other kinds, each with the samples that Pillow reads from it (or that the format defines)."""
    rgb = source("RGB")
    save(rgb.quantize(16), "palette.png")
    save(rgb.quantize(16).convert("RGB"), "palette.expected.png")
    save(source("L").point(lambda v: 255 * (v > 127)).convert("1"), "bits.png")
    save(source("L").point(lambda v: 255 * (v > 127)), "bits.expected.png")
    source("RGBA").save(GOLDEN / "lossless.webp", lossless=True, exact=True)
    for name, options in (("baseline.jpg", {}), ("progressive.jpg", {"progressive": True}), ("lossy.webp", {})):
        rgb.save(GOLDEN / name, quality=90, **options)
        with Image.open(GOLDEN / name) as back:
            save(back.convert("RGB"), f"{name}.expected.png")
    rgb.convert("L").save(GOLDEN / "grey.jpg", quality=90)
    with Image.open(GOLDEN / "grey.jpg") as back:
        save(back, "grey.jpg.expected.png")
    # 16 bits, which Pillow does not write: the upper bytes are the picture, the lower ones noise.
    lower = np.random.default_rng(16).integers(0, 256, (*SOURCE[::-1], 3), np.uint8)
    deep = np.stack([np.asarray(rgb), lower], axis=-1).reshape(SOURCE[1], -1)
    (GOLDEN / "deep.png").write_bytes(png(SOURCE, 16, 2, deep))
    with Image.open(GOLDEN / "deep.png") as back:
        assert np.array_equal(np.asarray(back.convert("RGB")), np.asarray(rgb))


def png(size: tuple[int, int], depth: int, colour: int, rows: np.ndarray) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


if __name__ == "__main__":
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for old in GOLDEN.iterdir():
        old.unlink()
    for make in (resized, far, converted, covered, oriented, decoded):
        make()
    print(f"{sum(file.stat().st_size for file in GOLDEN.iterdir()):,} bytes in {GOLDEN}")
