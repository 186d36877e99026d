"""From an image file to pixels: the one way, for data sets, for streams of them and for single images.

1. The orientation that a camera stored (EXIF) is applied.
2. 16-bit grey levels keep their upper 8 bits. Other grey, palette, CMYK, YCbCr... images become RGB as Pillow
   converts them.
3. Transparent pixels are composed onto white, the page of most viewers.
4. The centre square is cut out and resized (bilinear, antialiased).
"""

import contextlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ..core.errors import BadInput

# Raised whenever the pixels of some file change, so that no cache outlives the decoder that filled it.
VERSION = 2

MODES = {1: "L", 3: "RGB"}  # Pillow's mode for a number of channels


@dataclass(frozen=True)
class CenterCrop:
    """The centre square of an image, resized to `size` pixels."""

    size: int
    fraction: float = (
        1.0  # of the shorter side; 224 / 256 is "shorter side to 256, then a centre crop of 224"
    )


def decode(path: str | Path, crop: CenterCrop, channels: int = 3) -> Tensor:
    """(C, S, S) uint8: the image in a file, as RGB or, with one channel, as grey levels.

    Raises:
        BadInput: it cannot be read.
    """
    try:
        with Image.open(path) as image:
            image.load()
            with contextlib.suppress(Exception):  # the metadata may be damaged where the pixels are not
                ImageOps.exif_transpose(image, in_place=True)
            size, bleed = (crop.size, crop.size), (1 - crop.fraction) / 2
            # Cut and resized in one call: pixels outside of the crop need not be resized.
            square = ImageOps.fit(_on_white(_eight_bits(image)), size, Image.Resampling.BILINEAR, bleed)
            pixels = np.array(square.convert(MODES[channels]))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BadInput(f"cannot read {path} as an image ({reason}); repair or remove it") from error
    return torch.from_numpy(pixels).view(crop.size, crop.size, channels).permute(2, 0, 1)


def _eight_bits(image: Image.Image) -> Image.Image:
    """A grey image of 16 bits with its upper 8; Pillow would clip its levels at 255."""
    if not image.mode.startswith("I"):
        return image
    levels, transparent = np.asarray(image), image.info.get("transparency")
    grey = Image.fromarray((levels // 256).clip(0, 255).astype(np.uint8))
    if transparent is not None:
        grey.putalpha(Image.fromarray(np.where(levels == transparent, 0, 255).astype(np.uint8)))
    return grey


def _on_white(image: Image.Image) -> Image.Image:
    """The image as RGB, with white behind what is transparent."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
