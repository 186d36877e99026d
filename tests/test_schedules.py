"""Schedules against closed forms, torch's and timm's own, and the command line's names for them."""

import json
import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from timm.scheduler import (
    CosineLRScheduler,
    MultiStepLRScheduler,
    PolyLRScheduler,
    StepLRScheduler,
    TanhLRScheduler,
)

import train
from lib.config.cli import parse
from lib.core.registry import schedules
from lib.factory import build_schedule
from lib.grid.catalogue import find_grid
from lib.optim.schedules import Cosine, Warmup


def schedule_of(name: str, warmup: float | None = None, **options):
    """The schedule as a run builds it, with its default warm-up."""
    usual = schedules[name].facts.defaults | ({} if warmup is None else {"warmup": warmup})
    return Warmup(**usual)(schedules[name].build(**options))


@pytest.mark.parametrize("name", schedules.names())
@pytest.mark.parametrize("epochs", [12, 30.5, 200])
def test_a_schedule_is_finite_over_its_budget_and_depends_on_time_only(name, epochs):
    times = [epochs * i / 97 for i in range(97)]
    factors = {time: schedule_of(name)(time, epochs) for time in times}
    assert all(math.isfinite(factor) and 0 <= factor <= 1 for factor in factors.values())
    assert max(factors.values()) > 0.9
    schedule = schedule_of(name)
    for time in random.Random(0).sample(times, len(times)):
        assert schedule(time, epochs) == factors[time]


# The first cycle of SGDR is given in epochs, as in its paper.
@pytest.mark.parametrize("name", [n for n in schedules.names() if n != "sgdr"])
def test_a_schedule_in_fractions_of_the_budget_scales_with_it(name):
    short, long = ([schedule_of(name)(epochs * i / 64, epochs) for i in range(64)] for epochs in (10, 320))
    assert short == pytest.approx(long)


def sgd() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)


def torch_factors(scheduler, steps: int, **options) -> list[float]:
    """The factors of one of torch's schedulers."""
    optimizer = sgd()
    stepper, found = scheduler(optimizer, **options), []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        stepper.step()
    return found


CYCLIC = {"base_lr": 0.1, "max_lr": 1.0, "step_size_up": 4, "cycle_momentum": False}


@pytest.mark.parametrize(
    ("name", "options", "scheduler", "theirs"),
    [
        ("cosine", {}, "CosineAnnealingLR", {"T_max": 40}),
        ("cosine", {"end": 0.1}, "CosineAnnealingLR", {"T_max": 40, "eta_min": 0.1}),
        (
            "multistep",
            {"milestones": (10, 25, 30)},
            "MultiStepLR",
            {"milestones": [10, 25, 30], "gamma": 0.2},
        ),
        ("multistep", {"gamma": 0.1}, "MultiStepLR", {"milestones": [12, 24, 32], "gamma": 0.1}),
        ("sgdr", {"first": 5}, "CosineAnnealingWarmRestarts", {"T_0": 5, "T_mult": 2}),
        ("sgdr", {"first": 0.25, "growth": 1}, "CosineAnnealingWarmRestarts", {"T_0": 10, "T_mult": 1}),
        ("constant", {}, "ConstantLR", {"factor": 1.0}),
        ("linear", {"end": 0.1}, "LinearLR", {"start_factor": 1.0, "end_factor": 0.1, "total_iters": 40}),
        ("polynomial", {"power": 2.5}, "PolynomialLR", {"power": 2.5, "total_iters": 40}),
        ("exponential", {"end": 0.9**40}, "ExponentialLR", {"gamma": 0.9}),
        ("step", {"period": 7}, "StepLR", {"step_size": 7, "gamma": 0.1}),
        ("step", {"period": 0.1, "gamma": 0.5}, "StepLR", {"step_size": 4, "gamma": 0.5}),
        ("cyclic", {}, "CyclicLR", CYCLIC),
        ("cyclic", {"policy": "triangular2"}, "CyclicLR", {**CYCLIC, "mode": "triangular2"}),
        (
            "cyclic",
            {"policy": "exp_range", "gamma": 0.9},
            "CyclicLR",
            {**CYCLIC, "mode": "exp_range", "gamma": 0.9},
        ),
        # torch's ends at its last step, ours at the end of the budget, one step later.
        (
            "onecycle",
            {"peak": 12, "shape": "cosine", "start": 1 / 25, "end": 1 / 25e4},
            "OneCycleLR",
            {"max_lr": 1.0, "total_steps": 41, "pct_start": 13 / 41, "cycle_momentum": False},
        ),
    ],
)
def test_a_schedule_equals_torchs_where_torch_has_one(name, options, scheduler, theirs):
    ours = [schedules[name].build(**options)(epoch, 40) for epoch in range(40)]
    expected = torch_factors(getattr(torch.optim.lr_scheduler, scheduler), 40, **theirs)
    assert ours == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize(
    ("name", "options", "points"),
    [
        ("cosine", {}, {0: 1, 50: (2 + 2**0.5) / 4, 100: 0.5, 150: (2 - 2**0.5) / 4, 200: 0}),
        ("cosine", {"end": 0.2}, {0: 1, 100: 0.6, 200: 0.2}),
        ("multistep", {}, {0: 1, 59.9: 1, 60: 0.2, 119.9: 0.2, 120: 0.04, 159.9: 0.04, 160: 0.008}),
        ("sgdr", {}, {0: 1, 5: 0.5, 9.999: 0, 10: 1, 20: 0.5, 30: 1, 50: 0.5, 70: 1, 150: 1}),
        ("onecycle", {}, {0: 0.04, 30: 0.52, 60: 1, 130: 0.5, 200: 0}),
        ("onecycle", {"peak": 50, "start": 0, "end": 0.1}, {0: 0, 25: 0.5, 50: 1, 125: 0.55, 200: 0.1}),
        ("onecycle", {"shape": "cosine", "start": 0}, {15: (2 - 2**0.5) / 4, 30: 0.5, 60: 1, 130: 0.5}),
        ("piecewise", {}, {0: 0, 20: 0.5, 40: 1, 120: 0.5, 200: 0}),
        ("linear", {}, {0: 1, 50: 0.75, 150: 0.25, 200: 0}),
        ("polynomial", {"power": 2, "end": 0.2}, {0: 1, 100: 0.4, 150: 0.25, 200: 0.2}),
        ("exponential", {}, {0: 1, 100: 1000**-0.5, 200: 0.001}),
        ("exponential", {"start": 1e-6, "end": 100}, {0: 1e-6, 50: 1e-4, 100: 0.01, 200: 100}),
        ("step", {}, {0: 1, 59.99: 1, 60: 0.1, 119.99: 0.1, 120: 0.01, 180: 0.001, 200: 0.001}),
        ("step", {"period": 30}, {29.99: 1, 30: 0.1, 60: 0.01, 90: 0.001}),
        # tanh(log 2) is 3/5: the middle of a line from -3 log 2 to log 2 lies at -log 2.
        (
            "htd",
            {"lower": -3 * math.log(2), "upper": math.log(2), "end": 0.5},
            {0: 0.5 + 0.5 * 64 / 65, 100: 0.9, 150: 0.75, 200: 0.6},
        ),
        ("wsd", {}, {0: 0, 5: 0.5, 10: 1, 179: 1, 180: 1, 190: 0.5, 200: 0}),
        ("wsd", {"cooldown": 100, "end": 0.2}, {99: 1, 100: 1, 150: 0.6, 175: 0.4, 200: 0.2}),
        ("wsd", {"cooldown": 100, "shape": "sqrt"}, {100: 1, 125: 0.5, 149: 0.3, 181: 0.1, 200: 0}),
        ("wsd", {"cooldown": 100, "shape": "cosine"}, {100: 1, 150: 0.5, 175: (2 - 2**0.5) / 4, 200: 0}),
        ("cyclic", {"half": 20, "start": 0}, {0: 0, 10: 0.5, 20: 1, 40: 0, 60: 1, 195: 0.25, 200: 0}),
        ("warmcosine", {}, {0: 0, 10: 0.5, 20: 1, 110: 0.5, 200: 0}),
    ],
)
def test_a_schedule_has_the_values_of_its_closed_form(name, options, points):
    schedule = schedule_of(name, **options)
    assert {time: schedule(time, 200) for time in points} == pytest.approx(points, abs=1e-6)


def test_milestones_in_epochs_and_as_fractions_of_the_budget_agree():
    by_epoch, by_fraction = (
        schedule_of("multistep", milestones=m) for m in ((60, 120, 160), (0.3, 0.6, 0.8))
    )
    assert all(by_epoch(t / 4, 200) == by_fraction(t / 4, 200) for t in range(800))


def test_milestones_as_fractions_fit_a_budget_of_less_than_an_epoch():
    factors = [schedule_of("multistep")(0.5 * part, 0.5) for part in (0, 0.29, 0.31, 0.61, 0.81)]
    assert factors == pytest.approx([1, 1, 0.2, 0.04, 0.008])


@pytest.mark.parametrize(
    ("points", "factors"), [((0.0, 0.2), (0, 1, 0)), ((0.0, 5, 0.5, 30), (0.1, 1, 0.4, 0.4, 0))]
)
def test_a_piecewise_schedule_equals_numpys_interpolation(points, factors):
    knots = [*(p * 40 if p < 1 else p for p in points), 40]
    times = np.linspace(0, 40, 173)
    schedule = schedule_of("piecewise", points=points, factors=factors)
    assert [schedule(t, 40) for t in times] == pytest.approx(np.interp(times, knots, factors), abs=1e-12)


# The time and the budget that a schedule gets at the time t of T, after a warm-up of w.
CLOCKS = {
    "rest": lambda t, T, w: (t - w, T - w),
    "shared": lambda t, T, w: (t, T),
    "delayed": lambda t, T, w: (t - w, T),
}


@pytest.mark.parametrize("name", schedules.names())
@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize(("warmup", "length"), [(5, 5), (0.1, 4)])
@pytest.mark.parametrize("shape", ["linear", "exponential"])
def test_a_warm_up_rises_to_the_first_factor_of_the_schedule_which_then_follows(
    name, clock, warmup, length, shape
):
    plain, start = schedules[name].build(), 0.001
    warmed = Warmup(warmup, start, shape, clock)(plain)
    goal = plain(0.0, CLOCKS[clock](0, 40, length)[1])
    for part in (0, 0.25, 0.5, 0.999999):
        linear, exponential = start + (goal - start) * part, start * (goal / start) ** part
        expected = linear if shape == "linear" else exponential
        assert warmed(part * length, 40) == pytest.approx(expected, abs=1e-5)
    for time in np.linspace(length, 39.9, 50):
        assert warmed(time, 40) == plain(*CLOCKS[clock](time, 40, length))


@pytest.mark.parametrize(
    ("name", "scheduler", "options"),
    [
        ("cosine", "CosineAnnealingLR", {"T_max": 280}),
        ("linear", "LinearLR", {"start_factor": 1.0, "end_factor": 0.0, "total_iters": 280}),
        ("polynomial", "PolynomialLR", {"power": 0.9, "total_iters": 280}),
        ("exponential", "ExponentialLR", {"gamma": 0.001 ** (1 / 280)}),
        ("sgdr", "CosineAnnealingWarmRestarts", {"T_0": 10, "T_mult": 2}),
        ("constant", "ConstantLR", {"factor": 1.0}),
    ],
)
def test_a_schedule_after_a_warm_up_equals_torchs_sequential(name, scheduler, options):
    """The base learning rate is reached; a schedule that includes the warm-up would be below it by then."""

    def sequential(optimizer, milestones):
        rise = torch.optim.lr_scheduler.LinearLR(optimizer, 1e-9, 1.0, 20)
        fall = getattr(torch.optim.lr_scheduler, scheduler)(optimizer, **options)
        return torch.optim.lr_scheduler.SequentialLR(optimizer, [rise, fall], milestones)

    ours = [schedule_of(name, warmup=20)(epoch, 300) for epoch in range(300)]
    assert ours == pytest.approx(torch_factors(sequential, 300, milestones=[20]), abs=1e-6)
    assert ours[20] == 1


@pytest.mark.parametrize(
    ("name", "scheduler", "options"),
    [
        ("cosine", CosineLRScheduler, {"t_initial": 300}),
        # timm drops the learning rate an epoch before its time.
        ("multistep", MultiStepLRScheduler, {"decay_t": [91, 181, 241], "decay_rate": 0.2}),
        ("step", StepLRScheduler, {"decay_t": 90, "decay_rate": 0.1}),
        ("polynomial", PolyLRScheduler, {"t_initial": 300, "power": 0.9}),
        ("sgdr", CosineLRScheduler, {"t_initial": 10, "cycle_mul": 2.0, "cycle_limit": 9}),
    ],
)
@pytest.mark.parametrize(("clock", "prefix"), [("shared", False), ("delayed", True)])
def test_a_schedule_with_a_warm_up_equals_timms(name, scheduler, options, clock, prefix):
    theirs = scheduler(optimizer := sgd(), **options, warmup_t=20, warmup_prefix=prefix)
    ours = Warmup(20, warmup_clock=clock)(schedules[name].build())
    for epoch in range(300):
        theirs.step(epoch)
        assert ours(epoch, 300) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-6)


def test_points_in_time_of_a_schedule_are_not_moved_by_a_warm_up():
    for name in ("multistep", "step", "piecewise", "wsd"):
        plain, warmed = schedule_of(name, warmup=0), schedule_of(name, warmup=5)
        assert all(warmed(time, 40) == plain(time, 40) for time in np.linspace(5, 39.9, 50))


def test_an_exponential_warm_up_cannot_start_at_0():
    with pytest.raises(ValueError, match="warmup_start must be above 0"):
        Warmup(5, 0.0, "exponential")


def test_the_hyperbolic_tangent_equals_timms():
    theirs = TanhLRScheduler(optimizer := sgd(), t_initial=40, lb=-6.0, ub=3.0, lr_min=0.1)
    for epoch in range(40):
        theirs.step(epoch)
        rate = schedules["htd"].build(end=0.1)(epoch, 40)
        assert rate == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-7)


@pytest.mark.parametrize(
    ("name", "options", "fault"),
    [
        ("polynomial", {"power": 0}, "power"),
        ("exponential", {"end": 0}, "end"),
        ("exponential", {"start": 0}, "start"),
        ("step", {"period": 0}, "period"),
        ("step", {"period": 41}, "period"),
        ("htd", {"lower": 3}, "lower"),
        ("wsd", {"cooldown": 0}, "cooldown"),
        ("wsd", {"cooldown": 41}, "cooldown"),
        ("cyclic", {"half": 41}, "half"),
        ("cyclic", {"start": 1.1}, "start"),
    ],
)
def test_an_option_out_of_bounds_or_beyond_the_budget_is_refused(name, options, fault):
    with pytest.raises(ValueError, match=f"^{fault} must be .*, got {options[fault]:g}"):
        schedules[name].build(**options)(0, 40)


# The values of --sched in an older project's commands, and their factors over 200 epochs.


@pytest.mark.parametrize(
    ("value", "points"),
    [
        ("multistep", {0: 1, 59: 1, 60: 0.2, 160: 0.008}),
        ("warmup", {0: 0, 10: 0.5, 20: 1, 60: 0.2, 160: 0.008}),
        ("cosine", {0: 1, 100: 0.5, 200: 0}),
        ("warmcosine", {0: 0, 20: 1, 110: 0.5, 200: 0}),
        ("custom", {0: 0.04, 60: 1, 130: 0.5, 200: 0}),
    ],
)
def test_every_sched_value_of_older_projects_is_accepted(value, points):
    config = parse(["--sched", value]).config()
    schedule = config.settings["schedule"](config.chosen["schedule"].build())
    assert {time: schedule(time, 200) for time in points} == pytest.approx(points)


@pytest.mark.parametrize("value", ["warmup", "multistep", "cosine", "warmcosine", "custom"])
def test_every_sched_value_of_older_projects_trains(value, tiny):
    line = f"--config {tiny} --sched {value} --crit lsr --smooth-factor 0.2 --epochs 1 --output-dir run"
    extra = " --milestones 0.5" if value in ("warmup", "multistep") else ""
    assert train.main((line + extra).split()) == 0
    assert json.loads(Path("run/result.json").read_text())["status"] == "ok"


ROOT = Path(__file__).parent.parent
RECIPES = sorted(set(ROOT.glob("configs/**/*.yaml")) - set(ROOT.glob("configs/grids/*")))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_schedule_of_every_recipe_fits_its_budget(path):
    build_schedule(parse(["--config", str(path)]).config())


@pytest.mark.parametrize(
    ("recipe", "rates"),
    [
        ("darts", {0: 0.025, 100: 0.013, 200: 0.001}),
        ("resnet", {99.9: 0.1, 100: 0.01, 150: 0.001}),
        ("wrn", {59.9: 0.1, 60: 0.02, 120: 0.004, 160: 0.0008}),
        ("densenet", {149.9: 0.1, 150: 0.01, 225: 0.001}),
        ("superconvergence", {0: 1e-8, 15: 0.4, 35: 0.01}),
        ("pprp", {58.9: 0.1, 59: 0.02, 119: 0.004, 159: 0.0008}),
        ("hysts", {79.9: 0.1, 80: 0.01, 120: 0.001}),
    ],
)
def test_a_published_recipe_has_the_published_learning_rates(recipe, rates):
    config = parse(["--config", str(ROOT / f"configs/recipes/{recipe}.yaml")]).config()
    schedule, lr = build_schedule(config), config.chosen["optim"].options["lr"]
    assert {time: lr * schedule(time, config.train.epochs) for time in rates} == pytest.approx(rates)


def test_the_grid_of_pyramidnet_has_the_learning_rates_of_its_project():
    """A gradual warm-up, and then the cosine of a whole budget: it ends at 0.0012, not near 0."""
    schedule = build_schedule(find_grid("pprp_divide_cotrain").rows[0].config)
    theirs = torch_factors(torch.optim.lr_scheduler.CosineAnnealingLR, 280, T_max=300)
    assert [schedule(epoch, 300) for epoch in range(20, 300)] == pytest.approx(theirs, abs=1e-6)
    assert 0.1 * schedule(299, 300) == pytest.approx(0.0012, abs=5e-5)  # of the last epoch of that project


def test_a_warm_up_of_length_0_returns_the_schedule_itself():
    assert Warmup(0)(schedule := Cosine()) is schedule
