"""What a trained network needs in use is in its checkpoint: classes, normalisation and view of an image."""

import contextlib
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import lib
import train
from lib.data.base import DataSpec
from scripts import predict, soup
from tests.helpers.images import image_folder

pytestmark = pytest.mark.usefixtures("undrawn")

FOLDER = "--model resnet20 --dataset folder:images --image-size 8 --epochs 1 --milestones 0.5 --batch-size 4"


def run_train(line: str) -> int:
    return train.main(["--device", "cpu", "--no-tensorboard", *line.split()])


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder of images of cats and dogs, and a run that was trained on it."""
    place = tmp_path_factory.mktemp("place")
    with contextlib.chdir(place):
        image_folder(Path("images"), ["cat", "dog"], train=4, test=2)
        assert run_train(f"{FOLDER} --test-crop 0.5 --data.workers 0 --output-dir run") == 0
    return place


@pytest.fixture
def trained(place, tmp_path, monkeypatch) -> Path:
    """The run folder, in a copy of that place, which becomes the working directory."""
    monkeypatch.chdir(shutil.copytree(place, tmp_path / "copy"))
    return Path("run")


def by_hand(path: Path, place: Path) -> torch.Tensor:
    """The probabilities of the run for an image, from Pillow, numpy and the weights alone."""
    train_images = sorted((place / "images/train").rglob("*.png"))
    pixels = np.stack([np.asarray(Image.open(file), dtype=np.float64) / 255 for file in train_images])
    square = Image.open(path).resize((8, 8), Image.Resampling.BILINEAR, box=(2, 2, 6, 6))
    x = (np.asarray(square) / 255 - pixels.mean((0, 1, 2))) / pixels.std((0, 1, 2))
    model = lib.create_model("resnet20", num_classes=2, image_size=8)
    model.load_state_dict(torch.load(place / "run/last.pt", weights_only=True)["model"])
    with torch.no_grad():
        return model.eval()(torch.tensor(x, dtype=torch.float32).permute(2, 0, 1)[None]).softmax(1)[0]


@pytest.mark.parametrize("moved", ["the images are gone", "only last.pt is left", "a class was renamed"])
def test_predict_needs_the_checkpoint_alone(place, trained, capsys, moved):
    image = place / "images/test/cat/0.png"
    run = "run"
    if moved == "a class was renamed":
        for part in ("train", "test"):
            Path("images", part, "cat").rename(f"images/{part}/zebra")
    else:
        shutil.rmtree("images")
    if moved == "only last.pt is left":
        run = str(Path("run/last.pt").rename("alone.pt"))
        shutil.rmtree("run")
    assert predict.main([run, str(image), "--device", "cpu"]) == 0
    expected = dict(zip(("cat", "dog"), by_hand(image, place).tolist(), strict=True))
    found = dict(re.findall(r"(\w+) ([\d.]+) %", capsys.readouterr().out.partition(": ")[2]))
    assert {name: float(value) for name, value in found.items()} == pytest.approx(
        {name: 100 * value for name, value in expected.items()}, abs=0.06
    )
    assert lib.load(run, device="cpu").classes == ("cat", "dog")


def refusal(capsys, code: int) -> str:
    error = capsys.readouterr().err
    assert code == 2 and error.startswith("error: ") and error.count("\n") == 1
    return error


def test_evaluation_refuses_other_classes_by_name(trained, capsys):
    for part in ("train", "test"):
        Path("images", part, "cat").rename(f"images/{part}/zebra")
    error = refusal(capsys, train.main(["--evaluate", "run", "--device", "cpu"]))
    assert "missing classes: cat" in error and "new classes: zebra" in error


@pytest.mark.parametrize("change", ["one more", "one fewer", "another order", "another channel"])
def test_the_differences_of_two_data_sets_are_named(change):
    learned = DataSpec((3, 8, 8), ("ape", "bee", "cat"), (0.5,) * 3, (0.5,) * 3)
    others = {
        "one more": (learned.shape, ("ape", "bee", "cat", "dog"), "new classes: dog"),
        "one fewer": (learned.shape, ("ape", "cat"), "missing classes: bee"),
        "another order": (
            learned.shape,
            ("ape", "cat", "bee"),
            "another order of the classes: ape, cat, bee...",
        ),
        "another channel": ((1, 8, 8), learned.classes, "images of (1, 8, 8) instead of (3, 8, 8)"),
    }
    shape, classes, words = others[change]
    assert learned.differences(replace(learned, shape=shape, classes=classes)) == words
    assert learned.differences(replace(learned, mean=(0.4,) * 3)) == ""


def test_teachers_and_soups_of_as_many_other_classes_are_refused_by_name(trained, capsys):
    for part in ("train", "test"):
        Path("images", part, "cat").rename(f"images/{part}/zebra")
    student = f"{FOLDER} --kd --teacher run --output-dir student"
    error = refusal(capsys, run_train(student))
    assert "--teacher run" in error and "missing classes: cat; new classes: zebra" in error
    state = torch.load("run/last.pt", weights_only=True)
    state["data"]["classes"] = ("dog", "cat")
    Path("other").mkdir()
    torch.save(state, "other/last.pt")
    error = refusal(capsys, soup.main(["run", "other", "-o", "pot"]))
    assert "other/last.pt learned other data" in error and "another order of the classes: dog, cat" in error


def test_a_checkpoint_of_an_earlier_version_takes_the_classes_from_its_data(trained, capsys):
    state = torch.load("run/last.pt", weights_only=True)
    expected = lib.load("run", device="cpu").data
    for key in ("data", "total", "checks"):
        del state[key]
    torch.save(state, "run/last.pt")
    assert lib.load("run", device="cpu").data == expected
    assert train.main(["--evaluate", "run", "--device", "cpu"]) == 0
    shutil.rmtree("images")
    assert "images has no folder train/" in refusal(capsys, predict.main(["run", "x.png"]))


def odd_folder(base: Path) -> None:
    """Images of three classes that differ in colour, with what folders of people have: see the comments."""
    rng = np.random.default_rng(0)
    colours = {"cat": (200, 30, 30), "dög ☃": (30, 200, 30), "a,b 'c'": (30, 30, 200)}
    for part, count in (("train", 8), ("test", 6)):
        for name, colour in colours.items():
            (base / part / name).mkdir(parents=True)
            for number in range(count):
                noise = rng.integers(-30, 30, (20 + number, 28, 3))
                image = Image.fromarray((np.array(colour) + noise).clip(0, 255).astype(np.uint8))
                path, exif = base / part / name / f"{number}.png", Image.Exif()
                exif[0x0112] = 1 + number % 8  # every orientation of a camera
                if number % 3 == 0:
                    image.save(path.with_suffix(".jpg"), exif=exif)
                elif number % 3 == 1:  # a drawing on a clear ground
                    image.putalpha(
                        Image.fromarray(rng.integers(0, 2, noise.shape[:2]).astype(np.uint8) * 255)
                    )
                    image.save(path)
                else:
                    image.convert(("P", "CMYK", "L")[number % 9 // 3]).save(path.with_suffix(".tiff"))
        hidden = base / part / "cat/.ipynb_checkpoints"
        hidden.mkdir()
        Image.new("RGB", (8, 8)).save(hidden / "0.png")
        (base / f"more-{part}").mkdir()
        Image.new("I;16", (9, 9), 40_000).save(base / f"more-{part}/16 bits.png")
        (base / part / "cat/linked").symlink_to(base / f"more-{part}")


@pytest.mark.slow
@pytest.mark.parametrize("stream", ["false", "true"])
def test_evaluation_prediction_and_own_code_agree_on_a_folder_with_every_oddity(
    tmp_path, monkeypatch, stream, capsys
):
    monkeypatch.chdir(tmp_path)
    odd_folder(tmp_path / "odd")
    view = "--test-crop 0.6" if stream == "true" else ""
    line = f"--model resnet20 --dataset folder:odd --image-size 16 --batch-size 8 --epochs 6 {view}"
    assert run_train(f"{line} --milestones 0.5 --stream {stream} --data.workers 0 --output-dir run") == 0
    assert train.main(["--evaluate", "run/last.pt", "--device", "cpu"]) == 0
    accuracies = json.loads(Path("run/evaluation.json").read_text())["networks"]["last"]["test"][
        "class_accuracy"
    ]

    files = sorted(
        file for file in Path("odd/test").rglob("*.*") if file.is_file() and ".ipynb" not in str(file)
    )
    files += [Path("odd/test/cat/linked/16 bits.png")]
    capsys.readouterr()
    assert predict.main(["run/last.pt", *map(str, files), "--device", "cpu"]) == 0
    lines = capsys.readouterr().out.splitlines()

    run = lib.load("run", device="cpu")  # a user's own code
    right = dict.fromkeys(run.classes, 0)
    images = dict.fromkeys(run.classes, 0)
    with torch.no_grad():
        for file, said in zip(files, lines, strict=True):
            p = run.models["last"](run.read(file)[None]).softmax(1)[0]
            guess, truth = run.classes[p.argmax()], file.parts[2]
            assert f": {guess} {100 * p.max():.1f} %" in said
            images[truth] += 1
            right[truth] += guess == truth
    assert accuracies == pytest.approx([100 * right[name] / images[name] for name in run.classes])
    assert sum(accuracies) / 3 > 50  # it has learned more than chance
