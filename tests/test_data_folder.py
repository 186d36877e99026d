"""Image folders: classes, formats, the cache, and refused folders."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lib.core.errors import BadInput
from lib.core.registry import datasets
from lib.data import folder as module
from lib.data.decoding import CenterCrop, decode

COLORS = {"cat": (255, 0, 0), "dog": (0, 128, 255)}


@pytest.fixture
def images(tmp_path) -> Path:
    """Two classes, each of one colour, two images in train/ and one in test/."""
    base = tmp_path / "pets"
    for part, count in (("train", 2), ("test", 1)):
        for name, color in COLORS.items():
            (base / part / name).mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (48, 40), color).save(base / part / name / f"{number}.png")
    return base


@pytest.fixture
def decoded(monkeypatch) -> list[Path]:
    """The files that were decoded, in any order."""
    seen, decode = [], module.decode

    def watched(path: Path, crop: CenterCrop):
        seen.append(path)
        return decode(path, crop)

    monkeypatch.setattr(module, "decode", watched)
    return seen


def load(base: Path, **options):
    return datasets[f"folder:{base}"].build(root=base.parent / "root", offline=True, **options)


def test_each_sub_folder_is_a_class(images):
    data = load(images)
    assert data.classes == ("cat", "dog")
    assert data.train.x.shape == (4, 3, 32, 32)
    assert data.train.y.tolist() == [0, 0, 1, 1]
    assert data.test.y.tolist() == [0, 1]
    for split in (data.train, data.test):
        for x, y in zip(split.x, split.y, strict=True):
            assert tuple(x.flatten(1).unique(dim=1).flatten().tolist()) == COLORS[data.classes[y]]
    assert data.mean == pytest.approx((0.5, 64 / 255, 0.5))
    assert data.std == pytest.approx((0.5, 64 / 255, 0.5))


def test_val_replaces_a_missing_test(images):
    (images / "test").rename(images / "val")
    assert len(load(images).test) == 2


@pytest.mark.parametrize(
    ("kind", "mode"),
    [*(("png", mode) for mode in ("RGB", "L", "1", "P", "RGBA", "LA")), ("jpg", "RGB"), ("jpg", "L")]
    + [("jpg", "CMYK"), ("bmp", "RGB"), ("bmp", "P"), ("gif", "P"), ("tiff", "CMYK"), ("webp", "RGBA")],
)
def test_formats_and_modes_that_pillow_reads_become_rgb(tmp_path, kind, mode):
    path = tmp_path / f"image.{kind}"
    Image.new("RGB", (40, 40), (255, 255, 255)).convert(mode).save(path)
    x = decode(path, CenterCrop(16))
    assert x.shape == (3, 16, 16)
    assert x.min() >= 250


def test_images_of_16_bits_are_scaled(tmp_path):
    Image.fromarray(np.full((8, 8), 128 * 256, np.uint16)).save(tmp_path / "deep.png")
    assert decode(tmp_path / "deep.png", CenterCrop(8)).unique().tolist() == [128]


@pytest.mark.parametrize("shape", [(10, 30), (30, 10)])
def test_the_centre_of_the_longer_side_is_cut_out(tmp_path, shape):
    pixels = np.zeros((*shape, 3), np.uint8)
    pixels[10:20] = 255 if shape[0] == 30 else 0
    if shape[1] == 30:
        pixels[:, 10:20] = 255
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    assert decode(tmp_path / "wide.png", CenterCrop(10)).unique().tolist() == [255]


def test_the_second_run_decodes_nothing(images, decoded):
    first = load(images)
    assert len(decoded) == 6
    second = load(images, workers=1)
    assert len(decoded) == 6
    assert torch.equal(first.train.x, second.train.x)
    assert torch.equal(first.test.x, second.test.x)


def test_a_changed_image_a_new_one_and_another_size_are_decoded_again(images, decoded):
    load(images)
    changed = images / "train" / "cat" / "0.png"
    Image.new("RGB", (48, 40), (0, 255, 0)).save(changed)
    os.utime(changed, (1, 1))
    assert load(images).train.x[0, 1].unique().tolist() == [255]
    shutil.copy(changed, images / "test" / "cat" / "new.png")
    assert len(load(images).test) == 3
    assert load(images, image_size=16).train.x.shape[-1] == 16
    assert len(decoded) == 6 + 6 + 7 + 7


@pytest.mark.parametrize("junk", [b"", b"PK\x03\x04 cut off", b"\x80\x02K\x01."])
def test_a_damaged_cache_is_computed_again(images, decoded, junk):
    (images / "decoded-32px.pt").write_bytes(junk)
    load(images)
    load(images)
    assert len(decoded) == 6


def test_the_cache_of_a_read_only_folder_is_under_the_root(images, decoded, monkeypatch):
    monkeypatch.setattr(module.os, "access", lambda path, mode: Path(path) != images)
    load(images)
    load(images)
    assert len(decoded) == 6
    assert not list(images.glob("*.pt"))
    assert len(list((images.parent / "root").glob("pets-*-32px.pt"))) == 1


def test_a_cache_that_cannot_be_written_is_a_warning(images, decoded):
    (images / "decoded-32px.pt").mkdir()
    with pytest.warns(UserWarning, match="not cached: cannot write"):
        assert len(load(images).train) == 4
    assert len(decoded) == 6


def test_files_that_are_not_hidden_must_be_images(images):
    (images / "train" / "cat" / ".DS_Store").touch()
    assert len(load(images).train) == 4
    (images / "train" / "cat" / "notes.txt").write_text("not an image")
    with pytest.raises(BadInput, match=r"cannot read .*notes.txt as an image .*repair or remove it"):
        load(images)


def test_a_truncated_image_is_reported(images):
    path = images / "train" / "dog" / "1.png"
    noise = np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:2_000])
    with pytest.raises(BadInput, match=rf"cannot read {path} as an image"):
        load(images)


def test_a_broken_link_is_reported(images):
    (images / "train" / "dog" / "2.png").symlink_to(images / "gone.png")
    with pytest.raises(BadInput, match=r"cannot read .*dog/2.png"):
        load(images)


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        ("train", "has no folder train/"),
        ("test", "has no folder test/ or val/"),
        ("test/cat", "training and test images .* differ: cat"),
        ("train/cat", "training and test images .* differ: cat"),
        ("train/cat/*", "class cat has no training images"),
        ("test/dog/*", "class dog has no test images"),
        ("*/cat", "has 1 class folders"),
        ("", "has no folder train/"),
    ],
)
def test_a_folder_of_another_structure_is_refused(images, gone, message):
    for path in images.glob(gone) if gone else [images]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(BadInput, match=message):
        load(images)


@pytest.mark.parametrize(("option", "value", "low"), [("image_size", 0, 1), ("workers", -1, 0)])
def test_options_out_of_range_are_refused(images, option, value, low):
    with pytest.raises(ValueError, match=f"{option} must be at least {low}, got {value}"):
        load(images, **{option: value})
