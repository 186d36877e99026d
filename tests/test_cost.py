"""The cost of training against counts by hand."""

import pytest
import torch
from torch import nn

from lib.core.registry import models
from lib.graph.cost import IMAGES, Cost, count_macs, count_training

CONV = 8 * 8 * 4 * 3 * 9  # multiplications of the 3x3 convolution from 3 to 4 channels on 8x8 pixels
DENSE = 4 * 5


def network() -> nn.Module:
    layers = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*layers, nn.Linear(4, 5))


def test_a_forward_pass_costs_the_multiplications_of_its_layers():
    assert count_macs(network(), (3, 8, 8)) == CONV + DENSE


def test_the_backward_pass_computes_no_gradient_of_the_image():
    # Each layer computes the gradient of its weights and, except for the first, of its input.
    assert count_training(network(), (3, 8, 8)) == 2 * (2 * CONV + 3 * DENSE)


def test_frozen_weights_cost_no_gradient():
    frozen = network()
    frozen[0].requires_grad_(False)
    frozen[1].requires_grad_(False)
    assert count_training(frozen, (3, 8, 8)) == 2 * (CONV + 2 * DENSE)


class TokenNetwork(nn.Module):
    """It calls a layer with a parameter, as CaiT and TNT do with their class tokens."""

    def __init__(self):
        super().__init__()
        self.token, self.mix, self.dense = nn.Parameter(torch.zeros(1, 4)), nn.Linear(4, 4), nn.Linear(4, 5)

    def forward(self, x):
        return self.dense(self.mix(self.token).expand(len(x), -1))


def test_a_layer_that_is_called_with_a_parameter_is_counted():
    mixed = 4 * 4 // IMAGES  # once a batch, of IMAGES images
    assert count_macs(TokenNetwork(), (3, 8, 8)) == mixed + DENSE
    assert count_training(TokenNetwork(), (3, 8, 8)) == 2 * 3 * (mixed + DENSE)


def test_counting_does_not_change_the_network():
    model = network().eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    count_training(model, (3, 8, 8))
    assert not model.training and all(p.grad is None for p in model.parameters())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_the_cost_includes_each_training_pass_and_the_forward_pass_of_the_teachers():
    student, teacher = network(), nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 5))
    cost = Cost(student, [teacher])
    images = torch.zeros(6, 3, 8, 8)
    cost.count_teacher(images)
    for part in images.split(2):  # micro-batches
        cost.count_backward(part)
    assert cost.read() == 6 * (2 * (2 * CONV + 3 * DENSE) + 2 * (3 * 8 * 8 * 5))
    assert cost.read() == 0


def test_smaller_images_cost_less():
    cost = Cost(network())
    cost.count_backward(torch.zeros(1, 3, 4, 4))
    assert cost.read() == 2 * (2 * CONV // 4 + 3 * DENSE)


@pytest.mark.parametrize("name", ["shake_resnet26_2x32d", "vit", "cct_2"])
def test_training_costs_about_three_forward_passes(name):
    with torch.device("meta"):
        model = models[name].build(num_classes=10, in_channels=3, image_size=32)
    ratio = count_training(model, (3, 32, 32)) / (2 * count_macs(model, (3, 32, 32)))
    assert 2.9 < ratio <= 3.1
