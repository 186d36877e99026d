"""Every model of timm and torchvision is counted, or is listed in docs/models.md and refused in one line."""

import json
import re

import pytest
import timm
import torch
from torch import nn

import train
from lib.config.cli import parse
from lib.core.registry import models
from lib.factory.model import to_device
from lib.graph.cost import count_macs, count_training
from scripts.docs.models import REFUSED, SHAPE

UNFIT = json.loads(REFUSED.read_text())


def families(names: list[str]) -> dict[str, str]:
    """The first model of each family: of a module of timm, and the letters that its name begins with."""
    found: dict[str, str] = {}
    for name in names:
        module = timm.model_entrypoint(name).__module__
        found.setdefault(f"{module} {re.match('[a-z]+', name)[0]}", name)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", families(timm.list_models()).values())
def test_a_model_of_every_family_of_timm_is_counted_unless_it_is_listed(name):
    """`make docs` with --all tries every model."""

    def count() -> None:
        with torch.device("meta"):
            model = models[f"timm/{name}"].build(num_classes=10, in_channels=SHAPE[0], image_size=SHAPE[1])
        assert count_training(model, SHAPE) > 2 * count_macs(model, SHAPE) > 0

    if f"timm/{name}" not in UNFIT:
        count()
        return
    with pytest.raises((RuntimeError, ValueError, AssertionError)):
        count()


@pytest.mark.slow
@pytest.mark.parametrize("name", {name[:16]: name for name in UNFIT}.values())  # one of each family
def test_a_listed_model_is_refused_in_one_line(name, capsys):
    assert train.main(["--dry-run", "--model", name, "--dataset", "synthetic", "--device", "cpu"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")


@pytest.mark.parametrize("name", ["cait_xxs24_224", "tnt_s_legacy_patch16_224"])
def test_a_model_of_timm_that_calls_a_layer_with_a_parameter_is_counted(name):
    """Its class token, without gradients in evaluation; and a parameter in training."""
    with torch.device("meta"):
        model = models[f"timm/{name}"].build()
    assert count_training(model, SHAPE) > 2 * count_macs(model, SHAPE) > 0


def test_a_network_with_a_3d_convolution_is_channels_last_where_it_can_be():
    """As timm's LambdaNets have one."""
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv3d(1, 2, 3))
    to_device(network, parse([]).config(), torch.device("cpu"))
    assert network[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert network[1].weight.is_contiguous()
