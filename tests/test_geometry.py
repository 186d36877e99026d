"""Rotation, affine maps and colour: pixels against Pillow, draws against their ranges."""

import colorsys
import math
from collections import Counter
from itertools import permutations

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as theirs
from PIL import Image, ImageEnhance
from torch import Tensor

from lib.augment import image_ops
from lib.augment.policy import NUMBER
from lib.core.rng import Rng
from tests.helpers.batches import batch_of, build
from tests.helpers.distributions import fits, is_uniform
from tests.helpers.pictures import from_pil, pictures, to_pil

NAMES = ("affine", "color_jitter", "random_resized_crop", "rotation", "translate", "vertical_flip")
PILLOWS = {"nearest": Image.Resampling.NEAREST, "bilinear": Image.Resampling.BILINEAR}
shapes = pytest.mark.parametrize("shape", [(3, 32, 32), (1, 20, 33), (3, 41, 24)], ids=str)
resamples = pytest.mark.parametrize("resample", PILLOWS)


def many(shape: tuple[int, int, int], times: int = 10) -> Tensor:
    return pictures(*shape).repeat(times, 1, 1, 1)


def fraction_off(ours: Tensor, pils: list[Image.Image], tolerance: int) -> float:
    """The fraction of pixels that differ from Pillow's by more than `tolerance`."""
    off = (ours.int() - torch.stack([from_pil(image) for image in pils]).int()).abs()
    return (off.amax(1) > tolerance).float().mean().item()


# Rotation and affine maps


@shapes
@resamples
@pytest.mark.parametrize("degrees", [15.0, 180.0])
def test_a_rotated_image_is_pillows(shape, resample, degrees):
    x = many(shape)
    out = build("rotation", degrees=degrees, resample=resample, fill=70).apply(batch_of(x), Rng(1)).x
    angles = degrees * (2 * Rng(1).host_uniform(len(x)) - 1)
    fill = 70 if shape[0] == 1 else (70,) * 3
    pils = [
        to_pil(image).rotate(angle, PILLOWS[resample], fillcolor=fill)
        for image, angle in zip(x, angles.tolist(), strict=True)
    ]
    assert fraction_off(out, pils, tolerance=resample == "bilinear") < 5e-3


@shapes
@resamples
def test_an_affine_map_is_torchvisions(shape, resample):
    x, fill = many(shape), [9] * shape[0]
    options = {"degrees": 170.0, "translate": 0.3, "scale_min": 0.4, "scale_max": 2.0, "shear": 40.0}
    augment = build("affine", **options, resample=resample, fill=9)
    out = augment.apply(batch_of(x), Rng(1)).x
    angle, shift, scale, shear = augment.drawn(len(x), Rng(1))
    shift = shift * torch.tensor([shape[2], shape[1]])
    arguments = zip(x, angle.tolist(), shift.tolist(), scale.tolist(), shear.tolist(), strict=True)
    mode = theirs.InterpolationMode[resample.upper()]
    pils = [theirs.affine(to_pil(i), a, t, s, [h, 0.0], mode, fill) for i, a, t, s, h in arguments]
    assert fraction_off(out, pils, tolerance=resample == "bilinear") < 5e-3


def test_angles_shifts_scales_and_shears_are_uniform_and_independent():
    count, options = 5000, {"degrees": 30.0, "translate": 0.2, "scale_min": 0.7, "scale_max": 1.6}
    augment = build("affine", **options, shear=20.0)
    angle, shift, scale, shear = augment.drawn(count, Rng(0))
    ranges = [
        (angle, -30, 30),
        (shift[:, 0], -0.2, 0.2),
        (shift[:, 1], -0.2, 0.2),
        (scale, 0.7, 1.6),
        (shear, -20, 20),
    ]
    for values, low, high in ranges:
        assert is_uniform(values, low, high)
    correlations = np.corrcoef(torch.stack([values for values, *_ in ranges]))
    assert np.abs(correlations - np.eye(5)).max() < 4 / math.sqrt(count)


def test_all_angles_of_a_rotation_are_equally_likely():
    # A bright spot far from the centre shows the angle to a degree.
    x = torch.zeros(800, 1, 101, 101, dtype=torch.uint8)
    x[:, :, 49:52, 92:95] = 255
    out = build("rotation", degrees=60.0).apply(batch_of(x), Rng(0)).x[:, 0].float()
    place, mass = torch.arange(101) - 50.0, out.sum((1, 2))
    across, down = ((out.sum(dim) * place).sum(1) / mass for dim in (1, 2))
    assert is_uniform(torch.rad2deg(torch.atan2(-down, across)), -60, 60)


# Colours


def hue_by_hand(image: Image.Image, turn: float) -> Image.Image:
    """Pixel by pixel in doubles."""
    if image.mode == "L":
        return image
    pixels = np.array(image)
    for pixel in pixels.reshape(-1, 3):
        hue, saturation, value = colorsys.rgb_to_hsv(*(pixel / 255.0))
        pixel[:] = [int(c * 255 + 0.5) for c in colorsys.hsv_to_rgb((hue + turn) % 1, saturation, value)]
    return Image.fromarray(pixels)


JITTER = {
    "brightness": lambda image, factor: ImageEnhance.Brightness(image).enhance(factor),
    "contrast": lambda image, factor: ImageEnhance.Contrast(image).enhance(factor),
    "color": lambda image, factor: ImageEnhance.Color(image).enhance(factor),
    "hue": hue_by_hand,
}
NAME_OF = {NUMBER[name]: name for name in JITTER}


@pytest.mark.parametrize("turn", [-0.5, -0.21, 0.0, 0.1, 1 / 3, 0.5])
def test_hue_is_the_same_as_in_doubles_pixel_by_pixel(turn):
    x = pictures(3, 9, 8)
    out = image_ops.hue(x, torch.full((len(x),), turn).double())
    expected = torch.stack([from_pil(hue_by_hand(to_pil(image), turn)) for image in x])
    off = (out.int() - expected.int()).abs()
    assert off.max() <= 1
    assert (off > 0).float().mean() < 5e-3  # ties of the rounding
    torchvisions = theirs.adjust_hue(x, turn)
    assert (out.int() - torchvisions.int()).abs().max() <= 1


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 5, 9), (3, 7, 6)], ids=str)
def test_a_jittered_image_is_that_of_pillow_and_colorsys_in_the_drawn_order(shape):
    x, augment = many(shape, 6), build("color_jitter", brightness=0.8, contrast=0.8, saturation=0.9, hue=0.5)
    out, drawn = augment.apply(batch_of(x), Rng(1)).x, augment.drawn(len(x), Rng(1))
    pils = []
    for image, numbers, factors in zip(x, drawn.operation.tolist(), drawn.magnitude.tolist(), strict=True):
        image = to_pil(image)
        for number, factor in zip(numbers, factors, strict=True):
            image = JITTER[NAME_OF[number]](image, factor)
        pils.append(image)
    assert fraction_off(out, pils, tolerance=1) < 5e-3


def test_factors_are_uniform_and_every_order_is_equally_likely():
    options = {"brightness": 0.4, "contrast": 1.5, "saturation": 0.2, "hue": 0.1}
    drawn = build("color_jitter", **options).drawn(8000, Rng(0))
    ranges = {"brightness": (0.6, 1.4), "contrast": (0, 2.5), "color": (0.8, 1.2), "hue": (-0.1, 0.1)}
    for name, (low, high) in ranges.items():
        of_it = drawn.operation == NUMBER[name]
        assert (of_it.sum(1) == 1).all()
        assert is_uniform(drawn.magnitude[of_it], low, high)
    counts = Counter(map(tuple, drawn.operation.tolist()))
    assert set(counts) == set(permutations(NAME_OF))
    assert fits(list(counts.values()), [1 / 24] * 24)


# All of them

NOTHING = [
    ("rotation", {"degrees": 1e-9, "resample": "nearest"}),
    ("rotation", {"degrees": 1e-9, "resample": "bilinear"}),
    *(
        ("affine", {"degrees": 0.0, "translate": 0.0, "scale_min": 1.0, "scale_max": 1.0, "shear": 0.0} | how)
        for how in ({"resample": "nearest"}, {"resample": "bilinear"})
    ),
    ("random_resized_crop", {"scale_min": 1.0, "ratio_min": 1.0}),
    ("color_jitter", {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}),
]


@pytest.mark.parametrize(("name", "options"), NOTHING)
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 9, 20), (3, 13, 8)], ids=str)
def test_without_strength_every_bit_stays(name, options, shape):
    if name == "random_resized_crop":  # no other crop of the whole area fits a square
        shape = *shape[:2], shape[1]
    x = many(shape, 3)
    assert torch.equal(build(name, **options).apply(batch_of(x), Rng(0)).x, x)


def test_intensity_jitter_is_one_uniform_shift_and_factor_per_image():
    augment = build("intensity_jitter", shift=0.5, factor=0.25)
    x = torch.tensor([0.0, 1.0, 3.0]).repeat(8000, 3, 2, 1)
    out = augment.apply(batch_of(x), Rng(0)).x.double()
    assert torch.equal(out, out[:, :1, :1].expand_as(out))  # channels and rows alike
    zero, one, three = out[:, 0, 0].unbind(1)
    factor, shift = one - zero, zero / (one - zero)
    torch.testing.assert_close(three, (3 + shift) * factor, atol=1e-5, rtol=0)
    for drawn, reach in ((shift, 0.5), (factor - 1, 0.25)):
        assert is_uniform(drawn, -reach, reach)
    assert abs(np.corrcoef(shift, factor)[0, 1]) < 0.05


@pytest.mark.parametrize("name", NAMES)
def test_images_of_a_batch_have_independent_draws_and_one_image_is_a_batch(name):
    x = pictures(3, 24, 17)[:1]
    out = build(name).apply(batch_of(x.repeat(64, 1, 1, 1)), Rng(0)).x
    distinct = len({image.numpy().tobytes() for image in out})
    assert distinct == 2 if name == "vertical_flip" else distinct > 20
    assert build(name).apply(batch_of(x), Rng(0)).x.shape == x.shape


@pytest.mark.parametrize(
    ("name", "options", "fault"),
    [
        ("rotation", {"degrees": 181.0}, "degrees"),
        ("rotation", {"fill": 256}, "fill"),
        ("affine", {"translate": 1.1}, "translate"),
        ("affine", {"scale_min": 0.05}, "scale_min"),
        ("affine", {"scale_min": 1.2}, "scale_min"),
        ("affine", {"shear": 80.5}, "shear"),
        ("translate", {"pixels": 0}, "pixels"),
        ("random_resized_crop", {"scale_min": 0.0}, "scale_min"),
        ("random_resized_crop", {"scale_max": 1.5}, "scale_max"),
        ("random_resized_crop", {"ratio_min": 1.5}, "ratio_min"),
        ("vertical_flip", {"prob": 1.5}, "prob"),
        ("color_jitter", {"saturation": -0.1}, "saturation"),
        ("color_jitter", {"hue": 0.6}, "hue"),
        ("intensity_jitter", {"shift": -0.1}, "shift"),
        ("intensity_jitter", {"factor": 1.0}, "factor"),
    ],
)
def test_values_out_of_bounds_are_rejected(name, options, fault):
    with pytest.raises(ValueError, match=f"^{fault} must be"):
        build(name, **options)


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("rotation", {}),
        ("rotation", {"resample": "bilinear"}),
        ("affine", {}),
        ("affine", {"resample": "bilinear"}),
        ("random_resized_crop", {}),
        ("color_jitter", {}),
    ],
)
def test_the_gpu_agrees_with_the_cpu_without_synchronising(name, options):
    x = pictures(3, 32, 32).repeat(10, 1, 1, 1)
    augment, on_device = build(name, **options), batch_of(x.cuda())
    torch.cuda.set_sync_debug_mode("error")
    try:
        out = augment.apply(on_device, Rng(0)).x
    finally:
        torch.cuda.set_sync_debug_mode("default")
    off = (out.cpu().int() - augment.apply(batch_of(x), Rng(0)).x.int()).abs()
    # Devices round sums of products differently, so an interpolated pixel may differ by one.
    assert (off > 0).float().mean() < 1e-3
