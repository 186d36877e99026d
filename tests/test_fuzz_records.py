"""Damaged files of a run folder are refused in one line, or what is read is whole."""

import contextlib
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import strategies as st
from PIL import Image

import scripts.plot
import scripts.predict
import scripts.table
import train
from lib.data.cache import cached
from lib.store import checkpoint
from tests.helpers.bits import bits
from tests.helpers.fuzz import damaged, ending, refusal
from tests.helpers.runs import TINY

COMMANDS = {
    "train": (train.main, ["--config", "tiny.yaml", "--output-dir", "run"]),
    "evaluate": (train.main, ["--evaluate", "run"]),
    "table": (scripts.table.main, ["run", "other", "--columns", "best"]),
    "plot": (scripts.plot.main, ["curves", "run", "-o", "curves.png"]),
    "predict": (scripts.predict.main, ["run", "image.png"]),
}
FILES = ("last.pt", "metrics.jsonl", "result.json", "predictions.npz", "config.yaml", "env.json")


@pytest.fixture(scope="module")
def whole(tmp_path_factory, undrawn) -> Path:
    """A folder with two runs and an image."""
    with contextlib.chdir(tmp_path_factory.mktemp("runs")):
        Path("tiny.yaml").write_text(TINY)
        for folder in ("run", "other"):
            assert train.main(["--config", "tiny.yaml", "--output-dir", folder]) == 0
        Image.new("RGB", (8, 8)).save("image.png")
        return Path.cwd()


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_end_in_one_line_on_damaged_files_of_a_run(tried, whole, tmp_path, monkeypatch, name):
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    main, words = COMMANDS[name]
    originals = {file: Path("run", file).read_bytes() for file in FILES}

    def check(damage: tuple[str, bytes]) -> str:
        shutil.rmtree("run")
        shutil.copytree(whole / "run", "run")
        file, content = damage
        Path("run", file).write_bytes(content)
        if name == "train" and file != "result.json":
            Path("run/result.json").unlink()  # so that the run is resumed
        return ending(main, words)

    contents = {file: damaged([originals[file], *originals.values()]) for file in FILES}
    one = st.sampled_from(FILES).flatmap(lambda file: st.tuples(st.just(file), contents[file]))
    tried(one, check, short=5, long=60)


def test_a_damaged_checkpoint_is_refused_or_read_without_a_changed_bit(tried, whole, tmp_path):
    original, path = (whole / "run/last.pt").read_bytes(), tmp_path / "last.pt"
    expected = bits(checkpoint.load(whole / "run/last.pt"))

    def read() -> None:
        assert bits(checkpoint.load(path)) == expected

    def check(content: bytes) -> str:
        path.write_bytes(content)
        return refusal(read)

    tried(damaged([original]), check, short=20, long=500)


def test_a_damaged_cache_of_decoded_images_is_read_without_a_changed_bit_or_computed_again(tried, tmp_path):
    images, calls = {"x": torch.arange(3 * 8 * 8, dtype=torch.uint8).view(1, 3, 8, 8)}, []
    path = tmp_path / "decoded.pt"

    def read(key: str) -> dict[str, torch.Tensor]:
        return cached(tmp_path, tmp_path, "decoded", key, lambda: calls.append(key) or images)

    originals = [(read(key), path.read_bytes())[1] for key in ("mine", "another")]

    def check(content: bytes) -> str:
        path.write_bytes(content)
        calls.clear()
        assert bits(read("mine")) == bits(images)
        return "computed again" if calls else "read"

    tried(damaged(originals), check, short=20, long=500)
