"""Mobile networks against other libraries, published tables and closed forms."""

import json

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.config.listing import MACS
from lib.models import nasnet, regnet, shufflenet, shufflenet_v2
from lib.models.layers import DropPath, SqueezeExcite
from scripts.bench.counterparts import COUNTERPARTS
from tests.helpers.model_references import Weights, build, close, copy_by_shape, images, scramble

# Other libraries, with the strides of small images.


OTHERS = (
    *(
        "mobilenet",
        "mobilenetv2",
        "mobilenetv2_x0_5",
        "efficientnet_b0",
        "regnetx_200mf",
        "regnetx_400mf",
        "regnety_400mf",
    ),
    *("shufflenetv2_0_5", "shufflenetv2_1_0", "shufflenetv2_2_0"),
)


@pytest.mark.parametrize("name", OTHERS)
def test_equals_the_model_of_another_library(name):
    model, reference = scramble(build(name)).double(), COUNTERPARTS[name]().eval().double()
    copy_by_shape(model, reference)
    x = images().double()
    with torch.no_grad():
        close(model(x), reference(x), 1e-9)


@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("mobilenet", 2),
        ("mobilenetv2", 4),
        ("efficientnet_b0", 4),
        ("shufflenet", 4),
        ("shufflenetv2", 4),
        ("regnet", 8),
    ],
)
def test_the_feature_size_at_32_pixels_is_as_documented(name, side):
    model, seen = build(name).eval(), []
    last = [m for m in model.modules() if isinstance(m, nn.Conv2d)][-1]
    last.register_forward_hook(lambda *args: seen.append(args[-1].shape[-2:]))
    with torch.no_grad():
        model(images(1))
    assert seen == [(side, side)]


# In millions, at 32 px: of kuangliu's models, and of the networks that Huang et al. 2017 (arXiv:1711.09224)
# compare on CIFAR. Some counts include norms and activations, which add up to 2 %.
PUBLISHED_MACS = {
    "regnetx_200mf": 223,
    "regnetx_400mf": 467,
    "mobilenet": 46.5,
    "resnet1202": 2840,
    "wrn_28_10": 5248,
    "resnext29_16x64d": 10704,
    "densenet_bc_190_40": 9388,
}


@pytest.mark.parametrize(("name", "macs"), PUBLISHED_MACS.items())
def test_the_multiply_accumulates_are_those_published_for_32_pixels(name, macs):
    """A stride of ImageNet that is kept at 32 px divides them by four or more."""
    counted = json.loads(MACS.read_text())[name] / 1e6
    assert counted == pytest.approx(macs, rel=0.02)


# Channel shuffles.


@pytest.mark.parametrize("format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("groups", [2, 3])
def test_the_shuffle_interleaves_the_groups_and_keeps_the_memory_format(groups, format):
    x = torch.arange(24.0).view(1, 24, 1, 1).repeat(2, 1, 3, 5).contiguous(memory_format=format)
    out = shufflenet.shuffle(x, groups)
    size = 24 // groups
    assert out[0, :, 0, 0].tolist() == [g * size + c for c in range(size) for g in range(groups)]
    assert torch.equal(out, nn.ChannelShuffle(groups)(x))
    assert out.is_contiguous(memory_format=format)


@pytest.mark.parametrize("format", [torch.contiguous_format, torch.channels_last])
def test_interleaving_is_the_shuffle_of_two_groups(format):
    x = torch.randn(2, 10, 3, 5).contiguous(memory_format=format)
    out = shufflenet_v2.interleave(x)
    assert torch.equal(out, nn.ChannelShuffle(2)(x))
    assert out.is_contiguous(memory_format=format)


class GroupedWeights(Weights):
    def conv(self, x: Tensor, stride: int = 1) -> Tensor:
        weight = self.left.pop(0)
        groups = x.shape[1] // weight.shape[1]
        return F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2, groups=groups)


@pytest.mark.parametrize("groups", [2, 3])
def test_shufflenet_equals_its_reference(groups):
    model, x = scramble(build(f"shufflenet_g{groups}")).double(), images().double()
    w, got = GroupedWeights(model), model(x)
    x = w.norm(w.conv(x)).relu()
    for unit in range(16):
        stride = 2 if unit in (0, 4, 12) else 1
        residual = nn.ChannelShuffle(groups)(w.norm(w.conv(x)).relu())
        residual = w.norm(w.conv(w.norm(w.conv(residual, stride))))
        if stride == 1:
            x = (x + residual).relu()
        else:
            x = torch.cat([residual, F.avg_pool2d(x, 3, 2, padding=1)], 1).relu()
    close(got, w.classify(x), 1e-9)


# Squeeze and excitation.


@pytest.mark.parametrize(
    ("module", "activation"), [(nn.SiLU(), lambda x: x * torch.sigmoid(x)), (nn.ReLU(), torch.relu)]
)
def test_squeeze_excite_scales_each_channel_by_its_gate(module, activation):
    gate, x = SqueezeExcite(6, 2, module), torch.randn(3, 6, 4, 4)
    squeeze, excite = gate.gate[0], gate.gate[2]
    for image, out in zip(x, gate(x), strict=True):
        squeezed = activation(squeeze.weight.view(2, 6) @ image.mean((1, 2)) + squeeze.bias)
        scale = torch.sigmoid(excite.weight.view(6, 2) @ squeezed + excite.bias)
        close(out, image * scale.view(6, 1, 1), 1e-6)


def test_the_drop_rates_of_efficientnet_residuals_grow_linearly():
    rates = [m.rate for m in build("efficientnet_b0", drop_path=0.3).modules() if isinstance(m, DropPath)]
    # The units, of 16, that neither start a stage nor change the width: 2 4 6 7 9 10 12 13 14, from 0.
    assert rates == pytest.approx([0.3 * unit / 15 for unit in (2, 4, 6, 7, 9, 10, 12, 13, 14)])


# RegNet's plans.


@pytest.mark.parametrize("name", ["regnetx_002", "regnetx_004", "regnety_004"])
def test_the_quantised_widths_are_those_of_timm(name):
    from timm.models.regnet import adjust_widths_groups_comp, generate_regnet, model_cfgs

    c = model_cfgs[name]
    widths, *_ = generate_regnet(c.wa, c.w0, c.wm, c.depth, c.group_size)
    widths, _ = adjust_widths_groups_comp(widths, [1] * c.depth, [c.group_size] * c.depth)
    assert regnet.quantised_widths(c.depth, c.w0, c.wa, c.wm, c.group_size) == widths


# NASNet, from the tables of its authors: the operations of each pair, the states that they read, and the
# states of the output. State 0 is the previous output and state 1 the one before; each pair of operations
# adds a state.

NORMAL = (
    "sep5 sep3 sep5 sep3 avg none avg avg sep3 none",
    (0, 1, 1, 1, 0, 1, 1, 1, 0, 0),
    (1, 2, 3, 4, 5, 6),
)
REDUCTION = (
    "sep5 sep7 max sep7 avg sep5 none avg sep3 max",
    (0, 1, 0, 1, 0, 1, 3, 2, 2, 0),
    (3, 4, 5, 6),
)
PROGRESSIVE = (
    "sep5 max sep7 max sep5 sep3 sep3 max sep3 none",
    (1, 1, 0, 0, 0, 0, 4, 0, 1, 0),
    (2, 3, 4, 5, 6),
)


def op(w: GroupedWeights, name: str, x: Tensor, stride: int) -> Tensor:
    if name == "avg":
        ones = F.avg_pool2d(torch.ones_like(x), 3, stride, padding=1)
        return F.avg_pool2d(x, 3, stride, padding=1) / ones
    if name == "max":
        return F.max_pool2d(x, 3, stride, padding=1)
    if name == "none":
        return x if stride == 1 else w.norm(w.conv(x.relu(), stride))
    x = w.norm(w.conv(w.conv(x.relu(), stride)))
    return w.norm(w.conv(w.conv(x.relu())))


def cell(w: GroupedWeights, table: tuple, stride: int, before: Tensor, now: Tensor) -> Tensor:
    if before.shape[-1] == now.shape[-1]:
        before_fit = w.norm(w.conv(before.relu()))
    else:
        even, odd = before.relu()[..., ::2, ::2], before.relu()[..., 1::2, 1::2]
        before_fit = w.norm(torch.cat([w.conv(even), w.conv(odd)], 1))
    states = [w.norm(w.conv(now.relu())), before_fit]
    names, sources, kept = table
    pairs = zip(*[zip(names.split(), sources, strict=True)] * 2, strict=True)
    for pair in pairs:
        states.append(sum(op(w, name, states[i], stride if i < 2 else 1) for name, i in pair))
    return torch.cat([states[i] for i in kept], 1)


@pytest.mark.parametrize(
    ("name", "plan"),
    [
        ("nasnet", [NORMAL] * 6 + ([REDUCTION] + [NORMAL] * 6) * 2),
        ("pnasnet", [PROGRESSIVE] * 9),
    ],
)
def test_nasnet_equals_the_published_tables(name, plan):
    model, x = scramble(build(name)).double(), images(1).double()
    w = GroupedWeights(model)
    with torch.no_grad():
        got = model(x)
        before = now = w.norm(w.conv(x))
        for i, table in enumerate(plan):
            stride = 2 if table is REDUCTION or (table is PROGRESSIVE and i in (3, 6)) else 1
            before, now = now, cell(w, table, stride, before, now)
        close(got, w.classify(now.relu()), 1e-9)


def test_a_nasnet_cell_with_all_operations_dropped_contains_its_inputs():
    cell = nasnet.NormalCell(8, 8, 4, halves_before=False, stride=1, drop_path=1 - 1e-9).train()
    before, now = torch.randn(2, 8, 5, 5), torch.randn(2, 8, 5, 5)
    out = cell(before, now).unflatten(1, (6, 4))
    before, now = cell.fit_before(before).relu(), cell.fit_now(now).relu()
    nothing = torch.zeros_like(now)
    torch.testing.assert_close(out, torch.stack([before, nothing, nothing, before, nothing, now], 1))


def test_the_drop_rates_of_nasnet_grow_linearly():
    rates = [m.rate for m in build("nasnet", drop_path=0.4).modules() if isinstance(m, DropPath)]
    assert rates == pytest.approx([0.4 * (i + 1) / 20 for i in range(20)])
