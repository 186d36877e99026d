"""BlurPool against the binomial filter, and where its blurs are inserted."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.core.registry import surgeries
from lib.surgery.blurpool import Blur
from tests.helpers.surgery import images, network


@pytest.mark.parametrize("size", [3, 5, 7])
@pytest.mark.parametrize("side", [1, 2, 7, 8])
def test_a_blur_keeps_constants_up_to_the_border_and_halves_the_map(size, side):
    x = torch.full((2, 3, side, side), 1.7)
    torch.testing.assert_close(Blur(size)(x), torch.full((2, 3, -(-side // 2), -(-side // 2)), 1.7))


def test_a_blur_is_the_binomial_filter():
    x = torch.zeros(1, 1, 9, 9)
    x[0, 0, 4, 4] = 1
    row = torch.tensor([1.0, 6, 1]) / 16  # every second tap of [1, 4, 6, 4, 1]
    torch.testing.assert_close(Blur(5)(x)[0, 0, 1:4, 1:4], row[:, None] * row)


@pytest.mark.parametrize("pool", [nn.MaxPool2d(2), nn.MaxPool2d(2, ceil_mode=True), nn.MaxPool2d(3, 2, 1),
                                  nn.MaxPool2d(3, 2, ceil_mode=True), nn.AvgPool2d(2)], ids=str)  # fmt: skip
@pytest.mark.parametrize("side", [7, 8])
def test_blurred_pooling_gives_maps_of_the_same_size(pool, side):
    shape, x = (2, side, side), torch.randn(3, 2, side, side)
    model = nn.Sequential(copy.deepcopy(pool), nn.Flatten())
    blurred = surgeries["blurpool"].build(model=copy.deepcopy(model), shape=shape)
    assert blurred(x).shape == model(x).shape
    assert blurred(x).isfinite().all()
    assert not torch.equal(blurred(x), model(x))


def test_blurpool_removes_every_stride_and_makes_features_less_sensitive_to_a_shift():
    def change(*names: str) -> Tensor:
        net = network("vgg11", *names).eval()
        x = F.interpolate(images(16), size=40)[:, :, 2:34, 2:34]
        moved = torch.roll(x, 1, 3)
        # The first two stages only: after them, maps of 16 px are too small.
        one, other = (net.features[:8](each) for each in (x, moved))
        return ((one.mean((2, 3)) - other.mean((2, 3))).norm() / one.mean((2, 3)).norm()).detach()

    assert change("blurpool") < 0.8 * change()
    modules = network("vgg11", "blurpool").modules()
    assert all(m.stride in (1, (1, 1)) for m in modules if isinstance(m, nn.Conv2d | nn.MaxPool2d))


def test_the_blur_follows_the_activation_of_a_3x3_convolution_and_precedes_a_1x1_convolution():
    net = network("wrn_10_1", "blurpool")
    block = net.stages[1]
    assert isinstance(block.residual[2].grafts.blur, Blur)  # conv, norm, ReLU, blur
    # Before a 1x1 convolution the blur gives the same result as after it.
    x = torch.randn(2, 16, 8, 8)
    dense = F.conv2d(x, block.shortcut.weight)
    torch.testing.assert_close(block.shortcut(x), Blur(3)(dense))
