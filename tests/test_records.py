"""Run records: all keys are documented, they are read back unchanged, and kept without large files."""

import json
import re
from pathlib import Path

import pytest

import train
from lib.core.errors import BadInput
from lib.report.records import read_records
from scripts import keep
from tests.helpers.runs import TINY

DOC = (Path(__file__).parent.parent / "docs" / "records.md").read_text()


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """Two seeds of one setting, with averaged weights and a held-out part."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "tiny.yaml").write_text(TINY)
    command = ["--config", str(folder / "tiny.yaml"), "--ema", "--val", "12", "--epochs", "2"]
    for seed in ("0", "1"):
        out = str(folder / "tiny" / f"seed{seed}")
        assert train.main([*command, "--seed", seed, "--output-dir", out]) == 0
    return folder


def documented(key: str) -> bool:
    """By its name, or `val_accuracy` as one of `val_...` and `ema_test_loss` as one of `ema_test_...`."""
    stem = re.sub(r"(accuracy|loss|top5|ece)$", "...", key)
    return f"`{key}`" in DOC or f"`{stem}`" in DOC or f"`{stem.replace('val', 'test')}`" in DOC


def test_every_key_of_a_record_is_documented(runs):
    result = json.loads((runs / "tiny/seed0/result.json").read_text())
    rows = (runs / "tiny/seed0/metrics.jsonl").read_text().splitlines()
    keys = [*result, *result["environment"], *(key for row in rows for key in json.loads(row))]
    assert [key for key in keys if not documented(key)] == []


def test_a_record_has_the_accuracy_in_training_of_its_last_epoch(runs):
    result = json.loads((runs / "tiny/seed0/result.json").read_text())
    rows = [json.loads(row) for row in (runs / "tiny/seed0/metrics.jsonl").read_text().splitlines()]
    assert result["train_accuracy"] == rows[-1]["train_accuracy"]
    for row in rows:  # of 52 images that are not held out, 48 fill three batches of 16
        assert (row["train_accuracy"] * 48 / 100).is_integer() and 0 <= row["train_accuracy"] <= 100


def test_runs_of_one_setting_have_the_same_hash_and_different_seeds(runs):
    first, second = read_records([runs]).runs
    assert first.setting == second.setting and (first.seed, second.seed) == (0, 1)
    assert first.result["data"] == second.result["data"]
    assert first.settings["train.epochs"] == 2 and "train.seed" not in second.settings
    assert [row["epoch"] for row in first.epochs] == [1, 2]
    assert first.result["train_flops"] == sum(row["flops"] for row in first.epochs) > 0


def test_an_unusable_record_is_listed_and_the_others_are_read(runs, tmp_path):
    good = (runs / "tiny/seed0/result.json").read_text()
    for name, text in {
        "good": good,
        "cut": good[:100],
        "list": "[]",
        "newer": json.dumps(json.loads(good) | {"format": 99}),
        "partial": json.dumps({k: v for k, v in json.loads(good).items() if k != "seed"}),
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "result.json").write_text(text)
    records = read_records([tmp_path, tmp_path / "good"])
    assert [run.folder.name for run in records.runs] == ["good"]
    reasons = {path.parent.name: reason for path, reason in records.left_out}
    assert set(reasons) == {"cut", "list", "newer", "partial"}
    assert "99" in reasons["newer"] and "seed" in reasons["partial"]


def test_a_folder_without_records_is_refused(tmp_path):
    with pytest.raises(BadInput, match="no usable result"):
        read_records([tmp_path])


def test_kept_records_are_unchanged_and_contain_no_large_files(runs, tmp_path, capsys):
    assert keep.main([str(runs), str(tmp_path)]) == 0
    assert "kept 2 records" in capsys.readouterr().out
    kept, made = read_records([tmp_path]).runs, read_records([runs]).runs
    assert [run.result for run in kept] == [run.result for run in made]
    assert [run.epochs for run in kept] == [run.epochs for run in made]
    assert not list(tmp_path.glob("**/*.pt")) and not list(tmp_path.glob("**/*.npz"))
    assert keep.main([str(runs), str(tmp_path)]) == 0  # again changes nothing
    (tmp_path / "tiny/seed0/result.json").write_text("{}")
    for folder, reason in ((tmp_path, "another run"), (runs, "is the run itself")):
        assert keep.main([str(runs), str(folder)]) == 2
        assert reason in capsys.readouterr().err
