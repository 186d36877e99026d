"""The base optimizers: torch's where torch has one, timm's by name for the rest."""

from functools import partial

import torch
from torch.optim import Optimizer

from lib.errors import BadInput, nearest, require
from lib.registry import optimizers


def sgd(
    params: list[dict],
    lr: float = 0.1,  # the schedule's factors multiply it
    momentum: float = 0.9,  # of the velocity
    weight_decay: float = 5e-4,  # added to the gradient as weight_decay * weight
    nesterov: bool = False,  # look ahead by one velocity
) -> Optimizer:
    require(0 <= momentum < 1, "momentum", "at least 0 and below 1", momentum)
    _check(lr, weight_decay)
    return torch.optim.SGD(params, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov)


def adam(
    params: list[dict],
    lr: float = 1e-3,  # the schedule's factors multiply it
    betas: tuple[float, float] = (0.9, 0.999),  # decay of the two moments
    eps: float = 1e-8,  # keeps the division finite
    weight_decay: float = 0.0,  # added to the gradient, before the moments
) -> Optimizer:
    _check(lr, weight_decay, betas)
    return torch.optim.Adam(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)


def adamw(
    params: list[dict],
    lr: float = 1e-3,  # the schedule's factors multiply it
    betas: tuple[float, float] = (0.9, 0.999),  # decay of the two moments
    eps: float = 1e-8,  # keeps the division finite
    weight_decay: float = 0.01,  # weights shrink by lr * weight_decay a step, apart from the moments
) -> Optimizer:
    _check(lr, weight_decay, betas)
    return torch.optim.AdamW(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)


def timm_optimizer(
    params: list[dict],
    name: str,
    lr: float = 1e-3,  # the schedule's factors multiply it
    weight_decay: float = 0.0,  # as that optimizer defines it
    momentum: float | None = None,  # for those that have one; none leaves timm's default
    betas: tuple[float, float] | None = None,  # likewise
    eps: float | None = None,  # likewise
) -> Optimizer:
    """Any optimizer of timm's, by timm's name."""
    # timm and torchvision take seconds to import, so only who asks for them pays.
    import timm.optim

    _check(lr, weight_decay)
    names = [n for n in timm.optim.list_optimizers() if not n.startswith("lookahead")]
    if name not in names:
        raise BadInput(
            f"timm has no optimizer {name!r}: {nearest(name, names) or 'it has ' + ', '.join(names)}"
        )
    given = {"momentum": momentum, "betas": betas, "eps": eps}
    options = {key: value for key, value in given.items() if value is not None}
    optimizer_class = timm.optim.get_optimizer_class(name, bind_defaults=True)
    try:
        return optimizer_class(params, lr=lr, weight_decay=weight_decay, **options)
    except TypeError as error:  # an option that this optimizer does not have
        raise ValueError(f"timm/{name} refuses its options: {error}") from error


def _check(lr: float, weight_decay: float, betas: tuple[float, float] | None = None) -> None:
    require(lr > 0, "lr", "above 0", lr)
    require(weight_decay >= 0, "weight_decay", "at least 0", weight_decay)
    require(betas is None or all(0 <= b < 1 for b in betas), "betas", "at least 0 and below 1", betas)


optimizers.register("sgd", sgd, paper="Sutskever et al. 2013 (momentum)")
optimizers.register("nesterov", partial(sgd, nesterov=True), paper="Sutskever et al. 2013, section 2")
optimizers.register("adam", adam, paper="Kingma & Ba 2014, arXiv:1412.6980")
optimizers.register("adamw", adamw, paper="Loshchilov & Hutter 2017, arXiv:1711.05101")
optimizers.register("timm/<name>", timm_optimizer, paper="timm.optim, by its name there")
