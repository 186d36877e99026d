"""From an image file to pixels: the data set, resident or streamed, and a trained run see the same."""

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import train
from lib.core.errors import BadInput
from lib.core.registry import datasets
from lib.data import decoding, folder
from lib.data.base import Dataset, DataSpec
from lib.data.decoding import CenterCrop, decode
from lib.loader import Loader, load
from tests.helpers.images import MODES, image_folder, picture, png

RANDOM = np.random.default_rng(0)
COLORS = RANDOM.integers(0, 256, (8, 8, 3), np.uint8)
GREY = RANDOM.integers(0, 256, (8, 8), np.uint8)
ALPHA = RANDOM.integers(0, 256, (8, 8), np.uint8)
ORIENTATION = 0x0112  # tag of EXIF 2.32


def encoded(image: Image.Image, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", **options)
    return file.getvalue()


def oriented(orientation: int, kind: str = "PNG") -> bytes:
    """COLORS with a stored orientation. Blocks of JPEG are constant, so that it keeps their pixels."""
    exif, file = Image.Exif(), io.BytesIO()
    exif[ORIENTATION] = orientation
    image = Image.fromarray(COLORS if kind == "PNG" else BLOCKS)
    image.save(file, kind, exif=exif, **({} if kind == "PNG" else {"quality": 100, "subsampling": 0}))
    return file.getvalue()


# Four grey blocks, which JPEG stores exactly in their DC coefficients.
BLOCKS = np.kron(np.array([[0, 80], [160, 240]]), np.ones((8, 8)))[..., None].repeat(3, 2).astype(np.uint8)


def transparent_palette() -> bytes:
    """Three colours, of which the second is transparent and the third is half transparent."""
    image = Image.fromarray((np.arange(64) % 3).reshape(8, 8).astype(np.uint8), "P")
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    return encoded(image, transparency=bytes([255, 0, 128]))


def over_white(colors: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Colours (8, 8, 3) and alpha (8, 8) of 0 to 255 composed onto white (Porter & Duff 1984, "over")."""
    weight = alpha[..., None] / 255
    return weight * colors + (1 - weight) * 255


DEEP = RANDOM.integers(0, 65536, (8, 8), np.uint16)


def deep_png(**options) -> bytes:
    return png(16, 0, [row.astype(">u2").tobytes() for row in DEEP], size=(8, 8), **options)


PALETTE = np.array([[10, 20, 30], [255, 255, 255], [162.1, 167.2, 172.2]])
GREYS = GREY[..., None].repeat(3, 2)

# The file, and the pixels (H, W, 3) that it must become; what is composed may be rounded either way.
FILES = {
    "plain RGB": (encoded(Image.fromarray(COLORS)), COLORS),
    "plain grey": (encoded(Image.fromarray(GREY)), GREYS),
    "EXIF 1": (oriented(1), COLORS),
    "EXIF mirrored": (oriented(2), COLORS[:, ::-1]),
    "EXIF upside down": (oriented(3), COLORS[::-1, ::-1]),
    "EXIF flipped": (oriented(4), COLORS[::-1]),
    "EXIF transposed": (oriented(5), COLORS.transpose(1, 0, 2)),
    "EXIF needs a turn right": (oriented(6), np.rot90(COLORS, -1)),
    "EXIF transversed": (oriented(7), np.rot90(COLORS, 2).transpose(1, 0, 2)),
    "EXIF needs a turn left": (oriented(8), np.rot90(COLORS)),
    "RGBA": (encoded(Image.fromarray(np.dstack([COLORS, ALPHA]))), over_white(COLORS, ALPHA)),
    "LA": (encoded(Image.fromarray(np.dstack([GREY, ALPHA]), "LA")), over_white(GREYS, ALPHA)),
    "a palette with transparency": (transparent_palette(), PALETTE[np.arange(64) % 3].reshape(8, 8, 3)),
    "a transparent colour": (
        encoded(Image.fromarray(COLORS), transparency=tuple(COLORS[0, 0].tolist())),
        np.where((COLORS[0, 0] == COLORS).all(2, keepdims=True), 255, COLORS),
    ),
    "16-bit grey": (deep_png(), (DEEP >> 8)[..., None].repeat(3, 2)),
    "16-bit grey with a transparent level": (
        deep_png(trns=[int(DEEP[3, 4])]),
        np.where(DEEP[3, 4] == DEEP, 255, DEEP >> 8)[..., None].repeat(3, 2),
    ),
}


def pixels(expected: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(expected)).permute(2, 0, 1).float()


def assert_seen(found: Tensor, expected: np.ndarray) -> None:
    exact = expected.dtype.kind != "f"
    torch.testing.assert_close(found.float(), pixels(expected), rtol=0, atol=0 if exact else 1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A place with an image folder and runs on it, resident and streamed, of one step each."""
    place = tmp_path_factory.mktemp("decoding")
    base = image_folder(place / "images")
    with contextlib.chdir(place):
        line = f"--dataset folder:{base} --image-size 8 --model wrn_10_1 --no-crop --batch-size 4 --epochs 1"
        for name, more in RUNS.items():
            run = f"{line} {more} --device cpu --tensorboard false --workers 0 --output-dir {name}"
            assert train.main(run.split()) == 0
    return place


RUNS = {"resident": "--stream false", "streamed": "--stream true", "cropped": "--test-crop 0.5"}


def seen_by_the_data_set(path: Path, name: str, tmp_path: Path) -> tuple[Tensor, Tensor]:
    """The image in `path` as a training and as a test image of a data set with the options of a run."""
    base = image_folder(tmp_path / "set")
    for part in ("train", "test"):
        (base / part / "a" / "0.png").write_bytes(path.read_bytes())
    option = {"resident": {"stream": False}, "streamed": {"stream": True}, "cropped": {"test_crop": 0.5}}
    options = {"image_size": 8, "workers": 0, **option[name]}
    data = datasets[f"folder:{base}"].build(root=tmp_path, **options)
    train = Loader(f"folder:{base}", batch_size=1, device="cpu", augment=[], **options)
    (first,) = (batch.x for batch in train.epoch(0) if batch.index == 0)
    (test,) = data.test.read([slice(1)])
    return levels(first[0], data), test[0]


def seen_by_the_run(path: Path, run: Path) -> Tensor:
    trained = load(run, device="cpu")
    return levels(trained.read(path), trained.data)


def levels(x: Tensor, data: Dataset) -> Tensor:
    """The pixels from 0 to 255 of a normalised image."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (data.mean, data.std))
    return ((x * std + mean) * 255).round()


@pytest.mark.parametrize("file", FILES.values(), ids=FILES)
@pytest.mark.parametrize("name", ["resident", "streamed"])
def test_a_file_has_the_same_right_pixels_in_training_in_evaluation_and_for_a_trained_run(
    trained, tmp_path, file, name
):
    content, expected = file
    path = tmp_path / "image.png"
    path.write_bytes(content)
    for_training, for_evaluation = seen_by_the_data_set(path, name, tmp_path)
    for found in (for_training, for_evaluation, seen_by_the_run(path, trained / name)):
        assert_seen(found, expected)


@pytest.mark.parametrize("name", RUNS)
def test_a_photograph_that_was_taken_sideways_is_upright(trained, tmp_path, name):
    path = tmp_path / "photo.jpg"
    path.write_bytes(oriented(6, "JPEG"))
    # To be turned right by 90 degrees: the left column of blocks becomes the top row, bottom block first.
    upright = np.array([[160, 0], [240, 80]])
    found = seen_by_the_run(path, trained / name)
    _, other = seen_by_the_data_set(path, name, tmp_path)
    for x in (found, other):
        corners = x[0, ::7, ::7].numpy() if name != "cropped" else x[0, 1::5, 1::5].numpy()
        np.testing.assert_allclose(corners, upright, atol=2)


def test_a_test_crop_sees_the_centre_only(trained, tmp_path):
    path = tmp_path / "image.png"
    framed = np.zeros((16, 16, 3), np.uint8)
    framed[4:12, 4:12] = 255  # the centre half is white
    path.write_bytes(encoded(Image.fromarray(framed)))
    assert seen_by_the_run(path, trained / "cropped").eq(255).all()
    for_training, for_evaluation = seen_by_the_data_set(path, "cropped", tmp_path)
    assert for_evaluation.eq(255).all()
    assert for_training.mean().item() == pytest.approx(255 / 4, abs=4)
    assert seen_by_the_run(path, trained / "streamed").mean().item() == pytest.approx(255 / 4, abs=4)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_of_any_mode_and_size_is_decoded(mode, channels, tmp_path):
    path = tmp_path / f"image.{'tif' if mode in ('CMYK', 'YCbCr') else 'png'}"
    for size in ((8, 8), (1, 1), (50, 20), (3, 90)):
        picture(mode, size).save(path)
        x = decode(path, CenterCrop(8), channels)
        assert x.shape == (channels, 8, 8) and x.dtype == torch.uint8


def test_grey_levels_are_those_of_the_file_or_the_luma_of_its_colours(tmp_path):
    path = tmp_path / "image.png"
    path.write_bytes(encoded(Image.fromarray(GREY)))
    np.testing.assert_array_equal(decode(path, CenterCrop(8), channels=1)[0], GREY)
    path.write_bytes(encoded(Image.fromarray(COLORS)))
    luma = COLORS @ np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
    np.testing.assert_allclose(decode(path, CenterCrop(8), channels=1)[0], luma, atol=0.51)


def test_pixels_survive_damaged_metadata(tmp_path):
    path = tmp_path / "image.png"
    path.write_bytes(encoded(Image.fromarray(COLORS), exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x09"))
    with pytest.warns(UserWarning, match="Corrupt EXIF"):
        assert_seen(decode(path, CenterCrop(8)), COLORS)


def test_a_cache_does_not_outlive_the_decoder_that_filled_it(tmp_path, monkeypatch):
    base = image_folder(tmp_path / "set")

    def load_set(stream: bool):
        options = {"image_size": 8, "workers": 0, "stream": stream}
        return datasets[f"folder:{base}"].build(root=tmp_path, **options)

    first, measured = load_set(False), load_set(True)
    monkeypatch.setattr(folder, "decode", lambda path, crop: torch.zeros(3, 8, 8, dtype=torch.uint8))
    monkeypatch.setattr("lib.data.files.decode", folder.decode)
    assert torch.equal(load_set(False).train.x, first.train.x) and load_set(True).mean == measured.mean
    monkeypatch.setattr(folder, "VERSION", decoding.VERSION + 1)
    assert not load_set(False).train.x.any() and load_set(True).mean == (0.0, 0.0, 0.0)


def test_images_of_no_file_format_are_refused():
    data = DataSpec((2, 32, 32), ("a", "b"), (0.5,) * 2, (0.5,) * 2)
    with pytest.raises(BadInput, match=r"image.png cannot be turned into an image of shape \(2, 32, 32\)"):
        data.read("image.png")
