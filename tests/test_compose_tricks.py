"""Every trick trains with every model and beside every other trick, or is refused with its reason."""

import contextlib
import inspect
import tempfile
from functools import cache, partial
from itertools import combinations
from pathlib import Path

import pytest
import torch
from torch import Tensor

import lib.checkpoint
from lib.augment.stage import Stage
from lib.batch import Batch
from lib.build import build
from lib.cli import parse
from lib.config import SECTIONS, Config
from lib.errors import BadInput
from lib.registry import Entry, augmentations, initialisations, models, wrappers
from lib.rng import Rng
from lib.step import Run, train_step

CPU = torch.device("cpu")
# A constant schedule: a warm-up's first rate of 0 would hide what the optimizer does.
SMALL = {
    "data.name": "synthetic", "data.size": 12, "data.classes": 3, "data.image_size": 16,
    "train.batch_size": 4, "train.epochs": 1, "schedule.name": "constant",
    "augment.crop": False, "augment.flip": False,
}  # fmt: skip
TINY = "wrn_10_1"  # 0.08 M parameters, for what does not depend on the model


def switch(section: str, name: str) -> dict:
    return {f"{section}.{name}": True} if SECTIONS[section].is_tricks else {f"{section}.name": name}


# Each trick with the setting that switches it on; of the kinds of which one is chosen, every choice.
TRICKS = {
    f"{section}.{name}": switch(section, name)
    for section in ("augment", "wrap", "average", "distill", "loss", "optim")
    for name in SECTIONS[section].registry.names()
}


def section_of(trick: str) -> str:
    return trick.partition(".")[0]


def are_alternatives(one: str, other: str) -> bool:
    """Whether one of the two is chosen: two losses, two optimizers."""
    return section_of(one) == section_of(other) and SECTIONS[section_of(one)].is_choice


def are_climbers(*tricks: str) -> bool:
    return all(section_of(t) == "wrap" and wrappers[t.partition(".")[2]].facts.get("climbs") for t in tricks)


PAIRS = [pair for pair in combinations(TRICKS, 2) if not are_alternatives(*pair)]


def file_of(entry: Entry) -> str:
    function = models.function(entry.form)
    return inspect.getfile(function.func if isinstance(function, partial) else function)


def smallest_of_each_file() -> list[Entry]:
    """The registered model with the fewest parameters of every file of lib/models."""
    entries = [models[name] for name in models.names() if "params" in models[name].facts]
    entries.sort(key=lambda entry: entry.facts["params"], reverse=True)
    return sorted({file_of(entry): entry for entry in entries}.values(), key=lambda entry: entry.name)


FAMILIES = smallest_of_each_file()
QUICK = [entry.name for entry in FAMILIES if entry.facts["params"] < 3e6]
LARGE = [entry.name for entry in FAMILIES if entry.facts["params"] >= 3e6]


def config_of(settings: dict) -> Config:
    return parse([f"{key}={value}" for key, value in settings.items()]).config()


TEACHERS = tempfile.TemporaryDirectory()  # until the tests end


@cache
def teacher(data: tuple[tuple[str, object], ...]) -> str:
    """The checkpoint of a tiny network for images of these settings."""
    config = config_of(SMALL | {"model.name": TINY} | dict(data))
    path = Path(TEACHERS.name, f"{config.digest()}.pt")
    lib.checkpoint.save(path, build(config, CPU, note=pytest.fail), 0, config.tree(), best=None, code="")
    return str(path)


def train(*settings: dict, model: str = TINY, steps: int = 1) -> Tensor:
    """Build a run as the command line does, and take its first steps; the weights that it ends with."""
    merged = SMALL | {"model.name": model} | {key: value for each in settings for key, value in each.items()}
    if any(section_of(key) == "distill" for key in merged):
        data = tuple((key, value) for key, value in merged.items() if section_of(key) == "data")
        merged["teachers.teacher"] = teacher(data)
    run = build(config_of(merged), CPU, note=pytest.fail)
    before, prepare = weights_of(run), run.prepare

    def watched(batch: Batch, rng: Rng) -> Batch:
        batch = prepare(batch, rng)
        assert (batch.y >= 0).all(), merged
        torch.testing.assert_close(batch.y.sum(1), torch.ones(len(batch)), msg=str(merged))
        return batch

    run.prepare = watched
    for step in range(steps):
        assert train_step(run, step).isfinite(), merged
    after = weights_of(run)
    assert after.isfinite().all(), merged
    assert not torch.equal(before, after), merged
    return after


@contextlib.contextmanager
def refusal_of_small_images(*tricks: str):
    """A model may refuse the sizes that a trick makes of its images, if it says which trick that is."""
    resizing = [t.partition(".")[2] for t in tricks if section_of(t) == "augment"]
    resizing = [name for name in resizing if augmentations[name].facts["stage"] is Stage.RESIZE]
    try:
        yield
    except BadInput as error:
        if not any(f"that {name} makes in epoch 0" in str(error) for name in resizing):
            raise


def weights_of(run: Run) -> Tensor:
    return torch.cat([p.detach().flatten() for p in run.params])


@pytest.mark.parametrize("model", QUICK)
def test_every_trick_trains_with_the_smallest_model_of_each_family(model):
    for trick, setting in TRICKS.items():
        with refusal_of_small_images(trick):
            train(setting, model=model)


@pytest.mark.slow
@pytest.mark.parametrize("model", LARGE)
@pytest.mark.parametrize("trick", TRICKS)
def test_every_trick_trains_with_the_large_families_too(model, trick):
    with refusal_of_small_images(trick):
        train(TRICKS[trick], {"data.image_size": 32}, model=model)


@pytest.mark.slow
@pytest.mark.parametrize("model", [*QUICK, *LARGE])
def test_every_pair_of_tricks_trains_with_every_family(model):
    for one, other in PAIRS:
        if not are_climbers(one, other):
            with refusal_of_small_images(one, other):
                train(TRICKS[one], TRICKS[other], {"data.image_size": 32}, model=model)


@pytest.mark.parametrize("one", TRICKS)
def test_every_pair_of_tricks_trains_together_or_is_refused_with_its_reason(one):
    for other in [b for a, b in PAIRS if a == one]:
        if are_climbers(one, other):
            names = " and ".join(trick.partition(".")[2] for trick in (one, other))
            with pytest.raises(BadInput, match=f"{names} are two ways to climb"):
                train(TRICKS[one], TRICKS[other])
        else:
            train(TRICKS[one], TRICKS[other])


# All that can be on at once: every trick but the second climber.
EVERYTHING = [trick for trick in TRICKS if SECTIONS[section_of(trick)].is_tricks]
EVERYTHING = [t for i, t in enumerate(EVERYTHING) if not any(are_climbers(t, s) for s in EVERYTHING[:i])]


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"train.accumulate": 3, "train.clip": 0.1},
        {"train.precision": "bf16", "train.accumulate": 2},
        {"train.precision": "fp16", "train.clip": 1},
        {"train.channels_last": False},
        {"optim.decay_norm_and_bias": False},
    ],
    ids=str,
)
def test_everything_on_at_once_trains_and_repeats_bit_for_bit_whatever_the_order_of_the_flags(how):
    switches = [TRICKS[trick] for trick in EVERYTHING]
    steps = 12 if "fp16" in how.values() else 2  # an overflow skips a step until the scale has settled
    first = train(how, *switches, steps=steps)
    assert torch.equal(train(*switches[::-1], how, steps=steps), first)
    assert not torch.equal(train(how, *switches, {"train.seed": 1}, steps=steps), first)


# What is done to the network before it trains, on one that has all that is looked for.
NETWORK = {
    f"{section}.{name}": switch(section, name)
    for section in ("surgery", "init")
    for name in SECTIONS[section].registry.names()
}
RESIDUAL = {"model.depth": 8, "model.initial_channels": 8, "model.add_last_bn": True}
CONTRADICT = {
    ("surgery.frozen_bn", "init.zero_gamma"): "frozen, and at 0 they would shut",
    ("surgery.weight_standardization", "init.dirac"): "no plain convolution",
    ("surgery.weight_standardization", "init.whitening"): "no plain convolution",
}


def reason_against(one: str, other: str) -> str | None:
    """Why two changes of the network exclude one another; None where they do not."""
    if all(t.startswith("init.") and initialisations[t[5:]].facts.get("draws") for t in (one, other)):
        return "are two ways to draw all weights"
    return CONTRADICT.get((one, other))


@pytest.mark.parametrize("one", NETWORK)
def test_every_pair_of_changes_of_the_network_trains_or_is_refused_with_its_reason(one):
    for other in [b for a, b in combinations(NETWORK, 2) if a == one]:
        pair = NETWORK[one], NETWORK[other], RESIDUAL
        if reason := reason_against(one, other):
            with pytest.raises(BadInput, match=reason):
                train(*pair, model="resnet_preact")
        else:
            train(*pair, model="resnet_preact")


@pytest.mark.parametrize("trick", NETWORK)
def test_every_change_of_the_network_trains_beside_all_other_tricks_at_once(trick):
    others = [TRICKS[name] for name in EVERYTHING]
    train(NETWORK[trick], RESIDUAL, *others, {"train.accumulate": 2}, model="resnet_preact")
    assert list(config_of(SMALL | NETWORK[trick]).tricks[section_of(trick)]) == [trick.partition(".")[2]]


@pytest.mark.parametrize("trick", TRICKS)
def test_a_trick_trains_on_grey_images_of_another_size_in_an_odd_batch(trick):
    train(TRICKS[trick], {"data.channels": 1, "data.image_size": 12, "train.batch_size": 5})


@pytest.mark.parametrize("trick", TRICKS)
def test_what_is_switched_on_is_what_runs(trick):
    config = config_of(SMALL | TRICKS[trick])
    section, name = section_of(trick), trick.partition(".")[2]
    if SECTIONS[section].is_choice:
        assert config.chosen[section].entry.name == name
    else:
        assert list(config.tricks[section]) == [name]
