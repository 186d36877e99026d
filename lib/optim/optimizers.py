"""The base optimizers: torch's where torch has one, timm's by name for the rest."""

from functools import partial

import torch
from torch.optim import Optimizer

from ..core.errors import BadInput, nearest, require
from ..core.registry import optimizers
from .lookahead import Lookahead


def check(lr: float, weight_decay: float, betas: tuple[float, float] | None = None) -> None:
    """Refuse what no optimizer can use."""
    require(lr > 0, "lr", "above 0", lr)
    require(weight_decay >= 0, "weight_decay", "at least 0", weight_decay)
    require(betas is None or all(0 <= b < 1 for b in betas), "betas", "at least 0 and below 1", betas)


def sgd(
    params: list[dict],
    lr: float = 0.1,  # the schedule's factors multiply it
    momentum: float = 0.9,  # of the velocity
    weight_decay: float = 5e-4,  # added to the gradient as weight_decay * weight
    nesterov: bool = False,  # look ahead by one velocity
) -> Optimizer:
    """Stochastic gradient descent with momentum."""
    require(0 <= momentum < 1, "momentum", "at least 0 and below 1", momentum)
    check(lr, weight_decay)
    return torch.optim.SGD(params, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov)


def adam(
    params: list[dict],
    lr: float = 1e-3,  # the schedule's factors multiply it
    betas: tuple[float, float] = (0.9, 0.999),  # decay of the two moments
    eps: float = 1e-8,  # keeps the division finite
    weight_decay: float = 0.0,  # added to the gradient, before the moments
    amsgrad: bool = False,  # divide by the largest second moment so far (Reddi et al. 2018)
) -> Optimizer:
    """A rate for each weight, from the first two moments of its gradient."""
    check(lr, weight_decay, betas)
    return torch.optim.Adam(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, amsgrad=amsgrad)


def adamw(
    params: list[dict],
    lr: float = 1e-3,  # the schedule's factors multiply it
    betas: tuple[float, float] = (0.9, 0.999),  # decay of the two moments
    eps: float = 1e-8,  # keeps the division finite
    weight_decay: float = 0.01,  # weights shrink by lr * weight_decay a step, apart from the moments
) -> Optimizer:
    """Adam with weight decay apart from the gradient."""
    check(lr, weight_decay, betas)
    return torch.optim.AdamW(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)


def radam(
    params: list[dict],
    lr: float = 1e-3,  # the schedule's factors multiply it
    betas: tuple[float, float] = (0.9, 0.999),  # decay of the two moments
    eps: float = 1e-8,  # keeps the division finite
    weight_decay: float = 0.0,  # weights shrink by lr * weight_decay a step, as in the authors' code
) -> Optimizer:
    """Adam that is SGD with momentum until its second moment can be trusted, so it needs no warm-up."""
    check(lr, weight_decay, betas)
    # torch's threshold for the length of the average is 5, as in the authors' code; the paper has 4.
    return torch.optim.RAdam(
        params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, decoupled_weight_decay=True
    )


def ranger(
    params: list[dict],
    lr: float = 1e-3,  # the schedule's factors multiply it
    betas: tuple[float, float] = (0.95, 0.999),  # decay of the two moments
    eps: float = 1e-5,  # keeps the division finite
    weight_decay: float = 0.0,  # weights shrink by lr * weight_decay a step
    every: int = 6,  # steps of RAdam to one of the slow weights
    alpha: float = 0.5,  # share of the way that the slow weights go
) -> Lookahead:
    """RAdam inside Lookahead, with the settings of Wright's code."""
    return Lookahead(radam(params, lr, betas, eps, weight_decay), every=every, alpha=alpha)


def rmsprop(
    params: list[dict],
    lr: float = 0.01,  # the schedule's factors multiply it
    alpha: float = 0.99,  # decay of the second moment
    eps: float = 1e-8,  # keeps the division finite
    momentum: float = 0.0,  # of the velocity
    centered: bool = False,  # divide by the standard deviation rather than the root of the second moment
    weight_decay: float = 0.0,  # added to the gradient, before the moment
) -> Optimizer:
    """The gradient over the root of its running mean square."""
    check(lr, weight_decay)
    require(0 <= momentum < 1, "momentum", "at least 0 and below 1", momentum)
    require(0 <= alpha < 1, "alpha", "at least 0 and below 1", alpha)
    options = {"alpha": alpha, "eps": eps, "momentum": momentum, "centered": centered}
    return torch.optim.RMSprop(params, lr=lr, weight_decay=weight_decay, **options)


def lion(
    params: list[dict],
    lr: float = 1e-4,  # three to ten times smaller than AdamW's, as each weight moves by all of it
    betas: tuple[float, float] = (0.9, 0.99),  # of the direction, and of the momentum that is kept
    weight_decay: float = 0.0,  # weights shrink by lr * weight_decay a step, so larger than AdamW's
) -> Optimizer:
    """The sign of a momentum: every weight moves by the same amount."""
    from timm.optim import Lion  # timm takes seconds to import

    check(lr, weight_decay, betas)
    return Lion(params, lr=lr, betas=betas, weight_decay=weight_decay)


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

    check(lr, weight_decay)
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


optimizers.register("sgd", sgd, paper="Sutskever et al. 2013 (momentum)")
optimizers.register("nesterov", partial(sgd, nesterov=True), paper="Sutskever et al. 2013, section 2")
optimizers.register("adam", adam, paper="Kingma & Ba 2014, arXiv:1412.6980")
optimizers.register("amsgrad", partial(adam, amsgrad=True), paper="Reddi et al. 2018, arXiv:1904.09237")
optimizers.register("adamw", adamw, paper="Loshchilov & Hutter 2017, arXiv:1711.05101")
optimizers.register("rmsprop", rmsprop, paper="Tieleman & Hinton 2012, lecture 6.5")
optimizers.register("radam", radam, paper="Liu et al. 2019, arXiv:1908.03265, algorithm 2")
optimizers.register(
    "ranger", ranger, paper="Liu et al. 2019, arXiv:1908.03265; Zhang et al. 2019, arXiv:1907.08610"
)
optimizers.register("lion", lion, paper="Chen et al. 2023, arXiv:2302.06675, algorithm 2")
optimizers.register("timm/<name>", timm_optimizer, paper="timm.optim, by its name there")
