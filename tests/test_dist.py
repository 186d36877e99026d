"""Several processes train what one trains: the same batches, the same weights, each test image once.

Processes are forked from this one, because importing torch anew takes longer than the whole training. Their
parent keeps the store through which they find each other, as torchrun does.
"""

import copy
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
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

TRAIN = Path(train.__file__)
CPU = torch.device("cpu")
# 17 test images, which no number of processes here divides; the last of six steps is within an epoch.
SMALL = """\
model: {name: wrn_10_1}
data: {name: synthetic, size: 68, classes: 4, image_size: 8}
optim: {lr: 0.02}
train: {epochs: 1.5, batch_size: 16}
run: {device: cpu, tensorboard: false}
"""
WITHOUT_NORMS = "--model cct_2 --model.attention-dropout 0 --model.drop-path 0"

Patch = Callable[[], None]  # done in the child, before it trains


@pytest.fixture(autouse=True, scope="module")
def imported(tmp_path_factory):
    """Builds a run, so that all that it takes is imported once, and not in each of the processes."""
    file = tmp_path_factory.mktemp("imported") / "small.yaml"
    file.write_text(SMALL)
    build(parse(["--config", str(file)]).config(), CPU, print)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch, undrawn):
    monkeypatch.chdir(tmp_path)
    Path("small.yaml").write_text(SMALL)


def go(processes: int, line: str, patch: Patch = lambda: None) -> list[int]:
    """The exit codes of `train.py --config small.yaml` with the words of `line` in so many processes."""
    with socket.create_server(("localhost", 0)) as free:
        port = free.getsockname()[1]
    children = [_start(rank, processes, port, line, patch) for rank in range(processes)]
    store = torch.distributed.TCPStore("localhost", port, is_master=True, wait_for_workers=False)
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
    del store
    return codes


def _start(rank: int, processes: int, port: int, line: str, patch: Patch) -> int:
    if pid := os.fork():
        return pid
    code = 70  # the program itself never ends with it
    try:
        sys.stdout = sys.stderr = open(f"output{rank}.txt", "a", buffering=1)  # noqa: SIM115  (until its end)
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"}
        os.environ |= {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes)}
        os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
        os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "True"
        patch()
        code = train.main(["--config", "small.yaml", *line.split()])
    finally:
        os._exit(code)


def at_step(number: int, does: Patch) -> Patch:
    """Does something when training comes to this step."""
    step = lib.run.fit.train_step

    def watched(run, n):
        if n == number:
            does()
        return step(run, n)

    return lambda: setattr(lib.run.fit, "train_step", watched)


def die() -> None:
    if os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)


def stop() -> None:
    raise KeyboardInterrupt


def said(rank: int) -> str:
    return Path(f"output{rank}.txt").read_text()


def learned(folder: str) -> dict:
    """The weights of a run, of its averages too, and what it has measured."""
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
def test_the_shares_of_all_processes_are_the_batch_of_one(name, processes):
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
def test_they_learn_what_one_process_learns(processes, line):
    assert go(1, f"{line} --output-dir one") == [0]
    assert go(processes, f"{line} --output-dir all") == [0] * processes
    assert_same(learned("all"), learned("one"))


def test_a_run_goes_on_in_any_number_of_processes():
    assert go(1, "--sync-bn --epochs 3 --ema --output-dir one") == [0]
    line = "--sync-bn --epochs 3 --ema --output-dir moved"
    assert go(2, line, at_step(5, stop)) == [130] * 2
    assert go(1, line, at_step(9, stop)) == [130]
    assert go(4, line) == [0] * 4
    assert_same(learned("moved"), learned("one"))
    assert "resuming moved at step 8 of 12" in said(0)
    assert go(2, line) == [0, 0]
    assert "complete" in said(0)


def test_only_the_first_process_speaks_and_the_record_says_how_many_there_were():
    assert go(2, "--output-dir two") == [0, 0]
    assert "epoch 2/2" in said(0)
    assert said(1) == ""
    assert json.loads(Path("two/result.json").read_text())["environment"]["processes"] == 2
    assert Path("two/log.txt").read_text().count("epoch 1/2") == 1


def test_the_statistics_without_sync_bn_are_the_mean_of_the_processes():
    # In the first step the weights that all have seen are the initial ones.
    assert go(2, "--epochs 0.25 --output-dir two") == [0, 0]
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


def test_one_that_dies_ends_the_run_which_goes_on_from_its_checkpoint():
    codes = go(2, "--epochs 2 --output-dir run", at_step(6, die))
    assert codes == [2, -signal.SIGKILL]
    assert re.search("error: another process of this run has ended.*the same command resumes", said(0))
    assert json.loads(Path("run/result.json").read_text())["status"] == "interrupted"
    assert go(2, "--epochs 2 --output-dir run") == [0, 0]
    assert "resuming run at step 4 of 8" in said(0)


def test_what_all_find_wrong_is_said_once():
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
        assert go(3, f"{line} --output-dir run") == [2] * 3
        lines = "".join(said(rank) for rank in range(3)).splitlines()
        assert len(lines) == 1 and part in lines[0], lines
        assert not Path("run").exists()
        for rank in range(3):
            Path(f"output{rank}.txt").unlink()


def test_what_the_first_finds_in_the_folder_ends_all():
    assert go(1, "--output-dir run --epochs 0.25") == [0]
    assert go(2, "--output-dir run") == [2, 2]
    assert (said(0) + said(1)).count("holds another configuration") == 1


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
def test_torchrun_tells_bad_input_once():
    done = torchrun("--batch-size", "1")
    assert done.returncode != 0  # torchrun's own
    assert done.stderr.count("error: ") == 1
