"""The oldest and the fastest networks against other libraries, reference implementations and closed forms."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from lib.core.errors import BadInput
from lib.core.registry import models
from lib.models.airbench import partial_identity, whitening
from lib.models.layers import DropPath
from lib.models.rir import add_identity
from scripts.bench.counterparts import COUNTERPARTS
from tests.helpers.model_references import Weights, build, close, copy_by_shape, images, scramble

# Other libraries, with the stem and the strides for small images.


@pytest.mark.parametrize("name", ["alexnet", "squeezenet", "googlenet", "dla34"])
def test_equals_the_model_of_another_library(name):
    model, reference = scramble(build(name)), COUNTERPARTS[name]().eval()
    copy_by_shape(model, reference)
    with torch.no_grad():
        close(model(images()), reference(images()))


# LeNet.


def test_lenet_equals_its_reference():
    model, x = scramble(build("lenet")), images()
    tensors = list(model.parameters())
    with torch.no_grad():
        want = x
        for i in (0, 2):
            want = F.conv2d(want, tensors[i], tensors[i + 1]).relu()
            want = want.unfold(2, 2, 2).unfold(3, 2, 2).amax((4, 5))
        want = want.flatten(1)
        for i in (4, 6, 8):
            want = (want if i == 4 else want.relu()) @ tensors[i].T + tensors[i + 1]
        close(model(x), want)


def test_lenet_refuses_images_that_are_too_small():
    with pytest.raises(ValueError, match=r"image_size must be at least 16.*, got 15"):
        models["lenet"].build(image_size=15)
    assert build("lenet", image_size=16)(images(size=16)).shape == (2, 10)


# ToyNet.


def test_toynet_has_the_given_depth_kernel_and_width():
    model = build("toynet", depth=2, kernel=5, width=4)
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert [c.weight.shape[0] for c in convolutions] == [4, 4, 8, 8, 16, 16, 32, 32]
    assert {c.kernel_size for c in convolutions} == {(5, 5)}
    assert model.features(images()).shape == (2, 32, 4, 4)
    with pytest.raises(ValueError, match="kernel must be odd, got 4"):
        models["toynet"].build(kernel=4)


# Stochastic depth.


def test_stochastic_depth_in_evaluation_equals_the_resnet():
    for name in ("resnet18", "resnet110"):
        plain, dropping = scramble(build(name)), build(f"stochastic_depth_{name}").eval()
        dropping.load_state_dict(plain.state_dict())
        with torch.no_grad():
            assert torch.equal(dropping(images()), plain(images()))


@pytest.mark.parametrize(("name", "blocks"), [("resnet34", 16), ("resnet110", 54)])
def test_the_survival_probability_falls_linearly_to_that_of_the_last_block(name, blocks):
    model = build(f"stochastic_depth_{name}", survival=0.8)
    survivals = [1 - m.rate for m in model.modules() if isinstance(m, DropPath)]
    assert survivals == pytest.approx([1 - 0.2 * block / blocks for block in range(1, blocks + 1)])


def test_a_dropped_image_passes_only_through_the_shortcut():
    block = build("stochastic_depth_resnet18").stages[-1].eval()
    x = images(16, 512, 4).relu()
    with torch.no_grad():
        residual = block.residual(x)
        block.residual[-1].train()
        got = block(x)
    dropped = torch.tensor([torch.equal(image, passed) for image, passed in zip(x, got, strict=True)])
    assert 0 < dropped.sum() < 16
    torch.testing.assert_close(got[~dropped], (x + 2 * residual).relu()[~dropped])


# ResNet in ResNet.


def test_the_identity_of_rir_copies_only_the_residual_stream():
    x = images(2, 8, 6)
    for outputs, stride in ((8, 1), (16, 2)):
        convolution = nn.Conv2d(8, outputs, 3, stride, padding=1, bias=False)
        nn.init.zeros_(convolution.weight)
        add_identity(convolution)
        out = convolution(x)
        assert torch.equal(out[:, :4], x[:, :4, ::stride, ::stride])
        assert not out[:, 4:].any()


def test_every_layer_of_rir_is_initialised_with_the_identity_of_its_residual_stream():
    for block in build("rir").stages:
        for layer in (block.residual[0], block.residual[3]):
            diagonal = layer.weight[:, :, 1, 1].diagonal()
            residual, transient = diagonal.tensor_split(2)
            # Random weights have a standard deviation below 0.05, and at least 48 are averaged.
            assert abs(residual.mean() - 1) < 0.03 and abs(transient.mean()) < 0.03


# airbench.


def airbench(network: nn.Module, x: Tensor, convolutions: int) -> Tensor:
    """The recipe, written with functions only."""
    w = Weights(network)

    def norm(x: Tensor) -> Tensor:
        weight, bias, mean, var = (w.left.pop(0).view(-1, 1, 1) for _ in range(4))
        return (x - mean) / (var + 1e-12).sqrt() * weight + bias

    def gelu(x: Tensor) -> Tensor:
        return x * (1 + torch.erf(x / math.sqrt(2))) / 2

    x = gelu(F.conv2d(x, w.left.pop(0), w.left.pop(0)))
    for _ in range(3):
        first = x = gelu(norm(F.max_pool2d(w.conv(x), 2)))
        x = norm(w.conv(x))
        if convolutions == 3:
            x = first + norm(w.conv(gelu(x)))
        x = gelu(x)
    return F.max_pool2d(x, 3).flatten(1) @ w.left.pop(0).T / 9


@pytest.mark.parametrize(("name", "convolutions"), [("airbench94", 2), ("airbench96", 3)])
def test_airbench_equals_its_reference(name, convolutions):
    model = scramble(build(name))
    with torch.no_grad():
        close(model(images()), airbench(model, images(), convolutions))


@pytest.mark.parametrize(
    ("name", "parameters", "megaflops"), [("airbench94", 1_972_792, 236.3), ("airbench96", 9_918_776, 903.9)]
)
def test_airbench_has_the_published_size_and_cost(name, parameters, megaflops):
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        model = models[name].build()
        model(torch.empty(1, 3, 32, 32))
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert round(counter.get_total_flops() / 1e6, 1) == megaflops


def test_airbench_freezes_the_whitening_and_the_scales_of_norms():
    model = build("airbench96")
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    norms = {f"{name}.weight" for name, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)}
    assert len(norms) == 9
    assert frozen == norms | {"whiten.weight"}


def test_whitening_starts_as_a_rotation_of_the_patches_and_its_negative():
    filters = whitening(3).weight.flatten(1)
    assert filters.shape == (24, 12)
    torch.testing.assert_close(filters[:12] @ filters[:12].T, torch.eye(12), rtol=0, atol=1e-5)
    assert torch.equal(filters[12:], -filters[:12])


def test_a_partial_identity_copies_its_inputs():
    x = images(2, 4, 5)
    out = partial_identity(4, 6)(x)
    assert torch.equal(out[:, :4], x)
    assert out[:, 4:].abs().min() > 0


def test_airbench_is_initialised_as_in_its_recipes():
    sgd, muon = build("airbench94"), build("airbench94", start="muon")
    assert not sgd.whiten.bias.any() and muon.whiten.bias.all()
    assert muon.head.weight.std().item() == pytest.approx(1)
    assert sgd.logit_scale == 1 / 9 and muon.logit_scale == 1 / 256


# Models of torchvision.


@pytest.mark.parametrize("name", ["resnet50", "densenet121", "googlenet", "squeezenet1_0"])
def test_an_imagenet_stem_of_torchvision_becomes_a_small_one(name):
    import torchvision

    with torch.device("meta"):
        network = models[f"torchvision/{name}"].build(in_channels=1)
        original = torchvision.models.get_model(name, init_weights=True) if name == "googlenet" else (
            torchvision.models.get_model(name)
        )  # fmt: skip
    first = next(m for m in network.modules() if isinstance(m, nn.Conv2d))
    assert (first.in_channels, first.kernel_size, first.stride) == (1, (3, 3), (1, 1))
    poolings = [sum(isinstance(m, nn.MaxPool2d) for m in n.modules()) for n in (network, original)]
    assert poolings[0] == poolings[1] - 1


def test_any_other_stem_of_torchvision_changes_only_its_channels():
    import torchvision

    with torch.device("meta"):
        for channels in (1, 3):
            network = models["torchvision/convnext_tiny"].build(in_channels=channels)
            original = torchvision.models.convnext_tiny(num_classes=10)
            stem = {"features.0.0.weight": (96, channels, 4, 4)}
            shapes = {name: tuple(t.shape) for name, t in original.state_dict().items()} | stem
            assert {name: tuple(t.shape) for name, t in network.state_dict().items()} == shapes


def test_the_resnet_of_torchvision_equals_ours():
    model, reference = scramble(build("resnet18")), build("torchvision/resnet18").eval()
    copy_by_shape(model, reference)
    with torch.no_grad():
        close(model(images()), reference(images()))


def test_a_torchvision_model_is_built_for_the_image_size_and_channels():
    assert build("torchvision/squeezenet1_0", 7, 1, 28)(images(2, 1, 28)).shape == (2, 7)
    with torch.device("meta"):
        assert models["torchvision/vit_b_16"].build(image_size=64).image_size == 64


def test_options_reach_a_torchvision_model_or_are_refused():
    with torch.device("meta"):
        network = models["torchvision/mobilenet_v3_small"].build(dropout=0.4)
        assert 0.4 in [m.p for m in network.modules() if isinstance(m, nn.Dropout)]
        with pytest.raises(ValueError, match="dropout is not an option of torchvision's resnet18"):
            models["torchvision/resnet18"].build(dropout=0.4)
        with pytest.raises(ValueError, match="dropout must be at least 0 and below 1, got -1"):
            models["torchvision/mobilenet_v3_small"].build(dropout=-1.0)


def test_images_too_small_for_a_torchvision_model_are_refused():
    with torch.device("meta"), pytest.raises(ValueError, match=r"image_size must be a size that .*, got 32"):
        models["torchvision/alexnet"].build(image_size=32)


def test_an_unknown_torchvision_name_is_refused_with_the_nearest_names():
    with pytest.raises(BadInput, match="resnet50"):
        models["torchvision/resnet5O"].build()
    with pytest.raises(BadInput, match="fasterrcnn"):  # torchvision has it, but it does not classify
        models["torchvision/fasterrcnn_resnet50_fpn"].build()
