"""The proxy of airbench96 against the program of its author, in which the small network is trained first."""

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from lib.config.cli import parse
from lib.core.registry import models
from lib.engine.step import train_step
from lib.factory import build
from lib.graph.cost import count_training
from tests.helpers.selection import CPU, prepared, watch

SPEED = Path(__file__).parent.parent / "configs/speed"


def sgd(model: nn.Module) -> tuple[torch.optim.SGD, list[float]]:
    """The optimizer in the author's units, for losses that are summed over the images kept; and the rates."""
    scale = 1024 * (1 + 1 / (1 - 0.85))
    lr, shrink = 9 / scale, 0.012 * 1024 / scale
    shifts = {m.bias for m in model.modules() if isinstance(m, nn.BatchNorm2d)}
    rest = [p for p in model.parameters() if p.requires_grad and p not in shifts]
    groups = [
        {"params": rest, "lr": lr * 64, "weight_decay": shrink / lr / 64},
        {"params": [*shifts], "lr": lr * 64 * 64, "weight_decay": shrink / lr / 64 / 64},
    ]
    return torch.optim.SGD(groups, lr=lr, momentum=0.85, nesterov=True), [g["lr"] for g in groups]


def train_alone(
    model: nn.Module, batches: list, every: int, masks: list[Tensor] | None = None
) -> Iterator[Tensor]:
    """Train one network on the images of the masks, or else on those that it marks itself.

    Yields:
        The mask of each batch, after its step.
    """
    (optimizer, rates), taken = sgd(model), 0
    floats = [t for t in model.state_dict().values() if t.is_floating_point()]
    slow = [t.clone() for t in floats]
    for step, (x, y) in enumerate(batches):
        share = step / len(batches)
        factor = 0.2 + 0.8 * share / 0.1 if share < 0.1 else (1 - share) / 0.9
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * factor
        if masks is not None:
            x, y = x[masks[step]], y[masks[step]]
        losses = -(F.log_softmax(model(x), 1) * y).sum(1)
        mask = torch.ones(len(x), dtype=torch.bool)
        if masks is None:
            mask[losses.argsort()[: len(x) // 2]] = False
        pulls = []
        if step % every == 0:
            optimizer.zero_grad()
            (losses * mask).sum().backward()
            optimizer.step()
            taken += 1
            pulls = [0.95**5 * ((step + 1) / len(batches)) ** 3] if taken % 5 == 0 else []
            pulls += [1.0] * (step + 1 == len(batches))
        with torch.no_grad():
            for pull in pulls:
                for kept, live in zip(slow, floats, strict=True):
                    kept.lerp_(live, 1 - pull)
                    live.copy_(kept)
        yield mask


def test_training_both_networks_at_once_equals_training_one_after_the_other():
    # 8 images of 16 are kept, for 512 of 1024 there: the same rate for their mean is 64 times as high for
    # their sum. The large network is a narrow one here.
    line = f"--config {SPEED}/96.yaml --model airbench93 --proxy-every 2 --bs 16 --epochs 6"
    line += " --dataset synthetic --data.size 40 --fraction 0.8 --data.image_size 16"
    run = build(parse(line.split()).config(), CPU, note=pytest.fail)
    ours = (run.selections["proxy"].learning.model, run.model)
    start, theirs = copy.deepcopy(ours), copy.deepcopy(ours)
    batches, masks = [prepared(run, step) for step in range(run.total)], []
    small, large = train_alone(theirs[0], batches, every=2), train_alone(theirs[1], batches, 1, masks)
    seen = watch(run)
    assert run.total == 12
    for step in range(run.total):
        masks.append(next(small))
        next(large)
        before, (x, y) = copy.deepcopy(ours), batches[step]
        train_step(run, step)
        assert torch.equal(seen[step].x, x[masks[step]]) and torch.equal(seen[step].y, y[masks[step]]), step
        for home, mine, other in zip(before, ours, theirs, strict=True):
            for p, q, r in zip(home.parameters(), mine.parameters(), other.parameters(), strict=True):
                assert (q - r).norm() <= 1e-4 * (q - p).norm()  # rounding of float32
            for one, another in zip(mine.buffers(), other.buffers(), strict=True):
                torch.testing.assert_close(one, another, rtol=1e-4, atol=1e-5)
            # The next step starts from equal weights: the choices of max-pooling magnify rounding.
            other.load_state_dict(mine.state_dict())
    for home, mine in zip(start, ours, strict=True):
        for p, q in zip(home.parameters(), mine.parameters(), strict=True):
            assert torch.equal(q, p) != p.requires_grad


def test_the_proxy_of_airbench96_has_the_published_size_and_cost():
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        model = models["airbench96_proxy"].build()
        model(torch.empty(1, 3, 32, 32))
    assert sum(p.numel() for p in model.parameters()) == 146_744
    assert round(counter.get_total_flops() / 1e6, 1) == 34.2
    assert round(count_training(model, (3, 32, 32)) / 1e6, 1) == 88.1
    assert not model.whiten.bias.requires_grad
