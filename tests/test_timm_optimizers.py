"""Every optimizer of timm works, or is refused in one line that says what to do instead."""

import pytest
import torch
from timm.optim import create_optimizer_v2, get_optimizer_info
from torch import Tensor, nn

from lib.core.errors import BadInput
from lib.core.registry import optimizers
from lib.optim.optimizers import timm_names


class Problem:
    """A small network with convolution, norm and head, and the closure of its loss."""

    def __init__(self):
        torch.manual_seed(0)
        layers = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        self.model = nn.Sequential(*layers, nn.Linear(4, 10))
        self.x, self.y = torch.randn(8, 3, 8, 8), torch.arange(8)

    def closure(self) -> Tensor:
        self.model.zero_grad()
        loss = nn.functional.cross_entropy(self.model(self.x), self.y)
        loss.backward()
        return loss


@pytest.mark.slow
@pytest.mark.parametrize("name", timm_names())
def test_every_optimizer_of_timm_steps_or_is_refused_in_one_line(name):
    problem = Problem()
    params = list(problem.model.parameters())
    before = [p.clone() for p in params]
    refusal = ""
    try:
        optimizer = optimizers[f"timm/{name}"].build(params=params)
    except BadInput as error:
        refusal = str(error)
    if refusal:
        info = get_optimizer_info(name)
        assert info.second_order or isinstance(info.opt_class, str)  # of a package for GPUs
        assert refusal.startswith(f"timm/{name} ") and "\n" not in refusal
        return
    for _ in range(2):
        optimizer.step(problem.closure)
    optimizer.load_state_dict(optimizer.state_dict())
    optimizer.step(problem.closure)
    assert all(p.isfinite().all() for p in params)
    weights = [(p, old) for p, old in zip(params, before, strict=True) if p.ndim > 1]
    assert not any(torch.equal(p, old) for p, old in weights)


# Momentum alone, with Nesterov momentum, and with layerwise learning rates.
@pytest.mark.parametrize("name", ["sgd", "momentum", "sgdw", "nesterovw", "lars", "adamw"])
def test_an_optimizer_of_timm_has_the_defaults_of_timms_own_factory(name):
    """Its classes have no momentum by default, which Nesterov momentum refuses."""
    ours, theirs = Problem(), Problem()
    optimizer = optimizers[f"timm/{name}"].build(params=list(ours.model.parameters()), lr=0.05)
    reference = create_optimizer_v2(list(theirs.model.parameters()), name, lr=0.05, weight_decay=0.0)
    for _ in range(3):
        optimizer.step(ours.closure)
        reference.step(theirs.closure)
    for p, q in zip(ours.model.parameters(), theirs.model.parameters(), strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("adahessian", "timm/adahessian needs second derivatives"),
        ("lookahead_adamw", "--optim timm/adamw --lookahead"),
        ("zzz", "see timm.optim.list_optimizers()"),
    ],
)
def test_a_refusal_names_the_way(name, words):
    with pytest.raises(BadInput, match=words) as refusal:
        optimizers[f"timm/{name}"].build(params=list(Problem().model.parameters()))
    assert len(str(refusal.value)) < 120


def test_kron_compiles_nothing():
    optimizer = optimizers["timm/kron"].build(params=list(Problem().model.parameters()))
    assert not any(hasattr(value, "_torchdynamo_orig_callable") for value in vars(optimizer).values())
