"""Image folders larger than memory: what is streamed is what would lie in memory, and every end is clean."""

import contextlib
import json
import multiprocessing
import os
import shlex
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torchvision import transforms

import lib.run.fit
from lib.augment.random_resized_crop import RandomResizedCrop
from lib.config.cli import parse
from lib.core.batch import Batch
from lib.core.errors import BadInput
from lib.core.rng import Rng
from lib.data import files, folder
from lib.data.base import fingerprint
from lib.data.decoding import CenterCrop, decode
from lib.data.files import Files
from lib.data.streamed import Streamed
from lib.engine.evaluate import evaluate, refresh_statistics
from lib.factory import build, build_data, build_dataset
from lib.loader import Loader
from tests.helpers.processes import at_step, run_distributed, run_train, start_train, wait
from tests.helpers.resume import learned

CLASSES, TRAIN, TEST = 3, 14, 5  # images of a class: no number that a batch divides

pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """A folder of small images, some wide and some high."""
    base, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for part, count in (("train", TRAIN), ("val", TEST)):
        for name in "abc"[:CLASSES]:
            (base / part / name).mkdir(parents=True)
            for number in range(count):
                small = rng.integers(0, 256, (3, 3, 3), np.uint8)
                size = (20, 14) if number % 2 else (13, 16)
                Image.fromarray(small).resize(size).save(base / part / name / f"{number}.png")
    return base


@pytest.fixture
def own(images, tmp_path) -> Path:
    """A copy that a test may damage."""
    copy = tmp_path / "own"
    for path in images.rglob("*.png"):
        (copy / path.relative_to(images)).parent.mkdir(parents=True, exist_ok=True)
        (copy / path.relative_to(images)).write_bytes(path.read_bytes())
    return copy


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


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_streamed_batches_are_the_resident_ones_bit_for_bit(images, workers):
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
def test_a_step_gives_the_same_batch_whatever_was_asked_before(images, workers):
    kept, _ = data_of(images, "--stream false")
    streamed, _ = data_of(images, f"--stream true --workers {workers}")
    for step in (7, 8, 3, 3, 4, 8, 0):
        assert_equal(streamed.at(step), kept.at(step))


def test_reading_begins_at_the_step_that_is_asked_for(images, monkeypatch):
    seen = []
    monkeypatch.setattr(files, "decode", lambda path, *how: seen.append(path) or decode(path, *how))
    streamed, _ = data_of(images, "--stream true --workers 0")
    seen.clear()
    batch = streamed.at(8)
    paths = [streamed.split.listing.path(int(streamed.split.places[place])) for place in batch.index]
    assert seen == paths
    streamed.at(8)
    assert len(seen) == 8


def test_evaluation_streams_every_image_once_and_in_order(images):
    run = build(config_of(images, "--stream false"), torch.device("cpu"), print)
    kept, streamed = run.splits["test"], data_of(images, "--stream true --workers 2")[1]["test"]
    how = (run.normalize, "fp32")
    one, other = evaluate(run.model, kept, *how), evaluate(run.model, streamed, *how)
    assert len(other.y) == CLASSES * TEST
    assert torch.equal(one.logits, other.logits) and torch.equal(one.y, other.y)
    assert (one.accuracy, one.loss) == (other.accuracy, other.loss)


def test_statistics_of_batchnorm_are_measured_on_streamed_images_too(images):
    run = build(config_of(images, "--stream false"), torch.device("cpu"), print)
    found = []
    for split in (run.data.split, data_of(images, "--stream true --workers 2")[0].split):
        refresh_statistics(run.model, split, run.normalize, "fp32")
        found.append([b.clone() for b in run.model.buffers()])
    assert all(map(torch.equal, *found))


def test_a_run_learns_the_same_streamed_or_not_and_after_a_worker_was_killed(images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny = config_of(images, "--workers 2 --epochs 2.5 --val 9 --mixup --ema --tensorboard false").tree()
    Path("tiny.yaml").write_text(yaml.safe_dump(tiny))
    assert run_train("--stream false --output-dir kept") == 0

    def kill_a_worker():
        os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
        time.sleep(60)  # the run ends at once, and not when it next needs an image

    assert run_train("--stream true --output-dir run", at_step(7, kill_a_worker)) == 2
    said = Path("output.txt").read_text()
    assert "Traceback" not in said
    assert "error: a worker that reads images died" in said and "Killed" in said and "resumes" in said
    assert json.loads(Path("run/result.json").read_text())["status"] == "interrupted"
    assert run_train("--stream true --output-dir run") == 0
    assert "resuming run at step 4" in Path("output.txt").read_text()
    expected, found = learned("kept"), learned("run")
    for outcome in (expected, found):
        del outcome["result"]["data"]  # the fingerprints are made of other things
        outcome["result"]["config_diff"]["data"].pop("stream")
        outcome["state"] = {key: value for key, value in outcome["state"].items() if key != "config"}
    for part in expected:
        assert found[part] == expected[part], part


def run_in_a_group(line: str, when=lambda: None) -> int:
    """Starts a run as a terminal does: it and its workers are one group of processes, named by its id."""

    def patch():
        os.setsid()
        when()

    return start_train(line, patch)


def all_gone(group: int) -> bool:
    for _ in range(100):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, 0)
            time.sleep(0.1)
            continue
        return True
    return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_the_end_of_a_job_leave_no_process(images, tmp_path, monkeypatch, number):
    monkeypatch.chdir(tmp_path)
    tiny = config_of(images, "--workers 2 --epochs 2 --tensorboard false --stream true").tree()
    Path("tiny.yaml").write_text(yaml.safe_dump(tiny))

    def stop():
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # as train.py has it
        os.killpg(0, number)
        time.sleep(60)

    group = run_in_a_group("--output-dir run", at_step(7, stop))
    assert wait(group) == 130
    assert all_gone(group)
    said = Path("output.txt").read_text()
    assert "interrupted; the same command resumes" in said and "Traceback" not in said
    assert json.loads(Path("run/result.json").read_text())["status"] == "interrupted"


@pytest.mark.parametrize(("damage", "workers"), [("corrupt", 2), ("vanished", 0)])
def test_an_image_that_cannot_be_read_is_named_in_one_line(own, monkeypatch, damage, workers):
    monkeypatch.chdir(own.parent)
    line = f"--workers {workers} --epochs 2 --tensorboard false --stream true --output-dir run"
    Path("tiny.yaml").write_text(yaml.safe_dump(config_of(own, line).tree()))
    path = own / "train" / "b" / "3.png"

    def break_it():
        path.write_bytes(path.read_bytes()[:60]) if damage == "corrupt" else path.unlink()

    # An epoch has five batches, so that of step 5 is read, if it is at all, after it is broken.
    group = run_in_a_group("", at_step(0, break_it))
    assert wait(group) == 2
    assert all_gone(group)
    errors = [line for line in Path("output.txt").read_text().splitlines() if not line.startswith("epoch")]
    assert len(errors) == 1
    assert errors[0].startswith(f"error: cannot read {path} as an image")


def test_a_loop_of_ones_own_gets_the_same_batches_from_files(images):
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


def test_several_processes_each_read_their_share_of_a_batch(images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    processes = 3  # which a batch of 8 cannot be shared by equally
    line = "--workers 0 --epochs 1 --tensorboard false --stream true --output-dir run"
    Path("small.yaml").write_text(yaml.safe_dump(config_of(images, line).tree()))
    build_dataset(config_of(images, line))  # measures mean and deviation
    kept, _ = data_of(images, "--stream false")

    def watch():
        read, step = [], lib.run.fit.train_step
        files.decode = lambda path, *how: read.append(path) or decode(path, *how)

        def compared(run, number):
            run.data.at(number)
            with open(f"read{os.environ['RANK']}", "a") as file:
                file.write(f"{len(read)} {torch.equal(run.data.at(number).x, kept.at(number).x)}\n")
            read.clear()
            return step(run, number)

        lib.run.fit.train_step = compared

    assert run_distributed(processes, "", watch) == [0] * processes
    share = -(-8 // processes)
    for rank in range(processes):
        assert Path(f"read{rank}").read_text().splitlines() == [f"{share} True"] * kept.steps_per_epoch
    with np.load("run/predictions.npz") as arrays:
        assert len(arrays["logits"]) == CLASSES * TEST


def test_views_are_what_torchvision_resizes_and_crops(tmp_path):
    low = np.random.default_rng(1).integers(0, 256, (6, 9, 3), np.uint8)
    image = Image.fromarray(low).resize((375, 250), Image.Resampling.BICUBIC)
    image.save(tmp_path / "image.png")
    usual = transforms.Compose([transforms.Resize(64), transforms.CenterCrop(56), transforms.PILToTensor()])
    found = decode(tmp_path / "image.png", CenterCrop(56, 0.875))
    assert found.shape == (3, 56, 56)
    difference = (found.int() - usual(image).int()).abs().float()
    assert difference.max() <= 2 and difference.mean() < 0.5
    assert not torch.equal(found, decode(tmp_path / "image.png", CenterCrop(56)))


def test_training_may_cut_from_larger_squares_than_are_evaluated(images):
    line = "--stream true --workers 0 --train-size 12 --test-crop 0.875 --val 9 --no-crop"
    config = config_of(images, f"{line} --random-resized-crop-size 8")
    run = build(config, torch.device("cpu"), print)
    batch = run.data.at(0)
    assert batch.x.shape == (8, 3, 12, 12)
    assert run.prepare(batch, Rng(0)).x.shape == (8, 3, 8, 8)
    assert {name: next(split.read([slice(1)])).shape[-1] for name, split in run.splits.items()} == {
        "val": 8,
        "test": 8,
    }
    path = run.data.split.listing.path(int(run.data.split.places[batch.index[0]]))
    assert torch.equal(batch.x[0], decode(path, CenterCrop(12)))
    held = run.splits["val"]
    path = held.listing.path(int(held.places[0]))
    assert torch.equal(next(held.read([slice(1)]))[0], decode(path, CenterCrop(8, 0.875)))
    with pytest.raises(
        BadInput, match=r"12 pixels wide, but 8 .*give --random-resized-crop-size 8, or leave"
    ):
        build(config_of(images, line), torch.device("cpu"), print)


@pytest.mark.parametrize("size", [24, 40, 64, 80])
def test_a_crop_of_another_size_is_pillows_resized_crop(size):
    low = np.random.default_rng(2).integers(0, 256, (6, 8, 8, 3), np.uint8)
    pictures = [Image.fromarray(each).resize((64, 64), Image.Resampling.BICUBIC) for each in low]
    x = torch.stack([transforms.functional.pil_to_tensor(picture) for picture in pictures])
    crop = RandomResizedCrop(size=size)
    found = crop.apply(Batch(x, torch.eye(6), torch.arange(6)), Rng(5)).x
    top, left, height, width = crop.boxes(6, 64, 64, Rng(5)).int().tolist()
    for image, (y, x0, h, w) in enumerate(zip(top, left, height, width, strict=True)):
        box = pictures[image].crop((x0, y, x0 + w, y + h))
        expected = transforms.functional.pil_to_tensor(box.resize((size, size), Image.Resampling.BILINEAR))
        assert (found[image].int() - expected.int()).abs().max() <= 1


def test_a_crop_of_many_large_images_is_that_of_each(monkeypatch):
    x = Rng(3).integers(0, 256, 7, 3, 16, 16, like=torch.empty(0)).to(torch.uint8)
    batch = Batch(x, torch.eye(7), torch.arange(7))
    whole = RandomResizedCrop(size=12).apply(batch, Rng(4)).x
    monkeypatch.setattr("lib.augment.random_resized_crop.PART", 2 * 3 * 16 * 16)
    assert torch.equal(RandomResizedCrop(size=12).apply(batch, Rng(4)).x, whole)


def test_mean_and_deviation_are_those_of_one_sample_streamed_or_not(images, monkeypatch):
    def statistics(line: str):
        data = build_dataset(config_of(images, line))
        return data.mean, data.std

    whole = build_dataset(config_of(images, "--stream false"))
    pixels = whole.train.x.double() / 255
    assert whole.mean == pytest.approx(pixels.mean((0, 2, 3)).tolist(), rel=1e-12)
    assert statistics("--stream true --workers 2") == (whole.mean, whole.std)
    monkeypatch.setattr(folder, "SAMPLE", 7)
    sampled = statistics("--stream false")
    assert sampled[0] == pytest.approx(pixels[[0, 6, 12, 18, 24, 30, 36]].mean((0, 2, 3)).tolist(), rel=1e-12)
    assert statistics("--stream true --workers 0 --test-crop 0.5") == sampled


def test_a_set_that_would_take_over_a_quarter_of_the_memory_is_streamed_and_it_is_said(images, monkeypatch):
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
def test_what_streaming_cannot_do_is_refused(images, line, message):
    with pytest.raises(BadInput, match=message):
        data_of(images, line)


def test_the_fingerprint_is_of_names_sizes_classes_and_views(own):
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
    assert len(changed) == 7


def test_how_images_are_read_is_no_part_of_what_names_a_run(images):
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
