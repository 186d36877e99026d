"""The device of a run, the processes that share it, and the kernels that are used on it."""

import contextlib
import os
from collections.abc import Iterator

import torch

from ..config.schema import Config
from ..core.dist import SINGLE, World
from ..core.errors import BadInput
from .selections import images_kept

_CUBLAS = "CUBLAS_WORKSPACE_CONFIG"


@contextlib.contextmanager
def process_of(config: Config) -> Iterator[None]:
    """Use kernels that return the same bits in every run, if the configuration asks for it, or else the
    fastest ones; afterwards the process is as it was, its random state included.
    """
    deterministic = config.train.deterministic
    mode, cudnn = torch.get_deterministic_debug_mode(), torch.backends.cudnn.benchmark
    cublas = os.environ.get(_CUBLAS)
    devices = range(torch.cuda.device_count() if torch.cuda.is_initialized() else 0)
    try:
        if deterministic:
            os.environ.setdefault(_CUBLAS, ":4096:8")  # without it cuBLAS is refused
        torch.use_deterministic_algorithms(deterministic)
        # Measures which convolution is fastest for each shape, and shapes rarely change; the choice may vary.
        torch.backends.cudnn.benchmark = not deterministic
        with torch.random.fork_rng(devices):
            yield
    finally:
        torch.set_deterministic_debug_mode(mode)
        torch.backends.cudnn.benchmark = cudnn
        if cublas is None:
            os.environ.pop(_CUBLAS, None)


def check_world(config: Config, world: World) -> None:
    """Refuse what this number of processes cannot do together."""
    train, kept = config.train, images_kept(config)
    images = f"a batch of {train.batch_size} images"
    images = images if kept == train.batch_size else f"the {kept} images kept of {images}"
    if kept < world.size:
        raise BadInput(f"{images} cannot be shared by {world.size} processes; give a larger --batch-size")
    if train.sync_bn and kept % world.size:
        # A process with fewer images may have fewer micro-batches, and the others would wait for it.
        raise BadInput(
            f"train.sync_bn: {images} cannot be shared equally by {world.size} processes; "
            "give a --batch-size that is a multiple"
        )
    if train.sync_bn and train.compile and world.size > 1:
        raise BadInput("train.sync_bn communicates from within the model, which train.compile cannot handle")


def build_device(name: str, world: World = SINGLE) -> torch.device:
    """The device of that name, or the best available one for `auto`; several processes get one each."""
    best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(best if name == "auto" else name)
    except RuntimeError:
        raise BadInput(f"device {name!r} is none of auto, cpu, cuda, cuda:<number>, mps") from None
    count = torch.cuda.device_count() if device.type == "cuda" else 1
    usable = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not usable.get(device.type) or (device.index or 0) >= count:
        raise BadInput(f"device {name} was requested, but this machine has only {best}; use --device {best}")
    if world.size == 1 or device.type == "cpu":
        return device
    if device.type == "mps" or device.index is not None:
        raise BadInput(
            f"{world.size} processes cannot share {device}; use --device cpu, or cuda for a GPU each"
        )
    if world.local_size > count:
        raise BadInput(
            f"torchrun starts {world.local_size} processes on a machine with {count} GPUs, but each needs "
            f"one; use --nproc-per-node {count}"
        )
    return torch.device("cuda", world.local_rank)
