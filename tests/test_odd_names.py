"""Names of files and classes with odd characters, in everything that prints, draws or writes them."""

import json
import os
from pathlib import Path

import pytest
from PIL import Image

import train
from lib.core.files import printable
from lib.data.listing import list_images
from lib.report import render
from scripts import page, plot, predict, preview, table
from tests.helpers.images import image_folder

NAMES = [
    "$x^2_{1}$", "$", "$\\frac{$", "a\\b", "{}", "%s %d", "-leading", "_hidden", "tab\there", "line\nbreak",
    "ünïcödé 猫 🐈", "שלום", "a,b;c", '"quoted"', "<b>&amp;<script>", "[red]", "x" * 200,
    os.fsdecode(b"latin1-\xe9"), "|a|b|",
]  # fmt: skip


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    return image_folder(tmp_path_factory.mktemp("names") / os.fsdecode(b"$set \xe9\n{}"), NAMES, train=1)


def test_a_printable_name_is_one_line_that_every_encoding_of_unicode_has():
    for name in NAMES:
        printable(name).encode("utf-8")
        assert printable(name).splitlines() == [printable(name)]
    assert printable("a\nb\t" + os.fsdecode(b"\xe9") + " 猫") == r"a\nb\t\udce9 猫"
    assert len(set(map(printable, NAMES))) == len(NAMES)


def test_names_are_read_from_folders_and_escaped_in_the_names_of_classes(images):
    found = list_images(images)
    assert found.classes == tuple(map(printable, sorted(NAMES)))
    assert all(Path(found.path(place)).exists() for place in range(len(found)))


def test_a_run_on_odd_names_is_trained_evaluated_drawn_and_tabulated(images, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    data = ["--dataset", f"folder:{images}", "--image-size", "8", "--batch-size", "8", "--no-crop"]
    options = "--model resnet9 --model.width 4 --epochs 1 --device cpu --tensorboard false --output-dir run"
    files = [str(path) for path in images.glob("test/*/0.png")]
    for main, arguments in (
        (train.main, [*data, *options.split()]),
        (train.main, ["--evaluate", "run"]),
        (predict.main, ["run", *files, "--device", "cpu"]),
        (preview.main, [*data, "--device", "cpu", "-o", "preview.png"]),
        (plot.main, ["confusion", "run", "-o", "confusion.svg"]),
        (page.main, ["run", "-o", "page"]),
        *((table.main, ["run", "--format", form]) for form in render.FORMATS),
    ):
        assert main(arguments) == 0, arguments
        out, err = capfd.readouterr()
        assert "Traceback" not in err and "Warning" not in err, err
        if main is predict.main:
            assert len(out.splitlines()) == len(NAMES)
    assert json.loads(Path("run/evaluation.json").read_text())["classes"] == [*map(printable, sorted(NAMES))]
    for figure in ("run/confusion.png", "run/curves.png", "preview.png"):
        assert Image.open(figure).size[0] < 2000
