"""How many runs of one configuration its device can hold at once.

A program, `python -m lib.grid.capacity ARGUMENTS_OF_TRAIN`, because torch and its memory on the device are
then gone before the runs start. Prints one line of JSON: {"runs": 3}, or {"error": "why it cannot be built"}.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence

from ..config.cli import parse
from ..config.schema import Config
from ..core.errors import BadInput
from .local import cpu_count, guarded, python_path

CONTEXT = 600 * 2**20  # bytes that CUDA itself allocates for each process; the measurement does not show them
SPARE = 0.1  # fraction of the free memory that is left free, as the first steps may not show the peak


def ask_capacity(arguments: Sequence[str]) -> int:
    """`capacity` of a command line, measured in a new process; BadInput if the run cannot be built."""
    command = guarded([sys.executable, "-m", __name__, *arguments])
    # Only the answer is captured: a download shows its progress on stderr.
    out = subprocess.run(
        command, env=os.environ | python_path(), stdout=subprocess.PIPE, text=True, check=False
    ).stdout
    answer = json.loads(out) if out else {"error": "the run could not be built; the reason is printed above"}
    if "error" in answer:
        raise BadInput(answer["error"])
    return answer["runs"]


def capacity(config: Config) -> int:
    """One run per core, or fewer if the user gives each more threads, or if a GPU has memory for fewer."""
    import torch

    from ..engine.evaluate import BATCH, evaluate
    from ..engine.step import train_step
    from ..factory import build, build_device, process_of

    device = build_device(config.run.device)
    if device.type != "cuda":
        build(config, device, note=lambda line: None)
        threads = torch.get_num_threads() if os.environ.get("OMP_NUM_THREADS") else 1
        return max(1, cpu_count() // threads)
    free, _ = torch.cuda.mem_get_info(device)
    try:
        with process_of(config):
            run = build(config, device, note=lambda line: None)
            for step in range(2):
                train_step(run, step)
        split = next(iter(run.splits.values()))
        evaluate(run.model, split.take(slice(0, BATCH)), run.normalize, run.precision)
        left, _ = torch.cuda.mem_get_info(device)
    except torch.OutOfMemoryError:
        return 1  # that run will report what to do
    return max(1, min(cpu_count(), int((1 - SPARE) * free / (free - left + CONTEXT))))


def main(arguments: list[str]) -> None:
    try:
        answer = {"runs": capacity(parse(arguments).config())}
    except BadInput as error:
        answer = {"error": str(error)}
    print(json.dumps(answer))


if __name__ == "__main__":
    main(sys.argv[1:])
