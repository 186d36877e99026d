"""Repeated augmentation and progressive resizing."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from lib.augment.pipeline import Step, pipeline
from lib.core.errors import BadInput
from lib.core.facts import Stage
from lib.core.registry import augmentations
from lib.core.rng import Rng
from lib.factory.checks import try_sizes
from tests.helpers.batches import batch_of, build, images

# Repeated augmentation


@pytest.mark.parametrize(("count", "times"), [(12, 3), (8, 2), (7, 3), (5, 2), (4, 9), (1, 3), (6, 6)])
def test_repetition_keeps_the_batch_size_and_holds_each_image_equally_often(count, times):
    batch = batch_of(images(count))
    out = build("repeated_augmentation", times=times).apply(batch, Rng(0))
    assert len(out) == count
    distinct = -(-count // times)
    counts = torch.bincount(out.index - 10, minlength=count)
    assert (counts > 0).sum() == distinct  # the first of the epoch's order
    assert counts[:distinct].max() <= times
    assert counts[:distinct].min() >= count // distinct
    assert torch.equal(out.x, batch.x[out.index - 10])
    assert torch.equal(out.y, batch.y[out.index - 10])
    assert out.index[:distinct].unique().numel() == distinct  # copies lie as far apart as can be


def test_copies_of_an_image_are_augmented_differently():
    steps = [Step(n, augmentations[n].facts.stage, build(n)) for n in ("repeated_augmentation", "crop")]
    out = pipeline(steps)(batch_of(images(30)), Rng(0))
    copies = out.x.view(3, 10, -1)
    assert (copies[0] != copies[1]).any(1).sum() >= 8
    assert torch.equal(out.index.view(3, 10)[0], out.index.view(3, 10)[2])


def test_views_of_a_repeated_image_stay_together():
    batch = batch_of(images(6)).repeated(2)
    out = build("repeated_augmentation", times=3).apply(batch, Rng(0))
    assert out.views == 2
    assert out.index.view(6, 2).tolist() == [[10, 10], [11, 11]] * 3


# Progressive resizing


@pytest.mark.parametrize(
    ("smallest", "epochs", "multiple"), [(0.5, 16, 4), (0.25, 10, 1), (0.4, 7, 8), (0.99, 5, 3)]
)
def test_images_grow_linearly_to_their_full_size(smallest, epochs, multiple):
    resizing = build("progressive_resizing", smallest=smallest, epochs=epochs, multiple=multiple)
    sides = []
    for epoch in range(epochs + 5):
        x = resizing.apply(batch_of(torch.zeros(2, 1, 32, 48), epoch=epoch), Rng(0)).x
        for side, full in zip(x.shape[2:], (32, 48), strict=True):
            line = full * (smallest + (1 - smallest) * min(1, epoch / epochs))
            assert abs(side - line) <= multiple / 2 + 1e-9
            assert side % multiple == 0 or side == full
        sides.append(tuple(x.shape[2:]))
    assert sides == sorted(sides)
    assert sides[epochs:] == [(32, 48)] * 5


def test_a_small_image_is_pillows():
    x = torch.randn(2, 3, 32, 24, generator=torch.Generator().manual_seed(0))
    out = build("progressive_resizing").apply(batch_of(x, epoch=0), Rng(0)).x
    assert out.shape == (2, 3, 16, 12)
    for image, small in zip(x.flatten(0, 1), out.flatten(0, 1), strict=True):
        pillow = np.asarray(Image.fromarray(image.numpy()).resize((12, 16), Image.BILINEAR))
        np.testing.assert_allclose(small.numpy(), pillow, atol=1e-5)


@pytest.mark.parametrize(("budget", "full"), [(10, 8), (200, 160), (400, 320), (1, 1), (2.5, 2)])
def test_the_last_fifth_of_any_budget_trains_on_full_images(budget, full):
    resizing = build("progressive_resizing").within(budget)
    assert resizing.side(32, full) == 32
    assert resizing.side(32, 0) == 16
    assert build("progressive_resizing", epochs=3).within(100).side(32, 3) == 32


def test_growth_takes_the_given_epochs_and_must_end_within_the_run():
    resizing = build("progressive_resizing", epochs=9, multiple=1).within(10)
    assert resizing.side(32, 8) < 32 == resizing.side(32, 9)
    with pytest.raises(ValueError, match="epochs must be at most the run's 10, got 11"):
        build("progressive_resizing", epochs=11).within(10)


def test_a_size_that_the_model_cannot_take_is_rejected_before_the_run_with_its_epoch():
    class Picky(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if x.shape[-1] == 24:
                raise RuntimeError("not 24")
            return x.new_zeros(len(x), 5)

    step = Step("progressive_resizing", Stage.RESIZE, build("progressive_resizing", epochs=8))
    with pytest.raises(
        BadInput, match=r"\(3, 24, 24\) that progressive_resizing makes in epoch 3, 2 at once"
    ):
        try_sizes(Picky(), [step], batch_of(torch.zeros(2, 3, 32, 32)), 10)
    try_sizes(Picky(), [step], batch_of(torch.zeros(2, 3, 32, 32)), 3)
    try_sizes(Picky(), [], batch_of(torch.zeros(2, 3, 24, 24)), 10)
