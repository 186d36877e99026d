"""ResNets and ViTs equal other libraries or reference implementations with the same weights."""

from functools import partial

import pytest
import torch

from scripts.bench.counterparts import COUNTERPARTS, timm_preact_resnet
from tests.helpers.model_references import (
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

# timm's first unit pre-activates its shortcut only where that is a projection.
TIMMS_FIRST_UNIT = {"preact_stage": (False, True, True, True)}


@pytest.mark.parametrize(
    ("name", "options", "other"),
    [
        *((name, {}, COUNTERPARTS[name]) for name in ("resnet18", "resnet50", "vgg11", "vgg16")),
        # timm's first unit pre-activates its shortcut only where that is a projection.
        (
            "preact_resnet18",
            {"preact_stage": (False, True, True, True)},
            partial(timm_preact_resnet, "resnetv2_18"),
        ),
        *((name, {}, COUNTERPARTS[name]) for name in ("preact_resnet50", "vit", "vit_tiny")),
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
