"""docs/augmentations.md and its figures."""

import io
import re

import pytest
import torch
from PIL import Image

from lib.config.cli import parse
from lib.core.registry import augmentations, tta
from scripts.docs.augmentations import DOC, files, page
from scripts.docs.drawings import CLASSES, drawings
from scripts.docs.figures import LIMIT

NAMES = [*augmentations.names(), *tta.names()]


def test_every_augmentation_and_view_has_a_small_figure():
    content = files(everything=False)
    assert sorted(path.stem for path in content if path.suffix == ".png") == sorted(NAMES)
    for path, png in content.items():
        if path != DOC:
            assert len(png) <= LIMIT, path
            with Image.open(io.BytesIO(png)) as image:
                image.verify()
                assert image.format == "PNG"


def test_every_command_of_the_page_enables_its_augmentation():
    shown = re.findall(r"^#+ (\w+)\n(?:(?!^#).*\n)*?python train\.py (.+)$", page(), re.MULTILINE)
    assert sorted(name for name, _ in shown) == sorted(NAMES)
    for name, line in shown:
        config = parse(line.split()).config()
        (choice,) = [config.tricks[s][name] for s in ("augment", "views") if name in config.tricks[s]]
        # The command sets what the defaults are.
        bare = parse([f"--{name}"]).config()
        assert choice.options == {**bare.tricks["augment"], **bare.tricks["views"]}[name].options


@pytest.mark.parametrize("turn", [lambda x: x.flip(3), lambda x: x.flip(2), lambda x: x.rot90(1, (2, 3))])
def test_turning_a_drawing_changes_it(turn):
    x = drawings()
    assert x.shape == (len(CLASSES), 3, 32, 32)
    moved = (turn(x).int() - x.int()).abs().amax(1) > 60
    assert (moved.float().mean((1, 2)) > 0.05).all()


def test_no_two_drawings_have_the_same_colours():
    means = drawings().float().mean((2, 3))
    assert (torch.cdist(means, means) + 100 * torch.eye(len(means)) > 12).all()
