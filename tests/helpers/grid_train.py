"""A substitute for train.py in the tests of grids: the same folder, lock and result, a checkpoint, no torch.

A step takes a hundredth of a second and writes a line to steps.txt, which shows repeated steps. The learning
rate, or $LR_BY_SEED, selects the behaviour of a run. No run takes its sixth step while a file `hold` exists.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

from filelock import FileLock

CRASHES, DIVERGES, REFUSED, FLAKY, NO_MEMORY = 0.11, 0.22, 0.33, 0.44, 0.55


def main(words: list[str]) -> int:
    words = [part for word in words for part in word.split("=", 1)]
    options = dict(zip(words[::2], words[1::2], strict=True))
    folder, seed = Path(options["--output-dir"]), int(options["--seed"])
    by_seed = json.loads(os.environ.get("LR_BY_SEED", "{}"))
    lr = float(by_seed.get(str(seed), options.get("--lr", 0.1)))
    steps = int(options.get("--epochs", 5))
    if lr == REFUSED:
        print("error: refused as requested", file=sys.stderr)
        return 2
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")  # held until the process ends
    lock.acquire(timeout=0)
    record = folder / "result.json"
    if record.exists() and json.loads(record.read_text())["status"] == "ok":
        print("complete: nothing to do")
        return 0
    seen = [os.environ.get(name) for name in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")]
    note(folder / "starts.txt", " ".join(map(str, [os.getpid(), *seen])))
    checkpoint = folder / "last.txt"
    first = int(checkpoint.read_text()) if checkpoint.exists() else 0
    for step in range(first, steps):
        time.sleep(0.01)
        limit = time.monotonic() + 300  # ends even if the test has failed
        while step == 5 and Path("hold").exists() and time.monotonic() < limit:
            time.sleep(0.01)
        note(folder / "steps.txt", str(step))
        replace(checkpoint, str(step + 1))
        if step >= 2 and lr == CRASHES:
            raise ArithmeticError("it cannot be done")
        if step == 2 and lr == FLAKY:
            os.kill(os.getpid(), signal.SIGKILL)
        if step == 2 and lr == NO_MEMORY:
            result(folder, seed, lr, "out of memory", 0)
            return 1
    result(folder, seed, lr, "diverged" if lr == DIVERGES else "ok", 50 + 10 * lr + seed)
    return int(lr == DIVERGES)


def note(path: Path, line: str) -> None:
    with open(path, "a") as file:
        file.write(f"{line}\n")


def replace(path: Path, text: str) -> None:
    path.with_suffix(".partial").write_text(text)
    path.with_suffix(".partial").replace(path)


def result(folder: Path, seed: int, lr: float, status: str, accuracy: float) -> None:
    record = {
        "format": 2,
        "status": status,
        "dataset": "cifar10",
        "model": "resnet20",
        "seed": seed,
        "config": f"{lr:.6f}",
        "config_diff": {"optim": {"lr": lr}},
        "steps": 5,
        "test_accuracy": accuracy,
        "seconds": {"train": 60.0, "data": 0.0, "evaluate": 30.0},
        "environment": {"code": "abc"},
    }
    replace(folder / "result.json", json.dumps(record))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
