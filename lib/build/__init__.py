"""From a configuration to a run: the one place where names become objects."""

from lib.build.data import build_data, build_dataset, build_normalize, build_splits, training_part
from lib.build.machine import build_device
from lib.build.model import build_model
from lib.build.run import (
    build,
    build_averages,
    build_schedule,
    build_steps,
    build_views,
)
from lib.build.selections import images_kept
from lib.build.trial import augmenting, try_views

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
