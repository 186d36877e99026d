"""Long-tailed data sets (Cui et al. 2019, arXiv:1901.05555).

The fraction of images that a class keeps falls exponentially with its index, from 1 for the first class to
1 / imbalance for the last. CIFAR-10 with an imbalance of 100 has 5,000, 2,997, 1,796 ... 50 images.
"""

from typing import Annotated

import torch
from annotated_types import Ge

from ..core.contracts import validated
from ..core.errors import require
from .base import Split, stratified_order


@validated
def long_tailed(split: Split, imbalance: Annotated[float, Ge(1)], num_classes: int) -> Split:
    """A long-tailed part of a split, the same for every seed; a smaller part lies within every larger one.

    Args:
        imbalance: size of the first class divided by that of the last; 1 keeps all images.
    Raises:
        ValueError: a class would keep no image, or there is only one class.
    """
    if imbalance == 1:
        return split
    require(num_classes > 1, "imbalance", "1 for a single class", imbalance)
    sizes = split.y.bincount(minlength=num_classes)
    fractions = (1 / imbalance) ** (torch.arange(num_classes).double() / (num_classes - 1))
    keep = (sizes * fractions + 1e-9).long()  # rounded down, as in the authors' counts, but never 50 to 49
    if not keep.all():
        fewest = int(keep.argmin())
        raise ValueError(
            f"imbalance must leave an image of every class, got {imbalance:g}, "
            f"which leaves none of the {int(sizes[fewest])} of class {fewest}"
        )
    order = stratified_order(split.y)
    labels = split.y[order]
    one_hot = torch.nn.functional.one_hot(labels, num_classes)
    rank = one_hot.cumsum(0).gather(1, labels[:, None])[:, 0]  # of an image within its class, from 1
    return split.take(order[rank <= keep[labels]].sort().values)
