"""Image files of every kind that Pillow writes, and a folder of them as a data set."""

import struct
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "I;16")


def picture(mode: str, size: tuple[int, int] = (8, 8)) -> Image.Image:
    """Random pixels, in any of Pillow's modes."""
    pixels = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    if mode.startswith("I"):
        return Image.fromarray(np.array(image.convert("L")).astype(np.uint16) * 256)
    if mode in ("RGBA", "LA", "PA"):
        image = image.convert("RGBA" if mode == "PA" else mode)
        image.putalpha(Image.fromarray(pixels[:, :, 0]))
        return image.quantize(16) if mode == "PA" else image
    return image.convert(mode)


def image_folder(
    base: Path, classes: Iterable[str] = "ab", train: int = 2, test: int = 1, flat: int | None = None
) -> Path:
    """8x8 images in `train/<class>/<n>.png` and `test/<class>/<n>.png`: random, or of the level `flat`."""
    rng = np.random.default_rng(0)
    for part, count in (("train", train), ("test", test)):
        for name in classes:
            (base / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 256, (8, 8, 3), np.uint8)
                pixels = pixels if flat is None else np.full_like(pixels, flat)
                Image.fromarray(pixels).save(base / part / name / f"{number}.png")
    return base


def png(
    depth: int,
    color: int,
    rows: Sequence[bytes],
    trns: Sequence[int] = (),
    *,
    plte: bytes = b"",
    alpha: bytes = b"",
    size: tuple[int, int] = (2, 2),
) -> bytes:
    """A PNG of 2x2 pixels, or another size, written by hand (W3C PNG, sections 4 and 11).

    Args:
        depth, color: bit depth, and colour type: 0 grey, 2 colour, 3 palette, 4 grey with alpha.
        rows: the samples of each row.
        trns: the level, or the three of the colour, that is transparent.
        plte, alpha: the colours of a palette, and their alpha.
    """

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    clear = alpha or struct.pack(f">{len(trns)}H", *trns)
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", *size, depth, color, 0, 0, 0),
        b"PLTE": plte,
        b"tRNS": clear,
        b"IDAT": zlib.compress(b"".join(b"\0" + row for row in rows)),
    }
    parts = [chunk(kind, data) for kind, data in chunks.items() if data]
    return b"\x89PNG\r\n\x1a\n" + b"".join([*parts, chunk(b"IEND", b"")])
