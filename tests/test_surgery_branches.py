"""Residual branches, and squeeze-and-excitation, stochastic depth and dropout against closed forms."""

import pytest
import torch
import torch.nn.functional as F

from lib.core.errors import BadInput
from lib.core.registry import models
from lib.graph.branches import residual_branches
from lib.surgery.squeeze_excite import SqueezeExcite
from lib.surgery.stochastic_depth import DropBranch
from tests.helpers.surgery import SHAPE, images, network

# Residual branches.


@pytest.mark.parametrize(
    ("model", "count"),
    [("resnet20", 9), ("resnet_preact_20", 9), ("wrn_16_1", 6), ("resnet9", 2), ("cct_2", 4), ("vgg11", 0),
     ("densenet_bc_10_4", 0), ("mobilenetv2", 10), ("shake_resnet26_2x32d", 12), ("timm/resnet18", 8)],
)  # fmt: skip
def test_residual_branches_are_found_in_any_family(model, count):
    net = models[model].build(num_classes=10, in_channels=3, image_size=32)
    keys = list(net.state_dict())
    assert len(residual_branches(net, (3, 32, 32))) == count
    # The network itself is not changed.
    assert list(net.state_dict()) == keys and net.training
    assert not any(module._forward_hooks for module in net.modules())


def test_where_the_width_changes_the_branch_is_the_residual_and_not_the_projection():
    net = network("resnet20", **{"model.shortcut": "B"})
    assert [b.end for b in residual_branches(net, SHAPE)] == [block.residual for block in net.stages]


# Squeeze-and-excitation.


def test_squeeze_excite_scales_each_channel_by_a_gate_of_the_channel_means():
    layer, x = SqueezeExcite(4, ratio=2), torch.randn(3, 4, 5, 5)
    with torch.no_grad():
        for p in layer.parameters():
            p.zero_()
    torch.testing.assert_close(layer(x), x / 2)  # sigmoid(0)
    # By hand: the first unit reads the mean of channel 0 and controls the gate of channel 1.
    with torch.no_grad():
        layer.squeeze.weight[0, 0] = 1
        layer.excite.weight[1, 0] = 3
    gate = torch.full((3, 4), 0.5)
    gate[:, 1] = 1 / (1 + torch.exp(-3 * x[:, 0].mean((1, 2)).clamp(min=0)))
    torch.testing.assert_close(layer(x), x * gate[:, :, None, None])


# Stochastic depth.


def test_stochastic_depth_has_linear_drop_rates_and_keeps_the_mean():
    net = network("resnet20", "stochastic_depth", **{"surgery.stochastic_depth.rate": 0.9})
    drops = [m for m in net.modules() if isinstance(m, DropBranch)]
    assert [drop.rate for drop in drops] == pytest.approx([0.9 * (i + 1) / 9 for i in range(9)])
    torch.manual_seed(0)
    layer, x = DropBranch(0.3), torch.randn(20_000, 2, 3, 3)
    out = layer(x)
    dropped = (out == 0).flatten(1).all(1)
    # Whole images are dropped, and the others divided by the probability of being kept.
    torch.testing.assert_close(out[~dropped], x[~dropped] / 0.7)
    assert dropped.double().mean() == pytest.approx(0.3, abs=4 * (0.3 * 0.7 / 20_000) ** 0.5)
    ones = torch.ones(20_000, 1)
    assert layer(ones).mean() == pytest.approx(1, abs=4 * (0.3 / 0.7 / 20_000) ** 0.5)
    assert layer.eval()(x) is x


def test_stochastic_depth_is_refused_where_the_model_already_drops_branches():
    with pytest.raises(BadInput, match=r"already drops its branches; .*--model\.drop-path"):
        network("cct_2", "stochastic_depth", **{"model.drop_path": 0.1})


# Dropout.


@pytest.mark.parametrize(
    "model", ["resnet20", "resnet_preact", "wrn_10_1", "densenet_bc_10_4", "vgg11", "cct_2", "resnet9"]
)
def test_dropout_zeroes_features_of_the_classifier_in_training_only(model):
    net, given, seen = network(model, "dropout", **{"surgery.dropout.rate": 0.25}), [], []
    net.head.grafts_before.register_forward_pre_hook(lambda module, args: given.append(args[0]))
    net.head.forward = lambda x: (seen.append(x), F.linear(x, net.head.weight, net.head.bias))[1]
    torch.manual_seed(0)
    net(images(64))
    (x,), (kept,) = given, seen
    dropped = (kept == 0) & (x != 0)
    torch.testing.assert_close(kept[~dropped], x[~dropped] / 0.75)
    assert dropped.sum().item() / (x != 0).sum().item() == pytest.approx(0.25, abs=0.06)
    net.eval()(images(2))
    assert torch.equal(given[1], seen[1])
