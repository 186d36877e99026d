"""`python -m scripts.predict RUN image...`"""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lib.data.synthetic import synthetic
from scripts import predict
from tests.helpers.images import MODES, picture


def test_each_image_is_one_line_and_unreadable_files_are_skipped(run, capsys):
    names = []
    for n, mode in enumerate(MODES[:6]):
        names.append(f"{n}.png")
        picture(mode, (11, 9)).save(names[-1])
    Path("bad.png").write_text("no image")
    assert predict.main(["run", *names, "--device", "cpu"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == names
    for line in lines:
        shares = [float(share) for share in re.findall(r"class \d ([\d.]+) %", line)]
        assert len(shares) == 3 and shares == sorted(shares, reverse=True) and sum(shares) <= 100.2
    assert predict.main(["run", "bad.png", "0.png", "none.png", "--device", "cpu", "--network", "ema"]) == 2
    out, err = capsys.readouterr()
    assert out.startswith("0.png: class ") and out.count("\n") == 1
    assert [line.split()[:4] for line in err.splitlines()] == [
        ["skipped:", "cannot", "read", "bad.png"],
        ["skipped:", "cannot", "read", "none.png"],
    ]


def test_predictions_for_files_of_the_test_images_are_those_of_the_run(run, capsys):
    x = synthetic(size=120, image_size=8).test.x
    with np.load(run / "predictions.npz") as arrays:
        logits = torch.from_numpy(arrays["logits"])
    names = [f"{n}.png" for n in range(6)]
    for n, name in enumerate(names):
        Image.fromarray(x[n].permute(1, 2, 0).numpy()).save(name)
    assert predict.main(["run", *names, "--device", "cpu"]) == 0
    for line, row in zip(capsys.readouterr().out.splitlines(), logits, strict=False):
        share, k = row.softmax(0).max(0)
        assert line.partition(": ")[2].startswith(f"class {k} {100 * share:.1f} %")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("nowhere 0.png", "there is no checkpoint nowhere"),
        ("run 0.png --network swa", "run/last.pt has no network 'swa'; it has last, ema"),
        ("run 0.png --device tpux", "'tpux' is none of"),
    ],
)
def test_a_missing_run_network_or_device_is_refused_in_one_line(run, capsys, line, said):
    assert predict.main(line.split()) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and said in error
