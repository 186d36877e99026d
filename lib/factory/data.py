"""The data of a run: training batches, splits to evaluate, and the normalization of pixels."""

import math
from functools import partial

import torch
from torch import Tensor

from ..augment.pipeline import Normalize
from ..config.schema import Config
from ..core.dist import SINGLE, World
from ..core.errors import BadInput, where
from ..core.rng import Rng
from ..data.base import MIN_STD, Dataset, DataSpec, Split, data_root, fraction, hold_out
from ..data.files import Files
from ..data.label_noise import mislabelled
from ..data.long_tail import long_tailed
from ..data.resident import Resident
from ..data.streamed import Streamed
from ..models.timm_adapter import data_config
from ..store.checkpoint import Checkpoint

SAMPLE = 5_000 * 3 * 32 * 32  # values in the images for initial weights that depend on data


def build_dataset(config: Config) -> Dataset:
    """The data set, in memory or as a list of files."""
    check_trainable(config)
    return config.chosen["data"].build(root=data_root(config.data.root), offline=config.data.offline)


def build_stand_in(config: Config) -> Dataset:
    """Images of noise with the facts of the data set, for a run that is only built.

    It is the data set itself where facts are not enough: for a long tail, the number of images of each class.
    """
    check_trainable(config)
    facts = config.chosen["data"].entry.facts
    if not facts.shape or (config.data.imbalance > 1 and not facts.balanced):
        return build_dataset(config)

    def noise(images: int) -> Split:
        # Windows of one strip of noise: images that are never read need no memory.
        _, height, width = facts.shape
        strip = Rng("stand-in").integers(0, 256, images + math.prod(facts.shape), like=torch.empty(0))
        x = strip.to(torch.uint8).as_strided((images, *facts.shape), (1, height * width, width, 1))
        return Split(x, torch.arange(images) % len(facts.classes))

    return Dataset(noise(facts.train), noise(facts.test), facts.classes, facts.mean, facts.std)


def check_trainable(config: Config) -> None:
    """Raise BadInput if the data set has test images only."""
    entry = config.chosen["data"].entry
    if entry.facts.train == 0:
        raise BadInput(
            f"--dataset {entry.name} has test images only: train on another data set, then evaluate the run "
            f"with --evaluate RUN --on {entry.name}"
        )


def build_data(
    config: Config, dataset: Dataset, device: torch.device, world: World = SINGLE
) -> tuple[Resident | Streamed, dict[str, Split | Files]]:
    """The training batches, and the splits to evaluate: test, and val if there are images for it."""
    part, splits = build_splits(config, dataset)
    streamed = isinstance(part, Files)
    if streamed and config.evaluate.corruptions:
        raise BadInput(
            "evaluate.corruptions needs the test images in memory, but they are streamed; leave it out, or "
            "give --data.stream false"
        )
    try:
        splits = {name: split.to(device) for name, split in splits.items()}
        batches = partial(Streamed, world=world) if streamed else Resident
        data = batches(part.to(device), len(dataset.classes), config.train.batch_size, config.train.seed)
    except torch.OutOfMemoryError as error:
        if "stream" not in config.chosen["data"].options:
            raise
        raise BadInput(
            f"the images do not fit into the memory of {device}; give --data.stream true"
        ) from error
    return data, splits


def data_notes(config: Config, dataset: Dataset) -> list[str]:
    """What the user should know of the images: those left out, streamed by default, or all alike."""
    notes, options = list(dataset.notes), config.chosen["data"].options
    if constant := [channel for channel, std in enumerate(dataset.std) if std <= MIN_STD]:
        notes.append(
            f"channels {constant} of the images are constant or nearly so, and of little use to the network; "
            f"they are divided by {MIN_STD:.4f} and not by their standard deviation"
        )
    if isinstance(dataset.train, Files) and not options["stream"]:
        size = (len(dataset.train) + len(dataset.test)) * math.prod(dataset.train.shape) / 1e9
        notes.append(
            f"the images are streamed, by {options['workers']} worker processes (--data.workers), because "
            f"all in memory would take {size:.2g} GB; the run learns the same"
        )
    return notes


def build_splits(config: Config, dataset: Dataset) -> tuple[Split, dict[str, Split]]:
    """The images to train on, and the splits to evaluate: test, and val if there are images for it."""
    if dataset.val is not None and config.data.val:
        raise BadInput(f"{config.chosen['data'].entry.name} has validation images; leave out --val")
    part, held_out = training_part(config, dataset.train, len(dataset.classes))
    val = held_out if config.data.val else dataset.val
    return part, ({} if val is None else {"val": val}) | {"test": dataset.test}


def training_part(config: Config, split: Split, num_classes: int) -> tuple[Split, Split]:
    """The images to train on, and those held out, to which fraction, imbalance and noise do not apply."""
    data, mistaken = config.data, config.chosen["data"].entry.facts.mistaken
    with where("data"):
        part, held_out = hold_out(split, data.val, num_classes)
        part = fraction(part, data.fraction)
        part = long_tailed(part, data.imbalance, num_classes)
        part = mislabelled(part, data.label_noise, data.noise_type, num_classes, mistaken)
    return part, held_out


def build_spec(config: Config, dataset: Dataset) -> DataSpec:
    """What a network of this configuration needs to know of the data set."""
    mean, std = dataset.mean, dataset.std
    if config.data.normalize == "pretrained":
        model = config.chosen["model"]
        if not model.options.get("pretrained"):
            raise BadInput(
                "data.normalize: only --model.pretrained knows the statistics of pretrained weights"
            )
        learned, channels = data_config(model.entry.arguments["name"]), dataset.test.shape[0]
        mean, std = learned.mean, learned.std
        if channels != len(mean):
            mean, std = ((sum(values) / len(values),) * channels for values in (mean, std))
    if config.data.normalize == "legacy":
        entry = config.chosen["data"].entry
        if entry.facts.legacy is None:
            raise BadInput(f"data.normalize: {entry.name} has no legacy statistics; use --normalize standard")
        mean, std = entry.facts.legacy
    return DataSpec(dataset.test.shape, dataset.classes, mean, std, dataset.test_crop)


def learned_data(checkpoint: Checkpoint) -> DataSpec:
    """What the networks of a run need to know of their data; earlier versions did not save it."""
    return checkpoint.data or build_spec(checkpoint.config, build_dataset(checkpoint.config))


def build_normalize(spec: DataSpec, device: torch.device) -> Normalize:
    """The map of the NORMALIZE stage, with the statistics of the data set or those of older projects."""
    mean, std = (torch.tensor(values, device=device)[:, None, None] for values in (spec.mean, spec.std))
    return Normalize(mean, std)


def training_sample(normalize: Normalize, part: Split) -> Tensor:
    """Normalised training images, evenly spaced: as many as have the pixels of 5,000 images of CIFAR."""
    count = min(len(part), max(1, SAMPLE // math.prod(part.shape)))
    (x,) = part.read([slice(None, len(part) // count * count, len(part) // count)])
    return normalize.pixels(x).cpu()
