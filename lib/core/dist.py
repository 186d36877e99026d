"""Several processes that train as one: `torchrun --nproc-per-node N train.py ...`.

Every process prepares the same batch, computes the gradient of its own share of it, and takes the same step
with the sum of all. The first one alone reads and writes the run's folder, and speaks. This is the one place
that knows torch.distributed; where there is one process, all that stands here is the identity.

The weights are those that one process learns, up to the order of its sums, whatever the tricks. What differs:
the noise within a model (dropout, shake-shake, stochastic depth), of which each process draws its own; and
BatchNorm, which sees a share and not the batch unless `train.sync_bn` is on, and whose running statistics are
the means over the processes. A checkpoint knows nothing of all this.
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

if TYPE_CHECKING:  # takes seconds to import, which a command that only prints need not wait for
    import torch
    from torch import Tensor

T = TypeVar("T")

# No process is away from the others for longer, unless it is stuck. One that dies is noticed at once.
PATIENCE = timedelta(minutes=10)
A_MOMENT = timedelta(seconds=10)


class Lost(BadInput):
    """Another process is gone, and with it the run; the same command resumes it."""


@dataclass(frozen=True)
class World:
    """The processes that train together, as one of them sees them."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0  # among the processes on this machine
    local_size: int = 1

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def all_reduce(self, tensors: Sequence["Tensor"]) -> None:
        """Put the sum over the processes in the place of each tensor; all are of one type."""
        if self.size == 1:
            return
        import torch
        import torch.distributed as dist

        # One message: each takes a while to get going, whatever its length.
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        with _together():
            dist.all_reduce(flat)
        parts = flat.split([tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view_as(tensor))

    def all_gather(self, share: "Tensor", count: int) -> "Tensor":
        """The `count` rows of which each process has every `size`-th, from its own rank on.

        Shares are of one length: where `count` is no multiple, the last row of some is left out.
        """
        if self.size == 1:
            return share
        import torch
        import torch.distributed as dist

        shares = [torch.empty_like(share) for _ in range(self.size)]
        with _together():
            dist.all_gather(shares, share.contiguous())
        return torch.stack(shares, 1).flatten(0, 1)[:count]

    def broadcast(self, tensors: Sequence["Tensor"]) -> None:
        """Put the first process's values in the place of each tensor."""
        if self.size == 1:
            return
        import torch.distributed as dist

        for tensor in tensors:
            held = tensor.contiguous()
            with _together():
                dist.broadcast(held, 0)
            tensor.copy_(held)

    def on_main(self, make: Callable[[], T]) -> T:
        """What the first process makes, in all of them; if that is bad input, it is in all of them."""
        if self.size == 1:
            return make()
        import torch.distributed as dist

        held: list[Any] = [None]
        if self.is_main:
            try:
                held = [make()]
            except BadInput as error:
                held = [error]
        with _together():
            dist.broadcast_object_list(held)
        if isinstance(held[0], BadInput):
            raise held[0]
        return held[0]

    def in_turn(self, make: Callable[[], T]) -> T:
        """What each process makes; on every machine one before the others, who find what it downloaded."""
        if self.size == 1:
            return make()
        if self.local_rank > 0:
            self.gather(None)
            return make()
        try:
            return make()
        finally:  # bad input too: then the others find it bad themselves
            self.gather(None)

    def gather(self, value: T) -> list[T]:
        """The values of all processes, in all of them."""
        if self.size == 1:
            return [value]
        import torch.distributed as dist

        held: list[Any] = [None] * self.size
        with _together():
            dist.all_gather_object(held, value)
        return held

    def interleaved(self, parts: list["Tensor"], device: "torch.device") -> list["Tensor"]:
        """All parts in their order, of which each process has every `size`-th, from its own rank on."""
        if self.size == 1:
            return parts
        rounds = zip_longest(*self.gather([part.cpu() for part in parts]))
        return [part.to(device) for turn in rounds for part in turn if part is not None]


SINGLE = World()


def world() -> World:
    """The processes that torchrun has started, from this one's environment."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    rank, size, local_rank, local_size = (
        int(os.environ.get(name) or name.endswith("SIZE")) for name in names
    )
    return World(rank, size, local_rank, local_size) if size > 1 else SINGLE


def join(device: "torch.device") -> None:
    """Meet the other processes; each trains on its `device`."""
    import torch
    import torch.distributed as dist

    me = world()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    elif not os.environ.get("OMP_NUM_THREADS"):
        torch.set_num_threads(max(1, torch.get_num_threads() // me.local_size))
    backend = "nccl" if device.type == "cuda" else "gloo"
    with _together():
        dist.init_process_group(
            backend, store=_store(), rank=me.rank, world_size=me.size, timeout=PATIENCE,
            device_id=device if device.type == "cuda" else None,
        )  # fmt: skip


def main_process_only(command: Callable[[list[str]], int]) -> Callable[[list[str]], int]:
    """The command as one of several processes runs it, of which the first one prints.

    The first that fails says why. Mostly all fail alike; but it need not be the one that prints, for a GPU or
    a file may be missing on another machine.
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
                _say_once(error)
                return 2
            leave()
            return code

    return run


def leave() -> None:
    """Part from the other processes, where this one has met them."""
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()


def require_single_process(what: str) -> None:
    """Refuse to do something in several processes, where each would do the same."""
    if world().size > 1:
        raise BadInput(f"{what} runs in one process; leave torchrun out")


def _say_once(error: BadInput) -> None:
    try:
        store = _store()
        if store.add("failed", 1) > 1:
            # Who ends makes torchrun end all the others: only when it is said.
            store.wait(["said"], A_MOMENT)
            return
    except (RuntimeError, BadInput):  # there is no store, or none any more
        return complain(error)
    complain(error)
    sys.stderr.flush()
    with contextlib.suppress(RuntimeError):
        store.set("said", "")


@cache
def _store() -> Any:
    """Where processes leave notes for each other: it is there before they meet, and when one has died."""
    from torch.distributed import rendezvous

    if missing := [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]:
        raise BadInput(
            f"WORLD_SIZE is {world().size}, but {' and '.join(missing)} not set; start with torchrun, which "
            "sets them all"
        )
    return next(iter(rendezvous("env://", timeout=PATIENCE)))[0]


@contextlib.contextmanager
def _together() -> Iterator[None]:
    """For what all processes do at once, and what fails when one of them is gone."""
    try:
        yield
    except RuntimeError as error:
        raise Lost(
            "another process of this run has ended or cannot be reached "
            f"({str(error).partition(chr(10))[0]}); the same command resumes at the last checkpoint"
        ) from error
