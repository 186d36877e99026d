"""The pipeline: order of stages, independent draws, one mix per batch, epochs of each augmentation."""

import shlex
from collections import Counter
from itertools import permutations

import pytest
import torch

from lib.augment.pipeline import Mix, Normalize, Step, pipeline
from lib.config.cli import parse
from lib.core.batch import Batch
from lib.core.facts import Stage
from lib.core.registry import augmentations
from lib.core.rng import Rng
from tests.helpers.batches import batch_of, build, example, images, names_of, same
from tests.helpers.distributions import fits, has_fraction

ALL = augmentations.names()
MIXES = names_of(Stage.MIX)


class Spy:
    """An augmentation that records its calls and its result for a fixed batch."""

    def __init__(self, name: str, calls: list[str]):
        self.name, self.calls, self.map, self.made = name, calls, build(name), None
        self.prob, self.is_active = getattr(self.map, "prob", None), self.map.is_active

    def apply(self, batch: Batch, rng: Rng) -> Batch:
        assert batch.x.is_floating_point() == (augmentations[self.name].facts.stage > Stage.NORMALIZE)
        self.calls.append(self.name)
        self.made = self.map.apply(example(augmentations[self.name]), Rng(*rng.key))
        return self.map.apply(batch, rng)


STATISTICS = (torch.tensor([0.4, 0.5, 0.6])[:, None, None], torch.tensor([0.1, 0.2, 0.3])[:, None, None])
NORMALIZE = Step("normalize", Stage.NORMALIZE, Normalize(*STATISTICS))


def spied(names: list[str], rng: Rng) -> tuple[Batch, list[str], dict[str, Batch | None]]:
    """The augmented batch, the names that were called, and the result of each for its example."""
    calls: list[str] = []
    spies = {name: Spy(name, calls) for name in names}
    steps = [Step(name, augmentations[name].facts.stage, spy) for name, spy in spies.items()]
    out = pipeline([*steps, NORMALIZE])(batch_of(images(8)), rng)
    return out, calls, {name: spy.made for name, spy in spies.items()}


def test_the_stages_follow_the_design():
    order = "REPEAT GEOMETRY COLOR NORMALIZE TONE ERASE MIX RESIZE LABEL SHARD TEACH"
    assert [stage.name for stage in sorted(Stage)] == order.split()


@pytest.mark.parametrize("seed", range(3))
def test_augmentations_run_in_the_order_of_their_stages_for_any_order_of_flags(seed):
    out, calls, _ = spied(ALL, Rng(seed))
    assert sum(name in MIXES for name in calls) == 1
    assert set(calls) - set(MIXES) == set(ALL) - set(MIXES)
    stages = [augmentations[name].facts.stage for name in calls]
    assert stages == sorted(stages)
    for names in (ALL[::-1], ALL[3:] + ALL[:3]):
        again, same_calls, _ = spied(names, Rng(seed))
        assert same_calls == calls
        assert same(again, out)


def assert_same_draws(name: str, *others: str) -> None:
    compared = 0
    for seed in range(5):
        alone, together = (spied(names, Rng(seed))[2][name] for names in ([name], [name, *others]))
        if together is not None:  # of several mixes one is drawn
            assert same(alone, together)
            compared += 1
    assert compared or name in MIXES


@pytest.mark.parametrize("name", ALL)
def test_the_other_augmentations_do_not_change_the_draws_of_one(name):
    assert_same_draws(name, *(other for other in ALL if other != name))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "other"), [*permutations(ALL, 2)])
def test_an_augmentation_does_not_change_the_draws_of_another(name, other):
    assert_same_draws(name, other)


def test_two_names_make_different_draws():
    step = augmentations["crop"]  # two crops under two names move an image in two ways
    batch = batch_of(images(64))
    one, other = (pipeline([Step(n, Stage.GEOMETRY, step.build())])(batch, Rng(0)).x for n in "ab")
    assert not torch.equal(one, other)


class Marked(Mix):
    """A mix that adds a number to all pixels."""

    def __init__(self, mark: int, prob: float):
        super().__init__(prob=prob)
        object.__setattr__(self, "mark", mark)

    def apply(self, batch: Batch, rng: Rng) -> Batch:
        return batch.replace(x=batch.x + self.mark)


@pytest.mark.parametrize(
    ("probs", "expected"),
    [
        ((0.3, 0.2), (0.5, 0.3, 0.2)),  # the first is the fraction of unmixed batches
        ((1.0, 0.5), (0.0, 2 / 3, 1 / 3)),
        ((1.0, 1.0, 1.0), (0.0, 1 / 3, 1 / 3, 1 / 3)),
        ((0.25,), (0.75, 0.25)),
        ((1.0,), (0.0, 1.0)),
    ],
)
def test_mixes_are_drawn_with_their_probabilities_or_as_weights_if_these_exceed_one(probs, expected):
    steps = [Step(f"m{mark}", Stage.MIX, Marked(mark, prob)) for mark, prob in enumerate(probs, start=1)]
    prepare, batch = pipeline(steps), batch_of(torch.zeros(1, 1, 1, 1))
    drawn = Counter(int(prepare(batch, Rng(seed)).x) for seed in range(3000))
    assert set(drawn) == {mark for mark, fraction in enumerate(expected) if fraction}
    counts = [drawn[mark] for mark, fraction in enumerate(expected) if fraction]
    assert fits(counts, [fraction for fraction in expected if fraction])


def test_a_pipeline_without_augmentations_is_the_identity():
    batch = batch_of(images(4))
    assert same(pipeline([])(batch, Rng(0)), batch)


def test_normalize_subtracts_the_mean_and_divides_by_the_deviation():
    batch = batch_of(images(4, height=5, width=6))
    out = NORMALIZE.map.apply(batch, Rng(0)).x
    mean, std = (values.double() for values in STATISTICS)
    torch.testing.assert_close(out.double(), (batch.x.double() / 255 - mean) / std, atol=1e-5, rtol=1e-5)
    assert out.dtype == torch.float32


# Epochs


@pytest.mark.parametrize("name", augmentations.names())
def test_an_augmentation_is_applied_from_start_until_before_stop(name):
    step = Step(name, augmentations[name].facts.stage, build(name, start=2, stop=4))
    applied = build(name)
    for epoch in range(6):
        batch = example(augmentations[name]).replace(epoch=epoch)
        out = pipeline([step])(batch, Rng(0))
        names = ("mix", name) if name in MIXES else (name,)
        assert same(out, applied.apply(batch, Rng(0, *names)) if epoch in (2, 3) else batch)


@pytest.mark.parametrize("name", augmentations.names())
def test_an_inactive_augmentation_does_not_change_the_draws_of_others(name):
    others = [Step(f"other_{n}", augmentations[n].facts.stage, build(n)) for n in ("crop", "flip")]
    late = Step(name, augmentations[name].facts.stage, build(name, start=4))
    batch = batch_of(images(6, height=16, width=16), epoch=3)
    assert same(pipeline([*others, late])(batch, Rng(0)), pipeline(others)(batch, Rng(0)))


def test_an_inactive_mix_is_not_drawn_and_does_not_change_the_probability_of_others():
    early, always = Marked(1, 0.5), Marked(2, 0.5)
    object.__setattr__(early, "stop", 10)
    prepare = pipeline([Step("early", Stage.MIX, early), Step("always", Stage.MIX, always)])

    def drawn(epoch: int) -> list[int]:
        batch = batch_of(torch.zeros(1, 1, 1, 1), epoch=epoch)
        found = [int(prepare(batch, Rng(seed)).x) for seed in range(1000)]
        return [found.count(mark) for mark in range(3)]

    assert drawn(9)[0] == 0
    nothing, first, second = drawn(10)
    assert first == 0
    assert has_fraction(second, nothing + second, 0.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": -1}, "start must be at least 0, got -1"),
        ({"start": 5, "stop": 5}, "stop must be above start 5, got 5"),
        ({"stop": 0}, "stop must be above start 0, got 0"),
    ],
)
@pytest.mark.parametrize("name", augmentations.names())
def test_impossible_epochs_are_rejected(name, options, message):
    with pytest.raises(ValueError, match=message):
        build(name, **options)


def test_epochs_are_set_from_the_command_line():
    config = parse(shlex.split("--mixup True --mixup-stop 150 --cutmix-start 150 --cutout-start 3")).config()
    assert config.changed["augment"] == {
        "mixup": {"stop": 150},
        "cutmix": {"start": 150},
        "cutout": {"start": 3},
    }
    mixup, cutmix = (config.tricks["augment"][name].build() for name in ("mixup", "cutmix"))
    assert [mixup.is_active(epoch) for epoch in (0, 149, 150)] == [True, True, False]
    assert [cutmix.is_active(epoch) for epoch in (0, 149, 150)] == [False, False, True]


def test_an_augmentation_that_would_never_be_applied_is_rejected():
    with pytest.raises(ValueError, match=r"start must be below the run's 30 epochs, got 30"):
        build("cutout", start=30).within(30)
    assert build("cutout", start=29).within(30) == build("cutout", start=29)
