"""Every operation on images against Pillow, over all magnitudes, on random and on structured images."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from lib.augment import image_ops
from lib.augment.image_ops import affine, rotate, shear_x, shear_y

SHAPES = [(3, 32, 32), (1, 20, 33), (3, 41, 24)]
AFFINE = Image.Transform.AFFINE
shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)


def pictures(channels: int, height: int, width: int) -> Tensor:
    """Noise, a gradient, few colours, one colour, low contrast, a disc, and two values only."""
    noise = torch.randint(0, 256, (7, channels, height, width), generator=torch.Generator().manual_seed(0))
    down, across = torch.arange(height)[:, None], torch.arange(width)
    noise[1] = (down * 5 + across * 3) % 256
    noise[2] = noise[2] // 86 * 80
    noise[3] = noise[3, :, :1, :1]
    noise[4] = noise[4] // 4 + 60
    noise[5] = ((down - height / 2) ** 2 + (across - width / 2) ** 2 < 40) * 200
    noise[6] = 17 + (noise[6] > 250)
    return noise.to(torch.uint8)


def to_pil(image: Tensor) -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).squeeze(2).numpy())


def from_pil(image: Image.Image) -> Tensor:
    pixels = torch.from_numpy(np.array(image))
    return pixels[None] if pixels.dim() == 2 else pixels.permute(2, 0, 1)


def difference(operation, reference, shape: tuple[int, int, int], magnitudes: Tensor) -> Tensor:
    """Ours less Pillow's, for every picture at every magnitude."""
    x = pictures(*shape)
    magnitude = magnitudes.double().repeat_interleave(len(x))
    x = x.repeat(len(magnitudes), 1, 1, 1)
    before = x.clone()
    ours = operation(x, magnitude)
    assert torch.equal(x, before)
    assert ours.dtype == torch.uint8
    pils = [from_pil(reference(to_pil(image), m)) for image, m in zip(x, magnitude.tolist(), strict=True)]
    return ours.int() - torch.stack(pils).int()


LOOK_UPS = {
    "invert": (lambda image, _: ImageOps.invert(image), torch.zeros(1)),
    "equalize": (lambda image, _: ImageOps.equalize(image), torch.zeros(1)),
    "autocontrast": (lambda image, _: ImageOps.autocontrast(image), torch.zeros(1)),
    "posterize": (lambda image, bits: ImageOps.posterize(image, int(bits)), torch.arange(1, 9)),
    "solarize": (ImageOps.solarize, torch.arange(0, 257, 0.5)),
}
PLAIN = ("invert", "equalize", "autocontrast")  # without a magnitude


@shapes
@pytest.mark.parametrize("name", LOOK_UPS)
def test_look_ups_have_every_bit_of_pillows(name, shape):
    reference, magnitudes = LOOK_UPS[name]
    ours = getattr(image_ops, name)
    operation = (lambda x, _: ours(x)) if name in PLAIN else ours
    assert not difference(operation, reference, shape, magnitudes).any()


@shapes
@pytest.mark.parametrize("name", ["brightness", "contrast", "color", "sharpness"])
def test_blends_are_pillows_enhancements_to_one_in_255(name, shape):
    enhancer = getattr(ImageEnhance, name.capitalize())

    def reference(image: Image.Image, factor: float) -> Image.Image:
        return enhancer(image).enhance(factor)

    off = difference(getattr(image_ops, name), reference, shape, torch.linspace(0, 3, 31))
    assert off.abs().max() <= 1
    assert (off != 0).float().mean() < 1e-4  # so far they are the same, to the bit


def fill_of(image: Image.Image) -> int | tuple[int, ...]:
    return 10 if image.mode == "L" else (10, 20, 30)


def seen_through(*matrix, resample=Image.Resampling.NEAREST):
    """Pillow's reference for a map whose entries may be functions of the magnitude."""

    def reference(image: Image.Image, magnitude: float) -> Image.Image:
        entries = [entry(magnitude) if callable(entry) else entry for entry in matrix]
        return image.transform(image.size, AFFINE, entries, resample, fillcolor=fill_of(image))

    return reference


GEOMETRY = {
    "shear_x": (seen_through(1, lambda m: m, 0, 0, 1, 0), torch.linspace(-1, 1, 41)),
    "shear_y": (seen_through(1, 0, 0, lambda m: m, 1, 0), torch.linspace(-1, 1, 41)),
    "translate_x": (seen_through(1, 0, lambda m: -m, 0, 1, 0), torch.arange(-34, 34, 0.4)),
    "translate_y": (seen_through(1, 0, 0, 0, 1, lambda m: -m), torch.arange(-34, 34, 0.4)),
    "rotate": (lambda image, m: image.rotate(m, fillcolor=fill_of(image)), torch.linspace(-180, 180, 97)),
}


@shapes
@pytest.mark.parametrize("name", GEOMETRY)
def test_geometry_takes_the_nearest_pixels_that_pillow_takes(name, shape):
    reference, magnitudes = GEOMETRY[name]
    fill = (10, 20, 30)[: shape[0]]
    off = difference(lambda x, m: getattr(image_ops, name)(x, m, fill), reference, shape, magnitudes)
    assert (off != 0).any(1).float().mean() < 1e-4  # 0 on x86: the fixed-point coordinates are the same


@shapes
def test_magnitudes_in_single_precision_differ_in_ties_only(shape):
    reference, magnitudes = GEOMETRY["rotate"]
    fill = (10, 20, 30)[: shape[0]]
    off = difference(lambda x, m: rotate(x, m.float(), fill), reference, shape, magnitudes)
    assert (off != 0).any(1).float().mean() < 5e-3


@shapes
def test_any_affine_map_is_pillows_nearest_and_mixed(shape):
    C, H, W = shape
    x = pictures(*shape)
    generator = torch.Generator().manual_seed(1)
    matrix = torch.eye(2, 3).double() + 0.8 * torch.rand(len(x), 2, 3, generator=generator).double() - 0.4
    matrix[:, :, 2] *= 20
    fill = (10, 20, 30)[:C]
    for bilinear, resample in ((False, Image.Resampling.NEAREST), (True, Image.Resampling.BILINEAR)):
        ours = affine(x, matrix, fill, bilinear=bilinear)
        entries = matrix.flatten(1).tolist()
        pils = [
            from_pil(to_pil(image).transform((W, H), AFFINE, e, resample, fillcolor=fill_of(to_pil(image))))
            for image, e in zip(x, entries, strict=True)
        ]
        off = (ours.int() - torch.stack(pils).int()).abs().amax(1)
        assert (off > bilinear).float().mean() < 5e-3


@shapes
def test_turning_and_mixing_is_pillows_to_one_in_255(shape):
    def reference(image: Image.Image, degrees: float) -> Image.Image:
        return image.rotate(degrees, Image.Resampling.BILINEAR, fillcolor=fill_of(image))

    fill = (10, 20, 30)[: shape[0]]
    magnitudes = torch.linspace(-179, 180, 50)
    off = difference(lambda x, m: rotate(x, m, fill, bilinear=True), reference, shape, magnitudes).abs()
    assert (off > 1).any(1).float().mean() < 5e-3


@shapes
@pytest.mark.parametrize("name", ["shear_x", "shear_y"])
def test_bicubic_shear_is_pillows_to_one_in_255(name, shape):
    entries = (1, lambda m: m, 0, 0, 1, 0) if name == "shear_x" else (1, 0, 0, lambda m: m, 1, 0)
    reference = seen_through(*entries, resample=Image.Resampling.BICUBIC)
    shear = {"shear_x": shear_x, "shear_y": shear_y}[name]
    fill = (10, 20, 30)[: shape[0]]
    magnitudes = 0.3 / 9 * torch.arange(-9, 10)
    off = difference(lambda x, m: shear(x, m, fill, bicubic=True), reference, shape, magnitudes)
    assert (off.abs() > 1).any(1).float().mean() < 5e-3


def test_no_bits_are_black_and_bits_are_rounded():
    x = pictures(1, 5, 4)[:3]
    ours = image_ops.posterize(x, torch.tensor([0.2, 6.4, 7.6]))
    assert torch.equal(ours, x & torch.tensor([0, 0b11111100, 255])[:, None, None, None])


@pytest.mark.parametrize("name", [*LOOK_UPS, "brightness", "contrast", "color", "sharpness", *GEOMETRY])
def test_an_image_gets_what_it_would_get_alone(name):
    x, m = pictures(3, 12, 15), torch.linspace(0.1, 7, 7)
    ours = getattr(image_ops, name)
    arguments = () if name in PLAIN else (m,)
    alone = [ours(x[i : i + 1], *(a[i : i + 1] for a in arguments)) for i in range(len(x))]
    assert torch.equal(ours(x, *arguments), torch.cat(alone))
    strided = x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)  # channels last in memory
    assert torch.equal(ours(strided, *arguments), torch.cat(alone))


@pytest.mark.gpu
@pytest.mark.parametrize("name", [*LOOK_UPS, "brightness", "contrast", "color", "sharpness", *GEOMETRY])
def test_the_device_does_what_the_cpu_does_without_being_waited_for(name):
    x, m = pictures(3, 32, 32), torch.linspace(0.1, 7, 7).double()
    ours = getattr(image_ops, name)
    arguments = () if name in PLAIN else (m,)
    on_device = x.cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        out = ours(on_device, *arguments)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(out.cpu(), ours(x, *arguments))
