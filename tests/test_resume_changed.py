"""A run resumes only with the data and the draws that it began with, and its scalars have every step once."""

import contextlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import lib.run.fit
import train
from tests.helpers.images import image_folder
from tests.helpers.refusals import files, one_line

pytestmark = pytest.mark.usefixtures("undrawn")

LINE = (
    "--model resnet20 --dataset folder:images --image-size 8 --epochs 3 --milestones 1 --batch-size 4 "
    "--data.workers 0 --device cpu"
)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory) -> Path:
    """A folder with images, and with two runs on them that were stopped in their second epoch."""
    place, step = tmp_path_factory.mktemp("stopped"), lib.run.fit.train_step

    def stop(run, number):
        if number == 3:
            raise KeyboardInterrupt
        return step(run, number)

    with contextlib.chdir(place), pytest.MonkeyPatch.context() as patch:
        patch.setattr(lib.run.fit, "train_step", stop)
        image_folder(Path("images"), ["ape", "bee"], train=4, test=2)
        for name, stream in (("run", "false"), ("streamed", "true")):
            assert train.main([*LINE.split(), "--stream", stream, "--output-dir", name]) == 130
    return place


@pytest.fixture
def place(stopped, tmp_path, monkeypatch) -> Path:
    """A copy of that folder, which becomes the working directory."""
    monkeypatch.chdir(shutil.copytree(stopped, tmp_path / "copy"))


def resume(name: str, *more: str) -> int:
    stream = "true" if name == "streamed" else "false"
    return train.main([*LINE.split(), "--stream", stream, "--output-dir", name, *more])


def rename_a_class():
    for part in ("train", "test"):
        Path("images", part, "bee").rename(f"images/{part}/wasp")


def delete_images():
    Path("images/train/ape/0.png").unlink()


def add_images():
    shutil.copy("images/train/bee/0.png", "images/test/bee/9.png")


def change_pixels():
    path = Path("images/train/ape/1.png")
    Image.fromarray(255 - np.asarray(Image.open(path))).save(path)


def change_the_classes_of_two_images():
    Path("images/train/ape/1.png").rename("swap.png")
    Path("images/train/bee/1.png").rename("images/train/ape/1.png")
    Path("swap.png").rename("images/train/bee/1.png")


CHANGES = {
    rename_a_class: ("missing classes: bee", "new classes: wasp"),
    delete_images: ("train {}: 8 images", "7 images"),
    add_images: ("test {}: 4 images", "5 images"),
    change_pixels: ("train {}: 8 images",),
    change_the_classes_of_two_images: ("train {}: 8 images",),
}


@pytest.mark.parametrize("name", ["run", "streamed"])
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_run_resumes_with_changed_data_only_if_told_so(place, capfd, change, name):
    change()
    before = {path: data for path, data in files(Path(name)).items() if path.name != "log.txt"}
    identity = "files" if name == "streamed" else "pixels"
    parts = [part.format(identity) for part in CHANGES[change]]
    one_line(resume(name), capfd.readouterr().err, f"{name}/last.pt", "--resume-changed", *parts)
    after = {path: data for path, data in files(Path(name)).items() if path.name != "log.txt"}
    assert after == before
    assert resume(name, "--resume-changed") == 0
    assert f"resuming {name} at step 2" in Path(name, "log.txt").read_text()


@pytest.mark.parametrize("changed", [("torch.__version__", "1.13.0+cpu"), ("lib.run.record.DRAWS", 0)])
def test_a_run_does_not_resume_with_other_draws(place, capfd, monkeypatch, changed):
    monkeypatch.setattr(*changed)
    one_line(resume("run"), capfd.readouterr().err, "run/last.pt", "--resume-changed", " now")
    assert resume("run", "--resume-changed") == 0


def test_a_copy_of_the_images_in_another_place_is_the_same_data(place):
    Path("images").rename("old")
    shutil.copytree("old", "images", copy_function=shutil.copyfile)  # new times
    assert resume("streamed") == 0


def test_a_run_that_streamed_resumes_in_memory_with_the_same_result(place):
    assert resume("run") == 0
    assert train.main([*LINE.split(), "--stream", "false", "--output-dir", "streamed"]) == 0
    in_memory, streamed = (np.load(f"{name}/predictions.npz")["logits"] for name in ("run", "streamed"))
    assert (in_memory == streamed).all()


def test_tensorboard_has_every_step_of_a_resumed_run_once(place):
    assert resume("run") == 0
    events = EventAccumulator("run").Reload()
    for tag in events.Tags()["scalars"]:
        steps = [event.step for event in events.Scalars(tag)]
        assert len(steps) == len(set(steps)), tag
    loss = next(tag for tag in events.Tags()["scalars"] if "train_loss" in tag or "loss" in tag)
    assert [event.step for event in events.Scalars(loss)] == [2, 4, 6]
