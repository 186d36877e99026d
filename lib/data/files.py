"""A split whose images lie in files, and the processes that read them ahead of their use."""

import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from types import FrameType

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..core.dist import Lost
from ..core.errors import BadInput
from ..core.rng import Rng
from .decoding import View, decode
from .listing import Listing


@dataclass(frozen=True, eq=False)
class Files:
    """A `Split` in every respect but `x`: its images are read part by part, when they are needed."""

    listing: Listing
    where: Tensor  # (N,) its images' places in the listing, on the CPU
    y: Tensor  # (N,) int64, on the device where batches are wanted
    view: View  # what is seen of an image where it is evaluated...
    training: View  # ... and where it is trained on
    workers: int  # processes that read; 0: the main one does

    def __len__(self) -> int:
        return len(self.where)

    @property
    def x(self) -> Tensor:
        raise BadInput(
            "the images are streamed and not in memory: read them part by part, or give stream=False"
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of an image that is evaluated: C, H, W."""
        return 3, self.view.side, self.view.side

    def take(self, index: Tensor | slice) -> "Files":
        where = index.cpu() if isinstance(index, Tensor) else index
        return replace(self, where=self.where[where], y=self.y[index])

    def to(self, device: torch.device | str) -> "Files":
        return replace(self, y=self.y.to(device))

    def read(self, parts: Iterable[Tensor | slice], view: View | None = None) -> Iterator[Tensor]:
        """The images of each part of the split, (n, 3, S, S) uint8 on the device of `y`, in their order.

        Raises:
            BadInput: one of them cannot be read.
            Lost: a process that reads has ended.
        """
        parts = (part.cpu() if isinstance(part, Tensor) else part for part in parts)
        places = (self.where[part].tolist() for part in parts)  # tensors would be sent as open files
        return _read(_Reader(self.listing, view or self.view), places, self.workers, self.y.device)

    def evidence(self) -> Iterator[bytes | np.ndarray]:
        """What tells this split from any other: names and sizes of the files, the classes, and the views."""
        yield repr((self.view, self.training)).encode()
        yield from self.listing.evidence(self.where)
        yield self.y.cpu().numpy()


class _Reader(Dataset):
    """Gives the images at places in a listing, or what is wrong with one of them.

    An error is a value here: raised in another process, it would come back as that one's traceback.
    """

    def __init__(self, listing: Listing, view: View):
        self.listing, self.view = listing, view

    def __getitem__(self, places: list[int]) -> Tensor | str:
        side, share = self.view.side, self.view.share
        x = torch.empty(len(places), 3, side, side, dtype=torch.uint8)
        try:
            for image, place in enumerate(places):
                x[image] = decode(self.listing.path(place), side, share)
        except BadInput as error:
            return str(error)
        return x


def _read(
    reader: _Reader, places: Iterable[list[int]], workers: int, device: torch.device
) -> Iterator[Tensor]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice on the number of workers, which is the user's to choose
        loader = DataLoader(
            reader,
            batch_size=None,  # a part is read as a whole, by one process
            sampler=places,
            num_workers=workers,
            pin_memory=device.type == "cuda",  # so the copy waits for nothing
            worker_init_fn=_work_quietly,
            generator=Rng("workers").device(torch.device("cpu")),  # else it would draw from the global one
        )
        images = iter(loader)
    if workers:
        _watch_workers()
    while True:
        try:
            x = next(images)
        except StopIteration:
            return
        except RuntimeError as error:
            raise _lost(error) from error
        if isinstance(x, str):
            raise BadInput(x)
        yield x.to(device, non_blocking=True)


def _work_quietly(number: int) -> None:
    """Leave Ctrl-C to the main process, and end without a word when it, or who ends them all, says so."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    warnings.simplefilter("ignore")  # Pillow's, on the oddities of single files


@cache
def _watch_workers() -> None:
    """Let the death of a worker end the run wherever it is, with its reason.

    DataLoader's own watch, a handler of SIGCHLD, raises a RuntimeError in the middle of anything.
    """
    watch = signal.getsignal(signal.SIGCHLD)
    if callable(watch) and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, _translated(watch))


def _translated(watch: Callable[[int, FrameType | None], None]) -> Callable[[int, FrameType | None], None]:
    def handler(number: int, frame: FrameType | None) -> None:
        try:
            watch(number, frame)
        except RuntimeError as error:
            raise _lost(error) from error

    return handler


def _lost(error: RuntimeError) -> Lost:
    said = str(error).strip().rstrip(".")
    return Lost(
        f"a process that reads images is lost ({said}); the same command resumes at the last checkpoint"
    )
