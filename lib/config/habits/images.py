"""Conversions of data sets and augmentations."""

import re
from typing import Literal

from ...core.registry import Entry, datasets
from .meaning import Given, Pairs, given_as


def dataset(value: str, given: Given) -> Pairs:
    """`torch/<name>` is `<name>`, `hfds/<name>` is `hf:<name>`."""
    source, slash, name = value.partition("/")
    if slash and source == "torch" and name in datasets:
        return [("data.name", name)]
    if slash and source == "hfds":
        return [("data.name", f"hf:{name}")]
    if (source in ("tfds", "wds", "torch") and slash) or value.lower() in ("imagefolder", "image_folder"):
        raise ValueError(f"{value} has no counterpart; --dataset folder:PATH takes folders of images")
    return [("data.name", value)]


def _entry(given: Given) -> Entry:
    """The data set, the default one where none is given."""
    name = str(given_as(given, "data.name", "dataset", "data") or "cifar10")
    return datasets[str(dict(dataset(name, given))["data.name"])]


def image_size(value: tuple[int, ...], given: Given) -> Pairs:
    """The size of the images: `--image-size` of a folder, and fixed for other data sets."""
    entry, side = _entry(given), value[-1]
    if "image_size" in entry.fields and len(set(value[-2:])) == 1:
        return [("data.image_size", side)]
    if entry.facts.shape and all(
        side == own for side, own in zip(value[::-1], entry.facts.shape[::-1], strict=False)
    ):
        return []
    known = "x".join(map(str, entry.facts.shape or ("C", "N", "N")))
    raise ValueError(f"the images of {entry.name} are {known}; a folder's are square: --image-size N")


def workers(value: int, given: Given) -> Pairs:
    """`--data.workers` of images that are decoded from a folder; others stay in memory."""
    return [("data.workers", value)] if "workers" in _entry(given).fields else []


def test_crop(value: float, given: Given) -> Pairs:
    """`--test-crop` of a folder."""
    return [("data.test_crop", value)]


def channels(value: int, given: Given) -> Pairs:
    """The data set decides the number of channels."""
    shape = _entry(given).facts.shape
    if shape and shape[0] != value:
        raise ValueError(f"the images of {_entry(given).name} have {shape[0]} channels; leave it out")
    return []


def classes(value: int, given: Given) -> Pairs:
    """The data set decides the number of classes."""
    names = _entry(given).facts.classes
    if names and len(names) != value:
        raise ValueError(f"{_entry(given).name} has {len(names)} classes; leave it out, or change --dataset")
    return []


def fast(value: bool, given: Given) -> Pairs:
    """`--fraction 0.5`."""
    return [("data.fraction", 0.5)] if value else []


def no_aug(value: bool, given: Given) -> Pairs:
    """`--no-crop --no-flip`."""
    return [("augment.crop", False), ("augment.flip", False)] if value else []


def auto_augment(value: str, given: Given) -> Pairs:
    """`original` is `--autoaugment imagenet`, `rand-m9-n2-inc1` the `--randaugment` of its paper."""
    name, *parts = value.split("-")
    if name in ("v0", "original") and not parts:
        return [("augment.autoaugment.policy", "imagenet")]
    options = dict(
        re.fullmatch(r"([a-z]+)([\d.]*)", part).groups()
        for part in parts
        if re.fullmatch(r"[a-z]+[\d.]*", part)
    )
    magnitude, count = options.pop("m", "9"), options.pop("n", "2")
    if name != "rand":
        raise ValueError(
            f"{value!r} has no counterpart; choose --autoaugment, --randaugment, --trivialaugment or --augmix"
        )
    if options.pop("inc", "0") != "1" or float(options.pop("mstd", 0) or 0) or options:
        like = f"--randaugment-magnitude {magnitude} --randaugment-num-ops {count}"
        raise ValueError(
            f"magnitudes are fixed and rising here, as in rand-m{magnitude}-n{count}-inc1: write {like}"
        )
    return [("augment.randaugment.magnitude", magnitude), ("augment.randaugment.num_ops", count)]


def repeats(value: int, given: Given) -> Pairs:
    """`--repeated-augmentation`; 0 is none."""
    return [("augment.repeated_augmentation.times", value)] if value else []


def erasing_mode(value: Literal["const", "rand", "pixel"], given: Given) -> Pairs:
    """`--random-erasing-fill pixel` or `channel`."""
    if value == "const":
        raise ValueError("choose --random-erasing-fill pixel, channel, constant or black")
    return [("augment.random_erasing.fill", "channel" if value == "rand" else value)]


def areas(value: tuple[float, ...], given: Given) -> Pairs:
    """`--random-erasing-area-min` and `--random-erasing-area-max`."""
    return _span("augment.random_erasing.area", value)


def scale(value: tuple[float, ...], given: Given) -> Pairs:
    """`--random-resized-crop-scale-min` and `--random-resized-crop-scale-max`."""
    return _span("augment.random_resized_crop.scale", value)


def _span(key: str, value: tuple[float, ...]) -> Pairs:
    if len(value) != 2:
        raise ValueError(f"expected two numbers, got {len(value)}")
    return [(f"{key}_min", value[0]), (f"{key}_max", value[1])]


def ratio(value: tuple[float, ...], given: Given) -> Pairs:
    """`--random-resized-crop-ratio-min`, of which the largest ratio is the inverse."""
    if len(value) != 2 or abs(value[0] * value[1] - 1) > 0.01:
        raise ValueError(
            "the largest ratio is the inverse of the smallest: --random-resized-crop-ratio-min R"
        )
    return [("augment.random_resized_crop.ratio_min", value[0])]


def padding_mode(value: str, given: Given) -> Pairs:
    """`--crop-mode`; `constant` is `zero`."""
    return [("augment.crop.mode", "zero" if value == "constant" else value)]


def mixup_mode(value: Literal["batch", "pair", "elem"], given: Given) -> Pairs:
    """One factor for a batch; `elem` is `--mixup-per-sample` and `--cutmix-per-sample`."""
    if value == "pair":
        raise ValueError("images are mixed by batch or by image: --mixup-per-sample, --cutmix-per-sample")
    return [
        (f"augment.{name}.per_sample", True)
        for name in ("mixup", "cutmix")
        if name in given and value == "elem"
    ]


def mixup_off(value: int, given: Given) -> Pairs:
    """`--mixup-stop` and `--cutmix-stop`."""
    return [(f"augment.{name}.stop", value) for name in ("mixup", "cutmix") if name in given and value]
