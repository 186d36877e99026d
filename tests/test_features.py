"""Penultimate features of any network, compared with timm's own and with the last layer by hand."""

import pytest
import timm
import torch
from torch import Tensor, nn

from lib.core.registry import models
from lib.graph.features import penultimate
from tests.helpers.networks import families


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224", "mobilenetv3_small_100"])
def test_the_features_are_those_that_timm_returns_before_its_classifier(name):
    model = timm.create_model(name, num_classes=7).eval()
    x = torch.rand(2, 3, 224, 224)
    with torch.no_grad():
        expected = model.forward_head(model.forward_features(x), pre_logits=True)
        torch.testing.assert_close(penultimate(model, x), expected)


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:  # (B, N, 4) -> (B, 3)
        return self.head(x).mean(1)


@pytest.mark.parametrize("layer", [nn.Conv2d(4, 3, 1), Tokens()])
def test_positions_and_tokens_are_averaged(layer):
    x = torch.rand(2, 4, 5, 6)
    given = x if isinstance(layer, nn.Conv2d) else x.flatten(2).mT
    torch.testing.assert_close(penultimate(layer, given), x.mean((2, 3)))


@pytest.mark.parametrize("name", families())
def test_a_model_of_every_family_has_a_vector_of_features_for_each_image(name):
    with torch.device("meta"):
        model = models[name].build(num_classes=10, in_channels=3, image_size=32).eval()
        features = penultimate(model, torch.zeros(3, 3, 32, 32))
    assert features.shape[0] == 3 and features.ndim == 2 and features.shape[1] > 10
    assert not any(module._forward_pre_hooks for module in model.modules())
