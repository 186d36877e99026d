"""What is told of a trained network beside its accuracy."""

import contextlib
import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import train
from lib.core.registry import corruptions
from lib.data.synthetic import synthetic
from lib.engine.metrics import (
    best_temperature,
    beyond_accuracy,
    calibration_error,
    class_accuracy,
    confusion,
    nll,
    top_k,
)
from lib.report.plots.confusion import confusion_text
from lib.run.robustness import corrupted, corruption_error, robustness
from scripts import predict
from tests.helpers.runs import TINY


def sure(*confidences: float, K: int = 2) -> Tensor:
    """Logits of class 0 with these probabilities, and of the other classes with equal shares of the rest."""
    p = torch.tensor(confidences, dtype=torch.float64)[:, None]
    return torch.cat((p, ((1 - p) / (K - 1)).expand(-1, K - 1)), 1).log()


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


# Metrics


def test_top_five_counts_the_images_whose_class_has_one_of_the_five_highest_logits():
    logits = torch.arange(10.0).expand(4, 10)  # class 9 first, class 0 last
    assert top_k(logits, torch.tensor([9, 5, 4, 0]), 5) == 50
    assert top_k(logits, torch.tensor([9, 5, 4, 0]), 1) == 25
    assert top_k(logits, torch.tensor([9, 5, 4, 0]), 10) == 100


def test_the_calibration_error_of_two_bins_by_hand():
    # Of the four that are 70 % sure half are right, the gap is 20 points; of the one that is 95 % sure, 5.
    logits, y = sure(0.7, 0.7, 0.7, 0.7, 0.95), torch.tensor([0, 0, 1, 1, 0])
    assert calibration_error(logits, y) == pytest.approx(0.8 * 20 + 0.2 * 5)
    # In one bin all meet: 60 % are right and the mean confidence is 75 %.
    assert calibration_error(logits, y, bins=1) == pytest.approx(15)


def test_errors_in_both_directions_cancel_within_a_bin_only():
    logits, y = sure(0.62, 0.64), torch.tensor([0, 1])  # both in the tenth bin of 15, (0.6, 0.667]
    assert calibration_error(logits, y) == pytest.approx(abs(1 - 1.26) / 2 * 100)
    logits = sure(0.62, 0.68)
    assert calibration_error(logits, y) == pytest.approx((0.38 + 0.68) / 2 * 100)


def test_a_network_that_is_right_as_often_as_it_is_sure_has_no_calibration_error():
    assert calibration_error(sure(*[0.75] * 4, K=10), torch.tensor([0, 0, 0, 3])) == pytest.approx(
        0, abs=1e-9
    )


def test_the_calibration_error_of_many_images_is_that_of_a_loop_over_bins():
    logits, y = 3 * noise(500, 7), torch.arange(500) % 7
    p = torch.softmax(logits.double(), 1).numpy()
    confidence, right = p.max(1), p.argmax(1) == y.numpy()
    expected = 0.0
    for b in range(15):
        inside = (confidence > b / 15) & (confidence <= (b + 1) / 15)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert calibration_error(logits, y) == pytest.approx(100 * expected)


def test_the_best_temperature_of_equal_logits_has_a_closed_form():
    # Three of four are right, so the best confidence is 3/4: 4 / T = log 3.
    logits, y = torch.tensor([[4.0, 0.0]]).expand(4, 2), torch.tensor([0, 0, 0, 1])
    temperature = best_temperature(logits, y)
    assert temperature == pytest.approx(4 / math.log(3), rel=1e-6)
    assert nll(logits, y, temperature) == pytest.approx(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))
    assert calibration_error(logits, y, temperature) == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_a_known_temperature_is_recovered(temperature):
    logits = 2 * noise(40_000, 5)
    y = torch.multinomial(logits.softmax(1), 1, generator=torch.Generator().manual_seed(1))[:, 0]
    found = best_temperature(logits * temperature, y)
    assert found == pytest.approx(temperature, rel=0.02)
    for other in (0.97 * found, 1.03 * found):
        assert nll(logits * temperature, y, found) < nll(logits * temperature, y, other)


def test_a_network_that_is_always_right_is_sharpened_to_the_bound():
    assert best_temperature(torch.eye(3), torch.arange(3), low=0.01) == pytest.approx(0.01)


def test_confusion_has_the_true_class_down_and_the_guess_across():
    guesses, y = torch.tensor([0, 0, 1, 2, 2, 2]), torch.tensor([0, 1, 1, 2, 2, 0])
    counts = confusion(torch.eye(4)[guesses], y)
    assert counts.tolist() == [[1, 0, 1, 0], [1, 1, 0, 0], [0, 0, 2, 0], [0, 0, 0, 0]]
    shares = class_accuracy(counts).tolist()
    assert shares[:3] == [50, 50, 100] and math.isnan(shares[3])


def test_top_five_of_few_classes_says_nothing_and_is_left_out():
    assert beyond_accuracy(noise(20, 9), torch.arange(20) % 9).keys() == {"ece"}
    assert beyond_accuracy(noise(20, 10), torch.arange(20) % 10).keys() == {"top5", "ece"}


# The record of a run


def test_a_record_holds_top_five_and_calibration_of_the_last_epoch(tiny):
    line = "--data.classes 10 --ema --val 0.25 --output-dir run"
    assert train.main(["--config", tiny, *line.split()]) == 0
    with open("run/result.json") as file:
        result = json.load(file)
    with np.load("run/predictions.npz") as arrays:
        predicted = {name: torch.from_numpy(array) for name, array in arrays.items()}
    for prefix in ("", "ema_"):
        best = predicted[f"{prefix}logits"].argsort(1, descending=True)[:, :5]
        among = [int(k) in row for k, row in zip(predicted["y"], best.tolist(), strict=True)]
        assert result[f"{prefix}test_top5"] == pytest.approx(100 * sum(among) / len(among))
        error = calibration_error(predicted[f"{prefix}logits"], predicted["y"])
        assert result[f"{prefix}test_ece"] == pytest.approx(error)
        assert f"{prefix}val_top5" in result
    with open("run/metrics.jsonl") as file:
        first, last = map(json.loads, file)
    assert not [key for key in first if key.endswith(("top5", "ece"))]
    assert last["test_ece"] == result["test_ece"]


# `--evaluate RUN`


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a tiny run with an average and a held-out part. Only to be copied."""
    place = tmp_path_factory.mktemp("trained")
    with contextlib.chdir(place):
        Path("tiny.yaml").write_text(TINY)
        line = "--data.size 120 --data.classes 10 --ema --val 0.25 --tta-flip --output-dir run"
        assert train.main(["--config", "tiny.yaml", *line.split()]) == 0
    return place / "run"


@pytest.fixture
def run(trained, tmp_path, monkeypatch):
    """A copy of it in an empty folder, to which the test goes."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(trained, "run"))


def test_evaluation_of_a_run_gives_what_the_run_recorded(run, capsys):
    result = json.loads((run / "result.json").read_text())
    assert train.main(["--evaluate", "run", "--device", "cpu", "--tta-shifts"]) == 0
    text = capsys.readouterr().out
    report = json.loads((run / "evaluation.json").read_text())
    names = {"last": "", "ema": "ema_", "tta_flip": "tta_flip_", "ema_tta_flip": "ema_tta_flip_"}
    assert report["networks"].keys() == {*names, "tta_shifts", "ema_tta_shifts"}  # what was asked anew too
    for name, prefix in names.items():
        for split in ("val", "test"):
            found = report["networks"][name][split]
            for key in ("accuracy", "loss", "top5", "ece"):
                assert found[key] == pytest.approx(result[f"{prefix}{split}_{key}"], rel=1e-6)
            assert found["recorded_accuracy"] == found["accuracy"]
    assert report["networks"]["tta_shifts"]["test"]["recorded_accuracy"] is None
    assert f"{result['test_accuracy']:.2f}" in text and "points off" not in text


def test_the_temperature_is_fitted_on_the_held_out_part(run, capsys):
    assert train.main(["--evaluate", "run", "--device", "cpu"]) == 0
    assert "held-out part" in capsys.readouterr().out
    test = json.loads((run / "evaluation.json").read_text())["networks"]["last"]["test"]
    assert test["scaled"]["fitted_on"] == "val" and "oracle_scaled" not in test


def test_a_temperature_fitted_on_the_test_images_is_called_an_oracle(tiny, capsys):
    assert train.main(["--config", tiny, "--output-dir", "run"]) == 0
    assert train.main(["--evaluate", "run"]) == 0
    assert "oracle" in capsys.readouterr().out
    test = json.loads(Path("run/evaluation.json").read_text())["networks"]["last"]["test"]
    assert test["oracle_scaled"]["fitted_on"] == "test" and "scaled" not in test
    with np.load("run/predictions.npz") as arrays:
        logits, y = arrays["logits"].astype(np.float64), arrays["y"]
    logits /= test["oracle_scaled"]["temperature"]
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    assert test["oracle_scaled"]["loss"] == pytest.approx(-log_p[np.arange(len(y)), y].mean())
    assert test["oracle_scaled"]["loss"] <= test["loss"]


def test_classes_and_confusion_are_counted_from_the_predictions(run, capsys):
    assert train.main(["--evaluate", "run", "--device", "cpu"]) == 0
    test = json.loads((run / "evaluation.json").read_text())["networks"]["ema"]["test"]
    with np.load(run / "predictions.npz") as arrays:
        guess, y = arrays["ema_logits"].argmax(1), arrays["y"]
    counts = [[int(((y == true) & (guess == k)).sum()) for k in range(10)] for true in range(10)]
    assert test["confusion"] == counts
    assert test["class_accuracy"] == pytest.approx([100 * c[k] / sum(c) for k, c in enumerate(counts)])
    assert "class 9" in capsys.readouterr().out
    with Image.open(run / "confusion.png") as picture:
        assert picture.format == "PNG" and min(picture.size) > 500


def test_the_most_confused_of_many_classes_are_told_in_order():
    counts = torch.diag(torch.full((30,), 90))
    counts[4, 7], counts[2, 1] = 10, 30
    lines = confusion_text(counts, tuple(f"c{k}" for k in range(30))).splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["c2,", "c1", "30", "25.00"],
        ["c4,", "c7", "10", "10.00"],
    ]


def test_an_evaluation_leaves_the_run_as_it_was(run):
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    assert train.main(["--evaluate", "run", "--device", "cpu"]) == 0
    after = {path.name: path.read_bytes() for path in run.iterdir()}
    assert after.keys() - before.keys() == {"evaluation.json", "confusion.png"}
    assert before.items() <= after.items()


def test_a_run_that_is_not_complete_is_evaluated_as_far_as_it_came(run, capsys):
    (run / "result.json").unlink()
    assert train.main(["--evaluate", "run", "--device", "cpu"]) == 0
    assert "not complete" in capsys.readouterr().out


REFUSED = {
    "no folder": ("--evaluate nowhere", "nowhere is no run folder", "no such folder"),
    "a folder without a run": ("--evaluate .", "no run folder", "config.yaml"),
    "no folder said": ("--evaluate", "--evaluate needs a value"),
    "a setting of training": ("--evaluate run --lr 0.2", "--lr (command line)", "settled by the run in run"),
    "an augmentation": ("--evaluate run --cutout 8", "--cutout", "settled", "views"),
    "a file of settings": ("--config x.yaml --evaluate run", "--config", "leave it out"),
    "two actions": ("--evaluate run --dry-run", "--evaluate and --dry-run", "two things"),
    "an unknown view": ("--evaluate run --tta-flop", "unknown setting 'tta-flop'", "tta_flip"),
}


@pytest.mark.parametrize("line", REFUSED.values(), ids=REFUSED)
def test_what_makes_no_sense_beside_evaluate_is_refused_in_one_line(run, capsys, line):
    line, *parts = line
    assert train.main(line.split()) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and all(part in error for part in parts), error


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("last.pt", None, "there is no checkpoint run/last.pt"),
        ("last.pt", b"PK\3\4", "run/last.pt cannot be read as a checkpoint"),
        ("config.yaml", b"", "run/config.yaml is empty"),
        ("config.yaml", b"\xff\xfe", "holds no run that this version can read: run/config.yaml"),
        ("config.yaml", b"lr: {base: 3}\n", "holds no run that this version can read: lr.base"),
        ("result.json", b"{}", "run/result.json cannot be read"),
    ],
)
def test_a_damaged_folder_is_refused_in_one_line(run, capsys, name, content, said):
    (run / name).unlink() if content is None else (run / name).write_bytes(content)
    assert train.main(["--evaluate", "run", "--device", "cpu"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and said in error, error
    assert not (run / "evaluation.json").exists()


def test_a_configuration_of_another_model_is_refused(run, capsys):
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("resnet20", "resnet32"))
    assert train.main(["--evaluate", "run", "--device", "cpu"]) == 2
    assert "another model's" in capsys.readouterr().err


# `python -m scripts.predict RUN image...`


def picture(mode: str, size: tuple[int, int] = (8, 8)) -> Image.Image:
    """Random pixels, in any of Pillow's modes."""
    pixels = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    if mode.startswith("I"):
        return Image.fromarray(np.array(image.convert("L")).astype(np.uint16) * 256)
    if mode in ("RGBA", "LA", "PA"):
        image = image.convert("RGBA" if mode == "PA" else mode)
        image.putalpha(Image.fromarray(pixels[:, :, 0]))
        return image.quantize(16) if mode == "PA" else image
    return image.convert(mode)


MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "I;16")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_of_any_mode_and_size_is_read(mode, channels, tmp_path):
    suffix = ".tif" if mode in ("CMYK", "YCbCr") else ".png"
    for size in ((8, 8), (1, 1), (50, 20), (3, 90)):
        path = tmp_path / f"image{suffix}"
        picture(mode, size).save(path)
        x = predict.read(path, (channels, 8, 8))
        assert x.shape == (channels, 8, 8) and x.dtype == torch.uint8


def test_an_image_of_the_right_size_keeps_its_pixels(tmp_path):
    for mode, expected in (("RGB", picture("RGB")), ("L", picture("L")), ("I;16", picture("L"))):
        picture(mode).save(tmp_path / "image.png")
        x = predict.read(tmp_path / "image.png", (3, 8, 8)).permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(x, np.array(expected.convert("RGB")))


def test_what_is_transparent_is_white(tmp_path):
    image = picture("RGBA")
    image.putalpha(0)
    image.save(tmp_path / "image.png")
    assert predict.read(tmp_path / "image.png", (3, 8, 8)).eq(255).all()


def test_images_are_told_in_a_line_each_and_a_bad_file_is_skipped(run, capsys):
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
    assert [line.split()[:2] for line in err.splitlines()] == [
        ["skipped:", "bad.png"],
        ["skipped:", "none.png"],
    ]


def test_the_images_of_the_test_set_are_taken_for_what_the_run_took_them_for(run, capsys):
    x = synthetic(Path(), True, size=120, image_size=8).test.x
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
        ("nowhere 0.png", "nowhere is no run folder"),
        ("run 0.png --network swa", "run has no such network; it has last, ema"),
        ("run 0.png --device tpux", "'tpux' is none of"),
    ],
)
def test_predictions_of_no_network_are_refused_in_one_line(run, capsys, line, said):
    assert predict.main(line.split()) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and said in error


# `--evaluate.corruptions True`

CORRUPTIONS = corruptions.names()


@pytest.fixture
def three(monkeypatch):
    """Three corruptions alone, for fifteen take long."""
    monkeypatch.setattr(corruptions, "names", lambda: ["contrast", "fog", "gaussian_noise"])


def test_corruptions_of_a_run_are_told_by_severity_with_their_mean_error(run, three, capsys):
    line = "--evaluate run --device cpu --evaluate.corruptions True"
    assert train.main(line.split()) == 0
    text = capsys.readouterr().out
    report = json.loads((run / "evaluation.json").read_text())
    for network in report["networks"].values():
        found = network["test"]["corruptions"]
        assert found.keys() == {"contrast", "fog", "gaussian_noise"}
        assert all(len(row) == 5 for row in found.values())
        error = np.mean([100 - accuracy for row in found.values() for accuracy in row])
        assert network["test"]["corruption_error"] == pytest.approx(error)
    last = report["networks"]["last"]["test"]
    assert f"mean corruption error (not divided by AlexNet's): last {last['corruption_error']:.2f} %" in text
    row = next(line.split() for line in text.splitlines() if line.startswith("fog"))
    assert row[1:6] == [f"{accuracy:.2f}" for accuracy in last["corruptions"]["fog"]]


def test_a_training_run_ends_with_its_corruptions_where_they_are_asked_for(tiny, three, capsys):
    line = ["--config", tiny, "--ema", "--output-dir", "run"]
    assert train.main([*line, "--evaluate.corruptions", "True"]) == 0
    result = json.loads(Path("run/result.json").read_text())
    assert result["corruptions"].keys() == {"last", "ema"}
    rows = result["corruptions"]["ema"].values()
    error = np.mean([100 - accuracy for row in rows for accuracy in row])
    assert result["ema_test_corruption_error"] == pytest.approx(error)
    assert "mean corruption error" in Path("run/log.txt").read_text()
    # What is measured in the end changes nothing of what is learned: it is the same run.
    assert train.main(line) == 0
    assert "complete" in capsys.readouterr().out
    # And with the evaluation of its folder the numbers come out the same.
    assert train.main(["--evaluate", "run", "--corruptions"]) == 0
    again = json.loads(Path("run/evaluation.json").read_text())["networks"]
    assert again["last"]["test"]["corruptions"] == result["corruptions"]["last"]


def test_a_complete_run_without_corruptions_says_how_to_get_them(run, capsys):
    line = "--config run/config.yaml --output-dir run --evaluate.corruptions True"
    assert train.main(line.split()) == 0
    assert "train.py --evaluate run --evaluate.corruptions True" in capsys.readouterr().out


def test_every_run_sees_the_same_corrupted_images():
    split = synthetic(Path(), True, size=80, image_size=8).test
    for name in CORRUPTIONS:
        one, two = (corrupted(split, name, 2) for _ in range(2))
        assert torch.equal(one.x, two.x) and torch.equal(one.y, split.y)
        assert not torch.equal(one.x, split.x)


def test_a_network_that_always_says_the_same_is_right_as_often_under_every_corruption(three):
    split = synthetic(Path(), True, size=80, image_size=8).test

    class Always(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.eye(10)[torch.full((len(x),), 3)]

    found = robustness({"last": Always()}, split, lambda x: x.float(), "fp32")
    assert found["last"] == dict.fromkeys(("contrast", "fog", "gaussian_noise"), [10.0] * 5)
    assert corruption_error(found["last"]) == 90
