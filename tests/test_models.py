"""Contracts of every registered model, its options and its names."""

import copy
import io
import json
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Literal, get_args, get_origin

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.config.listing import MACS
from lib.core.contracts import alternatives, split
from lib.core.errors import BadInput
from lib.core.fields import REQUIRED
from lib.core.registry import Entry, models
from tests.helpers.model_references import build, close, images
from tests.helpers.networks import families


def function_of(entry: Entry) -> tuple[Callable, dict]:
    """The function that builds the model, and the arguments that its name has bound."""
    build = models.function(entry.form)
    return (build.func, build.keywords) if isinstance(build, partial) else (build, {})


COUNTED = json.loads(MACS.read_text())
NAMES = models.names()
SMALLEST = families()


def is_heavy(entry: Entry) -> bool:
    """Whether a call takes seconds, or much longer than with a smaller model of the same file."""
    macs, params = COUNTED.get(entry.name, 0), entry.facts.params or 0
    many_layers = function_of(entry)[1].get("depth", 0) > 300
    return params > 20e6 or macs > 1e9 or many_layers or (entry.name not in SMALLEST and macs > 2e8)


ALL = pytest.mark.parametrize("name", NAMES)
MARKED = [pytest.param(n, marks=pytest.mark.slow if is_heavy(models[n]) else ()) for n in NAMES]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """On such small batches threads gain little, and on a busy machine they wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module", params=MARKED)
def fresh(request) -> tuple[str, nn.Module]:
    """A name and its model, built once; tests must not change it."""
    return request.param, build(request.param)


@pytest.fixture(scope="module")
def evaluated(fresh) -> nn.Module:
    """The model in evaluation with the statistics of a batch; deep networks overflow with initial ones.

    In float64: over a thousand layers the rounding of float32 grows to 1e-3, which would hide errors of that
    size.
    """
    model = copy.deepcopy(fresh[1]).train()
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    momenta = [m.momentum for m in norms]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        model(images(4))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return model.eval().double()


def training_loss(model: nn.Module, low_precision: bool = False) -> Tensor:
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16, enabled=low_precision):
        logits = model(images())
    return F.cross_entropy(logits.float(), torch.tensor([0, 1]))


def step_of(model: nn.Module) -> tuple[Tensor, dict[str, Tensor | None]]:
    """The loss, and the gradient of each parameter that is trained."""
    loss = training_loss(model)
    loss.backward()
    return loss, {name: p.grad for name, p in model.named_parameters() if p.requires_grad}


@pytest.fixture(scope="module")
def step(fresh) -> tuple[Tensor, dict[str, Tensor | None]]:
    return step_of(copy.deepcopy(fresh[1]).train())


# Contracts of every model.


@ALL
def test_the_parameter_count_is_the_published_one(name):
    with torch.device("meta"):
        model = models[name].build(num_classes=10, in_channels=3, image_size=32)
    count = sum(p.numel() for p in model.parameters() if p.requires_grad)
    published = models[name].facts.params
    rounding = 0.03 if isinstance(published, float) else 0  # papers round to two digits
    assert abs(count - published) <= rounding * published


@ALL
def test_every_alias_is_the_same_model(name):
    assert all(models[alias] == models[name] for alias in models[name].aliases)


def test_a_training_step_is_finite_and_gives_every_parameter_a_gradient(step):
    loss, gradients = step
    assert loss.isfinite()
    assert [name for name, gradient in gradients.items() if gradient is None] == []
    assert [name for name, gradient in gradients.items() if not gradient.isfinite().all()] == []


def test_a_second_step_with_the_same_seed_has_the_same_gradient(fresh, step):
    # SAM calls a closure twice, with the same noise.
    _, gradients = step_of(copy.deepcopy(fresh[1]).train())
    assert all(torch.equal(gradient, gradients[name]) for name, gradient in step[1].items())


def test_under_autocast_a_step_is_finite_and_no_layer_gets_float32(fresh):
    model = copy.deepcopy(fresh[1]).train()
    dtypes = []
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d | nn.LayerNorm):
            module.register_forward_pre_hook(lambda _, inputs: dtypes.append(inputs[0].dtype))
    loss = training_loss(model, low_precision=True)
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)
    assert set(dtypes[1:]) <= {torch.bfloat16}  # the first layer gets the images


def test_an_image_has_the_same_logits_alone_and_in_a_batch(evaluated):
    x = images(3).double()
    with torch.no_grad():
        batch, alone = evaluated(x), evaluated(x[:1])
    assert batch.shape == (3, 10)
    close(alone, batch[:1], 1e-9)


def test_channels_last_gives_the_same_logits_and_reaches_every_convolution(evaluated):
    model = copy.deepcopy(evaluated).to(memory_format=torch.channels_last)
    kept = []

    def look(_, inputs: tuple[Tensor]) -> None:
        kept.append(inputs[0].is_contiguous(memory_format=torch.channels_last))

    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_pre_hook(look)
    x = images().double()
    with torch.no_grad():
        got, want = model(x.to(memory_format=torch.channels_last)), evaluated(x)
    close(got, want, 1e-9)
    assert all(kept)


@pytest.mark.parametrize(("classes", "channels", "size"), [(10, 1, 28), (100, 3, 64)])
def test_other_image_sizes_channels_and_classes_work(fresh, classes, channels, size):
    model = build(fresh[0], classes, channels, size).eval()
    with torch.no_grad():
        assert model(images(1, channels, size)).shape == (1, classes)


def test_a_loaded_state_dict_gives_the_same_logits(evaluated):
    file = io.BytesIO()
    torch.save(evaluated.state_dict(), file)
    other = copy.deepcopy(evaluated)
    for tensor in other.state_dict().values():
        tensor.zero_()
    other.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
    x = images().double()
    with torch.no_grad():
        assert torch.equal(other(x), evaluated(x))


def test_the_same_seed_builds_the_same_weights(fresh):
    again = build(fresh[0]).state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in fresh[1].state_dict().items())


# Options, with the smallest model of each function.


def options() -> list[tuple[str, str, object]]:
    """(model, option, its type) for each option of each function, patterns included.

    Weights that must be downloaded have tests of their own, in test_pretrained.py.
    """
    smallest: dict[tuple, tuple] = {}
    for entry in sorted(models.entries(), key=lambda e: e.facts.params or math.inf):
        for field in (field for field in entry.parameters.values() if field.name != "pretrained"):
            key = function_of(entry)[0], field.name
            smallest.setdefault(key, (entry.name, field.name, field.type))
    return list(smallest.values())


def settings() -> Iterator:
    for name, option, bounded in options():
        kind, _ = split(bounded)
        choices = {bool: (False, True), float: (0.1,)}.get(kind, ())
        for value in get_args(kind) if get_origin(kind) is Literal else choices:
            yield pytest.param(name, option, value, marks=pytest.mark.slow if is_heavy(models[name]) else ())


@pytest.mark.parametrize(("name", "option", "value"), list(settings()))
def test_every_setting_of_an_option_trains(name, option, value):
    loss = training_loss(build(name, **{option: value}).train())
    loss.backward()
    assert loss.isfinite()


@pytest.mark.parametrize(("name", "option", "kind"), options())
def test_an_invalid_setting_is_refused_by_name(name, option, kind):
    kind, _ = split(alternatives(kind)[0])
    wrong = {int: -1, float: -1.0, tuple: (True,)}.get(get_origin(kind) or kind)
    wrong = "nonsense" if get_origin(kind) is Literal else wrong
    if wrong is None:
        pytest.skip("every value of this type is valid")
    with torch.device("meta"), pytest.raises(ValueError, match=f"^{option} ") as refusal:
        models[name].build(**{option: wrong})
    assert f"got {wrong!r}" in str(refusal.value)


@pytest.mark.parametrize("entry", models.entries(), ids=lambda e: e.name)
def test_every_option_has_a_default_and_a_help_line(entry):
    assert [f.name for f in entry.fields.values() if not f.help or f.default is REQUIRED] == []


# Names with placeholders.


def test_a_name_builds_a_wide_resnet_of_any_depth_and_width():
    # Three units of width 16, as in a pre-activation ResNet-8; the first unit needs no projection.
    model = models["wrn_10_1"].build()
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == 1 + 6 + 2
    with pytest.raises(ValueError, match="depth must be 6n \\+ 4 with n >= 1, got 29"):
        models["wrn_29_10"].build()


def test_a_name_builds_a_pyramidnet_of_any_depth_and_alpha():
    basic, bottleneck = models["pyramidnet20_a12"].build(), models["pyramidnet29_a12_bottleneck"].build()
    assert basic.head.in_features == 16 + 12
    assert bottleneck.head.in_features == 4 * (16 + 12)


def test_a_timm_model_is_built_for_the_image_size_and_channels():
    vit = build("timm/vit_tiny_patch16_224", 7, 1, 28, patch_size=4, drop_path_rate=0.1)
    assert vit(images(2, 1, 28)).shape == (2, 7)
    assert vit.patch_embed.grid_size == (7, 7)
    assert build("timm/resnet10t", 7, 1, 28)(images(2, 1, 28)).shape == (2, 7)


@pytest.mark.parametrize(
    ("name", "grid"),
    [
        ("resnet18", 32),  # 7x7 of stride 2, and a max-pool
        ("resnet50d", 32),  # three 3x3, of which the first has stride 2
        ("convnext_tiny", 16),  # patches of 4
        ("vit_tiny_patch16_224", 8),
        ("swin_tiny_patch4_window7_224", 8),  # its windows depend on the size of their maps
    ],
)
def test_the_first_layer_of_a_timm_model_keeps_a_large_enough_map(name, grid):
    sizes = []
    model = build(f"timm/{name}")
    first = next(m for m in model.modules() if isinstance(m, torch.nn.Conv2d))
    first.register_forward_hook(lambda _, inputs, output: sizes.append(output.shape[-1]))
    assert model(images(2)).shape == (2, 10)
    assert sizes == [grid]


def test_the_original_stem_of_a_timm_model_is_an_option():
    assert build("timm/resnet18", stem="original").conv1.kernel_size == (7, 7)


def test_an_option_that_a_timm_model_does_not_have_is_refused():
    with pytest.raises(ValueError, match="patch_size is not an option of timm's resnet10t, got 4"):
        models["timm/resnet10t"].build(patch_size=4)


def test_an_unknown_timm_name_is_refused_with_the_nearest_names():
    with pytest.raises(BadInput, match="resnet50"):
        models["timm/resnet5O"].build()
