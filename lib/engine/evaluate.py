"""Evaluation: every image once, in order, in eval mode."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..core.dist import SINGLE, World
from ..core.precision import Precision, autocast
from ..core.rng import Rng
from ..data.base import Split

# Large enough to keep a device busy, small enough for any model's activations without gradients.
BATCH = 500


@dataclass(frozen=True)
class Evaluation:
    logits: Tensor  # (N, K) float32, on the CPU
    y: Tensor  # (N,) the true classes, on the CPU
    accuracy: float  # percent
    loss: float  # mean cross-entropy


def networks(
    model: nn.Module, averages: Mapping[str, nn.Module], views: Mapping[str, Callable[..., nn.Module]]
) -> dict[str, nn.Module]:
    """The model by the prefix "", each average by its name, and the test-time views of each by both names."""
    bare = {"": model} | {f"{name}_": average for name, average in averages.items()}
    pairs = product(bare.items(), views.items())
    return bare | {f"{prefix}{name}_": view(model=model) for (prefix, model), (name, view) in pairs}


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    split: Split,
    normalize: Callable[[Tensor], Tensor],
    precision: Precision,
    world: World = SINGLE,
) -> Evaluation:
    """Accuracy and loss of `model` on `split`. The mode of each module is restored.

    Several processes share the batches, and all of them return all logits.
    """
    modes = {module: module.training for module in model.modules()}  # some stay in eval mode
    model.eval()
    logits = []
    size = min(BATCH, max(1, len(split) // world.size))  # at least one batch for each process
    starts = range(0, len(split), size)[world.rank :: world.size]
    for pixels in split.read(slice(start, start + size) for start in starts):
        x = normalize(pixels)
        with autocast(x.device, precision):
            logits.append(model(x).float())
    for module, training in modes.items():
        module.training = training
    logits, y = torch.cat(world.gather_interleaved(logits, split.y.device)), split.y
    return Evaluation(
        logits=logits.cpu(),
        y=y.cpu(),
        accuracy=100 * (logits.argmax(1) == y).sum().item() / len(y),
        loss=F.cross_entropy(logits, y).item(),
    )


@torch.no_grad()
def refresh_statistics(
    model: nn.Module,
    split: Split,
    normalize: Callable[[Tensor], Tensor],
    precision: Precision,
    world: World = SINGLE,
) -> None:
    """Recompute BatchNorm's statistics from every image of `split`.

    They are the mean over batches of the mean and variance of each batch, and do not depend on earlier
    values. A model without BatchNorm costs nothing. Several processes share the batches.
    """
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]
    norms = [m for m in norms if not getattr(m, "frozen", False)]
    if not norms:
        return
    modes = {module: module.training for module in model.modules()}
    momenta = [norm.momentum for norm in norms]
    model.eval()  # no dropout, as when the model is used
    for norm in norms:
        norm.train()
        norm.reset_running_stats()
        norm.momentum = None  # all batches have the same weight
    # Shuffled, as a folder is sorted by class; in parts whose sizes differ by at most one.
    order = Rng("statistics").permutation(len(split))
    parts = order.tensor_split(-(-len(split) // BATCH))
    mine = parts[world.rank :: world.size]
    for pixels in split.read(mine):
        x = normalize(pixels)
        with autocast(x.device, precision):
            model(x)
    statistics = [t for norm in norms for t in (norm.running_mean, norm.running_var)]
    torch._foreach_mul_(statistics, len(mine) / len(parts))
    world.all_reduce(statistics)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    for module, training in modes.items():
        module.training = training
