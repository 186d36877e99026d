"""The loader: its batches are those of train.py."""

import re

import pytest
import torch
from torch import Tensor

from lib.config.cli import parse
from lib.core.batch import Batch
from lib.core.errors import BadInput
from lib.core.registry import augmentations
from lib.engine.step import train_step
from lib.factory import build
from lib.loader import Loader
from tests.helpers.loaders import DATA, all_same, batches, loader_of, places

CPU = torch.device("cpu")
SMALL = "--dataset synthetic --data.size 26 --data.classes 4 --data.image-size 16 --bs 8 --epochs 2 --seed 3"
TINY = "--model wrn_10_1 --schedule constant"


def trained_on(line: str) -> list[tuple[Tensor, Batch, Tensor]]:
    """The logits, batch and loss (B,) of each step that train.py takes in two epochs."""
    run, seen = build(parse(f"{SMALL} {TINY} {line}".split()).config(), CPU, note=print), []
    loss = run.learning.loss

    def watched(logits: Tensor, batch: Batch) -> Tensor:
        out = loss(logits, batch)
        seen.append((logits.detach(), batch, out.detach()))
        return out

    run.learning.loss = watched
    for step in range(run.total):
        train_step(run, step)
    return seen


# Arguments of the loader, and the command line with the same meaning.
SETTINGS = {
    "nothing": ({}, ""),
    "none": ({"augment": []}, "--no-crop --no-flip"),
    "the default ones": ({"augment": ["flip", "crop"]}, ""),
    "a single name": ({"augment": "flip"}, "--no-crop"),
    "an alias": ({"augment": {"lsr": {}}}, "--label-smoothing --no-crop --no-flip"),
    "off": ({"augment": {"crop": False, "flip": True}}, "--no-crop"),
    "a value": ({"augment": {"cutout": 4, "crop": {}, "flip": {}}}, "--cutout 4"),
    "values": (
        {"augment": {"crop": {"padding": 2}, "mixup": {"alpha": 0.5, "prob": 0.5}, "cutmix": {"prob": 0.5}}},
        "--crop-padding 2 --no-flip --mixup-alpha 0.5 --mixup-prob 0.5 --cutmix-prob 0.5",
    ),
    "views": ({"augment": {"augmix": {"jsd": True}}}, "--augmix-jsd True --no-crop --no-flip"),
    "an epoch": ({"augment": {"cutout": {"start": 1}}}, "--cutout-start 1 --no-crop --no-flip"),
    "data": ({"fraction": 0.9, "val": 4, "label_noise": 0.5}, "--fraction 0.9 --val 4 --label-noise 0.5"),
}
# Each augmentation, with the default ones.
SETTINGS |= {name: ({"augment": ["crop", "flip", name]}, f"--{name}") for name in augmentations.names()}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_batches_and_losses_equal_those_of_train_py_bit_for_bit(settings):
    arguments, line = settings
    loader, theirs = loader_of(**arguments), trained_on(line)
    ours = batches(loader, 0, 1)
    assert all_same(ours, [batch for _, batch, _ in theirs])
    for batch, (logits, _, loss) in zip(ours, theirs, strict=True):
        assert torch.equal(loader.loss(logits, batch), loss)


def test_the_images_for_evaluation_are_those_of_train_py():
    loader, run = loader_of(val=8), build(parse(f"{SMALL} {TINY} --val 8".split()).config(), CPU, note=print)
    for images, split in ((loader.val, run.splits["val"]), (loader.test, run.splits["test"])):
        assert torch.equal(images.x, split.x) and torch.equal(images.y, split.y)
        assert torch.equal(images.normalize(images.x), run.normalize(split.x))
    assert loader_of().val is None


def test_epochs_may_be_requested_in_any_order():
    loader = loader_of(augment=["crop", "cutmix"])
    late = batches(loader, 5)
    assert all_same(batches(loader, 0, 5)[3:], late)
    assert not all_same(batches(loader, 0), late)
    assert not all_same(batches(loader_of(augment=["crop", "cutmix"], seed=4), 5), late)


def test_gradients_are_enabled_in_a_loop_over_an_epoch():
    for batch in loader_of().epoch(0):
        assert torch.is_grad_enabled() and not batch.x.requires_grad


def test_the_last_incomplete_batch_is_dropped_unless_asked_for():
    dropped, whole = loader_of(), loader_of(drop_last=False)
    assert [len(batch.x) for batch in batches(dropped, 0)] == [8, 8, 8] and len(dropped) == 3
    assert [len(batch.x) for batch in batches(whole, 0)] == [8, 8, 8, 2] and len(whole) == 4
    assert torch.equal(places(whole, 0).sort().values, torch.arange(26))
    assert all_same(batches(dropped, 0), batches(whole, 0)[:3])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"data": "synthetik"}, "data (Loader): unknown dataset 'synthetik': did you mean synthetic?"),
        ({"augment": ["cutot"]}, "unknown setting 'augment.cutot': did you mean augment.cutout"),
        ({"augment": {"cutout": {"siz": 3}}}, "augmentation cutout has no setting 'siz'; did you mean size?"),
        ({"augment": {"cutout": {"size": -3}}}, "cutout.size (Loader): size must be at least 1, got -3"),
        ({"augment": {"cutout": {"size": "x"}}}, "cutout.size (Loader): expected a whole number, got 'x'"),
        ({"augment": {"cutout": {"size": 40, "inside": True}}}, "size must be at most the image's side 16"),
        ({"augment": 3}, "augment must be names, or a mapping of names to settings, got 3"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"batch_size": 27}, "a batch of 27 images cannot be drawn from a training set of 26"),
        ({"noize": 3}, "noize (Loader): dataset synthetic has no setting 'noize'; did you mean noise"),
        ({"fraction": 3}, "fraction must be above 0 and at most 1, got 3"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"device": "gpu"}, "device 'gpu' is none of auto, cpu, cuda"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)  # fmt: skip
def test_a_wrong_argument_is_refused_in_one_line(arguments, said):
    with pytest.raises((BadInput, ValueError), match=re.escape(said)) as refused:
        Loader(**{"data": "synthetic", "batch_size": 8, "device": "cpu", **DATA, **arguments})
    assert "\n" not in str(refused.value)
