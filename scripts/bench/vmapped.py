"""A joint training step of several networks by torch.func.vmap, for `scripts.bench.packing`."""

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call, grad, stack_module_state, vmap

from lib.core.rng import Rng
from lib.engine.step import Run


def vmapped(runs: list[Run]) -> tuple[Callable[[int], Tensor], dict[str, Tensor]]:
    """The joint SGD step of all runs, which returns their losses, and their stacked weights."""
    weights, buffers = stack_module_state([run.model for run in runs])
    weights = {name: weight.detach() for name, weight in weights.items()}
    groups = {p: group for run in runs[:1] for group in run.optimizer.param_groups for p in group["params"]}
    mine = [groups[p] for _, p in runs[0].model.named_parameters()]
    net = copy.deepcopy(runs[0].model)

    def loss(weights: dict, buffers: dict, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        value = F.cross_entropy(functional_call(net, (weights, buffers), (x,)), y)
        return value, value

    gradient = vmap(grad(loss, has_aux=True), randomness="different")
    momenta = [torch.zeros_like(weight) for weight in weights.values()]

    def step(number: int) -> Tensor:
        with torch.no_grad():
            batches = [run.prepare(run.data.at(number), Rng(run.seed, number, 0)) for run in runs]
            x, y = (torch.stack([getattr(batch, name) for batch in batches]) for name in ("x", "y"))
        gradients, losses = gradient(weights, buffers, x, y)
        values, gradients = list(weights.values()), [gradients[name] for name in weights]
        torch._foreach_add_(gradients, torch._foreach_mul(values, [group["weight_decay"] for group in mine]))
        torch._foreach_mul_(momenta, [group["momentum"] for group in mine])
        torch._foreach_add_(momenta, gradients)
        torch._foreach_sub_(values, torch._foreach_mul(momenta, [group["lr"] for group in mine]))
        return losses

    return step, weights
