"""Base optimizers: torch's where torch has one, any other of timm's by its name."""

from functools import partial

import torch
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from ..core.contracts import Count, Decay, Fraction, NonNegative
from ..core.errors import BadInput, nearest
from ..core.registry import optimizers
from .arguments import Betas, Epsilon, LearningRate
from .lookahead import Lookahead


@optimizers.register("sgd", paper="Sutskever et al. 2013 (momentum)")
def sgd(
    params: ParamsT,
    lr: LearningRate = 0.1,
    momentum: Decay = 0.9,  # decay of the velocity
    weight_decay: NonNegative = 5e-4,  # added to the gradient as weight_decay * weight
    nesterov: bool = False,  # Nesterov momentum
) -> Optimizer:
    """Stochastic gradient descent with momentum."""
    return torch.optim.SGD(params, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov)


optimizers.register("nesterov", partial(sgd, nesterov=True), paper="Sutskever et al. 2013")


@optimizers.register("adam", paper="Kingma & Ba 2014, arXiv:1412.6980")
def adam(
    params: ParamsT,
    lr: LearningRate = 1e-3,
    betas: Betas = (0.9, 0.999),
    eps: Epsilon = 1e-8,
    weight_decay: NonNegative = 0.0,  # added to the gradient, before the moments
    amsgrad: bool = False,  # divide by the largest second moment so far (Reddi et al. 2018)
) -> Optimizer:
    """Adam: a learning rate for each weight from the first two moments of its gradient."""
    return torch.optim.Adam(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, amsgrad=amsgrad)


optimizers.register("amsgrad", partial(adam, amsgrad=True), paper="Reddi et al. 2018, arXiv:1904.09237")


@optimizers.register("adamw", paper="Loshchilov & Hutter 2017, arXiv:1711.05101")
def adamw(
    params: ParamsT,
    lr: LearningRate = 1e-3,
    betas: Betas = (0.9, 0.999),
    eps: Epsilon = 1e-8,
    weight_decay: NonNegative = 0.01,  # weights shrink by lr * weight_decay per step
) -> Optimizer:
    """Adam with decoupled weight decay."""
    return torch.optim.AdamW(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)


@optimizers.register("rmsprop", paper="Tieleman & Hinton 2012, lecture 6.5")
def rmsprop(
    params: ParamsT,
    lr: LearningRate = 0.01,
    alpha: Decay = 0.99,  # decay of the second moment
    eps: Epsilon = 1e-8,
    momentum: Decay = 0.0,  # decay of the velocity
    centered: bool = False,  # divide by the standard deviation instead of the root mean square
    weight_decay: NonNegative = 0.0,  # added to the gradient, before the moment
) -> Optimizer:
    """RMSprop: the gradient over the root of its running mean square."""
    options = {"alpha": alpha, "eps": eps, "momentum": momentum, "centered": centered}
    return torch.optim.RMSprop(params, lr=lr, weight_decay=weight_decay, **options)


@optimizers.register("radam", paper="Liu et al. 2019, arXiv:1908.03265, algorithm 2")
def radam(
    params: ParamsT,
    lr: LearningRate = 1e-3,
    betas: Betas = (0.9, 0.999),
    eps: Epsilon = 1e-8,
    weight_decay: NonNegative = 0.0,  # weights shrink by lr * weight_decay per step, as in the authors' code
) -> Optimizer:
    """Rectified Adam: SGD with momentum until the second moment is reliable, so it needs no warm-up."""
    # torch's threshold for the length of the average is 5, as in the authors' code; the paper has 4.
    moments = {"betas": betas, "eps": eps}
    return torch.optim.RAdam(params, lr=lr, weight_decay=weight_decay, decoupled_weight_decay=True, **moments)


@optimizers.register("ranger", paper="Liu et al. 2019, arXiv:1908.03265; Zhang et al. 2019, arXiv:1907.08610")
def ranger(
    params: ParamsT,
    lr: LearningRate = 1e-3,
    betas: Betas = (0.95, 0.999),
    eps: Epsilon = 1e-5,
    weight_decay: NonNegative = 0.0,  # weights shrink by lr * weight_decay per step
    every: Count = 6,  # steps of RAdam per slow step
    alpha: Fraction = 0.5,  # fraction of the way that the slow weights move
) -> Lookahead:
    """Ranger: RAdam inside Lookahead, with the settings of Wright's code."""
    return Lookahead(radam(params, lr, betas, eps, weight_decay), every=every, alpha=alpha)


@optimizers.register("lion", paper="Chen et al. 2023, arXiv:2302.06675, algorithm 2")
def lion(
    params: ParamsT,
    lr: LearningRate = 1e-4,  # a third to a tenth of AdamW's, as each weight moves by all of it
    betas: Betas = (0.9, 0.99),  # decay of the momentum, for the direction and for the next step
    weight_decay: NonNegative = 0.0,  # weights shrink by lr * weight_decay per step; larger than AdamW's
) -> Optimizer:
    """Lion: the sign of a momentum, so that every weight moves by the same amount."""
    from timm.optim import Lion  # imported late: timm takes seconds

    return Lion(params, lr=lr, betas=betas, weight_decay=weight_decay)


def timm_names() -> list[str]:
    """The optimizers of timm, without those in Lookahead, which is a wrapper here."""
    import timm.optim  # imported late: timm takes seconds

    return [name for name in timm.optim.list_optimizers() if not name.startswith("lookahead")]


@optimizers.register("timm/<name>", listing=timm_names, paper="timm.optim, by its name there")
def timm_optimizer(
    params: ParamsT,
    name: str,
    lr: LearningRate = 1e-3,
    weight_decay: NonNegative = 0.0,  # as that optimizer defines it
    momentum: float | None = None,  # for optimizers that have it; none: 0.9, timm's default
    betas: tuple[float, float] | None = None,  # likewise
    eps: float | None = None,  # likewise
) -> Optimizer:
    """Any optimizer of timm, by timm's name."""
    import timm.optim

    name = name.lower()
    if name.startswith("lookahead_"):
        base = name.removeprefix("lookahead_")
        raise BadInput(f"Lookahead is a wrapper here, for any optimizer: --optim timm/{base} --lookahead")
    if name not in (names := timm_names()):
        hint = nearest(name, names) or "see timm.optim.list_optimizers()"
        raise BadInput(f"timm has no optimizer {name!r}: {hint}")
    info = timm.optim.get_optimizer_info(name)
    if info.second_order:
        raise BadInput(f"timm/{name} needs second derivatives of the loss, which no training step computes")
    given = {"momentum": momentum, "betas": betas, "eps": eps}
    options = {key: value for key, value in given.items() if value is not None}
    if info.has_momentum:
        options.setdefault("momentum", 0.9)  # as in timm's create_optimizer: most classes have 0
    try:
        optimizer_class = timm.optim.get_optimizer_class(name, bind_defaults=True)
        optimizer = optimizer_class(params, lr=lr, weight_decay=weight_decay, **options)
    except TypeError as error:  # an option that this optimizer does not have
        raise ValueError(f"timm/{name} does not accept these options: {error}") from error
    except (AssertionError, ImportError, RuntimeError) as error:  # a package or a device is missing
        raise BadInput(f"timm/{name} cannot run here: {error}") from error
    # Kron compiles functions for every shape of a parameter, which takes minutes.
    for attribute, function in vars(optimizer).items():
        if plain := getattr(function, "_torchdynamo_orig_callable", None):
            setattr(optimizer, attribute, plain)
    return optimizer
