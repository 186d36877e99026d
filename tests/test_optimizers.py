"""Each optimizer for ten steps against its paper's algorithm, and the contracts of all optimizers."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lib.config.cli import parse
from lib.config.schema import SECTIONS
from lib.core.budget import Progress
from lib.core.precision import Overflow
from lib.core.registry import optimizers, wrappers
from lib.engine.lr import set_progress
from lib.engine.step import Run, train_step
from lib.store import checkpoint
from scripts.docs.trials import SMALL, TINY, start
from tests.helpers import optim_references as references
from tests.helpers.bits import bits
from tests.helpers.optim_losses import closure_of, lowers, reloaded
from tests.helpers.optim_references import gradient

SHAPES = [(), (3,), (4, 3), (2, 5), (6, 2, 3, 3)]
OPTIMIZERS = [*optimizers.names(), "timm/lamb", "timm/adopt"]
ADAM = {"betas": (0.8, 0.95), "eps": 1e-6}
# The rule and its options, which the optimizer has under the same names.
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
    "radam": (references.RAdam, {"betas": (0.8, 0.9), "eps": 1e-12}),  # so that the rectification starts
    "ranger": (references.Ranger, {"betas": (0.8, 0.9), "eps": 1e-12, "every": 3, "alpha": 0.4}),
    "lars": (references.LARS, {"momentum": 0.7, "trust": 0.3, "eps": 1e-6}),
    "larc": (partial(references.LARS, clipped=True), {"momentum": 0.7, "trust": 0.02, "eps": 1e-6}),
    "lamb": (references.LAMB, ADAM),
    "lion": (references.Lion, {"betas": (0.8, 0.95)}),
    "muon": (references.Muon, {"momentum": 0.8, "nesterov": True, "iterations": 5}),
}


def parameters(seed: int = 0) -> list[Tensor]:
    torch.manual_seed(seed)
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in SHAPES]


def with_gradients(params: list[Tensor], t: int) -> None:
    for p in params:
        p.grad = gradient(p.detach(), t)


def as_array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().numpy().copy()


@pytest.mark.parametrize("name", optimizers.names())
def test_ten_steps_follow_the_papers_algorithm(name):
    # Three groups: one without weight decay, one at half the learning rate; and a schedule.
    rule, options = RULES[name]
    lr, decay = 0.05, 0.3
    params = parameters()
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
    for t in range(10):
        set_progress(optimizer, Progress(t, 10, t, 10.0), 1 - t / 20)
        with_gradients(params, t)
        optimizer.step()
        for i, (_, base) in enumerate(settings):
            rate = base * scales[i] * (1 - t / 20)
            expected[i] = rules[i](expected[i], gradient(expected[i], t), rate)
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
def test_layerwise_optimizers_equal_timms_where_those_adapt_every_layer(name, theirs, options):
    import timm.optim

    common = {"lr": 0.03, "weight_decay": 0.2}
    if name != "lamb":
        common |= {"momentum": 0.6}
        options = options | {"trust_coeff": 0.02}
    mine, other = parameters()[2:], parameters()[2:]
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


# Contracts of every optimizer


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_lowers_a_convex_loss(name):
    w = torch.full((3,), 20.0, requires_grad=True)
    # Momentum overshoots the lowest point at large rates.
    optimizer = optimizers[name].build(params=[{"params": [w]}], lr=0.01)
    assert lowers(optimizer, w)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_reloaded_optimizer_continues_bit_for_bit(name):
    def steps(w: Tensor, optimizer, count: int) -> None:
        for _ in range(count):
            optimizer.step(closure_of(optimizer, w))

    whole, first = (torch.full((3,), 20.0, requires_grad=True) for _ in range(2))
    steps(whole, optimizers[name].build(params=[{"params": [whole]}]), 6)
    optimizer = optimizers[name].build(params=[{"params": [first]}])
    steps(first, optimizer, 3)
    second = first.detach().clone().requires_grad_()
    again = optimizers[name].build(params=[{"params": [second]}])
    again.load_state_dict(reloaded(optimizer.state_dict()))
    steps(second, again, 3)
    assert torch.equal(second, whole)


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("sgd", lambda w, g: w - 0.1 * (g + 0.3 * w)),
        ("nesterov", lambda w, g: w - 0.1 * 1.9 * (g + 0.3 * w)),  # one look ahead along the velocity
        ("adam", lambda w, g: w - 0.1 * torch.sign(g + 0.3 * w)),
        ("adamw", lambda w, g: w * (1 - 0.1 * 0.3) - 0.1 * torch.sign(g)),
    ],
)
def test_the_first_step_follows_the_papers_formula(name, step):
    start = torch.tensor([2.0, -1.0, 0.5])
    w = start.clone().requires_grad_()
    optimizer = optimizers[name].build(params=[{"params": [w]}], lr=0.1, weight_decay=0.3)
    optimizer.step(closure_of(optimizer, w))
    torch.testing.assert_close(w.detach(), step(start, start - torch.arange(1, 4)))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_overflow_changes_neither_weights_nor_state(name):
    params = parameters()
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
def test_a_parameter_without_a_gradient_in_one_step_keeps_its_step_count(name):
    # A layer that is left out of a step: its later steps must depend on its own gradients only.
    (w, alone), other = (
        (torch.ones(4, dtype=torch.float64, requires_grad=True) for _ in range(2)),
        torch.ones(1),
    )
    both = optimizers[name].build(params=[{"params": [w, other.requires_grad_()]}])
    single = optimizers[name].build(params=[{"params": [alone]}])
    for t in range(4):
        other.grad = torch.ones(1)
        w.grad = None if t == 1 else gradient(w.detach(), t)
        both.step()
        if t != 1:
            alone.grad = gradient(alone.detach(), t)
            single.step()
    assert torch.equal(w, alone)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("wrapper", [None, *wrappers.names()])
def test_the_closure_can_build_a_graph(name, wrapper):
    # The loss is scaled inside it, which needs gradients to be enabled.
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


def run_of(settings: dict) -> Run:
    return start(SMALL | {"model.name": TINY} | settings)


TRICKS = {f"optim {name}": {"optim.name": name} for name in OPTIMIZERS}
TRICKS |= {f"wrap {name}": {f"wrap.{name}": True} for name in wrappers.names()}
# Steps 3 and 6 move the slow weights, so those saved at step 4 differ from the initial ones.
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
def test_the_optimizer_flags_of_older_projects_are_accepted(value):
    for line in (["--optims", value], ["train.optimizer", value]):
        assert parse(line).config().chosen["optim"].entry.name == value


def test_no_option_of_an_optimizer_shadows_a_flag_of_another_section():
    others = {f for name, s in SECTIONS.items() if name not in ("optim", "model") for f in s.fields}
    others |= {f for e in SECTIONS["schedule"].registry.entries() for f in e.fields}
    mine = {f for e in optimizers.entries() for f in e.fields} | set(SECTIONS["optim"].fields)
    assert not mine & others
