"""From a configuration to a run: the one place where names become objects."""

from .backend import build_device
from .data import build_data, build_dataset, build_normalize, build_splits, training_part
from .model import build_model
from .run import (
    build,
    build_averages,
    build_schedule,
    build_steps,
    build_views,
)
from .selections import images_kept
from .trial import augmenting, try_views

__all__ = [
    "augmenting",
    "build",
    "build_averages",
    "build_data",
    "build_dataset",
    "build_device",
    "build_model",
    "build_normalize",
    "build_schedule",
    "build_splits",
    "build_steps",
    "build_views",
    "images_kept",
    "training_part",
    "try_views",
]
