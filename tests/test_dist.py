"""Several processes train what one trains: the same batches, the same weights, each test image once.

Processes are forked from this one, because importing torch again takes longer than the whole training. Their
parent holds the store through which they connect, as torchrun does.
"""

import copy
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed  # here, so that the processes that are forked have it

import lib.factory.run
import lib.run.fit
import lib.store.checkpoint
import train
from lib.augment.pipeline import Normalize, Shard, Step, pipeline
from lib.config.cli import parse
from lib.core.batch import Batch
from lib.core.facts import Stage
from lib.core.registry import augmentations
from lib.core.rng import Rng
from lib.factory import build
from tests.helpers.processes import at_step, run_distributed

TRAIN = Path(train.__file__)
CPU = torch.device("cpu")
# 17 test images, which no number of processes here divides; the last of six steps is within an epoch.
SMALL = """\
model: {name: wrn_10_1}
data: {name: synthetic, size: 68, classes: 4, image_size: 8}
optim: {lr: 0.02}
train: {epochs: 1.5, batch_size: 16}
run: {device: cpu, tracker: none}
"""
WITHOUT_NORMS = "--model cct_2 --model.attention-dropout 0 --model.drop-path 0"


@pytest.fixture(autouse=True, scope="module")
def imported(tmp_path_factory):
    """Build a run, so that everything is imported once, and not in each of the processes."""
    file = tmp_path_factory.mktemp("imported") / "small.yaml"
    file.write_text(SMALL)
    build(parse(["--config", str(file)]).config(), CPU, print)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch, undrawn):
    monkeypatch.chdir(tmp_path)
    Path("small.yaml").write_text(SMALL)


def die() -> None:
    if os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)


def stop() -> None:
    raise KeyboardInterrupt


def output_of(rank: int) -> str:
    return Path(f"output{rank}.txt").read_text()


def learned(folder: str) -> dict:
    """The weights of a run, those of its averages, and its measurements."""
    state = lib.store.checkpoint.load(Path(folder, "last.pt"))
    rows = [json.loads(line) for line in Path(folder, "metrics.jsonl").read_text().splitlines()]
    with np.load(Path(folder, "predictions.npz")) as arrays:
        predictions = {name: torch.from_numpy(array) for name, array in arrays.items()}
    return {
        "model": state["model"],
        "averages": state["averages"],
        "predictions": predictions,
        "losses": [row["train_loss"] for row in rows],
        "flops": [row["flops"] for row in rows],
    }


def assert_same(found: dict, expected: dict) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def flat(x: torch.Tensor) -> Batch:
    y = torch.eye(4)[torch.arange(len(x)) % 4]
    return Batch(x, y, torch.arange(len(x)))


@pytest.mark.parametrize("processes", [2, 3])
@pytest.mark.parametrize("name", augmentations.names())
def test_the_shards_of_all_processes_together_are_the_batch_of_one_process(name, processes):
    x = torch.randint(0, 256, (8, 3, 16, 16), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    normalize = Normalize(torch.full((3, 1, 1), 0.5), torch.full((3, 1, 1), 0.25))
    steps = [Step("normalize", Stage.NORMALIZE, normalize)]
    steps.append(Step(name, augmentations[name].facts.stage, augmentations[name].build()))
    whole = pipeline(steps)(flat(x), Rng(0, 3, 0))
    images = torch.arange(8)
    for rank in range(processes):
        shard = Step("shard", Stage.SHARD, Shard(rank=rank, size=processes))
        mine = pipeline([*steps, shard])(flat(x), Rng(0, 3, 0))
        for part, of in ((mine.x, whole.x), (mine.y, whole.y), (mine.index, whole.index)):
            views = of.unflatten(0, (8, -1))[images % processes == rank]
            assert torch.equal(part, views.flatten(0, 1)), rank


@pytest.mark.parametrize(
    ("processes", "line"),
    [
        (2, WITHOUT_NORMS),
        (3, f"{WITHOUT_NORMS} --mixup --cutout 4 --label-smoothing --accumulate 2"),
        (2, f"{WITHOUT_NORMS} --proxy-model wrn_10_1 --proxy-every 2 --accumulate 2"),
        (2, "--sync-bn --sam --accumulate 2 --clip 0.5 --ema"),
        (4, "--sync-bn --dual-cutout 4 --mixup --optim.nesterov --swa --data.val 16"),
    ],
)
def test_several_processes_learn_what_one_process_learns(processes, line):
    assert run_distributed(1, f"{line} --output-dir one") == [0]
    assert run_distributed(processes, f"{line} --output-dir all") == [0] * processes
    assert_same(learned("all"), learned("one"))


def test_a_run_resumes_with_another_number_of_processes():
    assert run_distributed(1, "--sync-bn --epochs 3 --ema --output-dir one") == [0]
    line = "--sync-bn --epochs 3 --ema --output-dir moved"
    assert run_distributed(2, line, at_step(5, stop)) == [130] * 2
    assert run_distributed(1, line, at_step(9, stop)) == [130]
    assert run_distributed(4, line) == [0] * 4
    assert_same(learned("moved"), learned("one"))
    assert "resuming moved at step 8 of 12" in output_of(0)
    assert run_distributed(2, line) == [0, 0]
    assert "complete" in output_of(0)


def test_frozen_parts_keep_every_bit_in_three_processes():
    # Their statistics would change if they were divided and summed as those of the other norms are.
    line = "--epochs 1 --freeze stem,stages.0 --batch-size 18 --output-dir"
    assert run_distributed(1, "--epochs 1 --output-dir start") == [0]
    assert run_distributed(3, f"{line} frozen --init-from start") == [0] * 3
    start, frozen = (
        lib.store.checkpoint.load(Path(name, "last.pt"))["model"] for name in ("start", "frozen")
    )
    same = {name for name, tensor in frozen.items() if torch.equal(tensor, start[name])}
    assert same == {name for name in start if name.startswith(("stem.", "stages.0."))}


def test_only_the_main_process_prints_and_the_record_has_the_number_of_processes():
    assert run_distributed(2, "--output-dir two") == [0, 0]
    assert "epoch 2/2" in output_of(0)
    assert output_of(1) == ""
    assert json.loads(Path("two/result.json").read_text())["environment"]["processes"] == 2
    assert Path("two/log.txt").read_text().count("epoch 1/2") == 1


def test_running_statistics_without_sync_bn_are_the_mean_over_the_processes():
    # In the first step the weights that all have seen are the initial ones.
    assert run_distributed(2, "--epochs 0.25 --output-dir two") == [0, 0]
    found = lib.store.checkpoint.load(Path("two/last.pt"))["model"]
    command = parse(["--config", "small.yaml", "--epochs", "0.25"])
    run = build(command.config(), CPU, print)
    batch = run.prepare(run.data.at(0), Rng(0, 0, 0))
    halves = [copy.deepcopy(run.model) for _ in range(2)]
    for rank, model in enumerate(halves):
        model(batch.x[rank::2])
    for key, value in halves[0].state_dict().items():
        if "running" in key:
            torch.testing.assert_close(found[key], (value + halves[1].state_dict()[key]) / 2)


def test_a_process_that_dies_ends_the_run_which_resumes_from_its_checkpoint():
    codes = run_distributed(2, "--epochs 2 --output-dir run", at_step(6, die))
    assert codes == [2, -signal.SIGKILL]
    assert re.search("error: another process of this run has ended.*the same command resumes", output_of(0))
    assert json.loads(Path("run/result.json").read_text())["status"] == "interrupted"
    assert run_distributed(2, "--epochs 2 --output-dir run") == [0, 0]
    assert "resuming run at step 4 of 8" in output_of(0)


def test_an_error_in_all_processes_is_printed_once():
    cases = {
        "--model wrn_10_x": "wrn",
        "--batch-size 1": "cannot be shared by 3 processes",
        "--sync-bn": "multiple",
        "--sync-bn --ghost-batchnorm --batch-size 18": "GhostBatchNorm2d",
        "--data cifar10 --offline --root nowhere": "cifar-10-binary.tar.gz",
        "--device cuda:1": "cuda:1",
        "--evaluate run": "one process",
    }
    for line, part in cases.items():
        assert run_distributed(3, f"{line} --output-dir run") == [2] * 3
        lines = "".join(output_of(rank) for rank in range(3)).splitlines()
        assert len(lines) == 1 and part in lines[0], lines
        assert not Path("run").exists()
        for rank in range(3):
            Path(f"output{rank}.txt").unlink()


def test_an_error_in_the_run_folder_ends_all_processes():
    assert run_distributed(1, "--output-dir run --epochs 0.25") == [0]
    assert run_distributed(2, "--output-dir run") == [2, 2]
    assert (output_of(0) + output_of(1)).count("holds another configuration") == 1


def torchrun(*line: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", str(TRAIN)]
    command += ["--config", "small.yaml", "--output-dir", "run", *line]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)


def test_torchrun_trains():
    done = torchrun()
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("epoch 2/2") == 1


@pytest.mark.slow
def test_torchrun_prints_an_error_once():
    done = torchrun("--batch-size", "1")
    assert done.returncode != 0  # torchrun's own
    assert done.stderr.count("error: ") == 1
