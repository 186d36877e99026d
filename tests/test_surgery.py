"""Surgery on networks of any family: what each one changes, that it keeps all else, and whom it refuses."""

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.config.cli import parse
from lib.config.schema import Config
from lib.core.errors import BadInput
from lib.core.registry import models, surgeries
from lib.engine.step import Run, train_step
from lib.factory import build, build_model
from lib.graph.branches import residual_branches
from lib.graph.cost import count_macs
from lib.surgery.blurpool import Blur
from lib.surgery.ghost_batchnorm import GhostBatchNorm2d
from lib.surgery.squeeze_excite import SqueezeExcite
from lib.surgery.stochastic_depth import DropBranch
from lib.surgery.weight_standardization import StandardizedConv2d

CPU = torch.device("cpu")
SHAPE = (3, 16, 16)
# Small ones of many kinds; a form says what it is: depth, then width.
MODELS = {
    "resnet20": {},
    "resnet_preact": {"model.depth": 8},
    "wrn_10_1": {},
    "densenet_bc_10_4": {},
    "vgg11": {},
    "cct_2": {"model.drop_path": 0},
    "resnet9": {"model.width": 8},
}
# What the network lacks: no residual branch, no stride of 2 in a module, no BatchNorm.
REFUSED = {
    "squeeze_excite": ("densenet_bc_10_4", "vgg11", "cct_2"),
    "stochastic_depth": ("densenet_bc_10_4", "vgg11"),
    "blurpool": ("vit_tiny",),
    "ghost_batchnorm": ("cct_2",),
    "frozen_bn": ("cct_2",),
    "weight_standardization": ("cct_2",),
}
SMALL = {
    "data.name": "synthetic", "data.size": 40, "data.classes": 10, "data.image_size": 16,
    "train.batch_size": 8, "train.epochs": 1, "schedule.name": "constant",
}  # fmt: skip


def pairs(*slow: str) -> list:
    """Every surgery with every network that it can be done to; some of them for the slow set."""
    return [
        pytest.param(name, model, marks=pytest.mark.slow if model in slow else ())
        for name in surgeries.names()
        for model in MODELS
        if model not in REFUSED.get(name, ())
    ]


def config_of(model: str, *names: str, **more: object) -> Config:
    switches = {f"surgery.{name}": True for name in names if name != "ghost_batchnorm"}
    switches |= {"surgery.ghost_batchnorm.size": 2} if "ghost_batchnorm" in names else {}
    settings = SMALL | {"model.name": model} | MODELS.get(model, {}) | switches | more
    return parse([f"{key}={value}" for key, value in settings.items()]).config()


def network(model: str, *names: str, **more: object) -> nn.Module:
    return build_model(config_of(model, *names, **more), SHAPE, 10)


def images(count: int = 8, seed: int = 0) -> Tensor:
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(seed))


def logits(model: nn.Module, x: Tensor) -> Tensor:
    torch.manual_seed(0)
    return model(x)


def weights_of(run: Run) -> Tensor:
    return torch.cat([p.detach().flatten() for p in run.params])


@pytest.mark.parametrize(("name", "model"), pairs("vgg11"))
def test_a_surgery_changes_the_network_and_leaves_it_a_network(name, model):
    plain, changed = network(model), network(model, name)
    x = images()
    if name == "frozen_bn":
        assert sum(p.requires_grad for p in changed.parameters()) < len(list(plain.parameters()))
    else:
        assert not torch.allclose(logits(plain, x), logits(changed, x))
    # A plain network's weights have their places in the changed one, with their names and initial values.
    state = network(model, name).state_dict()
    for key, tensor in network(model).state_dict().items():
        assert torch.equal(state[key], tensor), key
    # A copy is one with its own grafts, and a state is taken up by another.
    twin, other = copy.deepcopy(changed), network(model, name, **{"train.seed": 1})
    other.load_state_dict(changed.state_dict())
    for each in (twin, other):
        assert torch.equal(logits(each, x), logits(changed, x))
    with torch.no_grad():
        for p in changed.parameters():
            p.zero_()
    assert torch.equal(logits(twin, x), logits(other, x))


@pytest.mark.parametrize(("name", "model"), pairs("vgg11", "resnet20", "densenet_bc_10_4", "resnet_preact"))
def test_a_changed_network_trains_in_every_way(name, model):
    ways = {"wrap.sam": True, "train.precision": "bf16", "train.accumulate": 2, "average.ema": True}
    config = config_of(model, name, **ways)
    run, again = (build(config, CPU, note=pytest.fail) for _ in range(2))
    start = weights_of(run)
    assert train_step(run, 0).isfinite()
    train_step(again, 0)
    assert weights_of(run).isfinite().all()
    assert not torch.equal(weights_of(run), start)
    assert torch.equal(weights_of(run), weights_of(again))


@pytest.mark.parametrize(("name", "model"), [(n, m) for n, found in REFUSED.items() for m in found])
def test_what_cannot_be_done_is_refused_by_name(name, model):
    with pytest.raises(BadInput, match=f"surgery {name}: the model has no .+") as refusal:
        network(model, name)
    assert "\n" not in str(refusal.value)


def test_all_surgeries_at_once_come_in_one_order_whatever_that_of_the_flags():
    names = surgeries.names()
    one, other = network("resnet20", *names), network("resnet20", *names[::-1])
    assert list(one.state_dict()) == list(other.state_dict())
    assert torch.equal(logits(one, images()), logits(other, images()))
    grafts = [list(m.grafts._modules) for m in one.modules() if "grafts" in m._modules]
    assert ["squeeze_excite", "stochastic_depth"] in grafts


@pytest.mark.parametrize("name", surgeries.names())
def test_a_changed_network_is_compiled_to_the_same_function(name):
    model = network("wrn_10_1", name).eval()
    x = images(2)
    compiled = torch.compile(copy.deepcopy(model), backend="eager", fullgraph=True)
    torch.compiler.reset()
    torch.testing.assert_close(compiled(x), model(x))


def test_multiply_accumulates_follow_the_surgery():
    plain, shape = count_macs(network("wrn_10_1"), SHAPE), SHAPE
    assert count_macs(network("wrn_10_1", "blurpool"), shape) > 1.3 * plain
    gates = sum(2 * b.shape[0] * (b.shape[0] // 16) for b in residual_branches(network("wrn_10_1"), SHAPE))
    assert count_macs(network("wrn_10_1", "squeeze_excite"), shape) == plain + gates


@pytest.mark.parametrize(
    ("model", "count"),
    [("resnet20", 9), ("resnet_preact_20", 9), ("wrn_16_1", 6), ("resnet9", 2), ("cct_2", 4), ("vgg11", 0),
     ("densenet_bc_10_4", 0), ("mobilenetv2", 10), ("shake_resnet26_2x32d", 12), ("timm/resnet18", 8)],
)  # fmt: skip
def test_residual_branches_are_found_in_any_family(model, count):
    net = models[model].build(num_classes=10, in_channels=3, image_size=32)
    keys = list(net.state_dict())
    assert len(residual_branches(net, (3, 32, 32))) == count
    assert list(net.state_dict()) == keys and net.training  # it was only looked at
    assert not any(module._forward_hooks for module in net.modules())


def test_the_branch_that_changes_width_is_the_residual_and_not_the_projection():
    net = network("resnet20", **{"model.shortcut": "B"})
    assert [b.end for b in residual_branches(net, SHAPE)] == [block.residual for block in net.stages]


def test_stochastic_depth_drops_linearly_and_gives_the_branch_on_average():
    net = network("resnet20", "stochastic_depth", **{"surgery.stochastic_depth.rate": 0.9})
    drops = [m for m in net.modules() if isinstance(m, DropBranch)]
    assert [drop.rate for drop in drops] == pytest.approx([0.9 * (i + 1) / 9 for i in range(9)])
    torch.manual_seed(0)
    layer, x = DropBranch(0.3), torch.randn(20_000, 2, 3, 3)
    out = layer(x)
    dropped = (out == 0).flatten(1).all(1)
    # Whole images: dropped or divided by the share that is kept.
    torch.testing.assert_close(out[~dropped], x[~dropped] / 0.7)
    assert dropped.double().mean() == pytest.approx(0.3, abs=4 * (0.3 * 0.7 / 20_000) ** 0.5)
    ones = torch.ones(20_000, 1)
    assert layer(ones).mean() == pytest.approx(1, abs=4 * (0.3 / 0.7 / 20_000) ** 0.5)
    assert layer.eval()(x) is x


def test_stochastic_depth_is_refused_where_the_network_drops_its_branches_itself():
    with pytest.raises(BadInput, match=r"already drops its branches; it has an option .*--model\.drop-path"):
        network("cct_2", "stochastic_depth", **{"model.drop_path": 0.1})


@pytest.mark.parametrize("model", MODELS)
def test_dropout_hides_features_of_the_classifier_in_training_alone(model):
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


@pytest.mark.parametrize(("size", "told"), [(8, False), (9, True)])
def test_parts_as_large_as_the_batch_are_no_secret(size, told):
    more = {"surgery.ghost_batchnorm.size": size, "train.batch_size": 16}
    notes = []
    build(config_of("resnet20", **more), CPU, notes.append)
    assert [("at most 8" in note) for note in notes] == [True] * told


@pytest.mark.parametrize("batch", [4, 8, 9, 3])
def test_ghost_batchnorm_is_batchnorm_of_each_part(batch):
    x = torch.randn(batch, 5, 6, 6) * 3 + 1
    ghost, plain = GhostBatchNorm2d(5, size=4), nn.BatchNorm2d(5)
    parts = {4: [4], 8: [4, 4], 9: [5, 4], 3: [3]}[batch]
    expected = [(p - p.mean((0, 2, 3), True)) / (p.var((0, 2, 3), keepdim=True, correction=0) + 1e-5).sqrt()
                for p in x.split(parts)]  # fmt: skip
    torch.testing.assert_close(ghost(x), torch.cat(expected), atol=1e-5, rtol=1e-5)
    # The running statistics move once for each part (algorithm 1).
    for part in x.split(parts):
        plain(part)
    assert torch.equal(ghost.running_mean, plain.running_mean)
    assert torch.equal(ghost.running_var, plain.running_var)
    torch.testing.assert_close(ghost.eval()(x), plain.eval()(x))


def test_squeeze_excite_is_a_gate_of_channel_means():
    layer, x = SqueezeExcite(4, ratio=2), torch.randn(3, 4, 5, 5)
    with torch.no_grad():
        for p in layer.parameters():
            p.zero_()
    torch.testing.assert_close(layer(x), x / 2)  # sigmoid(0)
    # By hand: the first unit reads the mean of channel 0, and opens or shuts channel 1.
    with torch.no_grad():
        layer.squeeze.weight[0, 0] = 1
        layer.excite.weight[1, 0] = 3
    gate = torch.full((3, 4), 0.5)
    gate[:, 1] = 1 / (1 + torch.exp(-3 * x[:, 0].mean((1, 2)).clamp(min=0)))
    torch.testing.assert_close(layer(x), x * gate[:, :, None, None])


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
def test_blurred_poolings_give_maps_of_the_same_size(pool, side):
    shape, x = (2, side, side), torch.randn(3, 2, side, side)
    model = nn.Sequential(copy.deepcopy(pool), nn.Flatten())
    blurred = surgeries["blurpool"].build(model=copy.deepcopy(model), shape=shape)
    assert blurred(x).shape == model(x).shape
    assert blurred(x).isfinite().all()
    assert not torch.equal(blurred(x), model(x))


def test_blurpool_leaves_no_stride_and_makes_features_less_sensitive_to_a_shift():
    def change(*names: str) -> Tensor:
        net = network("vgg11", *names).eval()
        x = F.interpolate(images(16), size=40)[:, :, 2:34, 2:34]
        moved = torch.roll(x, 1, 3)
        # The first two stages: behind them maps of 16 px have shrunk to nothing.
        one, other = (net.features[:8](each) for each in (x, moved))
        return ((one.mean((2, 3)) - other.mean((2, 3))).norm() / one.mean((2, 3)).norm()).detach()

    assert change("blurpool") < 0.8 * change()
    modules = network("vgg11", "blurpool").modules()
    assert all(m.stride in (1, (1, 1)) for m in modules if isinstance(m, nn.Conv2d | nn.MaxPool2d))


def test_blurpool_stands_behind_the_activation_that_the_convolution_feeds():
    net = network("wrn_10_1", "blurpool")
    block = net.stages[1]
    assert isinstance(block.residual[2].grafts.blur, Blur)  # conv, norm, ReLU: behind the ReLU
    # The 1x1 shortcut: in front, which is the same as behind it.
    x = torch.randn(2, 16, 8, 8)
    dense = F.conv2d(x, block.shortcut.weight)
    torch.testing.assert_close(block.shortcut(x), Blur(3)(dense))


def test_standardised_weights_have_mean_0_and_variance_1_in_each_filter():
    net = network("resnet20", "weight_standardization")
    found = [m for m in net.modules() if isinstance(m, StandardizedConv2d)]
    assert len(found) == 19  # all: every convolution of the network has a norm behind it
    for layer in found:
        filters = layer.standardized.flatten(1)
        torch.testing.assert_close(filters.mean(1), torch.zeros(len(filters)), atol=1e-5, rtol=0)
        raw = layer.weight.flatten(1).var(1, correction=0)
        torch.testing.assert_close(filters.var(1, correction=0), raw / (raw + 1e-5), atol=1e-4, rtol=0)
    x = torch.randn(1, 3, 8, 8)
    w = net.stem[0].weight.double()
    w = (w - w.mean((1, 2, 3), True)) / (w.var((1, 2, 3), keepdim=True, correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(net.stem[0](x).double(), F.conv2d(x.double(), w, padding=1), atol=1e-4, rtol=0)


def test_a_gate_is_not_standardised():
    net = network("efficientnet_b0", "weight_standardization")
    for name, module in net.named_modules():
        if isinstance(module, StandardizedConv2d):
            assert "gate" not in name, name


def test_frozen_scales_have_no_gradient_and_no_optimizer():
    run = build(config_of("resnet20", "frozen_bn"), CPU, note=pytest.fail)
    train_step(run, 0)
    norms = [m for m in run.model.modules() if isinstance(m, nn.BatchNorm2d)]
    optimized = {id(p) for p in run.params}
    assert len(norms) == 19
    for norm in norms:
        assert norm.weight.grad is None and id(norm.weight) not in optimized
        assert torch.equal(norm.weight, torch.ones_like(norm.weight))
        assert id(norm.bias) in optimized


@pytest.mark.parametrize(
    ("field", "value"),
    [("stochastic_depth.rate", 1), ("stochastic_depth.rate", 0), ("dropout.rate", 1.5), ("blurpool.size", 4),
     ("ghost_batchnorm.size", 0), ("squeeze_excite.ratio", 0)],
)  # fmt: skip
def test_a_bad_value_is_refused_with_its_rule(field, value):
    with pytest.raises(BadInput, match=f"{field.partition('.')[2]} must be .*, got {value}"):
        network("resnet20", **{f"surgery.{field}": value})


def test_every_registered_surgery_says_when_it_is_done_and_whence_it_is():
    kinds: list[Callable] = [surgeries.function(name) for name in surgeries.names()]
    assert len(kinds) == len(set(kinds))
    for name in surgeries.names():
        assert surgeries[name].facts.paper


@pytest.mark.parametrize(
    ("batch", "advice"), [("16", "give a --ghost-batchnorm-size of at most 4"), ("2", "--batch-size that is")]
)
def test_ghost_batchnorm_says_where_its_parts_are_as_large_as_the_batch(batch, advice):
    line = f"--model resnet20 --surgery.ghost_batchnorm 8 --dataset synthetic --bs {batch} --accumulate 2"
    notes: list[str] = []
    build(parse(line.split()).config(), torch.device("cpu"), notes.append)
    assert len(notes) == 1 and "changes nothing" in notes[0] and advice in notes[0]
