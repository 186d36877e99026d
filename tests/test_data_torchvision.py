"""The data sets that torchvision decodes, from small files in their formats."""

import gzip
import hashlib
import struct

import numpy as np
import pytest
import torch

from lib.core.errors import BadInput
from lib.core.registry import datasets

vision = pytest.importorskip("torchvision.datasets")


def idx(array: np.ndarray) -> bytes:
    """The format of MNIST: a magic number, the sizes, the bytes (yann.lecun.com/exdb/mnist)."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def mnist_files() -> dict[str, bytes]:
    files = {}
    for part, count in (("train", 60_000), ("t10k", 10_000)):
        images = np.zeros((count, 28, 28), np.uint8)
        images[:, 3, 5] = np.arange(count) % 256
        files[f"{part}-images-idx3-ubyte"] = idx(images)
        files[f"{part}-labels-idx1-ubyte"] = idx((np.arange(count) % 10).astype(np.uint8))
    return files


@pytest.mark.parametrize(("name", "decoder"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST")])
def test_grey_images_have_one_channel_and_are_unpacked_from_verified_archives(
    tmp_path, monkeypatch, name, decoder
):
    raw = tmp_path / decoder / "raw"
    raw.mkdir(parents=True)
    resources = []
    for file, data in mnist_files().items():
        packed = gzip.compress(data, 1)
        (raw / f"{file}.gz").write_bytes(packed)
        resources.append((f"{file}.gz", hashlib.md5(packed).hexdigest()))
    monkeypatch.setattr(getattr(vision, decoder), "resources", resources)
    data = datasets[name].build(root=tmp_path, offline=True)
    assert data.train.x.shape == (60_000, 1, 28, 28)
    assert data.test.x[77, 0, 3, 5] == 77
    assert (data.train.x.dtype, data.train.y.dtype) == (torch.uint8, torch.int64)
    assert data.test.y[:12].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]

    (raw / "train-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03 cut off")
    with pytest.raises(BadInput, match=rf"{raw} is damaged .*delete it .*--root"):
        datasets[name].build(root=tmp_path, offline=True)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("mnist", "train-images-idx3-ubyte.gz"),
        ("fashion_mnist", "train-images-idx3-ubyte.gz"),
        ("kmnist", "train-images-idx3-ubyte.gz"),
        ("svhn", "train_32x32.mat"),
    ],
)
def test_a_missing_set_is_one_line_offline(tmp_path, name, file):
    if name == "svhn":
        pytest.importorskip("scipy")
    with pytest.raises(BadInput, match=rf"{file} \(md5 [0-9a-f]+\) .*--offline .*--root") as error:
        datasets[name].build(root=tmp_path, offline=True)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_svhn_is_read_from_its_matlab_files(tmp_path, monkeypatch):
    io = pytest.importorskip("scipy.io")
    table = {}
    for part, count in (("train", 20), ("test", 10)):
        images = np.zeros((32, 32, 3, count), np.uint8)
        images[2, 5, 1] = np.arange(count)
        path = tmp_path / f"{part}_32x32.mat"
        io.savemat(path, {"X": images, "y": (np.arange(count) % 10 + 1)[:, None]})
        table[part] = ["unused", path.name, hashlib.md5(path.read_bytes()).hexdigest()]
    monkeypatch.setattr(vision.SVHN, "split_list", table)
    data = datasets["svhn"].build(root=tmp_path, offline=True)
    assert data.train.x.shape == (20, 3, 32, 32)
    assert data.train.x[7, 1, 2, 5] == 7
    assert data.test.y.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]  # SVHN calls the digit 0 a 10

    (tmp_path / "test_32x32.mat").write_bytes(b"cut off")
    with pytest.raises(BadInput, match=r"test_32x32.mat is damaged: expected md5"):
        datasets["svhn"].build(root=tmp_path, offline=True)
