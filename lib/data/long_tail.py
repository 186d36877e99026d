"""Long-tailed sets (Cui et al. 2019, arXiv:1901.05555): ever fewer images, class by class.

The share of its images that a class keeps falls exponentially, from all in the first class to 1 / imbalance
in the last one. With CIFAR-10 and an imbalance of 100 that leaves 5,000, 2,997, 1,796 ... 50 images.
"""

import torch

from ..core.errors import require
from .base import Split, stratified_order


def long_tailed(split: Split, imbalance: float, num_classes: int) -> Split:
    """The long-tailed part of a split, the same whatever the run's seed; smaller parts lie within larger.

    Args:
        imbalance: the shares that the first and the last class keep, one divided by the other; 1 keeps all.
    Raises:
        ValueError: a class would keep no image, or there is but one class.
    """
    if imbalance == 1:
        return split
    require(num_classes > 1, "imbalance", "1 where there is one class only", imbalance)
    sizes = split.y.bincount(minlength=num_classes)
    shares = (1 / imbalance) ** (torch.arange(num_classes).double() / (num_classes - 1))
    keep = (sizes * shares + 1e-9).long()  # rounded down, as in the authors' counts, but no 50 to 49
    if not keep.all():
        fewest = int(keep.argmin())
        raise ValueError(
            f"imbalance must leave an image to every class, got {imbalance:g}, "
            f"which leaves none of the {int(sizes[fewest])} of class {fewest}"
        )
    order = stratified_order(split.y)
    labels = split.y[order]
    one_hot = torch.nn.functional.one_hot(labels, num_classes)
    place = one_hot.cumsum(0).gather(1, labels[:, None])[:, 0]  # of an image among those of its class, from 1
    return split.take(order[place <= keep[labels]].sort().values)
