"""docs/augmentations.md is what the registry gives now, and every augmentation has its picture."""

import re

import pytest
import torch
from PIL import Image

from lib.config.cli import parse
from lib.core.registry import augmentations, tta
from scripts.docs.augment_figures import LIMIT
from scripts.docs.augmentations import DOC, PICTURES, page
from scripts.docs.drawings import CLASSES, drawings

NAMES = [*augmentations.names(), *tta.names()]
RENEW = "run python -m scripts.docs.augmentations"


def test_the_page_is_that_of_the_registry():
    assert DOC.read_text() == page(), f"stale: {RENEW}"


def test_every_augmentation_and_view_has_a_picture_and_nothing_else_has():
    assert sorted(path.stem for path in PICTURES.glob("*")) == sorted(NAMES), RENEW
    for path in PICTURES.glob("*"):
        assert path.stat().st_size <= LIMIT, path
        with Image.open(path) as image:
            image.verify()
            assert image.format == "PNG"


def test_every_command_of_the_page_switches_on_what_it_is_shown_for():
    shown = re.findall(r"^#+ (\w+)\n(?:(?!^#).*\n)*?python train\.py (.+)$", page(), re.MULTILINE)
    assert sorted(name for name, _ in shown) == sorted(NAMES)
    for name, line in shown:
        config = parse(line.split()).config()
        (choice,) = [config.tricks[s][name] for s in ("augment", "views") if name in config.tricks[s]]
        # What the line sets is what holds anyway.
        bare = parse([f"--{name}"]).config()
        assert choice.options == {**bare.tricks["augment"], **bare.tricks["views"]}[name].options


@pytest.mark.parametrize("turn", [lambda x: x.flip(3), lambda x: x.flip(2), lambda x: x.rot90(1, (2, 3))])
def test_every_drawing_shows_that_it_was_turned(turn):
    x = drawings()
    assert x.shape == (len(CLASSES), 3, 32, 32)
    moved = (turn(x).int() - x.int()).abs().amax(1) > 60
    assert (moved.float().mean((1, 2)) > 0.05).all()


def test_no_two_drawings_have_the_same_colours():
    means = drawings().float().mean((2, 3))
    assert (torch.cdist(means, means) + 100 * torch.eye(len(means)) > 12).all()
