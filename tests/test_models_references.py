"""Equal to networks that others wrote, or that are written out plainly, with the same weights."""

from functools import partial

import pytest
import torch
from model_references import (
    build,
    close,
    copy_by_shape,
    images,
    preact_resnet,
    pyramidnet,
    resnet,
    scramble,
    shake_resnet,
    wide_resnet,
)
from torch import nn


def small_stem(network: nn.Module) -> nn.Module:
    """A torchvision or timm ResNet with the 3x3 stem, without max-pool."""
    stem = network.stem if hasattr(network, "stem") else network
    for name in ("conv1", "conv"):
        if hasattr(stem, name):
            setattr(stem, name, nn.Conv2d(3, 64, 3, padding=1, bias=False))
    setattr(stem, "pool" if hasattr(stem, "pool") else "maxpool", nn.Identity())
    return network


def torchvision_model(name: str) -> nn.Module:
    import torchvision

    return small_stem(getattr(torchvision.models, name)(num_classes=10))


def torchvision_vgg(name: str) -> nn.Module:
    import torchvision

    features = getattr(torchvision.models, name)().features
    return nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))


def timm_resnet(name: str) -> nn.Module:
    import timm

    network = small_stem(timm.create_model(name, num_classes=10))
    network.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(network.num_features, 10))
    return network


def timm_vit(**sizes: int) -> nn.Module:
    import timm

    return timm.create_model("vit_tiny_patch16_224", num_classes=10, img_size=32, patch_size=4, **sizes)


@pytest.mark.parametrize(
    ("name", "options", "other"),
    [
        ("resnet18", {}, partial(torchvision_model, "resnet18")),
        ("resnet50", {}, partial(torchvision_model, "resnet50")),
        ("vgg11", {}, partial(torchvision_vgg, "vgg11_bn")),
        ("vgg16", {}, partial(torchvision_vgg, "vgg16_bn")),
        # timm's first unit pre-activates its shortcut only where that is a projection.
        ("preact_resnet18", {"preact_stage": (False, True, True, True)}, partial(timm_resnet, "resnetv2_18")),
        ("preact_resnet50", {}, partial(timm_resnet, "resnetv2_50")),
        ("vit", {}, partial(timm_vit, depth=7, embed_dim=384, num_heads=8)),
        ("vit_tiny", {}, timm_vit),
    ],
)
def test_equals_the_model_of_another_library(name, options, other):
    model, reference = scramble(build(name, **options)), other().eval()
    copy_by_shape(model, reference)
    with torch.no_grad():
        close(model(images()), reference(images()))


STUDY = [
    ((True, True, True), False, False),
    ((True, False, False), False, True),
    ((True, False, False), True, False),
    ((False, True, False), True, True),
]


def test_resnet_equals_its_reference():
    model = scramble(build("resnet20"))
    with torch.no_grad():
        close(model(images()), resnet(model, images(), blocks=3))


@pytest.mark.parametrize(("preact_stage", "remove", "last"), STUDY)
def test_preact_resnet_equals_its_reference(preact_stage, remove, last):
    options = {"preact_stage": preact_stage, "remove_first_relu": remove, "add_last_bn": last}
    model = scramble(build("resnet_preact", depth=20, **options))
    with torch.no_grad():
        close(model(images()), preact_resnet(model, images(), 3, preact_stage, remove, last))


def test_wide_resnet_equals_its_reference():
    model = scramble(build("wrn_16_2", dropout=0.3))
    with torch.no_grad():
        close(model(images()), wide_resnet(model, images(), blocks=2))


def test_shake_resnet_equals_its_reference():
    model = scramble(build("shake_resnet26_2x32d"))
    with torch.no_grad():
        close(model(images()), shake_resnet(model, images(), blocks=4))


@pytest.mark.parametrize("shakedrop", [False, True])
def test_pyramidnet_equals_its_reference_with_survival_falling_to_a_half(shakedrop):
    model = scramble(build("pyramidnet20_a30", shakedrop=shakedrop))
    survivals = [1 - 0.5 * unit / 9 if shakedrop else 1 for unit in range(1, 10)]
    with torch.no_grad():
        close(model(images()), pyramidnet(model, images(), 3, survivals))


def test_resnet_option_b_has_the_projections_of_the_paper():
    model = build("resnet20", shortcut="B")
    assert sum(p.numel() for p in model.parameters()) == 269_722 + 16 * 32 + 32 * 64 + 2 * (32 + 64)
