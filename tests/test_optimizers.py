"""Each optimizer for ten steps against its paper's algorithm; parameter groups; and what holds for all."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
from test_compose_tricks import SMALL, TINY, config_of
from test_resume import bits
from torch import Tensor, nn

from lib.config.schema import SECTIONS
from lib.core.budget import Progress
from lib.core.errors import BadInput
from lib.core.precision import Overflow
from lib.core.registry import models, optimizers, wrappers
from lib.engine.lr import current_lr, set_progress
from lib.engine.step import train_step
from lib.factory import build
from lib.optim.muon import orthogonalized
from lib.optim.param_groups import ParamGroups, block_numbers, head_of, hidden_matrices
from lib.store import checkpoint
from tests.helpers import optim_references as references

SHAPES = [(), (3,), (4, 3), (2, 5), (6, 2, 3, 3)]
OPTIMIZERS = [*optimizers.names(), "timm/lamb", "timm/adopt"]
ADAM = {"betas": (0.8, 0.95), "eps": 1e-6}
# The rule, and options of its own; those of the optimizer by the same names.
RULES = {
    "sgd": (references.SGD, {"momentum": 0.7}),
    "nesterov": (partial(references.SGD, nesterov=True), {"momentum": 0.7}),
    "adam": (references.Adam, ADAM),
    "amsgrad": (partial(references.Adam, amsgrad=True), ADAM),
    "adamw": (references.AdamW, ADAM),
    "rmsprop": (references.RMSprop, {"alpha": 0.8, "eps": 1e-6, "momentum": 0.5, "centered": True}),
    "adabound": (references.AdaBound, {**ADAM, "final_lr": 0.02, "bound_gamma": 0.1}),
    "adaboundw": (
        partial(references.AdaBound, decoupled=True),
        {**ADAM, "final_lr": 0.02, "bound_gamma": 0.1},
    ),
    "radam": (references.RAdam, {"betas": (0.8, 0.9), "eps": 1e-12}),  # so the rectification begins
    "ranger": (references.Ranger, {"betas": (0.8, 0.9), "eps": 1e-12, "every": 3, "alpha": 0.4}),
    "lars": (references.LARS, {"momentum": 0.7, "trust": 0.3, "eps": 1e-6}),
    "larc": (partial(references.LARS, clipped=True), {"momentum": 0.7, "trust": 0.02, "eps": 1e-6}),
    "lamb": (references.LAMB, ADAM),
    "lion": (references.Lion, {"betas": (0.8, 0.95)}),
    "muon": (references.Muon, {"momentum": 0.8, "nesterov": True, "iterations": 5}),
}


def start(seed: int = 0) -> list[Tensor]:
    torch.manual_seed(seed)
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in SHAPES]


def slope(w, t: int):
    """The gradient of a loss that moves with time; of arrays and of tensors."""
    return 0.3 * w + 0.2 * w**3 + 0.1 * (-1) ** t + 0.02 * t


def with_gradients(params: list[Tensor], t: int) -> None:
    for p in params:
        p.grad = slope(p.detach(), t)


def as_array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().numpy().copy()


@pytest.mark.parametrize("name", optimizers.names())
def test_ten_steps_are_those_of_the_papers_algorithm(name):
    # Three groups: one that does not decay, one at half the rate; and a schedule.
    rule, options = RULES[name]
    lr, decay = 0.05, 0.3
    params = start()
    groups = [
        {"params": params[:2], "weight_decay": 0.0},
        {"params": params[2:4]},
        {"params": params[4:], "lr_scale": 0.5},
    ]
    settings = [(0.0, lr), (0.0, lr), (decay, lr), (decay, lr), (decay, lr)]
    scales = [1, 1, 1, 1, 0.5]
    optimizer = optimizers[name].build(params=groups, lr=lr, weight_decay=decay, **options)
    expected = [as_array(p) for p in params]
    rules = [rule(decay=d, initial_lr=base, **options) for d, base in settings]
    if name == "muon":  # tensors of one dimension are AdamW's
        rest = partial(references.AdamW, betas=(0.9, 0.95), eps=1e-8)
        rules[:2], settings[:2] = [rest(), rest()], [(0.0, 3e-4)] * 2
    for t in range(10):
        set_progress(optimizer, Progress(t, 10, t, 10.0), 1 - t / 20)
        with_gradients(params, t)
        optimizer.step()
        for i, (_, base) in enumerate(settings):
            rate = base * scales[i] * (1 - t / 20)
            expected[i] = rules[i](expected[i], slope(expected[i], t), rate)
    for p, other in zip(params, expected, strict=True):
        np.testing.assert_allclose(as_array(p), other, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", optimizers.names())
def test_every_optimizer_has_a_reference(name):
    assert name in RULES


@pytest.mark.parametrize(
    ("name", "theirs", "options"),
    [
        ("lars", "Lars", {}),
        ("larc", "Lars", {"trust_clip": True}),
        ("lamb", "Lamb", {"max_grad_norm": None}),
    ],
)
def test_layerwise_optimizers_are_timms_where_those_adapt_every_layer(name, theirs, options):
    import timm.optim

    common = {"lr": 0.03, "weight_decay": 0.2}
    if name != "lamb":
        common |= {"momentum": 0.6}
        options = options | {"trust_coeff": 0.02}
    mine, other = start()[2:], start()[2:]
    ours = optimizers[name].build(
        params=[{"params": mine}], **common, **({} if name == "lamb" else {"trust": 0.02})
    )
    timms = getattr(timm.optim, theirs)(other, always_adapt=True, **common, **options)
    for t in range(10):
        for params, optimizer in ((mine, ours), (other, timms)):
            with_gradients(params, t)
            optimizer.step()
    for p, q in zip(mine, other, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-9, atol=1e-12)


def test_a_layer_of_zeros_can_move():
    for name in ("lars", "larc", "lamb"):
        w = torch.zeros(3, 3, requires_grad=True)
        w.grad = torch.ones(3, 3)
        optimizers[name].build(params=[{"params": [w]}], lr=0.1).step()
        assert (w < 0).all(), name


# Muon


def test_muons_step_has_singular_values_near_one():
    torch.manual_seed(0)
    matrices = torch.randn(5, 24, 40)
    values = torch.linalg.svdvals(orthogonalized(matrices, 5))
    assert values.min() > 0.5 and values.max() < 1.3
    assert torch.equal(orthogonalized(matrices.mT, 5), orthogonalized(matrices, 5).mT)


def test_muon_on_matrices_is_torchs_up_to_the_rounding_of_bf16():
    mine, theirs = (torch.randn(24, 8, generator=torch.Generator().manual_seed(0)) for _ in range(2))
    one = optimizers["muon"].build(params=[{"params": [mine]}], lr=0.02, weight_decay=0.1)
    other = torch.optim.Muon([theirs], lr=0.02, weight_decay=0.1)
    for t in range(10):
        for w, optimizer in ((mine, one), (theirs, other)):
            w.grad = slope(w, t)
            optimizer.step()
    torch.testing.assert_close(mine, theirs, atol=5e-3, rtol=0)


def test_muon_orthogonalizes_each_group_of_a_grouped_convolution_by_itself():
    w = start()[-1]
    expected, options = as_array(w), {"momentum": 0.8, "nesterov": True, "iterations": 5}
    optimizer = optimizers["muon"].build(
        params=[{"params": [w], "matrices": [3]}], lr=0.1, weight_decay=0.1, **options
    )
    rule = references.Muon(decay=0.1, count=3, **options)
    for t in range(3):
        with_gradients([w], t)
        optimizer.step()
        expected = rule(expected, slope(expected, t), 0.1)
    np.testing.assert_allclose(as_array(w), expected, rtol=1e-7)


@pytest.mark.parametrize("rest", ["adamw", "sgd"])
def test_muon_leaves_all_but_hidden_layers_to_the_other_optimizer(rest):
    model = Blocks()
    optimizer = optimizers["muon"].build(params=ParamGroups()(model), rest=rest)
    hidden, others = (
        {id(p) for group in part.param_groups for p in group["params"]} for part in optimizer.parts.values()
    )
    names = dict(model.named_parameters())
    matrices = ["stem.weight", "blocks.0.mix.weight", "blocks.1.mix.weight", "attention.in_proj_weight"]
    assert hidden == {id(names[key]) for key in [*matrices, "attention.out_proj.weight"]}
    assert hidden | others == {id(p) for p in names.values()}
    rates = {group["lr"] for group in optimizer.parts["rest"].param_groups}
    assert rates == {{"adamw": 3e-4, "sgd": 0.1}[rest]}


# Parameter groups


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.mix = nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, groups=2)
        self.depthwise = nn.Conv2d(4, 4, 3, groups=4)


class Blocks(nn.Module):
    def __init__(self):
        super().__init__()
        self.position = nn.Parameter(torch.ones(5, 4))
        self.stem, self.norm = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)
        self.blocks = nn.Sequential(Block(), Block())
        self.attention = nn.MultiheadAttention(4, 2)
        self.last_norm, self.head = nn.LayerNorm(4), nn.Linear(4, 3)


class Holder(nn.Module):
    def __init__(self):
        super().__init__()
        self.network = Blocks()


@pytest.mark.parametrize("model", [Blocks(), Holder()], ids=["bare", "held"])
def test_blocks_are_counted_in_the_order_of_the_network(model):
    expected = {
        "position": 0, "stem": 0, "norm": 0, "blocks.0": 1, "blocks.1": 2,
        "attention": 3, "last_norm": 3, "head": 4,
    }  # fmt: skip
    numbers = block_numbers(model)
    for name, p in model.named_parameters():
        name = name.removeprefix("network.")
        assert next(n for start, n in expected.items() if name.startswith(start)) == numbers[p], name


def test_the_layers_of_a_vision_transformer_are_those_of_beit():
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


@pytest.mark.parametrize("decays", [True, False])
def test_every_parameter_has_its_rate_and_its_decay(decays):
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


def at(optimizer, factor: float):
    set_progress(optimizer, Progress(0, 1, 0.0, 1.0), factor)
    return [(p, group) for group in optimizer.param_groups for p in group["params"]]


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
def test_the_head_is_what_gives_the_logits(name):
    with torch.device("meta"):
        model = models[name].build(num_classes=7, in_channels=3, image_size=32)
    assert head_of(model).out_features == 7


@pytest.mark.parametrize(
    ("field", "value"), [("bias_lr_factor", 0), ("layer_lr_decay", 0), ("layer_lr_decay", 1.1)]
)
def test_a_factor_that_makes_no_sense_is_refused(field, value):
    with pytest.raises(BadInput, match=f"{field}.*must be above 0"):
        config_of({f"optim.{field}": value})


# What holds for all


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_overflow_moves_neither_weights_nor_state(name):
    params = start()
    optimizer = optimizers[name].build(params=[{"params": params}])
    for t in range(2):
        with_gradients(params, t)
        optimizer.step()
    before = copy.deepcopy((bits([p.detach() for p in params]), bits(optimizer.state_dict())))

    def overflowing() -> Tensor:
        with_gradients(params, 2)
        raise Overflow

    with pytest.raises(Overflow):
        optimizer.step(overflowing)
    assert bits([p.detach() for p in params]) == before[0]
    assert bits(optimizer.state_dict()) == before[1]


# Lookahead counts its steps for all parameters together.
@pytest.mark.parametrize("name", [name for name in optimizers.names() if name != "ranger"])
def test_a_parameter_that_has_no_gradient_for_once_keeps_its_own_count(name):
    # A layer that a step leaves out: its later steps must be those of its own gradients.
    (w, alone), other = (
        (torch.ones(4, dtype=torch.float64, requires_grad=True) for _ in range(2)),
        torch.ones(1),
    )
    both = optimizers[name].build(params=[{"params": [w, other.requires_grad_()]}])
    single = optimizers[name].build(params=[{"params": [alone]}])
    for t in range(4):
        other.grad = torch.ones(1)
        w.grad = None if t == 1 else slope(w.detach(), t)
        both.step()
        if t != 1:
            alone.grad = slope(alone.detach(), t)
            single.step()
    assert torch.equal(w, alone)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("wrapper", [None, *wrappers.names()])
def test_the_closure_may_build_a_graph(name, wrapper):
    # The loss is scaled within it, which without gradients would leave nothing to go back through.
    w = torch.ones(3, requires_grad=True)
    optimizer = optimizers[name].build(params=[{"params": [w]}])
    if wrapper:
        optimizer = wrappers[wrapper].build(base=optimizer, model=nn.Module())

    def closure() -> Tensor:
        optimizer.zero_grad()
        assert torch.is_grad_enabled()
        loss = (w**2).sum()
        (loss * 2).backward()
        return loss.detach()

    assert optimizer.step(closure) == 3


def run_of(settings: dict):
    return build(config_of(SMALL | {"model.name": TINY} | settings), torch.device("cpu"), note=pytest.fail)


TRICKS = {f"optim {name}": {"optim.name": name} for name in OPTIMIZERS}
TRICKS |= {f"wrap {name}": {f"wrap.{name}": True} for name in wrappers.names()}
# Steps 3 and 6 move the slow weights, so what is saved at 4 is not what a run begins with.
TRICKS |= {"wrap lookahead": {"wrap.lookahead.every": 3}}
TRICKS |= {"optim ranger": {"optim.name": "ranger", "optim.every": 3}}


@pytest.mark.parametrize("trick", TRICKS)
def test_a_run_resumes_bit_for_bit(trick, tmp_path):
    settings = TRICKS[trick] | {"optim.layer_lr_decay": 0.8, "optim.decay_norm_and_bias": False}
    whole, first, second = (run_of(settings) for _ in range(3))
    for step in range(8):
        train_step(whole, step)
    for step in range(4):
        train_step(first, step)
    checkpoint.save(tmp_path / "last.pt", first, 4, {}, None, "")
    checkpoint.restore(second, checkpoint.load(tmp_path / "last.pt"), tmp_path / "last.pt")
    for step in range(4, 8):
        train_step(second, step)
    assert bits(second.model.state_dict()) == bits(whole.model.state_dict())
    assert bits(second.optimizer.state_dict()) == bits(whole.optimizer.state_dict())


@pytest.mark.parametrize(
    "value", ["sgd", "adam", "adabound", "adaboundw", "nesterov", "adamw", "amsgrad", "lars"]
)
def test_the_optimizers_of_older_projects_are_chosen_as_they_were(value):
    from lib.config.cli import parse

    for line in (["--optims", value], ["train.optimizer", value]):
        assert parse(line).config().chosen["optim"].entry.name == value


def test_no_option_of_an_optimizer_hides_a_flag_of_another_section():
    others = {f for name, s in SECTIONS.items() if name not in ("optim", "model") for f in s.fields}
    others |= {f for e in SECTIONS["schedule"].registry.entries() for f in e.fields}
    mine = {f for e in optimizers.entries() for f in e.fields} | set(SECTIONS["optim"].fields)
    assert not mine & others
