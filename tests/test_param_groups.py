"""Parameter groups: the learning rate and weight decay of every parameter, and the blocks of a network."""

import pytest
import torch
from torch import nn

from lib.core.budget import Progress
from lib.core.errors import BadInput
from lib.core.registry import models, optimizers
from lib.engine.lr import current_lr, set_progress
from lib.optim.param_groups import ParamGroups, block_numbers, head_of, hidden_matrices
from scripts.docs.trials import config_of
from tests.helpers.networks import Blocks


class Mixed(nn.Module):
    """Every kind of parameter, one of them frozen, with its kind in its name."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.dense, self.layer_norm = nn.Linear(4, 5), nn.LayerNorm(5)
        self.frozen = nn.Parameter(torch.ones(2, 2), requires_grad=False)
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(torch.linspace(1, 2, p.numel()).view_as(p))


@pytest.mark.parametrize("decays", [True, False])
def test_norm_layers_and_biases_decay_only_if_asked(decays):
    model = Mixed()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    groups = ParamGroups(decay_norm_and_bias=decays)(model)
    optimizer = optimizers["sgd"].build(params=groups, lr=0.1, weight_decay=0.5)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)  # so that decay alone moves the weights
    optimizer.step()
    for name, p in model.named_parameters():
        spared = name == "frozen" or (not decays and ("norm" in name or "bias" in name))
        torch.testing.assert_close(p.detach(), before[name] * (1 if spared else 1 - 0.1 * 0.5))


class Holder(nn.Module):
    def __init__(self):
        super().__init__()
        self.network = Blocks()


@pytest.mark.parametrize("model", [Blocks(), Holder()], ids=["bare", "wrapped"])
def test_blocks_are_numbered_in_the_order_of_the_network(model):
    expected = {
        "position": 0, "stem": 0, "norm": 0, "blocks.0": 1, "blocks.1": 2,
        "attention": 3, "last_norm": 3, "head": 4,
    }  # fmt: skip
    numbers = block_numbers(model)
    for name, p in model.named_parameters():
        name = name.removeprefix("network.")
        assert next(n for start, n in expected.items() if name.startswith(start)) == numbers[p], name


def test_learning_rates_of_a_vision_transformer_decay_by_layer_as_in_beit():
    with torch.device("meta"):
        model = models["vit_tiny"].build(num_classes=7, in_channels=3, image_size=32)
    depth = len(model.blocks)
    groups = ParamGroups(layer_lr_decay=0.75)(model)
    scales = {p: group.get("lr_scale", 1.0) for group in groups for p in group["params"]}
    for name, p in model.named_parameters():
        layer = int(name.split(".")[1]) + 1 if name.startswith("blocks.") else None
        if name in ("class_token", "position"):
            layer = 0
        if name.startswith("head."):
            layer = depth + 1
        if layer is not None:
            assert scales[p] == pytest.approx(0.75 ** (depth + 1 - layer)), name


def at(optimizer, factor: float):
    set_progress(optimizer, Progress(0, 1, 0.0, 1.0), factor)
    return [(p, group) for group in optimizer.param_groups for p in group["params"]]


@pytest.mark.parametrize("decays", [True, False])
def test_every_parameter_has_its_learning_rate_and_weight_decay(decays):
    model = Blocks()
    groups = ParamGroups(decay_norm_and_bias=decays, bias_lr_factor=8, layer_lr_decay=0.5)(model)
    optimizer = optimizers["sgd"].build(params=groups, lr=0.1, weight_decay=0.3)
    found = {
        p: (group["lr"], group["weight_decay"]) for factor in (1, 0.5) for p, group in at(optimizer, factor)
    }
    numbers = block_numbers(model)
    for name, p in model.named_parameters():
        rate = 0.1 * 0.5 * 0.5 ** (4 - numbers[p]) * (8 if "bias" in name else 1)
        spared = not decays and ("norm" in name or "bias" in name)
        assert found[p] == pytest.approx((rate, 0.0 if spared else 0.3)), name
    assert current_lr(optimizer) == pytest.approx(0.05)


def test_without_factors_there_is_one_group_in_the_models_order():
    model = Blocks()
    (group,) = ParamGroups()(model)
    assert all(a is b for a, b in zip(group["params"], model.parameters(), strict=True))
    assert "lr_scale" not in group and "weight_decay" not in group


def test_hidden_matrices_are_those_that_mix_channels():
    model = Blocks()
    counts = {name: hidden_matrices(model).get(p, 0) for name, p in model.named_parameters()}
    assert {name: count for name, count in counts.items() if count} == {
        "stem.weight": 1, "blocks.0.mix.weight": 2, "blocks.1.mix.weight": 2,
        "attention.in_proj_weight": 3, "attention.out_proj.weight": 1,
    }  # fmt: skip
    assert head_of(model) is model.head


@pytest.mark.parametrize(
    "name", ["resnet20", "vit_tiny", "squeezenet", "mobilenetv2", "pnasnet", "googlenet"]
)
def test_the_head_is_the_layer_that_computes_the_logits(name):
    with torch.device("meta"):
        model = models[name].build(num_classes=7, in_channels=3, image_size=32)
    assert head_of(model).out_features == 7


@pytest.mark.parametrize(
    ("field", "value"), [("bias_lr_factor", 0), ("layer_lr_decay", 0), ("layer_lr_decay", 1.1)]
)
def test_a_factor_out_of_bounds_is_refused(field, value):
    with pytest.raises(BadInput, match=f"{field}.*must be above 0"):
        config_of({f"optim.{field}": value})


def test_the_recorded_learning_rate_is_that_of_groups_that_follow_the_schedule():
    stem, rest = (torch.ones(2, requires_grad=True) for _ in range(2))
    optimizer = torch.optim.SGD(
        [{"params": [stem], "learns_until": 3.0, "falls": True}, {"params": [rest]}], lr=0.1
    )
    set_progress(optimizer, Progress(step=50, total=100, epoch=5, epochs=10), factor=0.7)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0, 0.07])
    assert current_lr(optimizer) == pytest.approx(0.07)
