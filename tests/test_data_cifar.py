"""Small sets in the formats of CIFAR: records and pickles, folders and archives, intact and damaged."""

import hashlib
import io
import pickle
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lib.core.errors import BadInput
from lib.data.cifar import CIFAR10, CIFAR100
from lib.data.cifar_files import PIXELS, Cifar, File, Form

COUNTS = {"batch_1": 6, "batch_2": 4, "test": 5}  # images of each file; files of records end in .bin
LEVELS = (2, 4)  # coarse and fine classes
RANDOM = np.random.default_rng(0)
IMAGES = {name: RANDOM.integers(0, 256, (n, PIXELS), np.uint8) for name, n in COUNTS.items()}
FINE = {name: np.arange(n, dtype=np.uint8) % 4 for name, n in COUNTS.items()}

RECORDS = {
    f"{name}.bin": b"".join(
        bytes([k // 2, k]) + pixels.tobytes() for pixels, k in zip(IMAGES[name], FINE[name], strict=True)
    )
    for name in COUNTS
}
PICKLES = {
    name: pickle.dumps(
        {
            "data": IMAGES[name],
            "fine_labels": FINE[name].tolist(),
            "coarse_labels": (FINE[name] // 2).tolist(),
        }
    )
    for name in COUNTS
}


def archive(folder: str, files: dict[str, bytes]) -> bytes:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w:gz") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return whole.getvalue()


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


ARCHIVES = {"toy-binary": archive("toy-binary", RECORDS), "toy-python": archive("toy-python", PICKLES)}

TOY = Cifar(
    classes=("a", "b", "c", "d"),
    levels=LEVELS,
    mean=(0.5,) * 3,
    std=(0.25,) * 3,
    forms=(
        Form(
            folder="toy-binary",
            archive="toy-binary.tar.gz",
            md5=md5(ARCHIVES["toy-binary"]),
            files=tuple(File(f"{name}.bin", n) for name, n in COUNTS.items()),
        ),
        Form(
            folder="toy-python",
            archive="toy-python.tar.gz",
            md5=md5(ARCHIVES["toy-python"]),
            files=tuple(File(name, n, md5(PICKLES[name])) for name, n in COUNTS.items()),
        ),
    ),
    urls=(),
)
PLACES = ("toy-binary", "toy-python", "toy-binary.tar.gz", "toy-python.tar.gz")


def put(root: Path, place: str) -> Path:
    """Write the toy set under `root` in one of its formats."""
    if place.endswith(".tar.gz"):
        (root / place).write_bytes(ARCHIVES[place.removesuffix(".tar.gz")])
    else:
        (root / place).mkdir(parents=True)
        for name, data in (RECORDS if place == "toy-binary" else PICKLES).items():
            (root / place / name).write_bytes(data)
    return root / place


class Planted:
    """Creates a file when it is unpickled."""

    def __init__(self, file: Path):
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


@pytest.mark.parametrize("place", PLACES)
def test_every_format_gives_the_same_images_and_fine_classes(tmp_path, place):
    put(tmp_path, place)
    data = TOY.load(tmp_path, offline=True)
    assert (len(data.train), len(data.test)) == (10, 5)
    train = np.concatenate([IMAGES["batch_1"], IMAGES["batch_2"]])
    assert np.array_equal(data.train.x.numpy(), train.reshape(-1, 3, 32, 32))
    assert data.train.y.tolist() == [0, 1, 2, 3, 0, 1, 0, 1, 2, 3]
    assert np.array_equal(data.test.x.numpy(), IMAGES["test"].reshape(-1, 3, 32, 32))
    assert (data.test.x.dtype, data.test.y.dtype) == (torch.uint8, torch.int64)


@pytest.mark.parametrize("place", PLACES[:2])
def test_the_root_may_be_the_folder_itself_under_any_name(tmp_path, place):
    folder = put(tmp_path, place)
    assert len(TOY.load(folder, offline=True).train) == 10
    assert len(TOY.load(folder.rename(tmp_path / "renamed"), offline=True).train) == 10


def test_formats_are_searched_in_order_and_folders_before_archives(tmp_path):
    for place in PLACES[1:]:
        put(tmp_path, place)
    (put(tmp_path, "toy-binary") / "test.bin").write_bytes(b"")
    with pytest.raises(BadInput, match=r"toy-binary/test\.bin is damaged"):
        TOY.load(tmp_path, offline=True)


def test_a_missing_set_is_one_line_that_names_the_archive_and_leaves_no_file(tmp_path):
    with pytest.raises(BadInput, match=rf"toy-binary.tar.gz \(md5 {TOY.forms[0].md5}\) is not in {tmp_path}"):
        TOY.load(tmp_path / "new", offline=True)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_the_name_of_a_file_is_not_the_set(tmp_path):
    (tmp_path / "test").mkdir()  # a folder with the name of a file of the set
    with pytest.raises(BadInput, match=r"toy-binary\.tar\.gz"):
        TOY.load(tmp_path, offline=True)


def test_a_truncated_file_of_records_is_named_with_both_sizes(tmp_path):
    folder = put(tmp_path, "toy-binary")
    (folder / "batch_2.bin").write_bytes(RECORDS["batch_2.bin"][:-1])
    with pytest.raises(
        BadInput, match=rf"batch_2.bin is damaged: expected 12296 bytes.*12295; delete {folder} .*--root"
    ):
        TOY.load(tmp_path, offline=True)


def test_records_shifted_by_a_byte_are_refused_for_their_labels(tmp_path):
    folder = put(tmp_path, "toy-binary")
    (folder / "batch_1.bin").write_bytes(RECORDS["batch_1.bin"][1:] + b"\0")
    with pytest.raises(BadInput, match=r"expected classes below 2 and 4, found \[.*\] in record \d"):
        TOY.load(tmp_path, offline=True)


def test_a_missing_file_of_a_folder_is_named(tmp_path):
    (put(tmp_path, "toy-python") / "batch_2").unlink()
    with pytest.raises(BadInput, match="toy-python/batch_2 is missing"):
        TOY.load(tmp_path, offline=True)


@pytest.mark.parametrize("place", PLACES[2:])
def test_a_truncated_archive_is_named_with_its_md5(tmp_path, place):
    path = put(tmp_path, place)
    path.write_bytes(path.read_bytes()[:1_000])
    with pytest.raises(BadInput, match=rf"{place} is damaged: expected md5 .* in 1000 bytes; delete {path}"):
        TOY.load(tmp_path, offline=True)


def test_a_pickle_with_another_md5_is_never_unpickled(tmp_path):
    folder = put(tmp_path, "toy-python")
    (folder / "batch_1").write_bytes(pickle.dumps(Planted(tmp_path / "unpickled")))
    with pytest.raises(BadInput, match=f"batch_1 is damaged: expected md5 {md5(PICKLES['batch_1'])}, found"):
        TOY.load(tmp_path, offline=True)
    assert not (tmp_path / "unpickled").exists()


def test_an_archive_of_planted_pickles_is_never_unpickled(tmp_path):
    planted = {name: pickle.dumps(Planted(tmp_path / "unpickled")) for name in COUNTS}
    (tmp_path / "toy-python.tar.gz").write_bytes(archive("toy-python", planted))
    with pytest.raises(BadInput, match=r"toy-python.tar.gz is damaged"):
        TOY.load(tmp_path, offline=True)
    assert not (tmp_path / "unpickled").exists()


def test_a_downloaded_archive_is_stored_and_used_offline(tmp_path):
    (tmp_path / "mirror").mkdir()
    mirrored = replace(TOY, urls=(put(tmp_path / "mirror", "toy-binary.tar.gz").as_uri(),))
    assert len(mirrored.load(tmp_path / "data", offline=False).train) == 10
    assert len(TOY.load(tmp_path / "data", offline=True).train) == 10


@pytest.mark.parametrize("cifar", [CIFAR10, CIFAR100])
def test_the_tables_agree_with_those_of_torchvision(cifar):
    from torchvision import datasets

    theirs = datasets.CIFAR10 if cifar is CIFAR10 else datasets.CIFAR100
    records, pickles = cifar.forms
    assert (pickles.folder, pickles.archive, pickles.md5) == (
        theirs.base_folder,
        theirs.filename,
        theirs.tgz_md5,
    )
    assert [[f.name, f.md5] for f in pickles.files] == theirs.train_list + theirs.test_list
    for form in cifar.forms:
        assert sum(file.images for file in form.files) == 60_000
        assert len(form.md5) == 32
        assert form.archive.endswith(".tar.gz")
    assert all(url.endswith("/" + records.archive) for url in cifar.urls)
    assert len(cifar.classes) == cifar.levels[-1] == len(set(cifar.classes))
    assert list(cifar.classes) == sorted(cifar.classes)
