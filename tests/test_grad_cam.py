"""Grad-CAM, compared with captum and with images that have the evidence in a known place."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.core.registry import models
from lib.graph.grad_cam import grad_cam
from tests.helpers.networks import families


class Convolutions(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.last = nn.Conv2d(8, 6, 3, padding=1, stride=2)
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.last(self.first(x).relu()).sigmoid().mean((2, 3)))


def test_the_map_is_that_of_captum():
    captum = pytest.importorskip("captum.attr", reason="captum is not installed")
    model, x, y = Convolutions(), torch.rand(4, 3, 16, 16), torch.tensor([0, 3, 1, 4])
    expected = captum.LayerGradCam(model, model.last).attribute(x, target=y, relu_attributions=True)
    expected = F.interpolate(expected, (16, 16), mode="bilinear")[:, 0]
    largest = expected.amax((1, 2), keepdim=True)
    assert (largest > 0).any()
    torch.testing.assert_close(grad_cam(model, x, y) * largest, expected)


class Tokens(nn.Module):
    """Class k is the sum of the tokens of channel k; a class token comes first, and is ignored."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        tokens = F.avg_pool2d(x, 4).flatten(2).mT
        tokens = self.patches(torch.cat([torch.full_like(tokens[:, :1], 9), tokens], 1))
        return tokens[:, 1:].sum(1)


def test_the_evidence_of_tokens_is_in_the_patch_that_has_it():
    x = torch.zeros(2, 3, 16, 16)
    x[0, 1, 4:8, 8:12] = 1  # the evidence for class 1, in the second row and the third column of patches
    x[1, 2, 12:, :4] = 1
    found = F.avg_pool2d(grad_cam(Tokens(), x, torch.tensor([1, 2])), 4)
    assert found.flatten(1).argmax(1).tolist() == [4 + 2, 12]
    # The class token has a value and no gradient; a class without evidence has a map of zeros.
    assert grad_cam(Tokens(), x, torch.tensor([0, 0])).count_nonzero() == 0


def test_a_network_without_positions_is_refused():
    with pytest.raises(ValueError, match="model must have a layer with positions"):
        grad_cam(nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), torch.rand(2, 3, 2, 2), torch.tensor([0, 1]))


@pytest.mark.slow
@pytest.mark.parametrize("name", families())
def test_a_model_of_every_family_has_a_map(name):
    model = models[name].build(num_classes=10, in_channels=3, image_size=32).eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    found = grad_cam(model, torch.rand(2, 3, 32, 32), torch.tensor([1, 2]))
    assert found.shape == (2, 32, 32) and found.isfinite().all() and found.max() <= 1
    assert not any(module._forward_hooks for module in model.modules())
