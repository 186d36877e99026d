"""Epochs of kept and weighted images."""

import re

import pytest
import torch
from torch import Tensor

from lib.data.subset import ImageSubset
from lib.loader import Loader
from tests.helpers.loaders import all_same, batches, loader_of, places

CPU = torch.device("cpu")


@pytest.mark.parametrize("drop_last", [True, False])
def test_an_epoch_of_kept_images_is_that_of_a_training_set_without_the_others(drop_last):
    # A fraction of the data set is such a set; its images are found by their pixels.
    fewer, loader = loader_of(fraction=0.5, drop_last=drop_last), loader_of(drop_last=drop_last)
    mask = (loader.train.x[:, None] == fewer.train.x).flatten(2).all(2).any(1)
    assert mask.sum() == 13
    loader.keep(mask)
    ours, theirs = batches(loader, 0, 3), batches(fewer, 0, 3)
    assert len(loader) == len(fewer) == (1 if drop_last else 2)
    kept = mask.nonzero()[:, 0]
    assert all_same(ours, [batch.replace(index=kept[batch.index]) for batch in theirs])


def test_an_epoch_contains_every_kept_image_exactly_once():
    loader, kept = loader_of(drop_last=False), [3, 25, 0, 7, 8, 9, 21, 22, 11, 12]
    loader.keep(kept)
    for epoch in range(3):
        assert places(loader, epoch).sort().values.tolist() == sorted(kept)
    assert places(loader, 0).tolist() != places(loader, 1).tolist()
    loader.keep(None)
    assert all_same(batches(loader, 4), batches(loader_of(drop_last=False), 4))


def test_masks_and_indices_of_any_type_are_equivalent():
    mask = torch.arange(26) % 3 > 0
    forms = (
        mask,
        mask.numpy(),
        mask.tolist(),
        mask.nonzero()[:, 0].flip(0),
        mask.nonzero()[:, 0].int().numpy(),
    )
    loaders = [loader_of() for _ in forms]
    for loader, form in zip(loaders, forms, strict=True):
        loader.keep(form)
        assert all_same(batches(loader, 1), batches(loaders[0], 1))


def test_an_epoch_that_has_started_does_not_change():
    loader, expected = loader_of(), batches(loader_of(), 0)
    epoch = loader.epoch(0)
    loader.keep(range(8))
    loader.weigh(torch.arange(26))
    assert all_same(list(epoch), expected)
    assert len(batches(loader, 0)) == 1


def test_equal_weights_draw_the_same_as_no_weights():
    loader, plain = loader_of(), loader_of()
    for weight in (1, 0.1, 1e-30, 3e30):
        loader.weigh([weight] * 26)
        assert all_same(batches(loader, 0, 1), batches(plain, 0, 1))


def draws(subset: ImageSubset, epochs: int) -> Tensor:
    """(epochs, N) number of times that each image is drawn."""
    return torch.stack([subset.drawn(3, e).bincount(minlength=subset.size) for e in range(epochs)])


def test_an_image_with_a_tenth_of_the_weight_is_drawn_in_a_fifth_of_epochs_of_two():
    times = draws(ImageSubset.everything(2).weighing([9, 1]), 500)  # 1.8 and 0.2 of two draws
    assert (times.sum(1) == 2).all() and set(times[:, 1].tolist()) == {0, 1}
    assert times[:, 1].double().mean().item() == pytest.approx(0.2, abs=5 * 0.4 / 500**0.5)


def test_draws_are_the_expected_number_rounded_down_or_up():
    weights = torch.rand(40, generator=torch.Generator().manual_seed(0), dtype=torch.float64) ** 3
    weights[7] = 0
    subset = ImageSubset.everything(40).keeping(range(35), least=1).weighing(weights)
    expected = 35 * weights / weights[:35].sum()
    expected[35:] = 0
    times = draws(subset, 500)
    assert (times.sum(1) == 35).all()
    assert (times >= expected.floor()).all() and (times <= expected.ceil()).all()
    # A number that is either of two neighbours has a variance of at most 1/4: five standard errors.
    torch.testing.assert_close(times.double().mean(0), expected, atol=5 * 0.5 / 500**0.5, rtol=0)


@pytest.mark.parametrize("start", [None, 0, 999_999])
def test_an_integer_expected_number_is_met_exactly_for_any_start(start, monkeypatch):
    if start is not None:
        monkeypatch.setattr("random.Random.randrange", lambda self, stop: start)
    expected = torch.tensor([1, 3, 0, 1, 2, 1, 0, 0] * 6000).double()
    for unit in (1, 0.1, 1 / 3, 1e-20):
        assert (draws(ImageSubset.everything(48_000).weighing(expected * unit), 3) == expected).all()


def test_repeated_draws_are_spread_over_the_epoch():
    loader = Loader("digits", batch_size=64, device=CPU)
    weights = torch.ones(1438)
    weights[:10] = 50
    loader.weigh(weights)
    first = torch.stack([(batch.index < 10).sum() for batch in loader.epoch(0)]).double()
    assert 12 < first.mean() < 20 and first.std() < 8  # binomial: 3.5


def test_weighted_draws_depend_on_seed_and_epoch_only():
    one, other, third = loader_of(), loader_of(), loader_of(seed=5)
    for loader in (one, other, third):
        loader.weigh(weights := torch.arange(26).double() ** 2)
        weights.fill_(0)  # later changes have no effect
    assert all_same(batches(one, 0, 1), batches(other, 0, 1)) and len(one) == 3
    assert sorted(places(one, 0)) != sorted(places(one, 1))
    assert sorted(places(one, 0)) != sorted(places(third, 0))


@pytest.mark.parametrize(
    ("method", "value", "said"),
    [
        ("keep", [True] * 25, "images must be a mask over 26 images, got 25"),
        ("keep", [0.5] * 26, "images must be a mask of bools, or integers, got torch.float64"),
        ("keep", [1] * 26, "images must be a mask of bools, or distinct indices, got 1"),
        ("keep", range(1, 27), "images must be indices from 0 to 25, got 26"),
        ("keep", [-1, *range(8)], "images must be indices from 0 to 25, got -1"),
        ("keep", torch.ones(26, 1) > 0, "images must be a mask or indices, in one dimension, got (26, 1)"),
        ("keep", [], "images must be at least 8, for one batch, got 0"),
        ("keep", range(7), "images must be at least 8, for one batch, got 7"),
        ("keep", "all", "images must be a tensor, an array or a list, got 'all'"),
        ("keep", range(8, 18), "weights must be of a finite sum above 0 on the images kept, got 0.0"),
        ("weigh", [1.0] * 25, "weights must be 26 numbers, one per image, got (25,)"),
        ("weigh", [1.0] * 25 + [-2], "weights must be finite and at least 0, got -2.0"),
        ("weigh", [1.0] * 25 + [float("nan")], "weights must be finite and at least 0, got nan"),
        ("weigh", [0] * 26, "weights must be of a finite sum above 0 on the images kept, got 0"),
        (
            "weigh",
            torch.full((26,), 1e308, dtype=torch.float64),
            "weights must be of a finite sum above 0 on the images kept, got inf",
        ),
        ("epoch", -1, "number must be a whole number from 0, got -1"),
        ("epoch", 0.5, "number must be a whole number from 0, got 0.5"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_wrong_subset_is_refused_and_changes_nothing(method, value, said):
    loader = loader_of()
    loader.weigh([1] * 8 + [0] * 18)
    before = batches(loader, 0)
    with pytest.raises(ValueError, match=re.escape(said)):
        getattr(loader, method)(value)
    assert all_same(batches(loader, 0), before)


@pytest.mark.gpu
def test_a_gpu_has_the_same_images_and_an_epoch_does_not_synchronise():
    weights = torch.arange(26)
    on_gpu, on_cpu = loader_of(device="cuda", augment=[]), loader_of(augment=[])
    for loader in (on_gpu, on_cpu):
        loader.weigh(weights)
        loader.keep(weights > 2)
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = batches(on_gpu, 0, 1)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for one, other in zip(found, batches(on_cpu, 0, 1), strict=True):
        assert torch.equal(one.index.cpu(), other.index) and torch.equal(one.y.cpu(), other.y)
        torch.testing.assert_close(one.x.cpu(), other.x)
