"""Parquet files in the layout of the Hugging Face hub."""

import io
import logging

import numpy as np
import pytest
import torch
from PIL import Image

from lib.core.errors import BadInput
from lib.core.registry import datasets

hub = pytest.importorskip("datasets")
NAMES = ["cat", "dog", "zebra"]


@pytest.fixture(autouse=True)
def quiet(tmp_path, monkeypatch):
    hub.disable_progress_bars()
    logging.getLogger("datasets").setLevel(logging.ERROR)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def png(level: int, size: int = 20) -> dict:
    file = io.BytesIO()
    Image.new("RGB", (size, size), (level, 0, 255 - level)).save(file, "png")
    return {"bytes": file.getvalue(), "path": f"{level}.png"}


def parquet(folder, counts: dict[str, int], **more) -> str:
    """Files of splits as `push_to_hub` names them; image i has level i and class i % 3."""
    (folder / "data").mkdir()
    features = {"img": hub.Image(), "label": hub.ClassLabel(names=NAMES)} | more
    for split, count in counts.items():
        rows = {"img": [png(i) for i in range(count)], "label": [i % 3 for i in range(count)]}
        rows |= {name: [i % 2 for i in range(count)] for name in more}
        table = hub.Dataset.from_dict(rows, features=hub.Features(features))
        table.to_parquet(folder / "data" / f"{split}-00000-of-00001.parquet")
    return str(folder)


def build(path: str, root, **options):
    return datasets[f"hf:{path}"].build(root=root, offline=True, **options)


@pytest.mark.parametrize("test", ["test", "validation"])
def test_images_classes_and_splits_are_those_of_the_files(tmp_path, test):
    path = parquet(tmp_path, {"train": 9, test: 4})
    for _ in range(2):  # the second time from the cache
        data = build(path, tmp_path, image_size=16)
        assert data.classes == tuple(NAMES)
        assert (data.train.x.shape, data.test.x.shape) == ((9, 3, 16, 16), (4, 3, 16, 16))
        assert data.train.x[:, 0, 3, 4].tolist() == list(range(9))
        assert data.train.y.tolist() == [0, 1, 2] * 3 and data.test.y.tolist() == [0, 1, 2, 0]
        assert data.mean == pytest.approx((4 / 255, 0, 251 / 255))
        assert data.std == pytest.approx([deviation := np.arange(9).std() / 255, 1 / 255, deviation])
        assert data.train.x.dtype == torch.uint8


def test_a_validation_split_beside_a_test_split_is_for_validation(tmp_path):
    data = build(parquet(tmp_path, {"train": 6, "validation": 3, "test": 2}), tmp_path)
    assert (len(data.train), len(data.val), len(data.test)) == (6, 3, 2)


def test_the_column_of_classes_can_be_named_where_there_are_several(tmp_path):
    coarse = hub.ClassLabel(names=["small", "large"])
    path = parquet(tmp_path, {"train": 6, "test": 2}, coarse=coarse)
    assert build(path, tmp_path, label="coarse").classes == ("small", "large")
    assert build(path, tmp_path).classes == tuple(NAMES)  # the one that is called label


def test_what_is_missing_is_said_in_one_line(tmp_path):
    path = parquet(tmp_path, {"train": 3})
    with pytest.raises(BadInput, match=r"has splits train; it needs train, and test or validation"):
        build(path, tmp_path)
    with pytest.raises(BadInput, match=r"hf:.*nowhere cannot be read .*hf:uoft-cs/cifar10"):
        build(str(tmp_path / "nowhere"), tmp_path)


def test_a_column_that_is_not_there_is_refused_with_those_that_are(tmp_path):
    path = parquet(tmp_path, {"train": 3, "test": 3})
    with pytest.raises(BadInput, match=r"no column klass among img, label"):
        build(path, tmp_path, label="klass")


def test_a_damaged_image_is_named_by_its_split_and_number(tmp_path):
    (tmp_path / "data").mkdir()
    features = hub.Features({"image": hub.Image(), "label": hub.ClassLabel(names=NAMES)})
    for split in ("train", "test"):
        images = [png(1), {"bytes": b"no image", "path": None}]
        table = hub.Dataset.from_dict({"image": images, "label": [0, 1]}, features=features)
        table.to_parquet(tmp_path / "data" / f"{split}-00000-of-00001.parquet")
    with pytest.raises(BadInput, match=r"cannot read hf:.*, image 1 of train, as an image"):
        build(str(tmp_path), tmp_path)


def test_the_package_is_named_where_it_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(BadInput, match=r"needs the package datasets: pip install datasets"):
        build(str(tmp_path), tmp_path)
