"""A damaged image of any format that Pillow writes is decoded or refused in one line, and nothing hangs."""

import io

import numpy as np
import pytest
from PIL import Image

from lib.data.decoding import CenterCrop, decode
from tests.helpers.fuzz import damaged, refusal

MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "I;16", "F")


def encoded(kind: str) -> list[bytes]:
    """A small image of each mode, in a format that can hold it."""
    levels, files = np.arange(16 * 24 * 3, dtype=np.uint8).reshape(16, 24, 3), []
    for mode in MODES:
        file = io.BytesIO()
        try:
            Image.fromarray(levels).convert("L" if mode == "I;16" else "RGB").convert(mode).save(file, kind)
        except Exception:  # this format has no such mode, or its library is not installed
            continue
        files.append(file.getvalue())
    return files


def formats() -> list[str]:
    Image.init()
    return [kind for kind in sorted(Image.SAVE.keys() & Image.OPEN.keys()) if encoded(kind)]


@pytest.mark.parametrize("kind", formats())
def test_a_damaged_image_is_decoded_or_refused_in_one_line(tried, tmp_path, kind):
    path, originals = tmp_path / f"image.{kind.lower()}", encoded(kind)

    def check(content: bytes) -> str:
        path.write_bytes(content)
        return refusal(lambda: decode(path, CenterCrop(8)))

    tried(damaged(originals), check, short=15, long=200)
