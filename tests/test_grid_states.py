"""The states of a grid's runs: changed rows are left out and listed at once, failed runs listed and deleted.

The runs are those of grid_train.py.
"""

import json
import sys
from pathlib import Path

import pytest
from filelock import FileLock

import scripts.grid
from lib.config.cli import parse
from tests.helpers.refusals import exit_code_of, one_line

FAKE = (sys.executable, str(Path(__file__).parent / "helpers/grid_train.py"))
GRID = "rows: {plain: {lr: 0.1}, crashes: {lr: 0.11}, diverges: {lr: 0.22}, memory: {lr: 0.55}}"


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(scripts.grid, "estimate", lambda *known: "time: unknown")


def go(*words: str) -> int:
    return scripts.grid.main(["g.yaml", *words], train=FAKE)


def starts(row: str) -> int:
    file = Path(f"runs/grids/g/{row}/seed0/starts.txt")
    return len(file.read_text().splitlines()) if file.exists() else 0


def hold(row: str, seed: int, lr: str) -> Path:
    """The folder of a run with this learning rate, as the trainer begins it."""
    folder = Path(f"runs/grids/g/{row}/seed{seed}")
    folder.mkdir(parents=True)
    tree = parse(["--lr", lr, "--seed", str(seed)]).config().tree()
    (folder / "config.yaml").write_text(json.dumps(tree))
    return folder


def test_changed_rows_are_listed_at_once_and_the_others_go_on(capsys):
    Path("g.yaml").write_text("rows: {a: {lr: 0.1}, b: {lr: 0.2}, c: {lr: 0.4}}\nseeds: 0..1\nbaseline: c")
    held = [hold(row, seed, "0.3") for row in "ab" for seed in (0, 1)]
    (held[2] / "config.yaml").write_text("{")  # damaged
    assert go() == 2
    out, err = capsys.readouterr()
    one_line(2, err, "--redo a,b", "a (2 runs): ", "optim.lr: 0.3 there, 0.1 here", "b (2 runs): ")
    assert "config.yaml cannot be read" in err
    assert starts("a") == starts("b") == 0 and starts("c") == 1
    assert "c/seed0: 54.00 %" in out and "6 runs, 2 to do" in out and "| c |" in out
    assert all((folder / "config.yaml").exists() for folder in held)  # nothing is lost
    assert go("--redo", "a,b", "--dry-run") == 0
    shown = capsys.readouterr().out
    assert "would delete: a/seed0, b/seed0, a/seed1, b/seed1\n" in shown and shown.count("train.py") == 4
    assert all((folder / "config.yaml").exists() for folder in held)
    assert go("--redo", "a,b/seed1") == 2  # b/seed0 is still left out
    assert starts("a") == 1 and starts("b") == 0 and not (held[3] / "config.yaml").exists()
    assert go("--redo", "changed") == 0
    assert starts("a") == starts("b") == starts("c") == 1


def test_the_table_leaves_out_what_a_row_was_before_it_changed(capsys):
    Path("g.yaml").write_text("rows: {a: {lr: 0.1}, b: {lr: 0.2}}")
    result = {"status": "ok", "seed": 0, "test_accuracy": 99.0, "config": "before", "config_diff": {}}
    result |= {"format": 1, "dataset": "cifar10", "model": "m", "steps": 1, "environment": {}}
    (hold("a", 0, "0.3") / "result.json").write_text(json.dumps(result))
    Path("g.yaml").write_text("rows: {b: {lr: 0.2}, a: {lr: 0.1}}")
    assert go() == 2
    out = capsys.readouterr().out
    assert "| b | 1 | 52.00 |" in out and "99.00" not in out and "the row has changed since" in out


def test_failed_runs_are_listed_deleted_and_run_again(capsys):
    Path("g.yaml").write_text(f"{GRID}\nseeds: 0..0")
    assert go("--status") == 0
    assert "4 runs: 4 not started" in capsys.readouterr().out and not Path("runs").exists()
    assert go("--retries", "0") == 1
    capsys.readouterr()
    with FileLock("runs/grids/g/crashes/seed0/.lock"):
        assert go("--status") == 0
        assert "crashes/seed0   running" in capsys.readouterr().out
        assert go("--delete", "crashes") == 2  # nothing of a run that goes on is deleted
        assert "crashes/seed0 is running" in capsys.readouterr().err and starts("crashes") == 1
    assert go("--status") == 0
    *lines, totals = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["plain/seed0", "ok"], ["crashes/seed0", "failed"], ["diverges/seed0", "diverged"],
        ["memory/seed0", "out"],
    ]  # fmt: skip
    assert "ArithmeticError: it cannot be done" in lines[1]
    assert totals == "4 runs: 1 ok, 1 failed, 1 diverged, 1 out of memory"
    Path("g.yaml").write_text(f"{GRID.replace('0.22', '0.23')}\nseeds: 0..0")  # it does not diverge any more
    assert go("--redo", "diverges", "--only", "diverges") == 0
    assert starts("plain") == 1 and "52.30 %" in capsys.readouterr().out
    assert go("--delete", "failed") == 0
    assert capsys.readouterr().out == "deleted: crashes/seed0, memory/seed0\n"
    left = sorted(path.parent.name for path in Path("runs/grids/g").glob("*/seed0"))
    assert left == ["diverges", "plain"] and starts("plain") == 1
    assert go("--delete", "failed") == 0
    assert capsys.readouterr().out == "deleted: no run\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--redo", "plian"], "--redo plian matches no run: did you mean plain"),
        (["--delete", "x*"], "--delete x* matches no run: give failed, changed, or names of rows"),
        (["--delete", "plain", "--redo", "plain"], "not allowed with argument"),
    ],
)
def test_runs_to_delete_must_be_named_right(words, message, capsys):
    Path("g.yaml").write_text(GRID)
    one_line(exit_code_of(scripts.grid.main, ["g.yaml", *words]), capsys.readouterr().err, message)
