"""Where a run takes place: its device, and the processes that share it."""

import torch

from ..config.schema import Config
from ..core.dist import SINGLE, World
from ..core.errors import BadInput
from .selections import images_kept


def check_world(config: Config, world: World) -> None:
    """Refuse what so many processes cannot do together."""
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
        raise BadInput("train.sync_bn sends messages from within the model, which train.compile cannot take")


def build_device(name: str, world: World = SINGLE) -> torch.device:
    """The device that is asked for, or the best there is for `auto`; for several processes one each."""
    best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(best if name == "auto" else name)
    except RuntimeError:
        raise BadInput(f"device {name!r} is none of auto, cpu, cuda, cuda:<number>, mps") from None
    count = torch.cuda.device_count() if device.type == "cuda" else 1
    usable = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not usable.get(device.type) or (device.index or 0) >= count:
        raise BadInput(f"device {name} is asked for, but this machine has {best} only; use --device {best}")
    if world.size == 1 or device.type == "cpu":
        return device
    if device.type == "mps" or device.index is not None:
        raise BadInput(
            f"{world.size} processes cannot share {device}; use --device cpu, or cuda for a GPU each"
        )
    if world.local_size > count:
        raise BadInput(
            f"torchrun starts {world.local_size} processes on a machine of {count} GPUs, and each needs one "
            f"of its own; use --nproc-per-node {count}"
        )
    return torch.device("cuda", world.local_rank)
