"""Every optimizer, wrapper, average, loss, distillation and schedule in a plain PyTorch training loop."""

import copy
import inspect
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR

from lib.core.registry import Registry, averages, distillations, losses, optimizers, schedules, wrappers
from lib.loader import evaluate
from tests.helpers.bits import bits
from tests.helpers.optim_losses import reloaded

pytestmark = pytest.mark.filterwarnings(
    "error"
)  # torch warns when a scheduler does not see an optimizer step

ROOT = Path(__file__).parent.parent
K, STEPS = 3, 6


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, K))


def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    y = torch.arange(12) % K
    return torch.randn(12, 8, generator=generator) + y[:, None], y


def made(registry: Registry, name: str, *arguments, **required) -> object:
    """The registered class or function, called as a user calls it: with nothing but what it requires."""
    build = registry.function(name)
    parameters = inspect.signature(build).parameters.values()
    missing = [p.name for p in parameters if p.default is p.empty][len(arguments) :]
    return build(*arguments, **{key: required[key] for key in missing})


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


def train(model: nn.Module, optimizer, steps: int, loss: Callable | None = None, average=None) -> list[float]:
    """A plain training loop with a closure, as torch.optim documents it; returns the losses."""
    (x, y), loss = data(), loss or nn.CrossEntropyLoss()

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss(model(x), y).mean()
        value.backward()
        return value

    found = []
    for _ in range(steps):
        found.append(optimizer.step(closure).item())
        if average:
            average.update(model)
    return found


def built(kind: str, name: str, model: nn.Module) -> torch.optim.Optimizer:
    if kind == "optimizer":
        return made(optimizers, name, model.parameters())
    return made(wrappers, name, sgd(model))


OPTIMIZERS = [("optimizer", name) for name in optimizers.names()] + [("wrapper", n) for n in wrappers.names()]


@pytest.mark.parametrize(("kind", "name"), OPTIMIZERS)
def test_an_optimizer_lowers_the_loss(kind, name):
    model = network()
    optimizer = built(kind, name, model)
    assert isinstance(optimizer, torch.optim.Optimizer)
    found = train(model, optimizer, 20)
    assert found[-1] < found[0]


@pytest.mark.parametrize(("kind", "name"), OPTIMIZERS)
def test_the_learning_rate_of_a_scheduler_reaches_the_weights(kind, name):
    model = network()
    before = bits([p.detach().clone() for p in model.parameters()])
    optimizer = built(kind, name, model)
    scheduler = LambdaLR(optimizer, lambda step: float(step > 0))
    train(model, optimizer, 1)
    assert bits([p.detach() for p in model.parameters()]) == before
    scheduler.step()
    train(model, optimizer, 1)
    assert bits([p.detach() for p in model.parameters()]) != before


@pytest.mark.parametrize(("kind", "name"), OPTIMIZERS)
def test_a_reloaded_optimizer_and_a_copy_continue_as_the_original(kind, name):
    model = network()
    optimizer = built(kind, name, model)
    scheduler = LambdaLR(optimizer, lambda step: 1 - step / 10)  # it patches `optimizer.step`
    train(model, optimizer, 3)
    scheduler.step()
    second = copy.deepcopy(model)
    again = built(kind, name, second)
    again.load_state_dict(reloaded(optimizer.state_dict()))
    third, same = copy.deepcopy((model, optimizer))
    assert train(model, optimizer, 3) == train(second, again, 3) == train(third, same, 3)
    assert bits(model.state_dict()) == bits(second.state_dict()) == bits(third.state_dict())


@pytest.mark.parametrize("name", wrappers.names())
def test_a_wrapper_shares_groups_and_state_with_its_base(name):
    model = network()
    base = sgd(model)
    optimizer = made(wrappers, name, base)
    OneCycleLR(optimizer, max_lr=0.2, total_steps=10)  # it reads `defaults` and cycles the momentum
    assert base.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"] != 0.1
    train(model, optimizer, 2)
    base.load_state_dict(copy.deepcopy(base.state_dict()))  # torch replaces both objects
    assert optimizer.param_groups is base.param_groups and optimizer.state is base.state
    assert set(optimizer.state) == set(model.parameters())
    assert name.split("_")[0] in repr(type(optimizer)).lower() and "lr" in repr(optimizer)


@pytest.mark.parametrize(("kind", "name"), OPTIMIZERS)
def test_without_a_closure_a_step_uses_the_gradients_or_asks_for_one(kind, name):
    model = network()
    optimizer = built(kind, name, model)
    before = bits([p.detach().clone() for p in model.parameters()])
    x, y = data()
    nn.functional.cross_entropy(model(x), y).backward()
    if kind == "wrapper" and wrappers[name].facts.perturbs:
        with pytest.raises(TypeError, match="closure"):
            optimizer.step()
    else:
        optimizer.step()
        assert bits([p.detach() for p in model.parameters()]) != before
        optimizer.zero_grad()
        assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("name", averages.names())
def test_an_average_of_a_model_follows_its_weights(name):
    model = network()
    average = made(averages, name, model, total=STEPS)
    train(model, sgd(model), STEPS, average=average)
    x, _ = data()
    assert average.model(x).shape == (len(x), K)
    start, last = network()[0].weight, model[0].weight
    assert torch.dist(average.model[0].weight, last) < torch.dist(start, last)


@pytest.mark.parametrize("name", losses.names())
@pytest.mark.parametrize("smooth", [False, True], ids=["classes", "probabilities"])
def test_a_loss_of_logits_and_targets_trains(name, smooth):
    model, loss = network(), made(losses, name)

    def smoothed(logits: Tensor, y: Tensor) -> Tensor:
        return loss(logits, torch.eye(K)[y] * 0.9 + 0.1 / K if smooth else y)

    found = train(model, sgd(model), 20, smoothed)
    assert found[-1] < found[0]


@pytest.mark.parametrize("name", distillations.names())
def test_a_distillation_of_logits_targets_and_teacher_logits_trains(name):
    model, teacher = network(), torch.eye(K)[data()[1]] * 5
    loss = made(distillations, name, losses.function("cross_entropy")())
    found = train(model, sgd(model), 20, lambda logits, y: loss(logits, y, teacher=teacher))
    assert found[-1] < found[0]


@pytest.mark.parametrize("name", schedules.names())
def test_a_schedule_drives_torchs_scheduler(name):
    model, epochs, steps_per_epoch = network(), 12, 2
    schedule, optimizer = made(schedules, name), sgd(model)
    scheduler = LambdaLR(optimizer, lambda step: schedule(step / steps_per_epoch, epochs))
    for step in range(epochs * steps_per_epoch):
        assert optimizer.param_groups[0]["lr"] == 0.1 * schedule(step / steps_per_epoch, epochs)
        train(model, optimizer, 1)
        scheduler.step()


def test_the_examples_of_the_guide_run():
    # Here the package is imported as `lib`; tests/test_install.py imports it under its installed name.
    text = (ROOT / "docs/library.md").read_text().replace("cifar_zoo", "lib")
    blocks, names = re.findall(r"```python\n(.+?)```", text, re.DOTALL), {}
    for block in blocks:
        exec(compile(block, "docs/library.md", "exec"), names)
    assert all(len([line for line in block.splitlines() if line]) <= 5 for block in blocks[:-1])
    assert evaluate(names["ema"].model, names["loader"].test).accuracy > 20
