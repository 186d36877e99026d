"""Programs that train in forked processes, which takes less time than importing torch in new ones."""

import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

import torch
import torch.distributed  # here, so that forked processes have it

import lib.run.fit
import train

Patch = Callable[[], None]  # called in the child, before it trains


def start_train(line: str, patch: Patch = lambda: None) -> int:
    """Start `train.py --config tiny.yaml` with these arguments; returns its process id.

    It prints to `output.txt`.
    """
    return _fork(partial(_train, f"--config tiny.yaml {line}", patch), "output.txt")


def wait(pid: int) -> int:
    """The exit code, or minus the number of the signal that ended the process."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def run_train(line: str, patch: Patch = lambda: None) -> int:
    """Run `train.py --config tiny.yaml` with these arguments; returns its exit code."""
    return wait(start_train(line, patch))


def run_distributed(processes: int, line: str, patch: Patch = lambda: None) -> list[int]:
    """Run `train.py --config small.yaml` with these arguments in several processes, as torchrun does.

    Each prints to `output<rank>.txt`.

    Returns:
        The exit codes.
    """
    with socket.create_server(("localhost", 0)) as free:
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes, "OMP_NUM_THREADS": 1}
    common |= {"MASTER_ADDR": "localhost", "MASTER_PORT": port, "TORCHELASTIC_USE_AGENT_STORE": True}
    children = [
        _fork(
            partial(_train, f"--config small.yaml {line}", patch),
            f"output{rank}.txt",
            common | {"RANK": rank, "LOCAL_RANK": rank},
        )
        for rank in range(processes)
    ]
    store = torch.distributed.TCPStore("localhost", port, is_master=True, wait_for_workers=False)
    codes = [wait(pid) for pid in children]
    del store
    return codes


def run_apart(action: Callable[[], int]) -> int:
    """Call a function in a forked process, whose machine it may change; returns its exit code.

    It prints to `output.txt`.
    """
    return wait(_fork(action, "output.txt"))


def _train(line: str, patch: Patch) -> int:
    patch()
    return train.main(line.split())


def _fork(
    action: Callable[[], int], output: str, environment: Mapping[str, object] = MappingProxyType({})
) -> int:
    if pid := os.fork():
        return pid
    code = 70  # never an exit code of the program
    try:
        sys.stdout = sys.stderr = open(output, "a", buffering=1)  # noqa: SIM115  (until the process ends)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.environ |= {name: str(value) for name, value in environment.items()}
        code = action()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def at_step(number: int, action: Callable[[], None]) -> Patch:
    """A patch that calls `action` when training reaches this step."""
    step = lib.run.fit.train_step

    def patched(run, n):
        if n == number:
            action()
        return step(run, n)

    return lambda: setattr(lib.run.fit, "train_step", patched)
