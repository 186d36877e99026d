"""Image folders for streaming: small, with images of several shapes, and their batches."""

import shlex
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from lib.config.cli import parse
from lib.core.batch import Batch
from lib.factory import build_data, build_dataset

CLASSES, TRAIN, TEST = 3, 14, 5  # images per class: numbers that no batch divides


def folder_of_shapes(base: Path) -> Path:
    """A folder of small images, some wide and some high."""
    rng = np.random.default_rng(0)
    for part, count in (("train", TRAIN), ("val", TEST)):
        for name in "abc"[:CLASSES]:
            (base / part / name).mkdir(parents=True)
            for number in range(count):
                small = rng.integers(0, 256, (3, 3, 3), np.uint8)
                size = (20, 14) if number % 2 else (13, 16)
                Image.fromarray(small).resize(size).save(base / part / name / f"{number}.png")
    return base


def config_of(base: Path, line: str = ""):
    usual = f"--dataset folder:{base} --model wrn_10_1 --batch-size 8 --device cpu"
    size = "" if "--image-size" in line else "--image-size 8"
    return parse(shlex.split(f"{usual} {size} {line}")).config()


def data_of(base: Path, line: str = ""):
    """The training batches and the splits."""
    config = config_of(base, line)
    return build_data(config, build_dataset(config), torch.device("cpu"))


def assert_equal(one: Batch, other: Batch) -> None:
    assert torch.equal(one.x, other.x) and torch.equal(one.y, other.y)
    assert torch.equal(one.index, other.index) and one.epoch == other.epoch
