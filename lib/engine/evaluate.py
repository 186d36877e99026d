"""Evaluation: every image once, in order, in eval mode."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

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
    """The model under the prefix "", each average under its name, and the views of each under both names."""
    bare = {"": model} | {f"{name}_": average for name, average in averages.items()}
    return bare | {
        f"{prefix}{name}_": view(model=network)
        for prefix, network in bare.items()
        for name, view in views.items()
    }


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    split: Split,
    normalize: Callable[[Tensor], Tensor],
    precision: Precision,
    world: World = SINGLE,
) -> Evaluation:
    """Accuracy and loss of `model` on `split`; leaves its modules in the modes they were in.

    Several processes divide the batches among themselves, and have all logits in the end.
    """
    modes = {module: module.training for module in model.modules()}  # one that stays in eval mode, too
    model.eval()
    logits = []
    size = min(BATCH, max(1, len(split) // world.size))  # so small that each process has one
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
    """Measure BatchNorm's statistics anew, on every image of `split` once.

    They become the mean over batches of each batch's mean and variance. What was there before has no effect,
    so to measure them twice is to measure them once; a model without BatchNorm costs nothing. Several
    processes divide the batches among themselves.
    """
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]
    if not norms:
        return
    modes = {module: module.training for module in model.modules()}
    momenta = [norm.momentum for norm in norms]
    model.eval()  # dropout and its like stay off, for the model is used without them
    for norm in norms:
        norm.train()
        norm.reset_running_stats()
        norm.momentum = None  # every batch counts the same
    # In a mixed order, for a folder's images come class by class; and in parts that differ by one at most.
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
