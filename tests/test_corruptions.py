"""Corruptions: contracts of all, and each against a closed form, Pillow or SciPy."""

import colorsys
import io
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from scipy import ndimage
from torch import Tensor

from lib.core.registry import corruptions
from lib.core.rng import Rng
from lib.corruptions import SEVERITIES, corrupt
from lib.corruptions.blur import _neighbours
from lib.corruptions.filters import gaussian, motion_blurred, plasma, zoomed
from lib.corruptions.jpeg import jpeg

NAMES = corruptions.names()
RANDOM = {name for name in NAMES if "rng" in corruptions[name].given}
every = pytest.mark.parametrize("name", NAMES)


def severities(name: str, values: tuple[float, ...]):
    """Each severity with its value."""
    return pytest.mark.parametrize(("severity", name), list(zip(SEVERITIES, values, strict=True)))


def smooth(n: int = 8, C: int = 3, H: int = 32, W: int = 32) -> Tensor:
    """Images with soft shapes and some grain, like photographs."""
    generator = torch.Generator().manual_seed(0)
    coarse = F.interpolate(torch.rand(n, C, 6, 6, generator=generator), size=(H, W), mode="bicubic")
    grain = 0.1 * torch.rand(n, C, H, W, generator=generator)
    return ((0.9 * coarse + grain).clamp(0, 1) * 255).to(torch.uint8)


def change(x: Tensor, name: str, severity: int) -> float:
    return (corrupt(name, x, severity, Rng(0)).float() - x.float()).abs().mean().item()


def test_the_corruptions_are_the_fifteen_of_the_paper():
    assert (
        sorted(
            ["gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur"]
            + ["zoom_blur", "snow", "frost", "fog", "brightness", "contrast", "elastic_transform"]
            + ["pixelate", "jpeg_compression"]
        )
        == NAMES
    )


@every
@pytest.mark.parametrize("shape", [(2, 3, 32, 32), (1, 1, 28, 28), (1, 3, 9, 14), (2, 2, 4, 4)], ids=str)
def test_shape_and_type_are_kept_and_the_input_is_not_modified(name, shape):
    x = smooth(*shape)
    kept = x.clone()
    for severity in (1, 5):
        out = corrupt(name, x, severity, Rng(0))
        assert out.shape == x.shape and out.dtype == torch.uint8
    assert torch.equal(x, kept)


@every
def test_pixels_depend_on_the_seed_only_if_the_corruption_is_random(name):
    x = smooth(2)
    first, again, other = (corrupt(name, x, 3, Rng(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert torch.equal(first, other) == (name not in RANDOM)


@every
def test_equal_images_of_a_batch_differ_only_if_the_corruption_is_random(name):
    one, two = corrupt(name, smooth(1).expand(2, -1, -1, -1), 5, Rng(0))
    assert torch.equal(one, two) == (name not in RANDOM)


@every
def test_the_last_severity_changes_more_than_the_first(name):
    x = smooth()
    if name == "elastic_transform":  # as published, the affine map becomes smaller with the severity
        pytest.skip("the severities differ in kind")
    assert 0 < change(x, name, 1) < change(x, name, 5)


@pytest.mark.parametrize("severity", [0, 6])
def test_other_severities_are_rejected(severity):
    with pytest.raises(ValueError, match="severity must be from 1 to 5"):
        corrupt("fog", smooth(1), severity, Rng(0))


# Noise


def grey(value: int, n: int = 30) -> Tensor:
    return torch.full((n, 3, 32, 32), value, dtype=torch.uint8)


@severities("deviation", (0.04, 0.06, 0.08, 0.09, 0.10))
def test_gaussian_noise_has_its_deviation_and_mean_0(severity, deviation):
    out = corrupt("gaussian_noise", grey(128), severity, Rng(0)).double()
    assert out.mean().item() == pytest.approx(128, abs=0.4)
    assert out.std().item() == pytest.approx(255 * deviation, rel=0.02)
    assert abs(np.corrcoef(out[:, 0].flatten(), out[:, 1].flatten())[0, 1]) < 0.02  # channels are independent


@severities("photons", (500, 250, 100, 75, 50))
def test_shot_noise_has_the_variance_of_its_number_of_photons(severity, photons):
    out = corrupt("shot_noise", grey(102), severity, Rng(0)).double()
    assert out.mean().item() == pytest.approx(102, abs=0.6)
    assert out.std().item() == pytest.approx(255 * math.sqrt(0.4 / photons), rel=0.03)


@severities("amount", (0.01, 0.02, 0.03, 0.05, 0.07))
def test_impulse_noise_makes_its_fraction_of_values_black_or_white(severity, amount):
    out = corrupt("impulse_noise", grey(100), severity, Rng(0))
    for value in (0, 255):
        assert (out == value).double().mean().item() == pytest.approx(amount / 2, rel=0.12)
    assert ((out == 100) | (out == 0) | (out == 255)).all()


# Blurs


def point(side: int = 33) -> Tensor:
    x = torch.zeros(1, 1, side, side)
    x[..., side // 2, side // 2] = 1
    return x


@pytest.mark.parametrize(("sigma", "truncate"), [(0.4, 4.0), (2.0, 4.0), (6.4, 3.0)])
@pytest.mark.parametrize(
    ("mode", "theirs"), [("repeat", "nearest"), ("mirror_edge", "reflect"), ("mirror", "mirror")]
)
def test_a_gaussian_is_scipys(sigma, truncate, mode, theirs):
    x = torch.rand(1, 1, 9, 12, generator=torch.Generator().manual_seed(0))
    expected = ndimage.gaussian_filter(x[0, 0].double().numpy(), sigma, mode=theirs, truncate=truncate)
    np.testing.assert_allclose(gaussian(x, sigma, truncate, mode)[0, 0].numpy(), expected, atol=1e-5)


def test_defocus_spreads_a_point_over_a_disc_with_soft_edges():
    x = (point() * 255).to(torch.uint8)
    for severity, (radius, softness) in enumerate(
        ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)), 1
    ):
        row, column = np.ogrid[-8:9, -8:9]
        disc = (row**2 + column**2 <= radius**2).astype(float)
        taps = np.exp(-np.array([1, 0, 1]) / (2 * softness**2))
        soft = ndimage.convolve(disc / disc.sum(), np.outer(taps, taps) / taps.sum() ** 2, mode="constant")
        out = corrupt("defocus_blur", x, severity, Rng(0))[0, 0, 8:25, 8:25].numpy()
        np.testing.assert_allclose(out, 255 * soft, atol=0.51)


@pytest.mark.parametrize("degrees", [0.0, 90.0, -45.0, 30.0])
def test_motion_blur_spreads_a_point_along_its_direction(degrees):
    trail = motion_blurred(point(), 6, 2.0, torch.tensor([degrees]))[0, 0]
    assert trail.sum().item() == pytest.approx(1, abs=1e-5)
    taps = np.exp(-(np.arange(13) ** 2) / 8)
    expected = np.zeros((33, 33))
    for n, weight in enumerate(taps / taps.sum()):  # a place takes pixels ahead, so the trail goes back
        down, right = (n * f(math.radians(degrees)) for f in (math.sin, math.cos))
        expected[16 - math.ceil(down - 0.5 - 1e-6), 16 - math.ceil(right - 0.5 - 1e-6)] += weight
    np.testing.assert_allclose(trail.numpy(), expected, atol=1e-6)


def test_each_image_has_its_own_direction_within_45_degrees():
    x = (point() * 255).to(torch.uint8).expand(200, -1, -1, -1)
    out = corrupt("motion_blur", x, 5, Rng(0))[:, 0].float()
    place = torch.arange(33.0) - 16
    across, down = (out.sum((1, 2)).reciprocal() * (out * way).sum((1, 2)) for way in (place, place[:, None]))
    degrees = torch.atan2(-down, -across) * 180 / math.pi
    assert -50 < degrees.min() < -38 and 38 < degrees.max() < 50


@pytest.mark.parametrize("factor", [1.0, 1.02, 1.1, 1.25, 1.75, 2.25])
def test_a_zoom_is_scipys(factor):
    x = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    crop = math.ceil(32 / factor)
    first = (32 - crop) // 2
    middle = x[0, 0, first : first + crop, first : first + crop].numpy()
    large = ndimage.zoom(middle, factor, order=1)
    trim = (len(large) - 32) // 2
    np.testing.assert_allclose(
        zoomed(x, factor)[0, 0].numpy(), large[trim : trim + 32, trim : trim + 32], atol=1e-5
    )


def test_a_zoom_blur_is_the_mean_of_zooms():
    x = smooth(1, 1)
    whole = x[0, 0].numpy() / 255
    views = [whole, whole]  # the image itself, and the factor 1
    for percent in (101, 102, 103, 104, 105, 106):
        crop = math.ceil(32 / (percent / 100))
        first = (32 - crop) // 2
        large = ndimage.zoom(whole[first : first + crop, first : first + crop], percent / 100, order=1)
        trim = (len(large) - 32) // 2
        views.append(large[trim : trim + 32, trim : trim + 32])
    out = corrupt("zoom_blur", x, 1, Rng(0))[0, 0].numpy()
    assert np.abs(out - 255 * np.mean(views, 0)).max() <= 0.51


def test_glass_blur_takes_pixels_from_above_and_from_the_left():
    source = _neighbours(torch.zeros(50, 3, 12, 10), Rng(0)).view(50, 12, 10)
    up = torch.arange(12)[:, None] - source // 10
    left = torch.arange(10) - source % 10
    for moved in (up, left):
        assert moved.unique().tolist() == [0, 1]
        assert moved[:, 2:, 2:].double().mean().item() == pytest.approx(0.5, abs=0.03)
        assert not moved[:, :2].any() and not moved[:, :, :2].any()


# Weather


@severities("more", (0.05, 0.1, 0.15, 0.2, 0.3))
def test_brightness_adds_to_the_value_of_hsv(severity, more):
    x = torch.randint(0, 256, (1, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    x[0, :, 0, 0] = 0
    out = corrupt("brightness", x, severity, Rng(0))[0].flatten(1).T.tolist()
    for before, after in zip((x[0].flatten(1).T.double() / 255).tolist(), out, strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*before)
        expected = colorsys.hsv_to_rgb(hue, saturation, min(1, value + more))
        assert after == pytest.approx([255 * channel for channel in expected], abs=0.51)


def test_fog_does_not_exceed_the_brightest_value_and_lifts_the_darkest():
    x = smooth()
    for severity in SEVERITIES:
        out = corrupt("fog", x, severity, Rng(0))
        assert (out.flatten(1).amax(1) <= x.flatten(1).amax(1)).all()
        assert out.flatten(1).amin(1).double().mean() >= x.flatten(1).amin(1).double().mean()


def test_clouds_reach_from_0_to_1_and_are_smoother_the_faster_they_decay():
    roughness = []
    for decay in (1.1, 1.75, 3.0):
        clouds = plasma(torch.zeros(20, 3, 32, 32), decay, Rng(0))
        assert clouds.shape == (20, 1, 32, 32)
        assert clouds.amin((1, 2, 3)).eq(0).all() and clouds.amax((1, 2, 3)).eq(1).all()
        assert clouds.flatten(1).std(0).min() > 0.05  # images differ at each place
        roughness.append(clouds.diff(dim=3).abs().mean().item())
    assert roughness[0] > roughness[1] > roughness[2]


def test_snow_and_frost_brighten_parts_of_a_black_image():
    black = torch.zeros(20, 3, 32, 32, dtype=torch.uint8)
    for name in ("snow", "frost"):
        out = corrupt(name, black, 5, Rng(0)).float()
        assert out.mean() > 20 and out.std((2, 3)).mean() > 10


def test_snow_falls_in_one_direction_and_its_opposite():
    out = corrupt("snow", torch.zeros(4, 3, 32, 32, dtype=torch.uint8), 3, Rng(0))
    assert torch.equal(out, out.flip(2, 3))


# Digital


@severities("kept", (0.75, 0.5, 0.4, 0.3, 0.15))
def test_contrast_moves_each_channel_towards_its_mean(severity, kept):
    x = smooth(2)
    mean = x.double().mean((2, 3), keepdim=True)
    out = corrupt("contrast", x, severity, Rng(0)).double()
    assert (out - (mean + kept * (x - mean))).abs().max() <= 0.51


@severities("scale", (0.95, 0.9, 0.85, 0.75, 0.65))
def test_pixelate_is_pillows_box_filter_down_and_up(severity, scale):
    for H, W in ((32, 32), (28, 36)):  # at other sizes a pixel may lie halfway between two
        x = smooth(2, 3, H, W)
        out = corrupt("pixelate", x, severity, Rng(0))
        for before, after in zip(x, out, strict=True):
            image = Image.fromarray(before.permute(1, 2, 0).numpy())
            image = image.resize((int(W * scale), int(H * scale)), Image.Resampling.BOX)
            expected = np.array(image.resize((W, H), Image.Resampling.BOX))
            assert np.abs(after.permute(1, 2, 0).numpy().astype(int) - expected).max() <= 1
            assert (after.permute(1, 2, 0).numpy() == expected).mean() > 0.99


def from_pillow(x: Tensor, quality: int) -> np.ndarray:
    file = io.BytesIO()
    pixels = x.permute(1, 2, 0).numpy()
    Image.fromarray(pixels if len(x) == 3 else pixels[..., 0]).save(file, "JPEG", quality=quality)
    with Image.open(file) as image:
        return np.array(image).reshape(pixels.shape).astype(int)


@pytest.mark.parametrize("quality", [80, 65, 58, 50, 40, 10])
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 32, 32), (3, 19, 45)], ids=str)
def test_jpeg_agrees_with_pillows_file(quality, shape):
    x = smooth(4, *shape)
    ours = jpeg(x, quality).permute(0, 2, 3, 1).numpy().astype(int)
    theirs = np.stack([from_pillow(image, quality) for image in x])
    difference = np.abs(ours - theirs)
    assert difference.mean() < 0.9
    # Only coefficients halfway between two steps may be rounded differently.
    assert difference.mean() < 0.07 * np.abs(theirs - x.permute(0, 2, 3, 1).numpy()).mean()


def elastic_by_scipy(x: Tensor, rng: Rng, shift: float, smoothness: float, jitter: float) -> np.ndarray:
    """The second half of the transform on one grey image whose affine map is the identity."""
    H, W = x.shape[2:]
    noise = (2 * rng.uniform(1, 2, H, W, like=x) - 1)[0].double().numpy()
    smooth = [ndimage.gaussian_filter(n, smoothness * H, mode="reflect", truncate=3) for n in noise]
    place = np.mgrid[:H, :W] + shift * H * np.array(smooth)
    return ndimage.map_coordinates(x[0, 0].double().numpy(), place, order=1, mode="reflect")


def test_elastic_shifts_are_scipys(monkeypatch):
    identity = torch.tensor([[1.0, 0, 0], [0, 1, 0]])[None, :, :, None, None]
    monkeypatch.setattr("lib.corruptions.digital._affine", lambda x, jitter, rng: identity)
    x = smooth(1, 1)
    for severity, (shift, smoothness) in ((2, (0.05, 0.2)), (5, (0.1, 0.03))):
        out = corrupt("elastic_transform", x, severity, Rng(0))[0, 0].numpy()
        expected = elastic_by_scipy(x, Rng(0), shift, smoothness, 0)
        assert np.abs(out - expected).max() < 1.1  # rounding, and float32


def test_the_affine_map_takes_moved_points_back_to_their_places():
    from lib.corruptions.digital import _affine

    x, reach, jitter = torch.zeros(50, 3, 32, 32), 32 // 3, 2.56
    matrix = _affine(x, jitter, Rng(0))[..., 0, 0].double()
    corners = torch.tensor(
        [(16.0 + reach, 16.0 + reach), (16.0 + reach, 16.0 - reach), (16.0 - reach, 16.0 - reach)]
    )
    # The inverse shows where the corners have moved.
    whole = torch.cat((matrix, torch.tensor([0.0, 0, 1]).expand(50, 1, 3).double()), 1)
    shown = torch.linalg.inv(whole) @ torch.cat((corners, torch.ones(3, 1)), 1).T.double()
    moved = (shown[:, :2].transpose(1, 2) - corners).abs()
    assert 0.9 * jitter < moved.max() <= jitter + 1e-3
    assert moved.mean().item() == pytest.approx(jitter / 2, rel=0.15)
