"""Streamed image folders give the batches, evaluations and statistics of resident ones."""

import os
import shutil
from pathlib import Path

import pytest
import torch

from lib.core.errors import BadInput
from lib.data import files, folder
from lib.data.base import fingerprint
from lib.data.decoding import decode
from lib.data.files import Files
from lib.data.streamed import Streamed
from lib.engine.evaluate import evaluate, refresh_statistics
from lib.factory import build, build_data, build_dataset
from lib.loader import Loader
from tests.helpers.streams import CLASSES, TEST, TRAIN, assert_equal, config_of, data_of, folder_of_shapes

pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    return folder_of_shapes(tmp_path_factory.mktemp("images"))


@pytest.fixture
def own(images, tmp_path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(images, tmp_path / "own", ignore=shutil.ignore_patterns("*.pt")))


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_streamed_batches_equal_resident_ones_bit_for_bit(images, workers):
    more = "--val 9 --fraction 0.9 --imbalance 2 --label-noise 0.4 --seed 3"
    kept, splits = data_of(images, f"{more} --stream false")
    streamed, theirs = data_of(images, f"{more} --stream true --workers {workers}")
    assert isinstance(streamed, Streamed) and streamed.steps_per_epoch == kept.steps_per_epoch > 1
    for step in range(3 * kept.steps_per_epoch):
        assert_equal(streamed.at(step), kept.at(step))
    assert list(theirs) == list(splits)
    for name, split in splits.items():
        parts = [slice(0, 2), slice(2, None), torch.tensor([3, 0])]
        for found, expected in zip(theirs[name].read(parts), split.read(parts), strict=True):
            assert torch.equal(found, expected)
        assert torch.equal(theirs[name].y, split.y)


@pytest.mark.parametrize("workers", [0, 2])
def test_steps_may_be_requested_in_any_order(images, workers):
    kept, _ = data_of(images, "--stream false")
    streamed, _ = data_of(images, f"--stream true --workers {workers}")
    for step in (7, 8, 3, 3, 4, 8, 0):
        assert_equal(streamed.at(step), kept.at(step))


def test_reading_starts_at_the_requested_step(images, monkeypatch):
    seen = []
    monkeypatch.setattr(files, "decode", lambda path, *how: seen.append(path) or decode(path, *how))
    streamed, _ = data_of(images, "--stream true --workers 0")
    seen.clear()
    batch = streamed.at(8)
    paths = [streamed.split.listing.path(int(streamed.split.places[place])) for place in batch.index]
    assert seen == paths
    streamed.at(8)
    assert len(seen) == 8


def test_evaluation_of_a_stream_equals_that_of_resident_images(images):
    run = build(config_of(images, "--stream false"), torch.device("cpu"), print)
    kept, streamed = run.splits["test"], data_of(images, "--stream true --workers 2")[1]["test"]
    how = (run.normalize, "fp32")
    one, other = evaluate(run.model, kept, *how), evaluate(run.model, streamed, *how)
    assert len(other.y) == CLASSES * TEST
    assert torch.equal(one.logits, other.logits) and torch.equal(one.y, other.y)
    assert (one.accuracy, one.loss) == (other.accuracy, other.loss)


def test_batchnorm_statistics_of_a_stream_equal_those_of_resident_images(images):
    run = build(config_of(images, "--stream false"), torch.device("cpu"), print)
    found = []
    for split in (run.data.split, data_of(images, "--stream true --workers 2")[0].split):
        refresh_statistics(run.model, split, run.normalize, "fp32")
        found.append([b.clone() for b in run.model.buffers()])
    assert all(map(torch.equal, *found))


def test_the_loader_gives_the_same_batches_from_files(images):
    def loader(stream: bool) -> Loader:
        how = {"image_size": 8, "stream": stream, "workers": 1}
        found = Loader(f"folder:{images}", batch_size=8, drop_last=False, device="cpu", **how)
        found.keep(torch.arange(0, CLASSES * TRAIN, 2))
        return found

    streamed, kept = loader(True), loader(False)
    assert streamed.shape == kept.shape == (3, 8, 8)
    for epoch in (0, 3):
        for found, expected in zip(streamed.epoch(epoch), kept.epoch(epoch), strict=True):
            assert_equal(found, expected)
    with pytest.raises(BadInput, match=r"streamed and not in memory: .*stream=False"):
        _ = streamed.train.x


def test_mean_and_deviation_are_of_all_training_images_streamed_or_resident(images, monkeypatch):
    def statistics(line: str):
        data = build_dataset(config_of(images, line))
        return data.mean, data.std

    whole = build_dataset(config_of(images, "--stream false"))
    pixels = whole.train.x.double() / 255
    assert whole.mean == pytest.approx(pixels.mean((0, 2, 3)).tolist(), rel=1e-12)
    monkeypatch.setattr(folder, "PART", 7)  # images measured at once, which do not divide them
    assert statistics("--stream true --workers 2") == (whole.mean, whole.std)
    assert statistics("--stream true --workers 0 --test-crop 0.5") == (whole.mean, whole.std)


def test_a_set_of_over_a_quarter_of_the_memory_is_streamed_with_a_note(images, monkeypatch):
    size = CLASSES * (TRAIN + TEST) * 3 * 8 * 8
    for memory, streamed in ((4 * size, False), (4 * size - 1, True)):
        monkeypatch.setattr(folder, "memory", lambda memory=memory: memory)
        for line, expected in (("", streamed), ("--stream none", streamed), ("--stream false", False)):
            assert isinstance(build_dataset(config_of(images, line)).train, Files) is expected
    notes = []
    build(config_of(images, "--workers 1"), torch.device("cpu"), notes.append)
    assert any("streamed, by 1 worker processes" in note for note in notes)


def test_the_memory_of_this_machine_is_known():
    assert 2**28 < folder.memory() < 2**50


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--stream false --train-size 12", "stream must be true where train_size or test_crop is given"),
        ("--stream false --test-crop 0.875", "stream must be true where train_size or test_crop is given"),
        ("--train-size 7", "train_size must be at least image_size, got 7"),
        ("--test-crop 1.5", "test_crop must be above 0 and at most 1, got 1.5"),
        ("--stream true --evaluate.corruptions True", "corruptions needs the test images in memory"),
        ("--stream true --fraction 0.1", "a batch of 8 images cannot be drawn from a training set of 4"),
        ("--stream perhaps", "expected true or false, got 'perhaps'"),
    ],
)
def test_options_that_a_stream_does_not_support_are_refused(images, line, message):
    with pytest.raises(BadInput, match=message):
        data_of(images, line)


def test_the_fingerprint_depends_on_names_contents_classes_and_crops(own):
    def of(line: str = "") -> str:
        data, _ = data_of(own, f"--stream true {line}")
        return fingerprint(data.split)

    first = of()
    os.utime(own / "train" / "a" / "0.png", (1, 1))
    assert of("--seed 5") == of("--workers 1") == first
    changed = {first, of("--image-size 9"), of("--label-noise 0.5"), of("--fraction 0.5")}
    changed.add(of("--train-size 9"))
    (own / "train" / "a" / "0.png").rename(own / "train" / "a" / "00.png")
    changed.add(of())
    with open(own / "train" / "a" / "00.png", "ab") as file:
        file.write(b"x")
    changed.add(of())
    path = own / "train" / "a" / "00.png"
    path.write_bytes(path.read_bytes()[:-1] + b"y")  # of the same size
    changed.add(of())
    assert len(changed) == 8


def test_streaming_and_workers_do_not_change_the_run_folder(images):
    plain = config_of(images).digest()
    assert config_of(images, "--stream true --workers 9").digest() == plain
    assert config_of(images, "--test-crop 0.875").digest() != plain


@pytest.mark.gpu
def test_streamed_batches_reach_a_gpu_unchanged(images):
    config = config_of(images, "--stream true --workers 2")
    data, splits = build_data(config, build_dataset(config), torch.device("cuda"))
    kept, _ = data_of(images, "--stream false")
    for step in range(7):
        batch, expected = data.at(step), kept.at(step)
        assert batch.x.is_cuda and batch.y.is_cuda and batch.index.is_cuda
        assert torch.equal(batch.x.cpu(), expected.x) and torch.equal(batch.y.cpu(), expected.y)
    assert sum(len(x) for x in splits["test"].read([slice(0, 4), slice(4, None)])) == CLASSES * TEST
