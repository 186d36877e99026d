"""Wrong labels, put in on purpose, to see what a method makes of them.

Symmetric: a wrong label is any of the other classes, each as likely, so a share r of the labels is wrong.
(Some authors draw from all K classes; of their labels r (K - 1) / K are wrong.) Asymmetric: a class is taken
for the one that it is usually mistaken for (Patrini et al. 2017, arXiv:1609.03683); classes that have no such
one keep their labels.
"""

from dataclasses import replace
from typing import Literal

import torch

from ..core.errors import require
from ..core.rng import Rng
from .base import Split

Kind = Literal["symmetric", "asymmetric"]


def mislabelled(
    split: Split, share: float, kind: Kind, num_classes: int, mistaken: dict[int, int] | None = None
) -> Split:
    """The split with wrong labels, the same whatever the run's seed; larger shares hold the smaller.

    The noise belongs to the data, as their labels do: runs that differ in their seed learn from the same
    labels, and their spread is that of training alone.

    Args:
        share: the probability of an image to lose its label (in asymmetric noise, if its class is mistaken).
        mistaken: what each class is taken for in asymmetric noise; without it, the next class, and the first
            for the last.
    Raises:
        ValueError: there is but one class.
    """
    if share == 0:
        return split
    require(num_classes > 1, "label_noise", "0 where there is one class only", share)
    rng = Rng("label noise", kind)
    if kind == "symmetric":
        wrong = (split.y + rng.fold("class").integers(1, num_classes, len(split), like=split.y)) % num_classes
    else:
        if mistaken is None:
            mistaken = {k: (k + 1) % num_classes for k in range(num_classes)}
        wrong = torch.tensor([mistaken.get(k, k) for k in range(num_classes)], device=split.y.device)[split.y]
    loses = rng.uniform(len(split), like=split.y) < share
    return replace(split, y=torch.where(loses, wrong, split.y))
