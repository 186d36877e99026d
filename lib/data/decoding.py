"""An image file becomes a square of pixels."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ..core.errors import BadInput


@dataclass(frozen=True)
class View:
    """What of an image is seen: its middle square, or the middle of that, resized to `side` pixels."""

    side: int
    share: float = 1.0  # of the shorter side; 224 / 256 is "shorter side to 256, then a centre crop of 224"


def decode(path: str | Path, image_size: int, share: float = 1.0) -> Tensor:
    """(3, S, S) uint8: the middle of the image as RGB.

    Raises:
        BadInput: it cannot be read.
    """
    try:
        with Image.open(path) as image:
            if image.mode.startswith("I"):  # 16 bits, which Pillow cuts off at 255 instead of scaling them
                image = image.point(lambda level: level / 256).convert("L")
            # In one go: what is cut off at each edge need not be resized.
            image = ImageOps.fit(
                image.convert("RGB"),
                (image_size, image_size),
                Image.Resampling.BILINEAR,
                bleed=(1 - share) / 2,
            )
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BadInput(f"cannot read {path} as an image ({error}); repair or remove it") from error
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)
