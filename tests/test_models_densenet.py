"""DenseNet against other libraries, and checkpointing against storing all activations."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scripts.bench.counterparts import COUNTERPARTS
from tests.helpers.model_references import Weights, build, close, copy_by_shape, images, scramble


def densenet(network: nn.Module, x: Tensor, layers: int) -> Tensor:
    """Three blocks without bottlenecks."""
    w = Weights(network)
    x = w.conv(x)
    for block in range(3):
        if block > 0:
            x = F.avg_pool2d(w.conv(w.norm(x).relu()), 2)
        for _ in range(layers):
            x = torch.cat([x, w.conv(w.norm(x).relu())], dim=1)
    return w.classify(w.norm(x).relu())


@pytest.mark.parametrize("name", ["densenet_bc_100_12", "densenet_cifar", "densenet121"])
def test_densenet_bc_equals_the_model_of_another_library(name):
    model, reference = scramble(build(name)), COUNTERPARTS[name]().eval()
    copy_by_shape(model, reference)
    with torch.no_grad():
        close(model(images()), reference(images()))


def test_densenet_without_bottlenecks_equals_its_reference():
    model = scramble(build("densenet_22_4"))
    with torch.no_grad():
        close(model(images()), densenet(model, images(), layers=6))


def test_a_name_builds_a_densenet_of_any_depth_and_growth():
    # Transitions keep all channels without bottlenecks, and half of them with bottlenecks.
    assert build("densenet_13_5").head.in_features == 16 + 3 * 3 * 5
    assert build("densenet_bc_22_6").head.in_features == ((12 + 18) // 2 + 18) // 2 + 18
    with pytest.raises(ValueError, match="depth must be 6n \\+ 4 with n >= 1, got 25"):
        build("densenet_bc_25_6")


# Checkpointing, on small networks.

NAMES = pytest.mark.parametrize("name", ["densenet_bc_28_6", "densenet_16_6"])


def pair(name: str, **options) -> tuple[nn.Module, nn.Module]:
    return build(name, **options), build(name, checkpointing=True, **options)


def loss_of(model: nn.Module) -> Tensor:
    torch.manual_seed(1)
    return F.cross_entropy(model(images(4)), torch.tensor([0, 1, 2, 3]))


def gradients(model: nn.Module) -> list[Tensor]:
    return [p.grad for p in model.parameters()]


@NAMES
@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_checkpointing_changes_no_gradient_and_no_statistic(name, dropout):
    plain, again = pair(name, dropout=dropout)
    for model in (plain, again):
        for _ in range(2):  # the second step uses the statistics of the first
            model.zero_grad()
            loss_of(model).backward()
    assert torch.equal(loss_of(plain), loss_of(again))
    for got, want in zip(gradients(again), gradients(plain), strict=True):
        close(got, want, 1e-5)
    for got, want in zip(again.buffers(), plain.buffers(), strict=True):
        assert torch.equal(got, want)


def test_checkpointing_leaves_the_generator_unchanged_in_the_backward_pass():
    plain, again = pair("densenet_bc_28_6", dropout=0.2)
    after = []
    for model in (plain, again):
        loss_of(model).backward()
        after.append(torch.rand(3))
    assert torch.equal(*after)


@pytest.mark.slow
def test_checkpointing_changes_nothing_in_a_compiled_network_either():
    plain, again = pair("densenet_bc_16_6")
    again.compile(backend="aot_eager")  # the graph work without code generation
    for model in (plain, again):
        loss_of(model).backward()
    for got, want in zip(gradients(again), gradients(plain), strict=True):
        close(got, want, 1e-5)
    for got, want in zip(again.buffers(), plain.buffers(), strict=True):
        close(got.float(), want.float(), 1e-6)


def test_a_checkpointed_graph_can_be_run_backward_twice():
    plain, again = pair("densenet_bc_28_6")
    for model in (plain, again):
        loss = loss_of(model)
        loss.backward(retain_graph=True)
        loss.backward()
    for got, want in zip(gradients(again), gradients(plain), strict=True):
        close(got, want, 1e-5)


def test_checkpointing_has_the_same_gradient_in_evaluation():
    plain, again = pair("densenet_bc_28_6")
    x = images().requires_grad_()
    (want,) = torch.autograd.grad(scramble(plain)(x).sum(), x)
    (got,) = torch.autograd.grad(scramble(again)(x).sum(), x)
    close(got, want, 1e-5)


def stored(model: nn.Module) -> int:
    """The number of values that the graph of a step stores, without the parameters."""
    sizes = {p.untyped_storage().data_ptr(): 0 for p in model.parameters()}
    held = []

    def look(tensor: Tensor) -> Tensor:
        held.append(tensor)  # kept alive, so that its storage is not reused
        sizes.setdefault(tensor.untyped_storage().data_ptr(), tensor.untyped_storage().nbytes() // 4)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(look, lambda tensor: tensor):
        loss_of(model)
    return sum(sizes.values())


@pytest.mark.parametrize("form", ["densenet_bc_{}_6", "densenet_{}_6"])
def test_with_checkpointing_stored_activations_grow_linearly_with_the_layers(form):
    def growths(**options) -> tuple[int, int]:
        a, b, c = (stored(build(form.format(depth), **options)) for depth in (16, 28, 40))
        return b - a, c - b

    linear, quadratic = growths(checkpointing=True), growths()
    assert linear[0] == linear[1]
    assert quadratic[0] < quadratic[1]
    assert 3 * linear[1] < quadratic[1]
