"""The first lines of a run, and those that say how far it is."""

import io
import sys
from types import SimpleNamespace

import pytest
import torch

import train
from lib.core.dist import SINGLE
from lib.engine.log import Log
from lib.run import progress
from lib.run.fit import Losses
from lib.run.progress import ProgressBar
from tests.helpers.runs import TINY

TRICKS = "--mixup --cutmix --sam --lookahead --ema --val 0.25 --schedule cosine --warmup 0.5 --loss poly1"


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "tiny.yaml").write_text(TINY.replace("schedule: {milestones: [1]}\n", ""))
    return tmp_path


def printed(line: str, capsys) -> list[str]:
    assert train.main(["--config", "tiny.yaml", *line.split()]) == 0
    return capsys.readouterr().out.splitlines()


def test_a_run_begins_with_what_is_trained_as_its_dry_run_does(place, capsys):
    lines = printed(TRICKS, capsys)
    screen = lines[: next(i for i, line in enumerate(lines) if line.startswith("epoch "))]
    assert len(screen) <= 12
    assert max(len(line) for line in screen if not line.startswith("folder")) <= 80
    rows = {line[:11].strip(): line[11:] for line in screen if line[0] != " "}
    # 64 images of 8x8 pixels in 4 classes, of which 16 are held out; 3 batches of 16 an epoch.
    assert rows["model"].startswith("resnet20: 269,332 parameters, ")  # 10 classes have 6 * 65 more
    assert rows["data"].startswith("synthetic: 48 training, 16 val, ") and rows["data"].endswith("4 classes")
    assert rows["device"].startswith("cpu (") and rows["device"].endswith(", fp32")
    assert rows["batch"] == "crop > flip > normalize > one of (cutmix 1, mixup 1)"
    assert rows["loss"].startswith("poly1 (")
    assert rows["optimizer"].startswith(
        "sgd (lr 0.1, momentum 0.9, weight_decay 0.0005) in sam (rho 0.05) in"
    )
    assert rows["schedule"] == "warm-up of 0.5 of the budget, then cosine (end 0.0)"
    assert rows["steps"] == "6: 2 epochs of 3 batches of 16 images"
    assert (place / rows["folder"] / "result.json").exists()
    assert rows["changed"].startswith("model.name resnet20, data.name synthetic, data.size 64")
    logged = (place / rows["folder"] / "log.txt").read_text().splitlines()
    assert [line[21:] for line in logged[: len(screen)]] == screen
    (place / rows["folder"]).rename(place / "moved")
    assert printed(f"{TRICKS} --dry-run", capsys)[: len(screen)] == screen


def test_a_plain_run_names_no_loss(place, capsys):
    assert not any(line.startswith("loss  ") for line in printed("--dry-run", capsys))


def test_what_is_trained_is_shown_before_it_is_compiled(place, capsys, monkeypatch):
    class Compiling(Exception):
        pass

    def compile_networks(*arguments):
        raise Compiling

    monkeypatch.setattr("lib.factory.compile_networks", compile_networks)
    with pytest.raises(Compiling):
        train.main(["--config", "tiny.yaml", "--compile"])
    out = capsys.readouterr().out
    assert "fp32, compiled" in out and "changed" in out and "epoch 1" not in out


def test_a_line_reaches_a_pipe_at_once(tmp_path, monkeypatch):
    pipe = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BufferedWriter(pipe, 1 << 16)))
    Log(tmp_path / "log.txt")("here")
    assert pipe.getvalue() == b"here\n"


class Clock:
    """Time by hand."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now


def moved(terminal: bool, seconds: list[float], monkeypatch) -> tuple[list[str], str, int]:
    """The lines, the bar and the number of readings of a run of 100 steps whose steps take these seconds."""
    clock, lines, readings = Clock(), [], []
    monkeypatch.setattr(progress, "time", clock)
    out = io.StringIO()
    out.isatty = lambda: terminal
    monkeypatch.setattr(sys, "stderr", out)
    data = SimpleNamespace(steps_per_epoch=50)
    run = SimpleNamespace(world=SINGLE, total=100, images=128, data=data)

    def mean_loss() -> float:
        readings.append(clock.now)
        return 2.5

    shown = ProgressBar(0, run, lines.append)
    for step, taken in zip(shown, seconds, strict=False):
        clock.now += taken
        shown.after(step, mean_loss)
    shown.close()
    return lines, out.getvalue(), len(readings)


def test_a_pipe_gets_a_line_every_30_seconds_of_the_first_epoch(monkeypatch):
    lines, bar, readings = moved(False, [10.0] * 50, monkeypatch)
    assert (
        lines[0] == "step 3/100  loss 2.5000  13 images/s  16 min 10 s left"
    )  # 97 steps of 10 s, 12.8 images/s
    assert [int(line.split()[1].partition("/")[0]) for line in lines] == list(range(3, 50, 3))
    assert bar == "" and readings == len(lines)


def test_later_epochs_get_a_line_every_five_minutes(monkeypatch):
    lines, _, _ = moved(False, [0.1] * 49 + [40.0] * 51, monkeypatch)
    assert [line.split()[1] for line in lines] == [f"{step}/100" for step in range(57, 101, 8)]


def test_fast_steps_are_not_waited_for(monkeypatch):
    assert moved(False, [0.1] * 100, monkeypatch) == ([], "", 0)


def test_a_terminal_gets_a_bar_with_the_same_and_no_lines(monkeypatch):
    lines, bar, readings = moved(True, [1.0] * 20, monkeypatch)
    assert lines == [] and "loss 2.5000  128 images/s" in bar and "/100" in bar and readings == 10


def test_the_loss_until_now_is_the_mean_of_the_epoch():
    losses = Losses()
    for step, value in enumerate([1.0, 2.0, 6.0]):
        losses.add(step, 0.1, torch.tensor(value))
    assert losses.so_far() == 3.0
    losses.add(3, 0.1, torch.tensor(7.0))
    assert losses.mean() == (4.0, 4)
