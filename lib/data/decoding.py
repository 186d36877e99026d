"""From an image file to pixels: the one way, for data sets, for streams of them and for single images.

1. The first frame is read, and the orientation that a camera stored (EXIF or XMP) is applied.
2. Levels of more than 8 bits are scaled to 0 to 255 by the range of the mode, and never clipped. Those of 16
   bits keep their upper 8. The range of 32-bit integers is 0 to 255, to 65535 or to 2^31 - 1, that of floats
   0 to 1, to 255 or to 65535: the smallest that contains the levels of the image, and an image with others
   is refused. Palette, CMYK, YCbCr, LAB... images become RGB as Pillow converts them.
3. Transparent pixels are composed onto white, the page of most viewers.
4. The centre square is cut out and resized (bilinear, antialiased).
"""

import contextlib
import io
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ..core.errors import BadInput

# Raised whenever the pixels of some file change, so that no cache outlives the decoder that filled it.
VERSION = 3

# Without a handler, Python prints what Pillow logs on damaged files, which are reported here.
logging.getLogger("PIL").addHandler(logging.NullHandler())

MODES = {1: "L", 3: "RGB"}  # Pillow's mode for a number of channels

RANGES = {"I": (2**8 - 1, 2**16 - 1, 2**31 - 1), "F": (1, 2**8 - 1, 2**16 - 1)}  # levels of white, by mode

# Pillow scales samples of these raw modes to 8 bits, but not the transparent colour (tRNS) of a PNG.
SAMPLE_SCALES = {"L;2": 85, "L;4": 17, "RGB;16B": 1 / 256}


@dataclass(frozen=True)
class CenterCrop:
    """The centre square of an image, resized to `size` pixels."""

    size: int
    # Of the shorter side; 224 / 256 is "shorter side to 256, then a centre crop of 224".
    fraction: float = 1.0


def decode(path: str | Path, crop: CenterCrop, channels: int = 3, content: bytes | None = None) -> Tensor:
    """(C, S, S) uint8: the image in a file, as RGB or, with one channel, as grey levels.

    Args:
        content: the bytes of the file where they were read already; `path` then only names it.
    Raises:
        BadInput: it cannot be read.
    """
    try:
        with Image.open(path if content is None else io.BytesIO(content)) as image:
            sample_scale = SAMPLE_SCALES.get(image.tile[0][-1]) if image.format == "PNG" else None
            image.load()
            if sample_scale and (clear := image.info.get("transparency")) is not None:
                clear = tuple(int(level * sample_scale) for level in np.atleast_1d(clear))
                image.info["transparency"] = clear if image.mode == "RGB" else clear[0]
            with contextlib.suppress(Exception):  # the metadata may be damaged where the pixels are not
                ImageOps.exif_transpose(image, in_place=True)
            size, bleed = (crop.size, crop.size), (1 - crop.fraction) / 2
            # Cut and resized in one call: pixels outside of the crop need not be resized.
            square = ImageOps.fit(_on_white(_eight_bits(image)), size, Image.Resampling.BILINEAR, bleed)
            pixels = np.array(square.convert(MODES[channels]))
    except Exception as error:  # Pillow's decoders raise errors of all types on damaged files
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise BadInput(f"cannot read {path} as an image ({reason}); repair or remove it") from error
    return torch.from_numpy(pixels).view(crop.size, crop.size, channels).permute(2, 0, 1)


def _eight_bits(image: Image.Image) -> Image.Image:
    """A grey image of deeper levels with 8 bits; Pillow would clip its levels at 255."""
    if image.mode[0] not in RANGES:
        return image
    levels, clear = np.asarray(image), image.info.get("transparency")
    # These formats have 16-bit levels whatever Pillow's mode for them.
    deep = image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))
    ranges = (2**16 - 1,) if deep else RANGES[image.mode]
    white = next((white for white in ranges if levels.min() >= 0 and levels.max() <= white), None)
    if white is None:
        found = f"from {levels.min():g} to {levels.max():g}"
        raise ValueError(f"its levels are {found}, and not from 0 to {ranges[-1]}")
    eight = (levels * (255 / white)).round() if image.mode == "F" else levels // ((white + 1) // 256)
    grey = Image.fromarray(eight.astype(np.uint8))
    if clear is not None:
        grey.putalpha(Image.fromarray(np.where(levels == clear, 0, 255).astype(np.uint8)))
    return grey


def _on_white(image: Image.Image) -> Image.Image:
    """The image as RGB, with white behind what is transparent."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
