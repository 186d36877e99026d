"""Inception, Xception and DPN against other libraries, with the same strides and weights."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from lib.core.registry import models
from lib.models.dpn import DualPathUnit
from lib.models.inception_v4 import Residual, pooled
from scripts.bench.counterparts import COUNTERPARTS
from tests.helpers.model_references import build, close, copy_by_shape, images, scramble


@pytest.mark.parametrize(
    "name", ["inceptionv3", "inceptionv4", "inception_resnet_v2", "xception", "dpn26", "dpn92"]
)
def test_equals_the_model_of_another_library(name, monkeypatch):
    # Average pooling ignores the padding, as in the authors' Inception-v3.
    average = partial(F.avg_pool2d, count_include_pad=False)
    functions = SimpleNamespace(avg_pool2d=average, max_pool2d=F.max_pool2d, relu=F.relu)
    monkeypatch.setattr(torchvision.models.inception, "F", functions)
    model, reference = scramble(build(name)), COUNTERPARTS[name]().eval()
    for module in reference.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-5
    copy_by_shape(model, reference)
    x = images(size=16)  # a quarter of the work
    with torch.no_grad():
        close(model(x), reference(x))


@pytest.mark.parametrize(
    ("name", "grids"),
    [
        ("inceptionv3", [32, 15, 7]),
        ("inceptionv4", [32, 15, 7]),
        ("inception_resnet_v2", [32, 15, 7]),
        ("xception", [32, 16, 8, 4]),
        ("dpn26", [32, 16, 8, 4]),
        ("dpn92", [32, 16, 8, 4]),
    ],
)
def test_the_map_sizes_at_32_pixels_are_as_documented(name, grids):
    seen = []
    with torch.device("meta"):
        model, x = models[name].build(), torch.empty(2, 3, 32, 32)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda _, inputs, output: seen.append(output.shape[-1]))
    model(x)
    assert list(dict.fromkeys(seen)) == grids


@pytest.mark.parametrize("name", ["inceptionv3", "inceptionv4", "inception_resnet_v2"])
def test_inception_refuses_images_that_are_too_small(name):
    with torch.device("meta"):
        assert models[name].build(image_size=7)(torch.empty(2, 3, 7, 7)).shape == (2, 10)
        with pytest.raises(ValueError, match="image_size must be at least 7, got 6"):
            models[name].build(image_size=6)


def test_average_pooling_ignores_the_padding():
    pool = pooled(2, 2)[0]
    torch.testing.assert_close(pool(torch.ones(1, 2, 5, 5)), torch.ones(1, 2, 5, 5))


def test_a_scaled_residual_is_added_to_its_input():
    block = Residual(nn.Identity(), 4, 4, scale=0.25)
    x = images(2, 4, 5)
    with torch.no_grad():
        torch.testing.assert_close(block(x), (x + 0.25 * block.residual[1](x)).relu())


def dense_path(unit: DualPathUnit, x: Tensor) -> Tensor:
    return unit(x)[:, unit.residual :]


def test_a_dual_path_unit_keeps_the_dense_path_and_appends_to_it():
    unit = DualPathUnit(64 + 24, 32, residual=64, growth=8, stride=1, first=False).eval()
    x = images(2, 64 + 24, 4)
    with torch.no_grad():
        dense = dense_path(unit, x)
        assert dense.shape[1] == 24 + 8
        assert torch.equal(dense[:, :24], x[:, 64:])
        assert not torch.equal(unit(x)[:, :64], x[:, :64])


def test_a_stage_of_dual_paths_begins_with_three_growths():
    unit = DualPathUnit(16, 32, residual=64, growth=8, stride=2, first=True).eval()
    with torch.no_grad():
        assert dense_path(unit, images(2, 16, 4)).shape == (2, 3 * 8, 2, 2)
