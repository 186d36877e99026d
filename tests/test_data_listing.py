"""Which files of a folder are its images: layouts, tables, hidden files, links and odd names."""

import errno
import os
import shutil
from pathlib import Path

import pytest
import torch

from lib.core.errors import BadInput
from lib.core.files import printable
from lib.core.registry import datasets
from lib.data import cache
from lib.data.listing import FOLDERS, SYSTEM, list_images
from lib.loader import Loader
from tests.helpers.images import image_folder

ODD = [
    "$x^2_{1}$", "a\\b", "{}", "%s %d", "-leading", "tab\there", "line\nbreak", "ünïcödé 猫 🐈", "שלום",
    "a,b;c", '"quoted"', "<b>&amp;", "x" * 200, os.fsdecode(b"latin1-\xe9"),
]  # fmt: skip


@pytest.fixture
def images(tmp_path) -> Path:
    """Classes a and b, two training images and one test image of each."""
    return image_folder(tmp_path / "set")


def names(base: Path, **options) -> list[str]:
    listing = list_images(base, **options)
    return [listing.name(place) for place in range(len(listing))]


EXPECTED = [
    "train/a/0.png",
    "train/a/1.png",
    "train/b/0.png",
    "train/b/1.png",
    "test/a/0.png",
    "test/b/0.png",
]


@pytest.mark.parametrize("name", [".ipynb_checkpoints", "._0.png", *sorted(SYSTEM)])
@pytest.mark.parametrize("place", ["train/a", "train", "test/b"])
def test_hidden_and_system_files_and_folders_are_left_out_and_counted(images, name, place):
    shutil.copy(images / "train/a/0.png", images / place / name)
    folder = images / place / f".{name}"
    folder.mkdir()
    shutil.copy(images / "train/a/0.png", folder / "copy.png")
    assert names(images) == EXPECTED
    assert "4 training and 2 test, of 2 classes; left out: 2 hidden or system" in (
        said := list_images(images).summary()
    )
    assert printable(name.lower()) in said.lower()


def test_links_to_files_and_folders_are_followed_but_for_loops_and_both_are_counted(images, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    (images / "train/a").rename(elsewhere)
    (images / "train/a").symlink_to(elsewhere)  # a class
    (elsewhere / "deep").mkdir()
    (elsewhere / "1.png").rename(elsewhere / "deep/1.png")
    (images / "train/b/more").symlink_to(elsewhere / "deep")  # a folder below a class
    (images / "train/b/2.png").symlink_to(elsewhere / "0.png")  # a file
    assert names(images) == [
        "train/a/0.png", "train/a/deep/1.png",
        "train/b/0.png", "train/b/1.png", "train/b/2.png", "train/b/more/1.png",
        "test/a/0.png", "test/b/0.png",
    ]  # fmt: skip
    assert not list_images(images).left_out
    (elsewhere / "deep/up").symlink_to(elsewhere)  # into itself
    (images / "train/b/self").symlink_to(".")
    assert list_images(images).left_out == {
        "links to a folder above them": ["train/a/deep/up", "train/b/more/up/deep", "train/b/self"]
    }


@pytest.mark.parametrize("broken", ["link", "pipe"])
def test_what_is_no_file_is_named_and_not_waited_for(images, broken):
    path = images / "train/a/x.png"
    os.mkfifo(path) if broken == "pipe" else path.symlink_to(path)
    with pytest.raises(BadInput, match=rf"cannot read {path}: "):
        list_images(images)


@pytest.mark.parametrize("name", [name for part in ("val", "test") for name in FOLDERS[part]])
def test_validation_images_are_the_test_set_of_a_folder_without_one(images, name):
    (images / "test").rename(images / name)
    found = list_images(images)
    assert found.counts == {"train": 4, "test": 2} and found.name(4) == f"{name}/a/0.png"


@pytest.mark.parametrize("name", FOLDERS["val"])
@pytest.mark.parametrize("stream", [True, False])
def test_a_validation_folder_next_to_a_test_set_is_what_a_run_watches(images, name, stream):
    shutil.copytree(images / "train", images / name)
    options = {"image_size": 8, "batch_size": 2, "device": "cpu", "workers": 0, "stream": stream}
    loader = Loader(f"folder:{images}", **options)
    assert [len(part) for part in (loader.train, loader.val, loader.test)] == [4, 4, 2]
    assert loader.val.y.tolist() == [0, 0, 1, 1]
    with pytest.raises(BadInput, match=r"folder:.* has validation images; leave out --val"):
        Loader(f"folder:{images}", val=2, **options)


def test_a_part_of_the_training_images_tests_where_there_is_no_test_set(tmp_path):
    images = image_folder(tmp_path / "set", train=10)
    with pytest.raises(BadInput, match=r"has test images; leave out --data.test-part"):
        list_images(images, test_part=0.2)
    shutil.rmtree(images / "test")
    with pytest.raises(BadInput, match=r"no folder test/ or val/; add one, or give --data.test-part 0.2"):
        list_images(images)
    found = list_images(images, test_part=0.2)
    assert found.counts == {"train": 16, "test": 4}
    assert found.y[found.places()["test"]].tolist() == [0, 0, 1, 1]  # stratified
    assert len(set(names(images, test_part=0.2))) == 20
    assert names(images, test_part=0.2) == names(images, test_part=0.2)


def flat(base: Path, rows: str) -> Path:
    """Six images in one folder, and a table."""
    source = image_folder(base / "source", "ab", train=2, test=1)
    for number, path in enumerate(sorted(source.rglob("*.png"))):
        shutil.copy(path, base / f"{number}.png")
    shutil.rmtree(source)
    (base / "labels.csv").write_text(rows)
    return base


SPLIT = "0.png,cat,train\n1.png,dog,train\n2.png,cat,train\n3.png,dog,train\n4.png,cat,test\n5.png,dog,test\n"


@pytest.mark.parametrize("header", ["", "file,class,split\n", "\ufeffFile,Class,Split\n\n"])
def test_a_table_names_class_and_split_of_the_images_of_a_flat_folder(tmp_path, header):
    found = list_images(flat(tmp_path, header + SPLIT))
    assert found.classes == ("cat", "dog") and found.counts == {"train": 4, "test": 2}
    assert [found.name(place) for place in range(6)] == [f"{n}.png" for n in (0, 2, 1, 3, 4, 5)]
    assert found.y.tolist() == [0, 0, 1, 1, 0, 1] and not found.left_out


def test_a_table_without_splits_names_training_images(tmp_path):
    rows = "".join(row.rpartition(",")[0] + "\n" for row in SPLIT.splitlines())
    flat(tmp_path, "file,class\n" + rows)
    assert list_images(tmp_path, test_part=0.34).counts == {"train": 4, "test": 2}
    (tmp_path / "labels.csv").write_text("0.png,cat\n1.png,dog\n2.png,cat\n4.png,dog\n")
    assert list_images(tmp_path, test_part=0.5).left_out == {
        "files without a row in labels.csv": ["3.png", "5.png"]
    }


def test_the_first_folder_of_a_path_in_a_table_is_its_split(tmp_path):
    flat(tmp_path, "")
    for part in ("train", "test"):
        (tmp_path / part).mkdir()
    moved = [row.split(",") for row in SPLIT.splitlines()]
    for name, _, part in moved:
        (tmp_path / name).rename(tmp_path / part / name)
    (tmp_path / "labels.csv").write_text("".join(f"{part}/{name},{label}\n" for name, label, part in moved))
    found = list_images(tmp_path)
    assert found.counts == {"train": 4, "test": 2} and found.name(0) == "train/0.png"
    for part in ("train", "test"):  # or a table in each of them
        rows = "".join(f"{name},{label}\n" for name, label, of in moved if of == part)
        (tmp_path / part / "labels.csv").write_text(rows)
    (tmp_path / "labels.csv").unlink()
    again = list_images(tmp_path)
    assert again.counts == found.counts and torch.equal(again.y, found.y) and again.names == found.names


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("0.png", "a row must be file,class or file,class,split, got 0.png"),
        ("0.png,", "a row must be file,class or file,class,split, got 0.png,"),
        ("0.png,a,train,b", "a row must be"),
        ("0.png;cat;train", "a row must be file,class or file,class,split, got 0.png;cat;train"),
        ("0.png,cat,holdout", "split must be one of train, val, valid, validation, test, got holdout"),
        ("gone.png,cat,train", "there is no file .*gone.png"),
        ("0.png,cat,train", "0.png has an earlier row; remove one"),
    ],
)
def test_a_wrong_row_is_named_by_its_line(tmp_path, row, said):
    with pytest.raises(BadInput, match=rf"labels.csv line 8: {said}"):
        list_images(flat(tmp_path, f"file,class,split\n{SPLIT}{row}\n"))


@pytest.mark.parametrize("rows", ["", "file,class\n", "0.png,cat,test\n"])
def test_a_table_without_training_images_is_refused(tmp_path, rows):
    with pytest.raises(
        BadInput, match=r"has no folder train/; .* or a labels.csv with rows file,class,split"
    ):
        list_images(flat(tmp_path, rows))


def test_names_with_odd_characters_are_read_from_folders_and_tables(tmp_path):
    images = image_folder(tmp_path / "set", ODD, train=1)
    loader = Loader(f"folder:{images}", image_size=8, batch_size=4, device="cpu", augment=[])
    assert loader.classes == tuple(map(printable, sorted(ODD))) and len(loader.train) == len(ODD)
    again = list_images(images)
    assert [Path(again.path(place)).exists() for place in range(len(again))] == [True] * 2 * len(ODD)


def test_a_thousand_classes_are_read_in_their_order(tmp_path):
    base = image_folder(tmp_path / "set", "a", train=1)
    for number in range(1000):
        for part in ("train", "test"):
            (base / part / f"{number}").mkdir()
            os.link(base / part / "a/0.png", base / part / f"{number}/0.png")
    found = list_images(base)
    assert found.classes == tuple(sorted(["a", *map(str, range(1000))])) and len(found) == 2002


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_channel_that_is_the_same_in_all_images_is_divided_by_one_level(tmp_path, stream, level):
    images = image_folder(tmp_path / "set", flat=level)
    data = datasets[f"folder:{images}"].build(root=tmp_path, image_size=8, stream=stream, workers=0)
    assert data.mean == pytest.approx([level / 255] * 3) and data.std == pytest.approx([1 / 255] * 3)
    loader = Loader(f"folder:{images}", image_size=8, batch_size=2, device="cpu", stream=stream, workers=0)
    assert any(note.startswith("channels [0, 1, 2] of the images are constant") for note in loader.notes)
    for batch in loader.epoch(0):
        assert batch.x.isfinite().all() and batch.x.abs().max() < 256


@pytest.mark.parametrize("stream", [True, False])
def test_a_cache_that_does_not_fit_on_the_disk_is_removed_again(images, monkeypatch, stream):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(cache.os, "fsync", full)
    with pytest.warns(UserWarning, match=r"not cached: cannot write .*: No space left on device"):
        data = datasets[f"folder:{images}"].build(root=images, image_size=8, stream=stream, workers=0)
    assert len(data.train) == 4
    assert {path.name for path in images.iterdir() if path.suffix != ".lock"} == {"train", "test"}


def test_a_cache_with_a_changed_byte_is_computed_again(images):
    build = datasets[f"folder:{images}"].build
    first = build(root=images, image_size=8)
    (path,) = images.glob("decoded-*.pt")
    content = bytearray(path.read_bytes())
    place = content.index(bytes(first.train.x[0, 0, 0].tolist()))
    content[place] ^= 1
    path.write_bytes(content)
    assert torch.equal(build(root=images, image_size=8).train.x, first.train.x)
