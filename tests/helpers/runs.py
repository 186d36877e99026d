"""A run so small that it can be trained often."""

import contextlib
from pathlib import Path

import train

TINY = """\
model: {name: resnet20}
data: {name: synthetic, size: 64, classes: 4, image_size: 8}
schedule: {milestones: [1]}
train: {epochs: 2, batch_size: 16}
run: {device: cpu, tracker: none}
"""


def train_ten_classes(place: Path) -> Path:
    """The folder of a tiny run of ten classes, with an average, held-out images and test-time flips."""
    with contextlib.chdir(place):
        Path("tiny.yaml").write_text(TINY)
        line = "--data.size 120 --data.classes 10 --ema --val 0.25 --tta-flip --output-dir run"
        assert train.main(["--config", "tiny.yaml", *line.split()]) == 0
    return place / "run"
