"""Crops of the padded image, with either of two names and defaults: they move it by a few pixels."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.batch import Batch
from ..core.contracts import Count
from ..core.errors import require
from ..core.facts import Stage
from ..core.registry import augmentations
from ..core.rng import Rng
from .pipeline import Augmentation

Border = Literal["zero", "reflect"]


@augmentations.register(
    "crop", stage=Stage.GEOMETRY, aliases=("random_crop",), paper="He et al. 2015, arXiv:1512.03385"
)
@dataclass(frozen=True)
class Crop(Augmentation):
    """Padded random crop (He et al. 2015, arXiv:1512.03385, section 4.2): move the image by a few pixels."""

    padding: Count = 4  # pixels added on every side before the crop
    mode: Border = "zero"  # their pixels: black, or the mirrored border

    def apply(self, batch: Batch, rng: Rng) -> Batch:
        return batch.replace(x=shifted(batch.x, self.padding, self.mode, rng))


@augmentations.register(
    "translate", stage=Stage.GEOMETRY, aliases=("random_translate",), paper="Jordan 2024, arXiv:2404.00498"
)
@dataclass(frozen=True)
class Translate(Augmentation):
    """Random translation, as in airbench (Jordan 2024, arXiv:2404.00498): shift an image by a few pixels."""

    pixels: Count = 2  # largest shift along each axis; all shifts are equally likely
    mode: Border = "reflect"  # pixels that move in: black, or the mirrored border

    def apply(self, batch: Batch, rng: Rng) -> Batch:
        return batch.replace(x=shifted(batch.x, self.pixels, self.mode, rng))


def shifted(x: Tensor, pixels: int, mode: Border, rng: Rng) -> Tensor:
    """Images (B, C, H, W) uint8, each moved by up to `pixels` along both axes, all shifts equally likely.

    It is a random crop of the padded image.
    """
    B, _, H, W = x.shape
    rule = f"zero to move images of {H}x{W} by up to {pixels} pixels"
    require(mode == "zero" or pixels < min(H, W), "mode", rule, mode)
    top, left = rng.integers(0, 2 * pixels + 1, 2, B, like=x)
    x = _cropped(_padded_words(x, pixels, mode), top, left, H, -(-W // 8))
    return x[..., :W].contiguous()


def _padded_words(x: Tensor, p: int, mode: Border) -> Tensor:
    """(B, C, H, W) padded by p pixels, in words of eight pixels; a crop has one word more than it needs."""
    W = x.shape[-1]
    words = (2 * p - 1) // 8 + -(-W // 8) + 1
    if mode == "reflect":
        x = F.pad(x, (p, p, p, p), mode="reflect")
        padded = F.pad(x, (0, 8 * words - W - 2 * p))
    else:
        padded = F.pad(x, (p, 8 * words - W - p, p, p))
    return padded.contiguous().view(torch.int64)


def _cropped(words: Tensor, top: Tensor, left: Tensor, height: int, length: int) -> Tensor:
    """(B, C, height, 8 length) pixels from row `top` and column `left` on, both (B,).

    Pixels move eight at a time, in two thirds of the time that an index of single pixels takes: the rows of a
    channel are one piece of memory, and each word is shifted and filled up from the next.
    """
    # A crop begins up to 8 pixels into its first word: with the usual padding that word is always 0.
    word = (left - 1).clamp(min=0) // 8
    pieces = words.unfold(2, height, 1).unfold(3, length + 1, 1)
    x = pieces[torch.arange(len(words), device=words.device), :, top, word]  # (B, C, height, length + 1)
    bits = (8 * (left - 8 * word))[:, None, None, None]  # the first pixel of a word is its lowest byte
    # A shift by all 64 bits leaves 0. The right shift fills up with the sign, which is masked.
    following = x[..., 1:] << (64 - bits)
    own = (x[..., :-1] >> bits).bitwise_and_(~(-1 << (64 - bits)))
    return following.bitwise_or_(own).view(torch.uint8)
