"""From a configuration to a run: the one place where names become objects."""

from lib.build.data import build_data, build_dataset, build_normalize, build_splits, training_part
from lib.build.model import build_model
from lib.build.run import build, build_device, build_schedule, build_steps
from lib.build.trial import augmenting

__all__ = [
    "augmenting",
    "build",
    "build_data",
    "build_dataset",
    "build_device",
    "build_model",
    "build_normalize",
    "build_schedule",
    "build_splits",
    "build_steps",
    "training_part",
]
