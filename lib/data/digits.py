"""Handwritten digits that come with the project, for a first run without a download.

Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository
1998, DOI 10.24432/C50P49, licence CC BY 4.0. `digits.npz` holds the 1,797 images of the original test part; a
pixel counts the ink in a cell of 4x4, from 0 to 16.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from ..core.registry import datasets
from .base import Dataset, Split, hold_out

FILE = Path(__file__).with_name("digits.npz")
CLASSES = tuple("0123456789")
MEAN = (0.3049,) * 3
STD = (0.3237,) * 3


# No flip: a mirrored digit is not that digit.
@datasets.register(
    "digits",
    classes=CLASSES,
    shape=(3, 32, 32),
    train=1_438,
    test=359,
    mean=MEAN,
    std=STD,
    augment=("crop",),
    paper="Alpaydin and Kaynak 1998",
)
def digits() -> Dataset:
    """1,797 handwritten digits of 8x8 pixels, enlarged to 32x32; a fifth of each class is the test set."""
    with np.load(FILE) as arrays:
        ink, y = torch.from_numpy(arrays["images"]), torch.from_numpy(arrays["labels"]).long()
    # All intermediate values are multiples of 1/1024, exact in float32: the same on any machine.
    x = F.interpolate(ink[:, None].float(), size=(32, 32), mode="bilinear", align_corners=False) * 255 / 16
    train, test = hold_out(Split(x.round().to(torch.uint8).expand(-1, 3, -1, -1).contiguous(), y), 0.2, 10)
    return Dataset(train, test, CLASSES, MEAN, STD)
