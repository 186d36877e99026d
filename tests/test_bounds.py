"""Every value that a trick's bounds allow does something: what makes it meaningless is out of bounds.

Each option of each trick is tried at each end of its bounds, with the defaults of the others.
"""

import copy
import typing
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from torch import Tensor, nn

from lib.augment.pipeline import Step, pipeline
from lib.core.batch import Batch
from lib.core.contracts import alternatives, split
from lib.core.registry import (
    Registry,
    augmentations,
    averages,
    distillations,
    losses,
    optimizers,
    schedules,
    tta,
    wrappers,
)
from lib.core.rng import Rng
from tests.helpers.batches import example, same

# Ends at which a trick is what it is compared with: limits that its paper names, or that a closed form is
# tested with.
LIMITS = {
    ("bootstrap_hard", "trust", 1.0): "the paper's beta of 1 is cross-entropy",
    ("bootstrap_soft", "trust", 1.0): "the paper's beta of 1 is cross-entropy",
    ("ema", "decay", 0.0): "an average that forgets at once has the newest weights",
    ("focal", "focusing", 0.0): "the paper's gamma of 0 is cross-entropy",
    ("kd", "alpha", 0.0): "a weight of 0 for the teacher is training without it",
    ("lookahead", "alpha", 1.0): "slow weights that go all the way are the fast ones",
    ("random_resized_crop", "scale_min", 1.0): "a crop of the whole area is the image",
}


def ends(kind: Any) -> list[Any]:
    """The values at the closed ends of an annotation."""
    inner, metadata = split(kind)
    if len(parts := alternatives(inner)) > 1:
        return [value for part in parts for value in ends(part)]
    if typing.get_origin(inner) is tuple:
        items = typing.get_args(inner)
        return [(value,) * (2 if items[-1] is ... else len(items)) for value in ends(items[0])]
    return [
        inner(getattr(bound, "ge", getattr(bound, "le", None)))
        for bound in metadata
        if isinstance(bound, Ge | Le)
    ]


def cases(registry: Registry) -> list:
    """Each end of each option of the entries of a registry."""
    return [
        pytest.param(entry, field.name, end, id=f"{entry.name} {field.name} {end}")
        for entry in registry.entries()
        if not entry.placeholders
        for field in entry.fields.values()
        for end in ends(field.type)
        if (entry.name, field.name, end) not in LIMITS
    ]


def built(entry, **arguments: Any) -> Any:
    """The object; the test ends where a rule over several options refuses it."""
    try:
        return entry.build(**arguments)
    except ValueError as error:
        pytest.skip(f"refused: {error}")


@pytest.mark.parametrize(("entry", "option", "end"), cases(augmentations))
def test_an_augmentation_at_its_bounds_changes_a_batch_and_leaves_something_to_learn(entry, option, end):
    trick, batch = built(entry, **{option: end}).within(20.0), example(entry, count=16)
    apply = pipeline([Step(entry.name, entry.facts.stage, trick)])
    results = [apply(batch.replace(epoch=epoch), Rng(seed)) for seed, epoch in enumerate(range(0, 20, 2))]
    assert any(not same(result, batch.replace(epoch=result.epoch)) for result in results)
    assert any((result.x.float().std(0) > 0).any() for result in results)  # images still differ
    assert any((result.y.std(1) > 0).any() for result in results)  # targets still prefer a class


@pytest.mark.parametrize(("entry", "option", "end"), cases(losses))
def test_a_loss_at_its_bounds_is_not_cross_entropy(entry, option, end):
    logits = torch.randn(8, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    y = torch.eye(3)[torch.arange(8) % 3] * 0.7 + 0.1
    batch = Batch.of(logits, y, 3)
    gradient = torch.autograd.grad(built(entry, **{option: end})(logits, batch).sum(), logits)[0]
    assert gradient.isfinite().all() and gradient.abs().max() > 0
    plain = torch.autograd.grad(losses["cross_entropy"].build()(logits, batch).sum(), logits)[0]
    assert not torch.allclose(gradient, plain)


@pytest.mark.parametrize(("entry", "option", "end"), cases(distillations))
def test_a_distillation_at_its_bounds_learns_from_its_teacher(entry, option, end):
    logits, teacher = torch.randn(2, 8, 3, generator=torch.Generator().manual_seed(0))
    batch = Batch.of(logits, torch.arange(8) % 3, 3).replace(teacher=teacher, epoch=5)
    loss = built(entry, base=losses["cross_entropy"].build(), epochs=10.0, **{option: end})
    assert not torch.allclose(loss(logits, batch), loss(logits, batch.replace(teacher=teacher.flip(0))))


def problem() -> tuple[nn.Module, Callable[[], Tensor]]:
    """A small network, and its loss on random images."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    x, y = torch.randn(8, 4), torch.arange(8) % 3
    return model, lambda: F.cross_entropy(model(x), y)


def learned(build: Callable[[nn.Module], torch.optim.Optimizer]) -> list[Tensor]:
    """The weights after a few steps."""
    model, loss = problem()
    optimizer = build(model)

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    for _ in range(12):
        optimizer.step(closure)
    return [p.detach().clone() for p in model.parameters()]


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)


def close(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.allclose(a, b, atol=1e-7) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(("entry", "option", "end"), cases(wrappers))
def test_a_wrapper_at_its_bounds_takes_other_steps_than_its_base(entry, option, end):
    found = learned(lambda model: built(entry, base=sgd(model), model=model, total=12, **{option: end}))
    assert all(p.isfinite().all() for p in found) and not close(found, learned(sgd))


@pytest.mark.parametrize(("entry", "option", "end"), cases(optimizers))
def test_an_optimizer_at_its_bounds_moves_the_weights(entry, option, end):
    found = learned(lambda model: built(entry, params=[{"params": [*model.parameters()]}], **{option: end}))
    assert all(p.isfinite().all() for p in found) and not close(found, list(problem()[0].parameters()))


@pytest.mark.parametrize(("entry", "option", "end"), cases(averages))
def test_an_average_at_its_bounds_has_other_weights_than_its_model(entry, option, end):
    model, _ = problem()
    average = built(entry, model=model, steps_per_epoch=2, total=12, **{option: end})
    for step in range(12):
        with torch.no_grad():
            [p.mul_(0.9) for p in model.parameters()]
        average.update(model, step)
    assert not close(list(average.model.parameters()), list(model.parameters()))


@pytest.mark.parametrize(("entry", "option", "end"), cases(schedules))
def test_a_schedule_at_its_bounds_changes_the_learning_rate_and_is_not_always_zero(entry, option, end):
    schedule = built(entry, **{option: end})
    try:
        factors = {schedule(tenth / 2, 20.0) for tenth in range(40)}
    except ValueError as error:
        pytest.skip(f"refused: {error}")
    assert len(factors) > 1


@pytest.mark.parametrize(("entry", "option", "end"), cases(tta))
def test_test_time_views_at_their_bounds_change_predictions(entry, option, end):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.LazyLinear(3)).eval()
    x = torch.randn(8, 3, 12, 12)
    plain = model(x)
    assert not torch.allclose(built(entry, model=copy.deepcopy(model), **{option: end})(x), plain)


def test_every_limit_is_an_end_of_its_trick():
    registries = (augmentations, losses, distillations, wrappers, averages)
    fields = [
        (entry.name, f)
        for registry in registries
        for entry in registry.entries()
        for f in entry.fields.values()
    ]
    assert LIMITS.keys() <= {(name, field.name, end) for name, field in fields for end in ends(field.type)}
