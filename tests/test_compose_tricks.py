"""Every trick trains with every model and every other trick, or is refused with a reason."""

import contextlib
from itertools import combinations

import pytest
import torch
from torch import Tensor

from lib.config.schema import SECTIONS
from lib.core.batch import Batch
from lib.core.errors import BadInput
from lib.core.facts import Stage
from lib.core.registry import Entry, augmentations, initialisations, models, wrappers
from lib.core.rng import Rng
from lib.engine.step import Run, train_step
from scripts.docs.trials import HOST, SMALL, TINY, are_alternatives, config_of, section_of, start, tricks

# Changes of the network before training, and all other tricks, each with the settings that enable it. Of
# sections with one choice (losses, optimizers), every choice.
NETWORK = {trick: on for trick, on in tricks().items() if section_of(trick) in ("surgery", "init")}
TRICKS = {t: on for t, on in tricks().items() if t not in NETWORK and section_of(t) != "schedule"}


def both_perturb(*tricks: str) -> bool:
    return all(section_of(t) == "wrap" and wrappers[t.partition(".")[2]].facts.perturbs for t in tricks)


PAIRS = [pair for pair in combinations(TRICKS, 2) if not are_alternatives(*pair)]


def smallest_of_each_file() -> list[Entry]:
    """The registered model with the fewest parameters of every file of lib/models."""
    entries = [models[name] for name in models.names() if models[name].facts.params]
    entries.sort(key=lambda entry: entry.facts.params, reverse=True)
    return sorted({entry.module: entry for entry in entries}.values(), key=lambda entry: entry.name)


FAMILIES = smallest_of_each_file()
QUICK = [entry.name for entry in FAMILIES if entry.facts.params < 3e6]
LARGE = [entry.name for entry in FAMILIES if entry.facts.params >= 3e6]


def train(*settings: dict, model: str = TINY, steps: int = 1) -> Tensor:
    """Build a run as the command line does and take its first steps; returns its last weights."""
    merged = SMALL | {"model.name": model} | {key: value for each in settings for key, value in each.items()}
    run = start(merged)
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
    """A model may refuse the image sizes that a trick makes, if the message names the trick."""
    resizing = [t.partition(".")[2] for t in tricks if section_of(t) == "augment"]
    resizing = [name for name in resizing if augmentations[name].facts.stage is Stage.RESIZE]
    try:
        yield
    except BadInput as error:
        if not any(f"that {name} makes in epoch 0" in str(error) for name in resizing):
            raise


def weights_of(run: Run) -> Tensor:
    return torch.cat([p.detach().flatten() for p in run.params])


@pytest.mark.parametrize("model", QUICK)
def test_every_trick_trains_with_some_family_and_every_family_with_some_tricks(model):
    for trick in list(TRICKS)[QUICK.index(model) % 6 :: 6]:  # each with three families or more
        with refusal_of_small_images(trick):
            train(TRICKS[trick], model=model)


@pytest.mark.slow
@pytest.mark.parametrize("model", QUICK)
def test_every_trick_trains_with_the_smallest_model_of_each_family(model):
    for trick, setting in TRICKS.items():
        with refusal_of_small_images(trick):
            train(setting, model=model)


@pytest.mark.slow
@pytest.mark.parametrize("one", TRICKS)
def test_every_pair_of_tricks_trains_or_is_refused_with_a_reason(one):
    for other in [b for a, b in PAIRS if a == one]:
        if both_perturb(one, other):
            names = " and ".join(trick.partition(".")[2] for trick in (one, other))
            with pytest.raises(BadInput, match=f"{names} are two ways to perturb"):
                train(TRICKS[one], TRICKS[other])
        else:
            train(TRICKS[one], TRICKS[other])


# All that can be on at once: every trick but a second one that perturbs the weights.
EVERYTHING = [trick for trick in TRICKS if SECTIONS[section_of(trick)].is_tricks]
EVERYTHING = [t for i, t in enumerate(EVERYTHING) if not any(both_perturb(t, s) for s in EVERYTHING[:i])]


# Losses, optimizers and wrappers of which one is in use.
CHOICES = [t for t in TRICKS if not SECTIONS[section_of(t)].is_tricks or t not in EVERYTHING]
SETTLED = 12  # steps until the scale of fp16 has settled


def everything_with(choice: str) -> list[dict]:
    """The settings of all tricks together, with this loss, optimizer or wrapper."""
    return [TRICKS[trick] for trick in EVERYTHING if not both_perturb(trick, choice)] + [TRICKS[choice]]


RESIZING = [t for t in EVERYTHING if section_of(t) == "augment"]
RESIZING = [t for t in RESIZING if augmentations[t.partition(".")[2]].facts.stage is Stage.RESIZE]


@pytest.mark.slow
@pytest.mark.parametrize("model", [*QUICK, *LARGE])
def test_all_tricks_train_together_with_every_family(model):
    for choice in CHOICES[[*QUICK, *LARGE].index(model) % 5 :: 5]:  # each with eight families or more
        settings = [*everything_with(choice), {"data.image_size": 32}]
        with refusal_of_small_images(*RESIZING):
            train(*settings, model=model)
        train(*settings, dict.fromkeys(RESIZING, False), model=model)


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
def test_all_tricks_together_train_and_repeat_bit_for_bit_in_any_order_of_the_flags(how):
    switches = [TRICKS[trick] for trick in EVERYTHING]
    steps = SETTLED if "fp16" in how.values() else 2  # an overflow skips a step
    first = train(how, *switches, steps=steps)
    assert torch.equal(train(*switches[::-1], how, steps=steps), first)
    assert not torch.equal(train(how, *switches, {"train.seed": 1}, steps=steps), first)


CONTRADICT = {
    ("surgery.frozen_bn", "init.zero_gamma"): "BatchNorm scales are frozen",
    ("surgery.weight_standardization", "init.dirac"): "no plain convolution",
    ("surgery.weight_standardization", "init.whitening"): "no plain convolution",
}


def reason_against(one: str, other: str) -> str | None:
    """Why two network changes exclude each other; None where they do not."""
    if all(t.startswith("init.") and initialisations[t[5:]].facts.draws for t in (one, other)):
        return "are two ways to draw all weights"
    return CONTRADICT.get((one, other))


@pytest.mark.parametrize("one", NETWORK)
def test_every_pair_of_network_changes_trains_or_is_refused_with_a_reason(one):
    for other in [b for a, b in combinations(NETWORK, 2) if a == one]:
        pair = NETWORK[one], NETWORK[other], HOST
        if reason := reason_against(one, other):
            with pytest.raises(BadInput, match=reason):
                train(*pair)
        else:
            train(*pair)


@pytest.mark.parametrize("trick", NETWORK)
def test_every_network_change_trains_with_all_other_tricks_together(trick):
    others = [TRICKS[name] for name in EVERYTHING]
    # Of eight images a proxy keeps four, in micro-batches of two.
    train(NETWORK[trick], HOST, *others, {"train.accumulate": 2, "train.batch_size": 8})
    assert list(config_of(SMALL | NETWORK[trick]).tricks[section_of(trick)]) == [trick.partition(".")[2]]


@pytest.mark.parametrize("trick", TRICKS)
def test_a_trick_trains_on_grey_images_of_another_size_in_an_odd_batch(trick):
    train(TRICKS[trick], {"data.channels": 1, "data.image_size": 12, "train.batch_size": 5})


@pytest.mark.parametrize("trick", TRICKS)
def test_a_setting_enables_exactly_its_trick(trick):
    config = config_of(SMALL | TRICKS[trick])
    section, name = section_of(trick), trick.partition(".")[2]
    if SECTIONS[section].is_choice:
        assert config.chosen[section].entry.name == name
    else:
        assert list(config.tricks[section]) == [name]
