"""Data sets by name, their parts, and their batches."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch

from lib.core.errors import BadInput
from lib.core.registry import datasets
from lib.core.rng import Rng
from lib.data.base import Dataset, Split, channel_statistics, data_root, fraction, hold_out
from lib.data.resident import Resident

FACTS = ("classes", "shape", "train", "test", "mean", "std")


def numbered(counts: list[int]) -> Split:
    """A split with `counts[k]` images of class k, shuffled; the pixels of an image encode its number."""
    y = torch.tensor([k for k, count in enumerate(counts) for _ in range(count)])
    number = torch.arange(len(y))
    x = torch.stack([number // 256, number % 256], 1).to(torch.uint8)[:, :, None, None].expand(-1, -1, 4, 4)
    return Split(x.contiguous(), y[Rng(0, "test").permutation(len(y))])


def numbers(split: Split) -> list[int]:
    return (split.x[:, 0, 0, 0].long() * 256 + split.x[:, 1, 0, 0]).tolist()


def load(name: str) -> Dataset:
    try:
        return datasets[name].build(root=data_root(None), offline=True)
    except BadInput as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("name", datasets.names())
def test_an_available_data_set_keeps_the_contract(name):
    data = load(name)
    for split in (data.train, data.test):
        assert split.x.dtype == torch.uint8
        assert split.x.ndim == 4
        assert split.y.dtype == torch.int64
        assert len(split.x) == len(split.y) == len(split)
        assert split.y.unique().tolist() == list(range(len(data.classes)))
        assert split.x.shape[1:] == data.train.x.shape[1:]
    if datasets[name].facts.balanced:
        assert len(data.train.y.bincount().unique()) == 1
    mean, std = channel_statistics(data.train.x)
    assert data.mean == pytest.approx(mean, abs=2e-3)
    assert data.std == pytest.approx(std, abs=2e-3)
    shape = tuple(data.train.x.shape[1:])
    found = (data.classes, shape, len(data.train), len(data.test), data.mean, data.std)
    for fact, value in zip(FACTS, found, strict=True):
        assert getattr(datasets[name].facts, fact) in (None, value)


@pytest.mark.parametrize("entry", datasets.entries(), ids=lambda entry: entry.name)
def test_every_data_set_has_facts_and_described_options(entry):
    assert set(entry.facts.augment) <= {"crop", "flip"}
    assert len({getattr(entry.facts, fact) is None for fact in FACTS}) == 1, "all are known, or none"
    assert {"root", "offline"}.isdisjoint(entry.fields)
    assert all(field.help for field in entry.fields.values())
    if entry.facts.mean:
        assert len(entry.facts.mean) == len(entry.facts.std) == entry.facts.shape[0]


@pytest.mark.data
def test_the_real_cifar10_has_the_published_statistics():
    data = load("cifar10")
    assert data.train.y.bincount().tolist() == [5_000] * 10
    assert data.test.y.bincount().tolist() == [1_000] * 10
    mean, std = channel_statistics(data.train.x)
    assert mean == pytest.approx((0.4914, 0.4822, 0.4465), abs=1e-4)
    assert std == pytest.approx((0.2470, 0.2435, 0.2616), abs=1e-4)


def test_the_statistics_are_those_of_the_pixels():
    x = Rng(0, "test").integers(0, 256, 7, 2, 5, 5, like=torch.empty(0)).to(torch.uint8)
    mean, std = channel_statistics(x)
    pixels = x.double().transpose(0, 1).flatten(1) / 255
    assert mean == pytest.approx(pixels.mean(1).tolist(), abs=1e-9)
    assert std == pytest.approx(pixels.std(1, correction=0).tolist(), abs=1e-9)


def test_the_root_is_the_argument_else_the_environment_variable_else_a_folder_here(monkeypatch):
    monkeypatch.setenv("DATA_DIR", "/from/environment")
    assert data_root("~/sets") == Path.home() / "sets"
    assert data_root(None) == Path("/from/environment")
    monkeypatch.delenv("DATA_DIR")
    assert data_root(None) == Path("data")


def test_the_digits_are_the_whole_set_enlarged_without_loss():
    data = datasets["digits"].build(root=Path("none"), offline=True)
    assert len(data.train) + len(data.test) == 1_797
    # Bilinear enlargement by 4 keeps the corners, and 0..16 becomes 0..255.
    corners = data.train.x[:, :, ::31, ::31].unique().tolist()
    assert set(corners) <= {round(level * 255 / 16) for level in range(17)}
    assert torch.equal(data.train.x[:, 0], data.train.x[:, 2])


def test_synthetic_images_can_be_classified_and_are_the_same_every_time():
    build = datasets["synthetic"].build
    data, again = (
        build(root=Path("none"), offline=True, size=200, classes=4, channels=1, image_size=16)
        for _ in range(2)
    )
    assert data.train.x.shape == (200, 1, 16, 16)
    assert len(data.test) == 50
    assert torch.equal(data.train.x, again.train.x)
    means = torch.stack([data.train.x[data.train.y == k].float().mean(0) for k in range(4)])
    guess = torch.cdist(data.test.x.float().flatten(1), means.flatten(1)).argmin(1)
    assert (guess == data.test.y).float().mean() > 0.9
    assert not (data.test.x[:, None] == data.train.x[None]).flatten(2).all(2).any()


@pytest.mark.parametrize(
    ("name", "value"), [("size", 39), ("classes", 1), ("channels", 0), ("image_size", 3), ("noise", 1.1)]
)
def test_synthetic_refuses_values_out_of_range(name, value):
    with pytest.raises(ValueError, match=rf"{name} must be .*, got {value}"):
        datasets["synthetic"].build(root=Path("none"), offline=True, **{name: value})


@pytest.mark.parametrize(("val", "count"), [(0, 0), (0.1, 30), (60, 60), (60.0, 60)])
def test_the_validation_part_is_stratified_and_disjoint_from_the_rest(val, count):
    split = numbered([150, 100, 50])
    train, held = hold_out(split, val, 3)
    assert len(held) == count
    assert sorted(numbers(train) + numbers(held)) == list(range(300))
    assert numbers(train) == sorted(numbers(train))
    assert held.y.bincount(minlength=3).tolist() == [count // 2, count // 3, count // 6]


@pytest.mark.parametrize("val", [-1, 2, 298, 300, 60.5, 1e-6])
def test_an_impossible_validation_part_is_refused(val):
    with pytest.raises(ValueError, match=rf"val must be .*, got {val}"):
        hold_out(numbered([150, 100, 50]), val, 3)


def test_smaller_fractions_lie_within_larger_ones_and_are_stratified_and_in_order():
    split = numbered([150, 100, 50])
    parts = [fraction(split, size) for size in (0.1, 0.33, 0.5, 1.0)]
    for small, large in pairwise(parts):
        assert set(numbers(small)) < set(numbers(large))
    for part in parts:
        assert numbers(part) == sorted(numbers(part))
        classes = part.y.bincount() / len(part)
        torch.testing.assert_close(classes, torch.tensor([3.0, 2.0, 1.0]) / 6, atol=1 / len(part), rtol=0)
    assert len(parts[0]) == 30
    assert numbers(parts[-1]) == list(range(300))


@pytest.mark.parametrize("size", [0, -0.5, 1.5, 1e-6])
def test_an_impossible_fraction_is_refused(size):
    with pytest.raises(ValueError, match=rf"fraction must be .*, got {size}"):
        fraction(numbered([150, 100, 50]), size)


def test_the_parts_do_not_depend_on_any_random_state():
    split = numbered([150, 100, 50])
    torch.manual_seed(1)
    first = numbers(fraction(split, 0.3)), numbers(hold_out(split, 0.2, 3)[1])
    torch.manual_seed(2)
    assert first == (numbers(fraction(split, 0.3)), numbers(hold_out(split, 0.2, 3)[1]))


def resident(seed: int = 0, batch_size: int = 32) -> Resident:
    return Resident(numbered([60, 50]), num_classes=2, batch_size=batch_size, seed=seed)


def same(one, other) -> bool:
    return all(torch.equal(getattr(one, f), getattr(other, f)) for f in ("x", "y", "index")) and (
        one.epoch == other.epoch
    )


def test_steps_may_be_requested_in_any_order():
    forwards, data = [resident().at(step) for step in range(9)], resident()
    for step in (8, 0, 5, 5, 2, 7, 1, 3, 6, 4):
        assert same(data.at(step), forwards[step])


def test_a_batch_has_the_images_at_its_index_with_one_hot_targets():
    data = resident()
    batch = data.at(4)
    assert batch.x.dtype == torch.uint8
    assert torch.equal(batch.x, data.split.x[batch.index])
    assert batch.y.dtype == torch.float32
    assert batch.y.shape == (32, 2)
    assert torch.equal(batch.y.sum(1), torch.ones(32))
    assert torch.equal(batch.y.argmax(1), data.split.y[batch.index])


def test_an_epoch_has_each_image_at_most_once_and_its_own_order():
    data = resident()
    assert data.steps_per_epoch == 3  # of 110 images; the last 14 of an epoch's order are left out
    epochs = [torch.cat([data.at(3 * epoch + step).index for step in range(3)]) for epoch in range(3)]
    assert all(len(order.unique()) == 96 for order in epochs)
    assert [data.at(step).epoch for step in range(7)] == [0, 0, 0, 1, 1, 1, 2]
    assert not torch.equal(epochs[0], epochs[1])
    assert set(torch.cat(epochs).tolist()) == set(range(110))


def test_another_seed_gives_another_order():
    assert not torch.equal(resident(0).at(0).index, resident(1).at(0).index)


def test_a_batch_as_large_as_the_set_is_the_set_and_a_larger_one_is_refused():
    assert sorted(resident(batch_size=110).at(5).index.tolist()) == list(range(110))
    with pytest.raises(BadInput, match=r"111 images .* 110; give a --batch-size from 1 to 110"):
        resident(batch_size=111)
    with pytest.raises(BadInput, match="--batch-size from 1"):
        resident(batch_size=0)
