"""A run that is killed, stopped or moved on ends where the run that was left alone ends, bit for bit.

Runs are forked from this process, because importing torch again takes longer than the whole training.
"""

import contextlib
import json
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

import lib.run.fit
import lib.store.checkpoint
import train
from tests.helpers.bits import bits
from tests.helpers.processes import Patch, at_step, run_train, start_train, wait
from tests.helpers.resume import learned, metrics_of
from tests.helpers.runs import TINY

# Everything that has a state or draws random numbers, and an end within an epoch: steps 4, 8 and 10.
TRICKS = (
    "--epochs 2.5 --sam --mixup --cutout 4 --ema --label-smoothing --accumulate 2 --precision bf16 "
    "--warmup 1 --proxy-model wrn_10_1 --proxy-every 2"
)


def at_write(name: str, action: Callable[[str], None]) -> Patch:
    """A patch that calls `action` with the partial file before it is renamed to `name`."""
    rename = os.replace

    def watched(source, target):
        if Path(target).name == name:
            action(source)
        rename(source, target)

    return lambda: setattr(os, "replace", watched)


def die(*_, **__) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_half_written(partial: str) -> None:
    os.truncate(partial, os.path.getsize(partial) // 2)
    die()


def before_checkpoint() -> None:
    """Die after the metrics of the epoch are written, and before its checkpoint."""
    lib.store.checkpoint.save = die


def snapshot(folder: str) -> dict:
    paths = [Path(folder), *Path(folder).rglob("*")]
    return {p: (p.stat().st_mtime_ns, p.read_bytes() if p.is_file() else None) for p in paths}


def epochs_in_the_log(folder: str) -> list[str]:
    lines = Path(folder, "log.txt").read_text().splitlines()
    return [line.split("epoch ")[1].split("/")[0].strip() for line in lines if "  epoch " in line]


def assert_same(found: dict, expected: dict) -> None:
    for part in expected:
        assert found[part] == expected[part], f"{part} differs"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict:
    """What the run learns without interruption.

    It is trained in this process, so that everything is imported before the first fork.
    """
    with contextlib.chdir(tmp_path_factory.mktemp("undisturbed")):
        Path("tiny.yaml").write_text(TINY)
        assert train.main(["--config", "tiny.yaml", *TRICKS.split(), "--output-dir", "run"]) == 0
        return learned("run")


def test_the_uninterrupted_run_has_everything_that_is_compared(undisturbed):
    assert undisturbed["state"]["step"] == 10
    assert [row["step"] for row in undisturbed["metrics"]] == [4, 8, 10]
    assert {"test_loss", "ema_test_loss", "train_loss", "lr"} <= undisturbed["metrics"][-1].keys()
    assert undisturbed["state"]["averages"]["ema"] != undisturbed["state"]["model"]


def test_a_run_killed_at_the_worst_moments_ends_with_the_same_bits(tiny, undisturbed):
    command = f"{TRICKS} --output-dir run"
    for patch, steps, epochs in (
        (at_step(5, die), 4, 1),  # within an epoch
        (at_write("last.pt", die_half_written), 4, 2),  # within the write of a checkpoint
        (before_checkpoint, 4, 2),  # between the metrics and the checkpoint
        (at_write("result.json", die), 10, 3),  # after the last step, before the result
    ):
        assert run_train(command, patch) == -signal.SIGKILL, Path("output.txt").read_text()
        assert lib.store.checkpoint.load(Path("run/last.pt"))["step"] == steps
        assert len(metrics_of("run")) == epochs
    assert run_train(command) == 0
    assert_same(learned("run"), undisturbed)


@pytest.mark.slow
def test_a_run_killed_twenty_times_at_random_ends_with_the_same_bits(tiny, undisturbed):
    moments, kills, run = random.Random(0), 0, 0
    while kills < 20:
        run += 1
        code = None
        while code != 0:
            began, pause = time.monotonic(), moments.uniform(0.1, 2.0)
            pid = start_train(f"{TRICKS} --output-dir run{run}")
            while time.monotonic() < began + pause and kills < 20:
                time.sleep(0.001)
            if kills < 20:
                os.kill(pid, signal.SIGKILL)  # of a child that has ended but was not waited for: no effect
            code = wait(pid)
            assert code in (0, -signal.SIGKILL), Path("output.txt").read_text()
            kills += code != 0
        assert_same(learned(f"run{run}"), undisturbed)


def test_a_network_with_surgery_resumes_with_the_same_bits(tiny):
    surgery = "--stochastic-depth --ghost-batchnorm 4 --squeeze-excite --blurpool --weight-standardization"
    command = f"--sam --ema {surgery} --surgery.dropout --init kaiming,zero_gamma --output-dir"
    assert run_train(f"{command} whole") == 0
    assert run_train(f"{command} run", at_step(5, die)) == -signal.SIGKILL
    assert run_train(f"{command} run") == 0
    assert "resuming run at step 4" in Path("run/log.txt").read_text()
    assert_same(learned("run"), learned("whole"))


def test_another_seed_gives_other_weights(tiny, undisturbed):
    # Or all the comparisons here would say nothing.
    assert run_train(f"{TRICKS} --output-dir run --seed 1") == 0
    assert learned("run")["state"]["model"] != undisturbed["state"]["model"]


def test_ctrl_c_leaves_a_folder_that_resumes(tiny, undisturbed):
    command = f"{TRICKS} --output-dir run"
    assert run_train(command, at_step(6, lambda: os.kill(os.getpid(), signal.SIGINT))) == 130
    assert "the same command resumes" in Path("output.txt").read_text()
    assert json.loads(Path("run/result.json").read_text())["status"] == "interrupted"
    assert run_train(command) == 0
    assert "resuming run at step 4 of 10" in Path("run/log.txt").read_text()
    assert epochs_in_the_log("run") == ["1", "2", "3"]
    assert_same(learned("run"), undisturbed)


def test_a_run_that_is_out_of_memory_resumes_from_its_checkpoint(tiny, undisturbed):
    def too_large():
        raise torch.OutOfMemoryError("tried to allocate")

    command = f"{TRICKS} --output-dir run"
    assert run_train(command, at_step(6, too_large)) == 2
    assert json.loads(Path("run/result.json").read_text())["status"] == "out of memory"
    assert run_train(command) == 0
    assert_same(learned("run"), undisturbed)


def test_the_folder_and_the_run_settings_may_change_before_resuming(tiny, undisturbed):
    assert run_train(f"{TRICKS} --output-dir run", at_step(5, die)) == -signal.SIGKILL
    os.rename("run", "moved")
    assert run_train(f"{TRICKS} --output-dir moved --save-every 2") == 0
    assert "resuming moved at step 4" in Path("moved/log.txt").read_text()
    assert_same(learned("moved"), undisturbed)


def test_with_rare_checkpoints_a_killed_run_repeats_epochs_and_ends_the_same(tiny, undisturbed):
    command = f"{TRICKS} --output-dir run --save-every 2"
    assert run_train(command, at_step(6, die)) == -signal.SIGKILL
    assert len(metrics_of("run")) == 1 and not Path("run/last.pt").exists()
    assert run_train(command, at_step(9, die)) == -signal.SIGKILL
    assert run_train(command) == 0
    assert_same(learned("run"), undisturbed)


def test_the_command_of_a_complete_run_changes_nothing(tiny, capsys):
    command = ["--config", tiny, "--output-dir", "run"]
    assert train.main(command) == 0
    before = snapshot("run")
    capsys.readouterr()
    for line in (command, [*command, "--evaluate-every", "2"]):
        assert train.main(line) == 0
        assert capsys.readouterr().out.startswith("complete: nothing to do")
        assert snapshot("run") == before


def test_a_setting_that_is_missing_in_an_older_config_has_its_default(tiny, capsys):
    command = ["--config", tiny, "--output-dir", "run"]
    assert train.main(command) == 0
    held = yaml.safe_load(Path("run/config.yaml").read_text())
    del held["train"]["clip"], held["data"]["imbalance"]
    Path("run/config.yaml").write_text(yaml.safe_dump(held))
    capsys.readouterr()
    assert train.main(command) == 0
    assert capsys.readouterr().out.startswith("complete: nothing to do")
    assert train.main([*command, "--clip", "1"]) == 2
    assert "another configuration" in capsys.readouterr().err


def test_a_diverged_run_is_recorded_and_keeps_its_last_finite_checkpoint(tiny, capsys):
    # The rate is 0.1 in the first epoch and 1e29 in the second.
    command = ["--config", tiny, "--output-dir", "run", "--milestones", "1", "--gamma", "1e30"]
    assert train.main(command) == 1
    result = json.loads(Path("run/result.json").read_text())
    assert result["status"] == "diverged"
    assert 4 <= result["step"] < 8
    assert result["lr"] == pytest.approx(1e29)
    state = lib.store.checkpoint.load(Path("run/last.pt"))
    assert state["step"] == 4
    assert all(tensor.isfinite().all() for tensor in state["model"].values())
    assert [row["epoch"] for row in metrics_of("run")] == [1]

    before = snapshot("run")
    assert "diverged: loss" in capsys.readouterr().out
    assert train.main(command) == 1
    assert "diverged: loss" in capsys.readouterr().out
    assert snapshot("run") == before


def test_weights_that_are_not_finite_are_not_saved_even_if_the_last_loss_was(tiny, monkeypatch):
    step = lib.run.fit.train_step

    def overflow(run, number):
        loss = step(run, number)
        if number == 7:  # the last of the second epoch; the next loss would be the first to show it
            run.params[0].data[0] = torch.inf
        return loss

    monkeypatch.setattr(lib.run.fit, "train_step", overflow)
    assert train.main(["--config", tiny, "--output-dir", "run"]) == 1
    assert lib.store.checkpoint.load(Path("run/last.pt"))["step"] == 4
    assert json.loads(Path("run/result.json").read_text())["step"] == 7


def test_init_from_loads_the_weights_without_step_and_optimizer_state(tiny, monkeypatch):
    assert train.main(["--config", tiny, "--output-dir", "first"]) == 0
    weights = lib.store.checkpoint.load(Path("first/last.pt"))["model"]
    seen = []

    def look(run, step):
        momentum = any(run.optimizer.state.values())
        seen.append((step, momentum, bits(run.model.state_dict()) == bits(weights)))
        raise KeyboardInterrupt

    monkeypatch.setattr(lib.run.fit, "train_step", look)
    for folder, source in (("second", "first"), ("third", "first/last.pt")):
        assert train.main(["--config", tiny, "--output-dir", folder, "--init-from", source]) == 130
    assert seen == [(0, False, True)] * 2
