"""A split whose images are in files, and the worker processes that read them ahead of their use."""

import os
import shutil
import signal
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from multiprocessing import Queue
from multiprocessing.util import get_temp_dir
from pathlib import Path
from types import FrameType
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..core.dist import ProcessLost
from ..core.errors import BadInput
from ..core.rng import Rng
from .decoding import CenterCrop, decode
from .listing import Listing

SHARED = Path("/dev/shm")  # shared memory, where the system shows it
RESERVE = 2**21  # bytes of it that images leave free, for what starts the workers of an evaluation


@dataclass(frozen=True, eq=False)
class Files:
    """A `Split` without `x`: its images are read part by part, when they are needed."""

    soft: ClassVar[None] = None  # as in `Split`: folders have one class per image
    identity: ClassVar[str] = "files"

    listing: Listing
    places: Tensor  # (N,) indices of the images in the listing, on the CPU
    y: Tensor  # (N,) int64, on the device of the batches
    crop: CenterCrop  # what evaluation sees of an image
    train_crop: CenterCrop  # what training sees of it, before augmentation
    workers: int  # processes that read; 0: the main process does
    contents: Callable[[], dict[str, Tensor]]  # returns "checksums" of all files in the listing

    def __len__(self) -> int:
        return len(self.places)

    @property
    def x(self) -> Tensor:
        raise BadInput(
            "the images are streamed and not in memory: read them part by part, or give stream=False"
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of an image as evaluation sees it."""
        return 3, self.crop.size, self.crop.size

    def take(self, index: Tensor | slice) -> "Files":
        places = self.places[index.cpu() if isinstance(index, Tensor) else index]
        return replace(self, places=places, y=self.y[index])

    def to(self, device: torch.device | str) -> "Files":
        return replace(self, y=self.y.to(device))

    def read(self, parts: Iterable[Tensor | slice], crop: CenterCrop | None = None) -> Iterator[Tensor]:
        """The images of each part of the split, (n, 3, S, S) uint8 on the device of `y`, in their order.

        Args:
            crop: what is cut out of each image; by default what evaluation sees.
        Raises:
            BadInput: an image cannot be read.
            ProcessLost: a worker process has died.
        """
        parts = (part.cpu() if isinstance(part, Tensor) else part for part in parts)
        places = (self.places[part].tolist() for part in parts)  # tensors would be sent as open files
        return _read(_Reader(self.listing, crop or self.crop), places, self.workers, self.y.device)

    def evidence(self) -> Iterator[bytes | np.ndarray]:
        """The bytes that identify the split: names and contents of the files, classes and crops."""
        yield repr((self.crop, self.train_crop)).encode()
        yield from self.listing.evidence(self.places)
        yield self.contents()["checksums"][self.places].numpy()
        yield self.y.cpu().numpy()


class _Reader(Dataset):
    """The images at places in a listing, or the message of the error that reading one of them raised.

    The message is returned because an exception raised in a worker would arrive as a traceback.
    """

    def __init__(self, listing: Listing, crop: CenterCrop):
        self.listing, self.crop = listing, crop

    def __getitem__(self, places: list[int]) -> Tensor | str:
        x = torch.empty(len(places), 3, self.crop.size, self.crop.size, dtype=torch.uint8)
        try:
            for image, place in enumerate(places):
                x[image] = decode(self.listing.path(place), self.crop)
        except BadInput as error:
            return str(error)
        except MemoryError:
            return "a worker that reads images has no memory left; give a smaller --data.workers"
        return x


def _read(
    reader: _Reader, places: Iterable[list[int]], workers: int, device: torch.device
) -> Iterator[Tensor]:
    if workers:
        _check_system(workers)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on the number of workers, which the user chooses
        loader = DataLoader(
            reader,
            batch_size=None,  # one worker reads the whole part
            collate_fn=_sent if workers else None,
            sampler=places,
            num_workers=workers,
            pin_memory=device.type == "cuda",  # so that the copy is asynchronous
            worker_init_fn=_init_worker,
            generator=Rng("workers").device(
                torch.device("cpu")
            ),  # without one, the global state is drawn from
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
        yield torch.as_tensor(x).to(device, non_blocking=True)


def _check_system(workers: int) -> None:
    """Raise BadInput where DataLoader could not start its workers, which it would report by tracebacks."""
    try:
        get_temp_dir()  # of the sockets that workers open later, where an error would make them hang
        for queue in [Queue() for _ in range(workers + 2)]:  # in /dev/shm, as many as it makes
            queue.close()
    except OSError as error:
        raise BadInput(
            f"cannot start {workers} processes that read images ({error.strerror}); free /dev/shm and /tmp, "
            "or give --data.workers 0"
        ) from error


def _sent(x: Tensor | str) -> Tensor | np.ndarray | str:
    """What a worker sends: shared memory, or a copy where /dev/shm, of 64 MB in most containers, is full.

    DataLoader would move the tensor there in another thread, and lose the error of that thread.
    """
    if isinstance(x, str):
        return x
    if SHARED.is_dir() and shutil.disk_usage(SHARED).free < x.nbytes + RESERVE:
        return x.numpy()
    try:
        return x.share_memory_()
    except RuntimeError:
        return x.numpy()


def _init_worker(number: int) -> None:
    """Leave Ctrl-C to the main process, and exit without a message on SIGTERM."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    warnings.simplefilter("ignore")  # of Pillow, on damaged metadata of single files


@cache
def _watch_workers() -> None:
    """End the run with `ProcessLost` as soon as a worker dies.

    DataLoader's own handler of SIGCHLD raises a RuntimeError wherever the main process is.
    """
    if not hasattr(signal, "SIGCHLD"):  # on Windows the DataLoader polls its workers instead
        return
    watch = signal.getsignal(signal.SIGCHLD)
    if callable(watch) and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, _raising_lost(watch))


def _raising_lost(watch: Callable[[int, FrameType | None], None]) -> Callable[[int, FrameType | None], None]:
    def handler(number: int, frame: FrameType | None) -> None:
        try:
            watch(number, frame)
        except RuntimeError as error:
            raise _lost(error) from error

    return handler


def _lost(error: RuntimeError) -> ProcessLost:
    reason = str(error).strip().rstrip(".")
    return ProcessLost(
        f"a worker that reads images died ({reason}); the same command resumes at the last checkpoint"
    )
