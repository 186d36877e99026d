"""Data sets as on the Hugging Face hub: parquet files, read by its package `datasets`."""

import os
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from ..core.contracts import Count, Fraction
from ..core.errors import BadInput
from ..core.files import user_path
from ..core.registry import datasets
from .base import Dataset, Split, channel_statistics
from .cache import cached
from .decoding import VERSION, CenterCrop, decode

VALIDATION = ("validation", "valid", "val")  # names of the split; it is the test set where there is no test


@datasets.register("hf:<path>", augment=("crop", "flip"))
def huggingface(
    root: Path,
    offline: bool,
    path: str,  # name on the hub, or a folder of parquet files
    image_size: Count = 32,  # side of the square that the centre of an image is resized to
    test_crop: Fraction = 1.0,  # fraction of the shorter side in evaluation; ImageNet's is 0.875
    label: str | None = None,  # column of the classes; none: the only one
    subset: str | None = None,  # configuration of the data set on the hub
) -> Dataset:
    """A data set of the Hugging Face hub, or parquet files in a folder; needs `pip install datasets`.

    Raises:
        BadInput: it cannot be had, or has no splits to train and to test on, no images or no classes.
    """
    found = _download(path, subset, offline)
    val = next((found[name] for name in VALIDATION if name in found), None)
    test, val = (found["test"], val) if "test" in found else (val, None)
    if "train" not in found or test is None:
        raise BadInput(f"hf:{path} has splits {', '.join(found)}; it needs train, and test or validation")
    splits = {"train": found["train"], "test": test} | ({} if val is None else {"val": val})
    features = found["train"].features
    image = _column(path, features, [name for name in features if _is_image(features[name])], "image")
    classes = [name for name in features if type(features[name]).__name__ == "ClassLabel"]
    label = _column(path, features, classes, "label", label)
    crops = {"train": CenterCrop(image_size)} | dict.fromkeys(
        ("test", "val"), CenterCrop(image_size, test_crop)
    )

    def compute() -> dict[str, Tensor]:
        tensors = {}
        for part, split in splits.items():
            tensors |= _decode(f"hf:{path}", split, image, label, crops[part], part)
        return tensors

    key = f"decoder {VERSION}: {[split._fingerprint for split in splits.values()]} {image} {label} {crops}"
    cache = f"decoded-hf-{re.sub(r'[^A-Za-z0-9.-]+', '-', path)}-{image_size}px"
    tensors = cached(root, root, cache, key, compute)
    parts = {part: Split(tensors[f"{part}_x"], tensors[f"{part}_y"]) for part in splits}
    mean, std = channel_statistics(parts["train"].x)
    names = getattr(features[label], "names", None) or map(str, range(int(parts["train"].y.max()) + 1))
    return Dataset(**parts, classes=tuple(names), mean=mean, std=std, test_crop=test_crop)


def _download(path: str, subset: str | None, offline: bool) -> dict[str, Any]:
    """The splits by name."""
    if offline:
        os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"  # read at the first import
    try:
        from datasets import load_dataset
    except ImportError:
        raise BadInput(f"hf:{path} needs the package datasets: pip install datasets") from None
    folder = user_path(path)
    try:
        return dict(load_dataset(str(folder) if folder.is_dir() else path, subset))
    except Exception as error:  # of the hub, of its clients, and of the readers of any format
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise BadInput(
            f"hf:{path} cannot be read ({reason}); give a folder of parquet files, or a name on the hub, "
            "such as hf:uoft-cs/cifar10"
        ) from error


def _is_image(feature: Any) -> bool:
    """Whether a column holds images: declared as such, or as the bytes of files."""
    return type(feature).__name__ == "Image" or (isinstance(feature, dict) and "bytes" in feature)


def _column(path: str, names: Iterable[str], fitting: list[str], usual: str, given: str | None = None) -> str:
    """The column that is given, else the only one that fits, else that of the usual name.

    Raises:
        BadInput: there is no such column.
    """
    if given in names or (given is None and len(fitting) == 1):
        return given or fitting[0]
    if given is None and usual in names:
        return usual
    wanted = f"column {given}" if given else f"{usual} column" if not fitting else f"single {usual} column"
    raise BadInput(f"hf:{path} has no {wanted} among {', '.join(names)}")


def _decode(
    source: str, split: Any, image: str, label: str, crop: CenterCrop, name: str
) -> dict[str, Tensor]:
    from datasets import Image

    files: Iterable[dict[str, Any]] = split.cast_column(image, Image(decode=False))[image]
    y = torch.tensor(split[label][:], dtype=torch.int64)
    if len(y) and int(y.min()) < 0:
        raise BadInput(f"{source} has images without a class in its split {name}; leave it out")

    def read(numbered: tuple[int, dict[str, Any]]) -> Tensor:
        number, file = numbered
        place = file["path"] if file["bytes"] is None else f"{source}, image {number} of {name},"
        return decode(place, crop, content=file["bytes"])

    with ThreadPoolExecutor() as pool:
        bar = partial(tqdm, desc=f"decoding {name}", total=len(y), unit="image", disable=None)
        return {f"{name}_x": torch.stack(list(bar(pool.map(read, enumerate(files))))), f"{name}_y": y}
