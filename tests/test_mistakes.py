"""The most confident mistakes of a run, as a figure of --evaluate and as a section of its page."""

import base64
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import train
from lib.data.base import Split
from lib.data.images import Images
from lib.data.synthetic import synthetic
from lib.report.mistakes import most_confident
from scripts import page

pytestmark = pytest.mark.usefixtures("undrawn")


def by_hand(run: Path) -> list[tuple[int, int, int, float]]:
    """Index, true class, predicted class and percent of the mistakes, from the predictions alone."""
    with np.load(run / "predictions.npz") as arrays:
        logits, y = arrays["logits"].astype(float), arrays["y"]
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    wrong = [(i, y[i], row.argmax(), 100 * row.max()) for i, row in enumerate(p) if row.argmax() != y[i]]
    return sorted(wrong, key=lambda one: -one[3])


def test_the_page_of_a_run_shows_its_most_confident_mistakes_with_their_images(run):
    assert page.main(["run", "-o", "out", "--errors", "5"]) == 0
    text = Path("out/index.html").read_text()
    figures = re.findall(r"<figure><img.*?</figure>", text)
    x, expected = synthetic(size=120, image_size=8).test.x, by_hand(run)[:5]
    assert len(figures) == 5
    for figure, (index, true, guess, percent) in zip(figures, expected, strict=True):
        assert f"class {guess} {percent:.1f} %" in figure and f"is class {true}, test image {index}" in figure
        images = [base64.b64decode(data) for data in re.findall(r"base64,([^\"]+)", figure)]
        image, evidence = (np.asarray(Image.open(io.BytesIO(data))).astype(int) for data in images)
        np.testing.assert_array_equal(image, x[index].permute(1, 2, 0).numpy())
        assert (evidence <= image).all() and (evidence < image).any()


def test_an_evaluation_draws_the_mistakes(run, capsys):
    assert train.main(["--evaluate", "run", "--device", "cpu"]) == 0
    assert "errors.png" in capsys.readouterr().out
    with Image.open("run/errors.png") as figure:
        pixels = np.asarray(figure.convert("RGB")).reshape(-1, 3)
    # The most confident mistake is in the figure, enlarged: each of its pixels is a square of one colour.
    first = synthetic(size=120, image_size=8).test.x[by_hand(run)[0][0]].flatten(1).T
    assert {tuple(p) for p in first.tolist()} <= {tuple(p) for p in np.unique(pixels, axis=0).tolist()}


def test_grey_images_and_perfect_networks_have_their_mistakes():
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    split = Split(torch.randint(0, 256, (3, 1, 4, 4), dtype=torch.uint8), torch.tensor([0, 1, 0]))
    images = Images(split, lambda x: x.float())
    wrong = torch.tensor([[0.0, 2.0], [0.0, 1.0], [0.0, 3.0]])  # of the first and the last image
    found = most_confident(model, images, wrong, ("cat", "dog"), count=9)
    assert [(m.index, m.true, m.predicted) for m in found] == [(2, "cat", "dog"), (0, "cat", "dog")]
    assert torch.equal(found[0].image, split.x[2].expand(3, -1, -1))
    assert most_confident(model, images, torch.eye(2)[split.y], ("cat", "dog"), count=9) == []


@pytest.mark.parametrize("count", ["-1", "3"])
def test_mistakes_of_several_runs_or_none_are_refused_in_one_line(run, capsys, count):
    if count == "3":
        other = Path(shutil.copytree("run", "more"))
        record = json.loads((other / "result.json").read_text())
        (other / "result.json").write_text(json.dumps(record | {"seed": 1}))
    assert page.main([".", "-o", "out", "--errors", count]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "--errors shows at least one mistake of one run" in error
