"""The fast recipes against a plain script of the same method, and by hand in their author's units."""

import copy
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.config.cli import parse
from lib.core.batch import Batch
from lib.core.budget import Progress
from lib.core.errors import BadInput
from lib.core.precision import Overflow
from lib.core.registry import models, optimizers, wrappers
from lib.core.rng import Rng
from lib.engine.lr import set_progress
from lib.engine.step import Run, train_step
from lib.factory import build
from lib.factory.run import build_schedule
from lib.init.whitening import principal_components
from lib.optim.lookahead import Lookahead
from lib.optim.param_groups import ParamGroups
from scripts.bench import plain_airbench as plain

SPEED = Path(__file__).parent.parent / "configs/speed"
CPU = torch.device("cpu")


def recipe(name: str, line: str = "") -> Run:
    """The recipe's run on 20 made-up images, 2 steps an epoch."""
    small = "--dataset synthetic --data.size 40 --fraction 0.5 --bs 10"
    return build(parse(f"--config {SPEED / name}.yaml {small} {line}".split()).config(), CPU, note=print)


def prepared(run: Run, step: int) -> tuple[Tensor, Tensor]:
    batch = run.prepare(run.data.at(step), Rng(run.seed, step, 0))
    return batch.x, batch.y


def test_the_network_is_that_of_the_plain_script():
    ours, theirs = models["airbench94"].build(start="muon").eval(), plain.Net().eval()
    with torch.no_grad():
        for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            other.copy_(mine)
        x = torch.randn(4, 3, 32, 32)
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-6)


def test_the_whitening_is_that_of_the_plain_script():
    x = torch.randn(64, 3, 32, 32) * torch.linspace(1, 3, 32) + torch.randn(64, 1, 1, 1)
    x = x.double()  # components of almost equal eigenvalues turn by the rounding over their difference
    values, vectors = principal_components(x, (2, 2))
    net = plain.Net()
    net.set_whitening(x)
    mine = (vectors / (values + 5e-4).sqrt().view(-1, 1, 1, 1)).float()
    theirs = net.whiten.weight[:12]
    torch.testing.assert_close(theirs, -net.whiten.weight[12:])
    same = (mine * theirs).sum((1, 2, 3), keepdim=True).sign()  # the sign of a component means nothing
    torch.testing.assert_close(mine * same, theirs, rtol=1e-4, atol=1e-4)


def test_the_steps_with_muon_are_those_of_the_plain_script(monkeypatch):
    # There the loss is a sum, here a mean: the rate .67 is that of a batch of 10. The network is the narrow
    # one, in float64, and every step starts from our weights: the choices of max-pooling magnify rounding.
    run = recipe("94_muon", "--model airbench93 --model.start muon --optim.rest_lr 6.7")
    run.model.double()
    run.prepare = in_double(run.prepare)
    start = copy.deepcopy(run.model)
    source = (prepared(run, step) for step in range(run.total))

    def same_start() -> plain.Net:
        net = narrow((64, 128, 128)).double()
        for mine, other in zip(start.parameters(), net.parameters(), strict=True):
            other.data.copy_(mine)
        net.set_whitening = lambda x: None
        return net

    narrow = plain.Net
    monkeypatch.setattr(plain, "Net", same_start)
    monkeypatch.setattr(plain, "batches", lambda *_: ((x, y.argmax(1)) for x, y in source))
    theirs = plain.train(run.data.split.x, run.data.split.y, epochs=run.epochs, batch=10)
    assert run.total == 16
    for step in range(16):
        before = copy.deepcopy(run.model)
        net, loss = next(theirs)
        assert train_step(run, step).item() == pytest.approx(loss.item(), rel=1e-6)
        same_step(before, run.model, net)
        for mine, other in zip(run.model.parameters(), net.parameters(), strict=True):
            other.data.copy_(mine)
    assert net.whiten.bias.grad is None and run.model.whiten.bias.grad is None  # frozen from step 6 on
    assert moved(start, run.model)


def in_double(prepare):
    def doubled(batch: Batch, rng: Rng) -> Batch:
        batch = prepare(batch, rng)
        return batch.replace(x=batch.x.double())

    return doubled


def same_step(before: nn.Module, one: nn.Module, other: nn.Module) -> None:
    """Both took the same step from `before`, up to the rounding of float32."""
    for (name, home), p, q in zip(
        before.named_parameters(), one.parameters(), other.parameters(), strict=True
    ):
        assert (p - q).norm() <= 1e-4 * (p - home).norm(), name


def moved(start: nn.Module, end: nn.Module) -> bool:
    """All trained weights have changed, and no others."""
    pairs = zip(start.parameters(), end.parameters(), strict=True)
    return all(torch.equal(p, q) != p.requires_grad for p, q in pairs)


def by_hand(run: Run, steps: int) -> Iterator[nn.Module]:
    """The model of 94_sgd.yaml after each step, in the units in which its author wrote the recipe."""
    model, total, B = copy.deepcopy(run.model), run.total, 10
    scale = B * (1 + 1 / (1 - 0.85))
    lr, decay = 11.5 / scale, 0.0153 * B / scale  # for summed losses; what a step shrinks the weights by
    rate = {n: lr * (64 if "bias" in n and "whiten" not in n else 1) for n, _ in model.named_parameters()}
    params = {n: p for n, p in model.named_parameters() if p.requires_grad}
    velocity = {n: torch.zeros_like(p) for n, p in params.items()}
    floats = [t for t in model.state_dict().values() if t.is_floating_point()]
    slow = [t.clone() for t in floats]
    for step in range(steps):
        share = step / total
        factor = 0.2 + 0.8 * share / 0.23 if share < 0.23 else 0.07 + 0.93 * (1 - share) / (1 - 0.23)
        x, y = prepared(run, step)
        model.zero_grad()
        (-(F.log_softmax(model(x), 1) * y).sum()).backward()
        with torch.no_grad():
            for n, p in params.items():
                if n == "whiten.bias" and step >= 3 * 2:
                    continue
                g = p.grad + decay / rate[n] * p
                velocity[n] = 0.85 * velocity[n] + g
                p -= factor * rate[n] * (g + 0.85 * velocity[n])
            pulls = [0.95**5 * ((step + 1) / total) ** 3] if (step + 1) % 5 == 0 else []
            for pull in pulls + [1.0] * (step + 1 == total):
                for kept, live in zip(slow, floats, strict=True):
                    kept += (1 - pull) * (live - kept)
                    live.copy_(kept)
        yield model


@pytest.mark.parametrize(("steps", "epochs"), [(10, 9), (8, 4)])
def test_the_steps_with_sgd_are_those_of_the_recipe_in_its_own_units(steps, epochs):
    # Eight steps are the whole of the shorter budget, which ends on the slow weights.
    run = recipe("94_sgd", f"--epochs {epochs} --model airbench93 --data.image_size 16")
    start = copy.deepcopy(run.model)
    for step, expected in enumerate(by_hand(run, steps)):
        before = copy.deepcopy(run.model)
        train_step(run, step)
        same_step(before, run.model, expected)
        for mine, other in zip(run.model.buffers(), expected.buffers(), strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5)
        # The next step starts from equal weights: the choices of max-pooling magnify rounding.
        expected.load_state_dict(run.model.state_dict())
    assert moved(start, run.model)


@pytest.mark.parametrize(
    ("name", "lr", "rates"),
    [
        # Rates for summed losses times the batch; factors from the recipes.
        ("94_sgd", 11.5 / 7850.667 * 1024, {0: 0.2, 0.23: 1, 1: 0.07}),
        ("95", 10 / 7850.667 * 1024, {0: 0.2, 0.23: 1, 1: 0.07}),
        ("96", 9 / 7850.667 * 512, {0: 0.2, 0.1: 1, 1: 0}),  # half of the batch is kept
        ("96_plain", 9 / 7850.667 * 1024, {0: 0.2, 0.1: 1, 1: 0}),
        ("94_muon", 0.24, {0: 1, 0.5: 0.5, 1: 0}),
        ("resnet9", 0.4, {0: 0.08 / 0.4, 5 / 24: 1, 1: 0.007 / 0.4}),
    ],
)
def test_a_recipe_has_its_learning_rates(name, lr, rates):
    config = parse(["--config", str(SPEED / f"{name}.yaml")]).config()
    schedule, epochs = build_schedule(config), config.train.epochs
    assert config.chosen["optim"].options["lr"] == pytest.approx(lr, rel=1e-5)
    assert {t: schedule(t * epochs, epochs) for t in rates} == pytest.approx(rates, abs=1e-12)


@pytest.mark.parametrize(("name", "peak"), [("94_sgd", 11.5), ("95", 10), ("96", 9), ("96_plain", 9)])
def test_every_weight_of_a_recipe_decays_by_the_same_fraction(name, peak):
    config = parse(["--config", str(SPEED / f"{name}.yaml"), "--dataset=synthetic", "--bs=8"]).config()
    decay = 0.012 if name.startswith("96") else 0.0153
    groups = build(config, CPU, note=print).optimizer.param_groups
    shares = [g["lr"] * g.get("lr_scale", 1) * g["weight_decay"] for g in groups]
    assert shares == pytest.approx([decay * 1024 / 7850.667] * len(shares), rel=1e-5)
    assert {g.get("lr_scale", 1) for g in groups} == {1, 64}  # weights with the whitening's bias, and shifts
    assert any("learns_until" in g for g in groups) == (name != "96")


def test_the_fastest_recipe_equals_its_source_in_the_units_of_a_summed_loss():
    line = f"--config {SPEED / '94.yaml'} --dataset synthetic --data.size 320 --fraction 1 --bs 10"
    run = build(parse(line.split()).config(), CPU, note=print)  # 32 steps an epoch, as 1536 of 50,000 make
    assert run.total == 256
    named = {p: name for name, p in run.model.named_parameters()}
    groups = {named[g["params"][0]]: g for g in run.optimizer.param_groups}
    order = ("filters", "whiten", "norm", "head")
    filters, bias, shift, head = sorted(groups, key=lambda name: order.index(kind(name)))
    assert (groups[filters]["lr"], groups[filters]["momentum"]) == (0.205, 0.655)
    for name, lr in ((bias, 0.0573), (shift, 0.0573), (head, 0.5415)):
        rate = groups[name]["lr"] * groups[name].get("lr_scale", 1)
        assert rate / 1536 == pytest.approx(lr, rel=1e-5)
        assert rate * groups[name]["weight_decay"] == pytest.approx(1.0418e-6 * 1536, rel=1e-5)
    learns = []
    for step in range(12):
        set_progress(run.optimizer, run.progress(step), 1.0)
        learns.append(run.model.whiten.bias.requires_grad)
    assert learns == [True] * 7 + [False] * 5


def kind(name: str) -> str:
    """What a parameter of airbench is."""
    if name.startswith(("whiten", "head")):
        return name.partition(".")[0]
    return "norm" if name.endswith("bias") else "filters"


@pytest.mark.parametrize("name", sorted(path.stem for path in SPEED.glob("*.yaml")))
def test_every_recipe_composes_with_mixup_and_sam(name):
    run = recipe(name, "--mixup True --sam True --data.image_size 16")
    before = [p.detach().clone() for p in run.params]
    for step in range(2):
        assert train_step(run, step).isfinite()
    assert not any(torch.equal(p, old) for p, old in zip(run.params, before, strict=True))


def test_a_frozen_whitening_saves_the_gradient_of_the_first_filters_input():
    run, operations = recipe("94_sgd"), []
    for epoch in (2.5, 3):
        step = round(epoch * run.data.steps_per_epoch)
        set_progress(run.optimizer, run.progress(step), 1.0)
        run.learning.cost.count_backward(torch.empty(1, 3, 32, 32))
        operations.append(run.learning.cost.read())
    assert operations[0] == pytest.approx(707.8e6, rel=1e-4)
    assert operations[0] - operations[1] == 2 * 24 * 64 * 3 * 3 * 31 * 31


@pytest.mark.parametrize("older", [False, True])
@pytest.mark.parametrize(("name", "options"), [("94_sgd", ""), ("94_muon", "--model.start muon")])
def test_a_recipe_resumes_bit_for_bit_after_its_first_block_is_frozen(name, options, older):
    line = f"--epochs 5 --model airbench93 {options} --data.image_size 16"
    whole, first, again = (recipe(name, line) for _ in range(3))
    for step in range(10):
        train_step(whole, step)
    for step in range(7):  # the whitening's bias is frozen from step 6 on
        train_step(first, step)
    again.model.load_state_dict(first.model.state_dict())
    state = copy.deepcopy(first.optimizer.state_dict())
    for group in groups_in(state) if older else ():  # as checkpoints once held them
        del group["progress"]
        group["time"] = (6, first.total)
    again.optimizer.load_state_dict(state)
    for step in range(7, 10):
        train_step(again, step)
    for mine, other in zip(whole.model.state_dict().values(), again.model.state_dict().values(), strict=True):
        assert torch.equal(mine, other)


def groups_in(state: dict) -> list[dict]:
    """The parameter groups in the state of an optimizer, of its parts or of what is inside a wrapper."""
    if "param_groups" in state:
        return state["param_groups"]
    return [group for part in state.values() if isinstance(part, dict) for group in groups_in(part)]


# Freezing the first block


@pytest.mark.parametrize("falls", [False, True])
def test_the_first_block_is_frozen_after_its_time(falls):
    line = "--model resnet20 --dataset synthetic --data.classes 4 --data.size 32 --data.image_size 8 --bs 8"
    line += " --epochs 4 --schedule constant --momentum 0 --weight-decay 0"
    line += f" --stem-epochs 0.5 --stem-falls {falls}"
    run = build(parse(line.split()).config(), CPU, note=print)
    trained = {name for name, p in run.model.named_parameters() if p.requires_grad}
    rates, moved = [], []
    for step in range(run.total):
        before = {name: p.detach().clone() for name, p in run.model.named_parameters()}
        train_step(run, step)
        moved.append({n for n, p in run.model.named_parameters() if not torch.equal(p, before[n])})
        rates.append(next(g["lr"] for g in run.optimizer.param_groups if "learns_until" in g))
    assert all(now == moved[0] for now in moved[:8]) and all(now == moved[-1] for now in moved[8:])
    assert moved[0] == trained and trained - moved[-1] == stem_names(run)
    expected = [0.1 * (1 - t / 8) if falls else 0.1 for t in range(8)]
    assert rates[:8] == pytest.approx(expected)


def stem_names(run: Run) -> set[str]:
    """The first layer with a weight matrix, and the norm after it, by the order of the network."""
    names = [n for n, _ in run.model.named_parameters()]
    matrices = [i for i, (_, p) in enumerate(run.model.named_parameters()) if p.ndim > 1]
    (first, second), *_ = pairwise(matrices)
    return set(names[first:second])


def test_freezing_the_only_block_is_refused():
    with pytest.raises(ValueError, match="stem_epochs must be none"):
        ParamGroups(stem_epochs=1)(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="stem_falls"):
        ParamGroups(stem_falls=True)
    with pytest.raises(BadInput, match="stem_epochs"):
        parse(["--stem-epochs", "0"]).config()


# Lookahead


def test_lookahead_with_a_ramp_ends_on_the_slow_weights_even_after_an_overflow():
    w = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    base = torch.optim.SGD([w], lr=1.0)
    options = {"every": 2, "alpha": 0.25, "ramp": 2, "finish": True}
    optimizer = wrappers["lookahead"].build(base=base, model=nn.Module(), total=6, **options)
    fast = slow = 0.0

    def closure() -> Tensor:
        w.grad = -torch.ones_like(w)
        if step == 5:
            raise Overflow
        return w.sum()

    for step in range(6):
        set_progress(optimizer, Progress(step, 6, step, 6.0), 1.0)
        with pytest.raises(Overflow) if step == 5 else nullcontext():
            optimizer.step(closure)
        fast += step < 5
        if step in (1, 3):
            fast = slow = slow + (1 - 0.75 * ((step + 1) / 6) ** 2) * (fast - slow)
        fast = slow if step == 5 else fast
        assert w.item() == pytest.approx(fast, rel=1e-12)


def test_lookahead_counts_its_steps_where_no_loop_sets_the_progress():
    def trained(set_by_loop: bool) -> list[float]:
        w, found = torch.zeros(1, requires_grad=True), []
        optimizer = Lookahead(torch.optim.SGD([w], lr=1.0), total=6, every=2, ramp=2, finish=True)
        for step in range(6):
            if set_by_loop:
                set_progress(optimizer, Progress(step, 6, step, 6.0), 1.0)
            w.grad = -torch.ones_like(w)
            optimizer.step()
            found.append(w.item())
        return found

    assert trained(set_by_loop=False) == trained(set_by_loop=True)
    with pytest.raises(ValueError, match="total must be the number of training steps"):
        Lookahead(torch.optim.SGD([torch.zeros(1)], lr=1.0), finish=True)


def test_options_without_effect_are_refused():
    with pytest.raises(ValueError, match="rest_momentum must be none where rest is adamw"):
        optimizers["muon"].build(params=[{"params": [torch.ones(2, 2)]}], rest_momentum=0.8)
    frozen = nn.Sequential(nn.Linear(2, 2).requires_grad_(False), nn.Linear(2, 2))
    with pytest.raises(ValueError, match="stem_epochs must be none unless the first block and another"):
        ParamGroups(stem_epochs=1)(frozen)
