"""What the generators of documentation share: where files are, and when one is out of date."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[2]
TOLERANCE = 1.0  # mean absolute difference, of 255: other versions of Pillow draw text slightly differently

Files = dict[Path, str | bytes]  # generated files with their content


def is_current(path: Path, content: str | bytes) -> bool:
    """Whether a file has this content. Figures are compared by their pixels, not by their bytes."""
    if not path.exists():
        return False
    if isinstance(content, str):
        return path.read_text() == content
    old, new = (_pixels(data) for data in (path.read_bytes(), content))
    return old.shape == new.shape and bool(np.abs(old - new).mean() <= TOLERANCE)


def _pixels(png: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image.convert("RGB"), dtype=float)
