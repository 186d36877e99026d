"""ResNeXt, SE-ResNet and their gates: against timm and reference implementations."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.models.resnext_attention import GATES, GatherExcite, SelectiveKernels
from lib.models.spp_resnext import WINDOWS, PyramidPooling
from scripts.bench.counterparts import COUNTERPARTS, timm_cbam, timm_resnext, timm_se
from tests.helpers.model_references import Weights, build, close, images, scramble


def copy_less_ones(source: nn.Module, target: nn.Module) -> None:
    """Like `copy_by_shape`, but 1x1 convolutions can take the weights of dense layers."""
    left = [t for t in source.state_dict().values() if t.is_floating_point()]
    for tensor in target.state_dict().values():
        if tensor.is_floating_point():
            place = next(i for i, t in enumerate(left) if t.squeeze().shape == tensor.squeeze().shape)
            tensor.copy_(left.pop(place).view_as(tensor))
    assert not left, f"{len(left)} tensors were not used"


SMALL = {"cardinality": 4, "width": 8}


@pytest.mark.parametrize(
    ("name", "options", "other"),
    [
        ("resnext29_2x64d", {}, COUNTERPARTS["resnext29_2x64d"]),
        ("resnext29_16x8d", {}, COUNTERPARTS["resnext29_16x8d"]),
        ("spp_d11_pN", {}, lambda: timm_resnext((1, 1, 1), cardinality=16, base_width=8)),
        (
            "se_resnext29_8x64d",
            SMALL,
            lambda: timm_resnext((3, 3, 3), cardinality=4, base_width=8, attend=timm_se()),
        ),
        (
            "cbam_resnext29_8x64d",
            SMALL,
            lambda: timm_resnext((3, 3, 3), cardinality=4, base_width=8, attend=timm_cbam()),
        ),
        ("seresnet18", {}, COUNTERPARTS["seresnet18"]),
        ("seresnet50", {}, COUNTERPARTS["seresnet50"]),
    ],
)
def test_equals_the_network_of_timm(name, options, other):
    model, reference = scramble(build(name, **options)), other().eval()
    copy_less_ones(model, reference)
    x = images().double()
    with torch.no_grad():
        close(model.double()(x), reference.double()(x), tolerance=1e-9)


# Pre-activation SE-ResNets.


def squeeze_excite(w: Weights, x: Tensor) -> Tensor:
    down, down_bias, up, up_bias = (w.left.pop(0) for _ in range(4))
    hidden = (x.mean((2, 3)) @ down.T + down_bias).relu()
    return x * (hidden @ up.T + up_bias).sigmoid()[:, :, None, None]


def se_preact_resnet(network: nn.Module, x: Tensor, stages: int, blocks: int, cifar: bool) -> Tensor:
    """Basic units; the weights of the projection precede those of its unit."""
    w = Weights(network)
    x = w.conv(x) if cifar else w.norm(w.conv(x)).relu()
    for unit in range(stages * blocks):
        first, stride = unit % blocks == 0, 2 if unit % blocks == 0 and unit > 0 else 1
        project = w.left.pop(0) if stride == 2 else None
        activated = w.norm(x).relu()
        shortcut = activated if first and (cifar or unit > 0) else x
        if project is not None:
            shortcut = F.conv2d(shortcut, project, stride=2)
        residual = w.conv(w.norm(w.conv(activated, stride)).relu())
        x = shortcut + squeeze_excite(w, w.norm(residual) if cifar else residual)
    return w.classify(w.norm(x).relu())


@pytest.mark.parametrize(
    ("name", "stages", "blocks"), [("se_resnet_preact110", 3, 18), ("senet18", 4, 2)], ids=str
)
def test_preact_se_resnet_equals_its_reference(name, stages, blocks):
    model, x = scramble(build(name)).double(), images().double()
    with torch.no_grad():
        close(model(x), se_preact_resnet(model, x, stages, blocks, cifar=stages == 3), 1e-9)


# Gates.


def gate_of(kind: str) -> nn.Module:
    return (GatherExcite(32, size=8) if kind == "ge" else GATES[kind](32)).eval()


def features(channels: int = 32, size: int = 8) -> Tensor:
    return torch.randn(3, channels, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("kind", "expected"), [("se", 0.5), ("ge", 0.5), ("cbam", 0.25)])
def test_a_gate_with_zero_weights_halves_its_input(kind, expected):
    # A gate is a sigmoid; CBAM has two in sequence.
    gate = gate_of(kind)
    with torch.no_grad():
        for parameter in gate.parameters():
            parameter.zero_()
        close(gate(features()), expected * features())


@pytest.mark.parametrize("kind", ["se", "ge", "cbam"])
def test_a_saturated_gate_is_the_identity(kind):
    gate = gate_of(kind)
    if kind == "ge":
        # It has no last bias: a large bias after the first sum saturates it through positive weights.
        gate.norm.bias.data.fill_(100)
        for layer in (gate.mlp[0], gate.mlp[2]):
            layer.weight.data.fill_(1)
    else:
        for module in gate.modules():
            if isinstance(module, nn.Linear | nn.BatchNorm2d):
                module.bias.data.fill_(100)
                module.weight.data.zero_()
    with torch.no_grad():
        close(gate(features()), features())


def test_gather_excite_gathers_as_a_depthwise_convolution_as_large_as_the_map():
    gate, x = scramble(GatherExcite(32, 8)), features()
    weight = gate.gather[:, None]  # (C, 1, H, W)
    with torch.no_grad():
        gathered = F.conv2d(x, weight, groups=32)
        assert gathered.shape == (3, 32, 1, 1)
        close(gate(x), x * gate.mlp(gate.norm(gathered.flatten(1))).sigmoid()[:, :, None, None])


@pytest.mark.parametrize("size", [28, 32, 33])
def test_gather_excite_has_kernels_of_the_size_of_each_map(size):
    model = build("ge_resnext29_8x64d", image_size=size, **SMALL).eval()
    sides = [block.residual[-1].gather.shape[-1] for block in model.stages]
    half, quarter = (size + 1) // 2, (size + 3) // 4
    assert sides == [size] * 3 + [half] * 3 + [quarter] * 3
    with torch.no_grad():
        assert model(images(1, 3, size)).shape == (1, 10)


@pytest.mark.parametrize(("channels", "squeezed", "stride"), [(64, 32, 1), (64, 32, 2), (2048, 64, 1)])
def test_selective_kernels_mix_two_branches_as_timm_does(channels, squeezed, stride):
    from timm.layers.selective_kernel import SelectiveKernelAttn

    unit, x = scramble(SelectiveKernels(channels, 16, stride)), features(channels)
    reference = SelectiveKernelAttn(channels, 2, squeezed, norm_layer=lambda _, **__: nn.Identity())
    with torch.no_grad():
        unit.squeeze[0].bias.zero_()  # timm has none
        unit.select.bias.zero_()
        copy_weights = {"fc_reduce.weight": unit.squeeze[0].weight, "fc_select.weight": unit.select.weight}
        reference.load_state_dict({key: w[:, :, None, None] for key, w in copy_weights.items()})
        branches = torch.stack([unit.small(x), unit.large(x)], dim=1)  # (B, 2, C, H, W)
        close(unit(x), (branches * reference(branches)).sum(1))
        assert unit(x).shape == (3, channels, 8 // stride, 8 // stride)


@pytest.mark.parametrize("chosen", ["small", "large"])
def test_selective_kernels_can_choose_one_branch_in_each_channel(chosen):
    unit, x = scramble(SelectiveKernels(32, 4, 1)), features()
    sign = 100 if chosen == "large" else -100
    with torch.no_grad():
        unit.select.weight.zero_()
        unit.select.bias.copy_(torch.cat([torch.full((32,), -sign), torch.full((32,), sign)]))
        close(unit(x), getattr(unit, chosen)(x))


def test_the_small_kernel_sees_one_pixel_and_the_large_one_nine():
    unit = SelectiveKernels(32, 4, 1).eval()
    x = torch.zeros(1, 32, 9, 9)
    x[:, :, 4, 4] = 1
    with torch.no_grad():
        for branch, side in ((unit.small, 1), (unit.large, 3)):
            branch[0].weight.fill_(1)
            branch[0].bias.zero_()
            assert (branch(x)[0, 0] > 0).sum() == side**2


@pytest.mark.parametrize("kind", ["se", "cbam", "ge", "sk"])
def test_gates_keep_low_precision_and_channels_last(kind):
    # On a small network: those of the registered sizes are too slow for the default run.
    model = build(f"{kind}_resnext29_16x64d", **SMALL).to(memory_format=torch.channels_last)
    seen = []
    for module in (*model.stages, *(m for m in model.modules() if isinstance(m, nn.Conv2d))):
        module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(images(4).to(memory_format=torch.channels_last))
    logits.float().logsumexp(1).sum().backward()
    assert {x.dtype for x in seen[1:]} == {torch.bfloat16}  # the first are the images
    assert all(x.is_contiguous(memory_format=torch.channels_last) for x in seen)
    assert [
        name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()
    ] == []


# Pyramid pooling.


@pytest.mark.parametrize("pooling", ["A", "B", "C", "D"])
def test_pyramid_pooling_concatenates_the_maxima_of_each_window(pooling):
    windows = {"A": [3], "B": [5], "C": [7], "D": [3, 5, 7]}[pooling]
    unit, x = scramble(PyramidPooling(32, WINDOWS[pooling])), features()
    with torch.no_grad():
        halved = unit.reduce(x)
        # Unfolded windows with -inf around the map, which no maximum takes.
        levels = [halved]
        for side in windows:
            padded = F.pad(halved, [side // 2] * 4, value=-torch.inf)
            levels.append(padded.unfold(2, side, 1).unfold(3, side, 1).amax((-2, -1)))
        close(unit(x), unit.mix(torch.cat(levels, dim=1)))


def test_pyramid_pooling_follows_each_of_its_convolutions_with_a_norm_and_silu():
    unit, x = scramble(PyramidPooling(4, (3,))), features(4)
    with torch.no_grad():
        w = Weights(unit)
        halved = F.silu(w.norm(w.conv(x)))
        maxima = F.max_pool2d(halved, 3, stride=1, padding=1)
        close(unit(x), F.silu(w.norm(w.conv(torch.cat([halved, maxima], dim=1)))))
