"""Ghost BatchNorm, frozen BatchNorm scales and weight standardisation against their formulas."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lib.config.cli import parse
from lib.engine.step import train_step
from lib.factory import build
from lib.surgery.ghost_batchnorm import GhostBatchNorm2d
from lib.surgery.weight_standardization import StandardizedConv2d
from tests.helpers.surgery import CPU, config_of, network

# Ghost BatchNorm.


@pytest.mark.parametrize("batch", [4, 8, 9, 3])
def test_ghost_batchnorm_is_batchnorm_of_each_part(batch):
    x = torch.randn(batch, 5, 6, 6) * 3 + 1
    ghost, plain = GhostBatchNorm2d(5, size=4), nn.BatchNorm2d(5)
    parts = {4: [4], 8: [4, 4], 9: [5, 4], 3: [3]}[batch]
    expected = [(p - p.mean((0, 2, 3), True)) / (p.var((0, 2, 3), keepdim=True, correction=0) + 1e-5).sqrt()
                for p in x.split(parts)]  # fmt: skip
    torch.testing.assert_close(ghost(x), torch.cat(expected), atol=1e-5, rtol=1e-5)
    # The running statistics are updated once for each part (algorithm 1).
    for part in x.split(parts):
        plain(part)
    assert torch.equal(ghost.running_mean, plain.running_mean)
    assert torch.equal(ghost.running_var, plain.running_var)
    torch.testing.assert_close(ghost.eval()(x), plain.eval()(x))


@pytest.mark.parametrize(("size", "noted"), [(8, False), (9, True)])
def test_parts_as_large_as_the_batch_are_reported(size, noted):
    more = {"surgery.ghost_batchnorm.size": size, "train.batch_size": 16}
    notes = []
    build(config_of("resnet20", **more), CPU, notes.append)
    assert [("at most 8" in note) for note in notes] == [True] * noted


@pytest.mark.parametrize(
    ("batch", "advice"), [("16", "give a --ghost-batchnorm-size of at most 4"), ("2", "--batch-size that is")]
)
def test_the_report_of_too_large_parts_says_what_to_change(batch, advice):
    line = f"--model resnet20 --surgery.ghost_batchnorm 8 --dataset synthetic --bs {batch} --accumulate 2"
    notes: list[str] = []
    build(parse(line.split()).config(), CPU, notes.append)
    assert len(notes) == 1 and "changes nothing" in notes[0] and advice in notes[0]


# Frozen scales.


def test_frozen_scales_get_no_gradient_and_are_not_in_the_optimizer():
    run = build(config_of("resnet20", "frozen_bn"), CPU, note=pytest.fail)
    train_step(run, 0)
    norms = [m for m in run.model.modules() if isinstance(m, nn.BatchNorm2d)]
    optimized = {id(p) for p in run.params}
    assert len(norms) == 19
    for norm in norms:
        assert norm.weight.grad is None and id(norm.weight) not in optimized
        assert torch.equal(norm.weight, torch.ones_like(norm.weight))
        assert id(norm.bias) in optimized


# Weight standardisation.


def test_standardized_weights_have_mean_0_and_variance_1_in_each_filter():
    net = network("resnet20", "weight_standardization")
    found = [m for m in net.modules() if isinstance(m, StandardizedConv2d)]
    assert len(found) == 19  # all: a norm follows every convolution of the network
    for layer in found:
        filters = layer.standardized.flatten(1)
        torch.testing.assert_close(filters.mean(1), torch.zeros(len(filters)), atol=1e-5, rtol=0)
        raw = layer.weight.flatten(1).var(1, correction=0)
        torch.testing.assert_close(filters.var(1, correction=0), raw / (raw + 1e-5), atol=1e-4, rtol=0)
    x = torch.randn(1, 3, 8, 8)
    w = net.stem[0].weight.double()
    w = (w - w.mean((1, 2, 3), True)) / (w.var((1, 2, 3), keepdim=True, correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(net.stem[0](x).double(), F.conv2d(x.double(), w, padding=1), atol=1e-4, rtol=0)


def test_the_convolutions_of_a_gate_are_not_standardized():
    net = network("efficientnet_b0", "weight_standardization")
    for name, module in net.named_modules():
        if isinstance(module, StandardizedConv2d):
            assert "gate" not in name, name
