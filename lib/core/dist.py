"""Data-parallel training in several processes: `torchrun --nproc-per-node N train.py ...`.

Every process prepares the same batch, computes the gradient of its part of it, and takes the same step with
the sum of all. Only the main process reads and writes the run folder, and prints. This is the only module
that knows torch.distributed; with a single process every function here is a no-op.

The weights are those that one process would learn, up to the order of floating-point sums, for every trick.
Two things differ: each process draws its own noise within a model (dropout, shake-shake, stochastic depth);
and BatchNorm normalizes over the part of one process unless `train.sync_bn` is on, with running statistics
that are averaged over the processes. Checkpoints do not depend on the number of processes.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, TypeVar

from .errors import BadInput, complain

if TYPE_CHECKING:  # slow to import, and not needed by a command that only prints
    import torch
    from torch import Tensor

T = TypeVar("T")

# Of collectives: only a stuck process keeps the others waiting this long. One that exits is noticed at once.
TIMEOUT = timedelta(minutes=10)
GRACE = timedelta(seconds=10)  # for another process to print its error


class ProcessLost(BadInput):
    """Another process has ended, and with it the run; the same command resumes it."""


@dataclass(frozen=True)
class World:
    """The processes that train together, as seen by one of them."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0  # among the processes on this machine
    local_size: int = 1

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def all_reduce(self, tensors: Sequence["Tensor"]) -> None:
        """Replace each tensor by its sum over the processes; all are of one type."""
        if self.size == 1:
            return
        import torch
        import torch.distributed as dist

        # One message: each has a latency that does not depend on its length.
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        with _collective():
            dist.all_reduce(flat)
        parts = flat.split([tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view_as(tensor))

    def all_gather(self, part: "Tensor", count: int) -> "Tensor":
        """The `count` rows of which each process has every `size`-th, starting at its rank.

        All parts have the same length: where `count` is no multiple, the last row of some is dropped.
        """
        if self.size == 1:
            return part
        import torch
        import torch.distributed as dist

        parts = [torch.empty_like(part) for _ in range(self.size)]
        with _collective():
            dist.all_gather(parts, part.contiguous())
        return torch.stack(parts, 1).flatten(0, 1)[:count]

    def broadcast(self, tensors: Sequence["Tensor"]) -> None:
        """Replace each tensor by that of the main process."""
        if self.size == 1:
            return
        import torch.distributed as dist

        for tensor in tensors:
            sent = tensor.contiguous()
            with _collective():
                dist.broadcast(sent, 0)
            tensor.copy_(sent)

    def on_main(self, make: Callable[[], T]) -> T:
        """The result of `make` in the main process, sent to all; a BadInput there is raised in all."""
        if self.size == 1:
            return make()
        import torch.distributed as dist

        sent: list[Any] = [None]
        if self.is_main:
            try:
                sent = [make()]
            except BadInput as error:
                sent = [error]
        with _collective():
            dist.broadcast_object_list(sent)
        if isinstance(sent[0], BadInput):
            raise sent[0]
        return sent[0]

    def local_main_first(self, make: Callable[[], T]) -> T:
        """The result of `make` in each process; the first process of a machine downloads for the others."""
        if self.size == 1:
            return make()
        if self.local_rank > 0:
            self.gather_objects(None)
            return make()
        try:
            return make()
        finally:  # after a BadInput too, which the others then raise themselves
            self.gather_objects(None)

    def gather_objects(self, value: T) -> list[T]:
        """The values of all processes, in all of them."""
        if self.size == 1:
            return [value]
        import torch.distributed as dist

        values: list[Any] = [None] * self.size
        with _collective():
            dist.all_gather_object(values, value)
        return values

    def gather_interleaved(self, parts: list["Tensor"], device: "torch.device") -> list["Tensor"]:
        """All parts in order, of which each process has every `size`-th, starting at its rank."""
        if self.size == 1:
            return parts
        rounds = zip_longest(*self.gather_objects([part.cpu() for part in parts]))
        return [part.to(device) for turn in rounds for part in turn if part is not None]


SINGLE = World()


def world() -> World:
    """The processes that torchrun has started, from the environment of this one."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    ranks = (int(os.environ.get(name) or name.endswith("SIZE")) for name in names)
    rank, size, local_rank, local_size = ranks
    return World(rank, size, local_rank, local_size) if size > 1 else SINGLE


def init_process_group(device: "torch.device") -> None:
    """Connect to the other processes; each trains on its `device`."""
    import torch
    import torch.distributed as dist

    me = world()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    elif not os.environ.get("OMP_NUM_THREADS"):
        torch.set_num_threads(max(1, torch.get_num_threads() // me.local_size))
    backend = "nccl" if device.type == "cuda" else "gloo"
    with _collective():
        dist.init_process_group(
            backend, store=_store(), rank=me.rank, world_size=me.size, timeout=TIMEOUT,
            device_id=device if device.type == "cuda" else None,
        )  # fmt: skip


def destroy_process_group() -> None:
    """Disconnect from the other processes, if connected."""
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()


def main_process_only(command: Callable[[list[str]], int]) -> Callable[[list[str]], int]:
    """The command with output from the main process only, and one error message for all processes.

    The first process that fails prints the message. Mostly all fail alike; but it need not be the main one,
    as a GPU or a file may be missing on another machine.
    """
    if world().size == 1:
        return command

    def run(argv: list[str]) -> int:
        with contextlib.ExitStack() as stack:
            if not world().is_main:
                silence = stack.enter_context(open(os.devnull, "w"))
                stack.enter_context(contextlib.redirect_stdout(silence))
            try:
                code = command(argv)
            except BadInput as error:
                _complain_once(error)
                return 2
            destroy_process_group()
            return code

    return run


def require_single_process(what: str) -> None:
    """Refuse to do something in several processes, where each would do the same."""
    if world().size > 1:
        raise BadInput(f"{what} runs in one process; start it without torchrun")


def _complain_once(error: BadInput) -> None:
    try:
        store = _store()
        if store.add("failed", 1) > 1:
            # When a process exits, torchrun ends all the others: wait until the message is printed.
            store.wait(["printed"], GRACE)
            return
    except (RuntimeError, BadInput):  # there is no store, or it has gone
        return complain(error)
    complain(error)
    sys.stderr.flush()
    with contextlib.suppress(RuntimeError):
        store.set("printed", "")


@cache
def _store() -> Any:
    """The key-value store of all processes, which exists before they connect and after one has died."""
    from torch.distributed import rendezvous

    if missing := [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]:
        raise BadInput(
            f"WORLD_SIZE is {world().size}, but {' and '.join(missing)} not set; start with torchrun, which "
            "sets them all"
        )
    return next(iter(rendezvous("env://", timeout=TIMEOUT)))[0]


@contextlib.contextmanager
def _collective() -> Iterator[None]:
    """Turn the failure of a collective, which means that a process has gone, into ProcessLost."""
    try:
        yield
    except RuntimeError as error:
        raise ProcessLost(
            "another process of this run has ended or cannot be reached "
            f"({str(error).partition(chr(10))[0]}); the same command resumes at the last checkpoint"
        ) from error
