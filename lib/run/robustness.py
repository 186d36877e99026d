"""Robustness: the accuracy of networks under each corruption of the images at each severity.

The protocol of CIFAR-10-C (Hendrycks & Dietterich 2019, arXiv:1903.12261), with test images corrupted here.
Its mean corruption error is relative to AlexNet's; ours is the plain mean of the errors.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..core.dist import SINGLE, World
from ..core.precision import Precision
from ..core.registry import corruptions
from ..core.rng import Rng
from ..corruptions import SEVERITIES, corrupt
from ..data.base import Split
from ..engine.evaluate import BATCH, evaluate
from ..report.text import aligned, number

Accuracies = dict[str, list[float]]  # by corruption, at severities 1 to 5, in percent


def robustness(
    models: dict[str, nn.Module],
    split: Split,
    normalize: Callable[[Tensor], Tensor],
    precision: Precision,
    world: World = SINGLE,
) -> dict[str, Accuracies]:
    """The accuracies of each network. On one kind of device all networks of all runs see the same pixels."""
    found: dict[str, Accuracies] = {network: {} for network in models}
    hide = None if world.is_main else True
    for name in tqdm(corruptions.names(), "corruptions", disable=hide, leave=False):
        for severity in SEVERITIES:
            part = corrupted(split, name, severity)
            for network, model in models.items():
                accuracy = evaluate(model, part, normalize, precision, world).accuracy
                found[network].setdefault(name, []).append(accuracy)
    return found


def corrupted(split: Split, name: str, severity: int) -> Split:
    """All images of a split under one corruption."""
    parts = [
        corrupt(name, split.x[start : start + BATCH], severity, Rng("corruptions", name, severity, start))
        for start in range(0, len(split), BATCH)
    ]
    return Split(torch.cat(parts), split.y)


def corruption_error(accuracies: Accuracies) -> float:
    """The mean error over corruptions and severities, in percent."""
    errors = [100 - accuracy for row in accuracies.values() for accuracy in row]
    return sum(errors) / len(errors)


def robustness_text(found: dict[str, Accuracies]) -> str:
    """A table of the first network's accuracy by severity, and of the means of all networks."""
    first = next(iter(found))
    heads = [f"{first} %: severity {SEVERITIES[0]}", *map(str, SEVERITIES[1:])]
    rows = [["corruption", *heads, *(f"{network} mean" for network in found)]]
    for name, accuracies in found[first].items():
        means = [sum(of[name]) / len(of[name]) for of in found.values()]
        rows.append([name, *map(number, [*accuracies, *means])])
    columns = list(zip(*found[first].values(), strict=True))
    total = [sum(column) / len(column) for column in columns]
    total += [100 - corruption_error(of) for of in found.values()]
    rows.append(["mean", *map(number, total)])
    errors = ", ".join(f"{network} {number(corruption_error(of))} %" for network, of in found.items())
    return f"{aligned(rows)}\nmean corruption error (not divided by AlexNet's): {errors}"
