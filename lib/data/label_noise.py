"""Label noise: wrong labels, to measure how robust a method is to them.

Symmetric: a wrong label is any of the other classes with equal probability, so a fraction r of the labels is
wrong. (Some authors draw from all K classes; then r (K - 1) / K of the labels are wrong.) Asymmetric: a label
becomes that of the class with which its class is usually confused (Patrini et al. 2017, arXiv:1609.03683);
classes without such a partner keep their labels.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import torch

from ..core.contracts import Probability, validated
from ..core.errors import require
from ..core.rng import Rng
from .base import Split

Kind = Literal["symmetric", "asymmetric"]


@validated
def mislabelled(
    split: Split,
    noise: Probability,
    kind: Kind,
    num_classes: int,
    mistaken: Mapping[int, int] | None = None,
) -> Split:
    """The split with wrong labels; those of a smaller noise are also wrong under a larger one.

    The noise is part of the data: it is the same for every seed of a run, so that the spread over seeds is
    that of the training alone.

    Args:
        noise: probability that the label of an image changes (asymmetric: if its class has a partner).
        mistaken: the class that each becomes under asymmetric noise; by default the next one, cyclically.
    Raises:
        ValueError: `noise` is not a probability, or there is only one class.
    """
    if noise == 0:
        return split
    require(num_classes > 1, "label_noise", "0 for a single class", noise)
    require(split.soft is None, "label_noise", "0 where labels are probabilities", noise)
    rng = Rng("label noise", kind)
    if kind == "symmetric":
        wrong = (split.y + rng.fold("class").integers(1, num_classes, len(split), like=split.y)) % num_classes
    else:
        if mistaken is None:
            mistaken = {k: (k + 1) % num_classes for k in range(num_classes)}
        wrong = torch.tensor([mistaken.get(k, k) for k in range(num_classes)], device=split.y.device)[split.y]
    changes = rng.uniform(len(split), like=split.y) < noise
    return replace(split, y=torch.where(changes, wrong, split.y))
