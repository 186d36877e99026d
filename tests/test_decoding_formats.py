"""Image files of every format and mode that Pillow reads: right pixels, or one line that names the file."""

import contextlib
import io
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from lib.core.errors import BadInput
from lib.data.decoding import CenterCrop, decode
from tests.helpers.images import png

BLOCKS = np.kron(np.array([[0, 80], [160, 240]]), np.ones((8, 8))).astype(np.uint8)[..., None].repeat(3, 2)
TURNED = {  # what a viewer shows of a file with this orientation, EXIF 2.32, tag 0x0112
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.transpose(1, 0, 2),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: x[::-1, ::-1].transpose(1, 0, 2),
    8: lambda x: np.rot90(x),
}
XMP = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="%d"/></rdf:RDF></x:xmpmeta>"""


def written(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def seen(content: bytes, tmp_path: Path, size: int = 16) -> np.ndarray:
    """The pixels (H, W, 3) of a file without an ending."""
    path = tmp_path / "image"
    path.write_bytes(content)
    return decode(path, CenterCrop(size)).permute(1, 2, 0).numpy()


def exif(orientation: int) -> Image.Exif:
    data = Image.Exif()
    data[0x0112] = orientation
    return data


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {"exif": exif}),
        ("JPEG", {"exif": exif, "quality": 100}),
        ("JPEG", {"xmp": lambda k: XMP % k, "quality": 100}),
        ("WEBP", {"exif": exif, "lossless": True}),
        ("TIFF", {"exif": exif}),
        ("MPO", {"exif": exif, "quality": 100}),
    ],
)
def test_the_orientation_is_applied_however_a_file_stores_it(kind, options, orientation, tmp_path):
    options = {key: value(orientation) if callable(value) else value for key, value in options.items()}
    found = seen(written(Image.fromarray(BLOCKS), kind, **options), tmp_path)
    np.testing.assert_allclose(found.astype(int), TURNED[orientation](BLOCKS).astype(int), atol=4)


WHITE, CLEAR = [65535] * 3, [256, 512, 768]

# By name: the file, and its pixels (2, 2) or (2, 2, 3), where white is behind what is transparent.
HAND_MADE = {
    "1-bit PNG with a transparent level": (png(1, 0, [b"\x40", b"\x80"], trns=[1]), [[0, 255], [255, 0]]),
    "2-bit PNG with a transparent level": (png(2, 0, [b"\x60", b"\xc0"], trns=[2]), [[85, 255], [255, 0]]),
    "4-bit PNG with a transparent level": (png(4, 0, [b"\x12", b"\xf0"], trns=[2]), [[17, 255], [255, 0]]),
    "8-bit PNG with a transparent level": (png(8, 0, [b"\1\2", b"\xff\0"], trns=[2]), [[1, 255], [255, 0]]),
    "16-bit colour PNG with a transparent colour": (
        png(16, 2, [struct.pack(">6H", *row) for row in ([9, 60000, 3, *WHITE], [0, 0, 0, *CLEAR])], CLEAR),
        [[[0, 234, 0], [255] * 3], [[0] * 3, [255] * 3]],
    ),
    "16-bit grey PNG with alpha": (
        png(16, 4, [struct.pack(">4H", *row) for row in ([1000, 65535, 60000, 0], [0, 32768, 5, 65535])]),
        [[3, 255], [127, 0]],
    ),
    "palette PNG with a transparent entry": (
        png(8, 3, [b"\0\1", b"\1\0"], plte=bytes([1, 2, 3, 4, 5, 6]), alpha=bytes([255, 0])),
        [[[1, 2, 3], [255] * 3], [[255] * 3, [1, 2, 3]]],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("content", "pixels"), HAND_MADE.values(), ids=HAND_MADE)
def test_a_png_written_by_hand_has_its_pixels_over_white(content, pixels, tmp_path):
    expected = np.array(pixels) if np.ndim(pixels) == 3 else np.array(pixels)[..., None].repeat(3, 2)
    np.testing.assert_array_equal(seen(content, tmp_path, 2), expected)


LEVELS = np.array([[0, 0.25], [0.5, 1]])


def tiff(levels: np.ndarray, mode: str | None = None) -> bytes:
    image = Image.frombytes(mode, levels.shape, levels.tobytes()) if mode else Image.fromarray(levels)
    return written(image, "TIFF")


@pytest.mark.parametrize(
    "content",
    [
        tiff((LEVELS * 65535).astype("<u2"), "I;16"),
        tiff((LEVELS * 65535).astype(">u2"), "I;16B"),
        written(Image.fromarray((LEVELS * 65535).astype(np.uint16)), "PNG"),
        b"P5 2 2 65535\n" + (LEVELS * 65535).astype(">u2").tobytes(),
        *(tiff((LEVELS * white).astype(np.int32)) for white in (2**8 - 1, 2**16 - 1, 2**31 - 1)),
        *(tiff((LEVELS * white).astype(np.float32)) for white in (1, 255, 65535)),
    ],
)
def test_deep_grey_levels_are_scaled_by_their_range(content, tmp_path):
    np.testing.assert_allclose(seen(content, tmp_path, 2)[..., 0], LEVELS * 255, atol=1)


def test_a_dark_image_of_16_bits_stays_dark(tmp_path):
    dark = np.array([[0, 255], [256, 512]], np.uint16)
    for content in (written(Image.fromarray(dark), "PNG"), b"P5 2 2 65535\n" + dark.astype(">u2").tobytes()):
        assert seen(content, tmp_path, 2)[..., 0].tolist() == [[0, 0], [1, 2]]


@pytest.mark.parametrize("level", [np.nan, np.inf, -1, 65536])
def test_levels_out_of_every_range_are_refused(level, tmp_path):
    with pytest.raises(BadInput, match=r"image as an image \(its levels are from .* not from 0 to 65535\)"):
        seen(tiff(np.array([[0.5, level], [0, 0]], np.float32)), tmp_path)
    if np.isfinite(level) and level < 0:
        with pytest.raises(BadInput, match=r"its levels are from -1 to 0, and not from 0 to 2147483647"):
            seen(tiff(np.array([[0, level], [0, 0]], np.int32)), tmp_path)


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])  # Adobe's JPEGs store the inks inverted
def test_inks_become_the_light_that_they_leave(kind, tmp_path):
    inks = np.random.default_rng(0).integers(0, 256, 4)
    image = Image.new("CMYK", (16, 16), tuple(inks.tolist()))
    expected = (255 - inks[:3]) * (255 - inks[3]) / 255
    np.testing.assert_allclose(seen(written(image, kind), tmp_path)[8, 8], expected, atol=3)


def test_lab_and_ycbcr_files_become_rgb(tmp_path):
    color = (200, 100, 50)
    rgb, lab = (ImageCms.createProfile(name) for name in ("sRGB", "LAB"))
    plain = Image.new("RGB", (16, 16), color)
    for image in (ImageCms.profileToProfile(plain, rgb, lab, outputMode="LAB"), plain.convert("YCbCr")):
        np.testing.assert_allclose(seen(written(image, "TIFF"), tmp_path)[8, 8], color, atol=2)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_the_first_of_several_frames_is_the_image(kind, tmp_path):
    first, second = (Image.new("RGB", (16, 16), color) for color in ((200, 0, 0), (0, 200, 0)))
    content = written(first, kind, save_all=True, append_images=[second])
    np.testing.assert_allclose(seen(content, tmp_path)[8, 8], (200, 0, 0), atol=6)


def writable() -> dict[str, Callable[[], bytes]]:
    """By format, noise in it: of all formats that Pillow writes and reads."""
    Image.init()
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8))
    found = {}
    for kind in sorted(Image.SAVE.keys() & Image.OPEN.keys() - {"EPS", "ICNS", "IM"}):
        for mode in ("RGB", "1"):
            try:
                found[kind] = written(noise.convert(mode), kind)
                break
            except (OSError, ValueError):  # a stub, or another mode
                continue
    return found


@pytest.mark.parametrize(("kind", "content"), writable().items(), ids=list(writable()))
def test_a_file_that_is_cut_off_or_changed_is_named_in_one_line(kind, content, tmp_path):
    seen(content, tmp_path)
    for end in (0, 1, len(content) // 4, len(content) // 2):
        with pytest.raises(BadInput, match=rf"cannot read {tmp_path}/image as an image \(.+\); repair or"):
            seen(content[:end], tmp_path)
    rng = np.random.default_rng(0)
    for _ in range(20):
        changed = bytearray(content)
        for place in rng.integers(0, min(len(content), 400), 4):
            changed[place] = rng.integers(256)
        with contextlib.suppress(BadInput):  # any other error fails
            assert seen(bytes(changed), tmp_path, 8).shape == (8, 8, 3)


@pytest.mark.parametrize("size", [(1, 1), (1, 60_000), (60_000, 1)])
def test_tiny_and_extremely_long_images_are_read(size, tmp_path):
    content = written(Image.new("RGB", size, (10, 20, 30)), "PNG")
    assert (seen(content, tmp_path, 8) == (10, 20, 30)).all()


def test_an_image_of_more_pixels_than_memory_holds_is_refused(tmp_path):
    header = png(8, 2, [], size=(1_000_000, 1_000_000))
    with pytest.raises(BadInput, match=r"cannot read .*image as an image \(Image size .* exceeds limit"):
        seen(header, tmp_path)
