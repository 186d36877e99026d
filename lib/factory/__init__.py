"""From a configuration to a run: the one place where names become objects."""

from .checks import augmenting
from .compiling import compile_networks
from .data import (
    build_data,
    build_dataset,
    build_normalize,
    build_spec,
    build_splits,
    build_stand_in,
    data_notes,
    training_part,
)
from .device import build_device, process_of
from .model import build_model, in_order
from .run import build, build_schedule, build_steps
from .selections import images_kept

__all__ = [
    "augmenting",
    "build",
    "build_data",
    "build_dataset",
    "build_device",
    "build_model",
    "build_normalize",
    "build_schedule",
    "build_spec",
    "build_splits",
    "build_stand_in",
    "build_steps",
    "compile_networks",
    "data_notes",
    "images_kept",
    "in_order",
    "process_of",
    "training_part",
]
