"""The policies: their tables, draws and images, against torchvision, chi-square and Pillow."""

from collections import Counter

import pytest
import torch
from PIL import Image, ImageDraw, ImageEnhance
from scipy import stats
from torch import Tensor
from torchvision.transforms import autoaugment as theirs

from lib.augment import autoaugment, fast_autoaugment, policy, trivialaugment
from lib.augment.policy import FOURTEEN, NUMBER, OPERATIONS, Drawn, Range, magnitudes
from lib.core.registry import augmentations
from lib.core.rng import Rng
from tests.helpers.batches import batch_of
from tests.helpers.distributions import fits, is_uniform
from tests.helpers.pictures import LOOK_UPS, from_pil, pictures, to_pil

NAMES = list(OPERATIONS)
POLICIES = [name for name in augmentations.names() if hasattr(augmentations[name].build(), "draw")]
every = pytest.mark.parametrize("name", POLICIES)


def draw(name: str, count: int, seed: int = 0, **options) -> Drawn:
    return augmentations[name].build(**options).draw(count, Rng(seed, name))


def torchvisions(name: str) -> str:
    """Our name of one of torchvision's operations."""
    return {
        "ShearX": "shear_x",
        "ShearY": "shear_y",
        "TranslateX": "translate_x",
        "TranslateY": "translate_y",
    }.get(name, name.lower())


# The tables


@pytest.mark.parametrize("which", ["cifar10", "svhn", "imagenet"])
def test_the_25_pairs_of_autoaugment_are_those_of_torchvision(which):
    number, prob, level = autoaugment._table(which, "paper")
    pairs = theirs.AutoAugment()._get_policies(theirs.AutoAugmentPolicy(which))
    assert len(number) == len(pairs) == 25
    for i, pair in enumerate(pairs):
        for k, (operation, p, magnitude) in enumerate(pair):
            assert NAMES[number[i, k]] == torchvisions(operation)
            assert prob[i, k] == p
            assert level[i, k] == (magnitude or 0)


def space(ranges: dict[str, Range], name: str, steps: int, way: bool = True) -> Tensor:
    operation = torch.full((steps,), NUMBER[name])
    return magnitudes(ranges, operation, torch.arange(steps) / (steps - 1), torch.full((steps,), way))


SIDE = 32
SPACES = {
    "paper": (autoaugment.PAPER, theirs.AutoAugment()._augmentation_space(10, (SIDE, SIDE)), 10),
    "port": (autoaugment.PORT, theirs.AutoAugment()._augmentation_space(10, (SIDE, SIDE)), 10),
    "trivial": (trivialaugment.RANGES, theirs.TrivialAugmentWide()._augmentation_space(31), 31),
}


@pytest.mark.parametrize("which", SPACES)
def test_magnitudes_are_those_of_torchvision_where_it_follows_the_papers(which):
    ranges, spaces, steps = SPACES[which]
    for operation, (expected, signed) in spaces.items():
        name = torchvisions(operation)
        name = name if name in ranges or which != "trivial" else f"{name}_pixels"
        if name not in ranges:
            assert not expected.any()
            continue
        ours, expected = space(ranges, name, steps), expected.double()
        if name in policy.ENHANCEMENTS:
            if which == "port":  # either way from the image, as torchvision
                torch.testing.assert_close(ours, 1 + expected, atol=1e-6, rtol=0)
                torch.testing.assert_close(space(ranges, name, steps, False), 1 - expected, atol=1e-6, rtol=0)
            else:  # from nearly nothing to nearly twice the image, as the papers
                low, high = {"paper": (0.1, 1.9), "trivial": (0.01, 2.0)}[which]
                assert not ranges[name].signed
                assert (ours[0], ours[-1]) == pytest.approx((low, high))
                torch.testing.assert_close(
                    ours.diff(), torch.full((steps - 1,), (high - low) / (steps - 1)).double()
                )
            continue
        if name.startswith("translate") and which != "trivial":
            ours = ours * SIDE
        ours = ours.round() if name == "posterize" else ours
        # The papers' thresholds begin at 256, torchvision's at 255.
        torch.testing.assert_close(ours, expected, atol=1.001 if name == "solarize" else 1e-5, rtol=0)
        assert ranges[name].signed == (signed and not (which == "port" and name == "rotate"))
        other = space(ranges, name, steps, False)
        torch.testing.assert_close(other, -space(ranges, name, steps) if ranges[name].signed else other)


@pytest.mark.parametrize("magnitude", [0, 2.5, 10, 20])
def test_randaugment_grows_with_its_magnitude_and_is_the_identity_at_0(magnitude):
    drawn = draw("randaugment", 3000, magnitude=magnitude)
    ends = {
        "rotate": (0, 30),
        "shear_x": (0, 0.3),
        "color": (1, 1.9),
        "posterize": (8, 4),
        "solarize": (256, 0),
    }
    for name, (none, full) in ends.items():
        found = drawn.magnitude[drawn.operation == NUMBER[name]]
        moved = (found - none).abs()
        torch.testing.assert_close(moved, torch.full_like(moved, abs(full - none) * magnitude / 10))
    x = pictures(3, 8, 8)
    if magnitude == 0:
        keep = ["identity", "rotate", "shear_x", "shear_y", "translate_x", "translate_y"]
        keep += ["posterize", "solarize", *policy.ENHANCEMENTS]
        for name in keep:
            one = drawn.magnitude[drawn.operation == NUMBER[name]][:1]
            out = Drawn(torch.full((7, 1), NUMBER[name]), one.expand(7, 1)).apply(x, 128)
            assert torch.equal(out, x)


def test_fast_autoaugment_has_the_493_pairs_of_its_authors():
    number, prob, strength = fast_autoaugment._table()
    assert number.shape == prob.shape == strength.shape == (493, 2)
    assert ((prob > 0) & (prob < 1)).all()
    assert len({tuple(row) for row in torch.cat((number, prob, strength), 1).tolist()}) == 493
    # As the authors' list begins.
    assert [NAMES[n] for n in number[0]] == ["contrast", "translate_x"]
    assert prob[0].tolist() == [0.8320659688593578, 0.41849883971249136]
    assert strength[0].tolist() == pytest.approx([0.49884310562180767, 2 * 0.394023086494538 - 1])


# The draws


@pytest.mark.parametrize("which", ["cifar10", "svhn", "imagenet"])
def test_pairs_are_equally_likely_and_operations_have_their_probabilities_and_signs(which):
    count = 40_000
    drawn = draw("autoaugment", count, policy=which)
    number, prob, _ = autoaugment._table(which, "paper")
    expected: Counter[tuple[int, int]] = Counter()
    for first, second, p, q in torch.cat((number, prob), 1).tolist():
        for one, of_one in ((first, p), (0, 1 - p)):
            for other, of_other in ((second, q), (0, 1 - q)):
                expected[int(one), int(other)] += of_one * of_other / 25
    found = Counter(map(tuple, drawn.operation.tolist()))
    likely = [key for key, fraction in expected.items() if fraction > 0]
    assert set(found) <= set(likely)
    assert fits([found[key] for key in likely], [expected[key] for key in likely])
    for name, (*_, signed) in autoaugment.PAPER.items():
        drawn_of_it = drawn.magnitude[drawn.operation == NUMBER[name]]
        negative, moved = int((drawn_of_it < 0).sum()), int((drawn_of_it != 0).sum())
        assert (stats.binomtest(negative, moved, 0.5).pvalue > 1e-3) if signed and moved else negative == 0


def test_the_two_operations_of_a_pair_have_independent_signs():
    drawn = draw("autoaugment", 50_000)
    both = drawn.operation[:, 0] == NUMBER["translate_y"]
    signs = drawn.magnitude[both & (drawn.operation[:, 1] == NUMBER["translate_y"])].sign()
    table = [[int(((signs[:, 0] == a) & (signs[:, 1] == b)).sum()) for a in (-1, 1)] for b in (-1, 1)]
    assert stats.chi2_contingency(table).pvalue > 1e-3
    assert min(map(min, table)) > 100


@pytest.mark.parametrize(("name", "columns"), [("randaugment", 2), ("trivialaugment", 1)])
def test_the_fourteen_operations_are_equally_likely(name, columns):
    drawn = draw(name, 20_000)
    assert drawn.operation.shape == (20_000, columns)
    for column in drawn.operation.T:
        counts = Counter(NAMES[number].removesuffix("_pixels") for number in column.tolist())
        assert set(counts) == set(FOURTEEN)
        assert len(FOURTEEN) == 14
        assert fits(list(counts.values()), [1 / 14] * 14)


def test_the_strengths_of_trivialaugment_are_equally_likely_and_go_both_ways():
    drawn = draw("trivialaugment", 60_000)
    degrees = drawn.magnitude[drawn.operation == NUMBER["rotate"]]
    steps = Counter((degrees / 135 * 30).round().int().tolist())
    assert set(steps) == set(range(-30, 31))
    probs = [(2 if step == 0 else 1) / 62 for step in sorted(steps)]
    assert fits([steps[step] for step in sorted(steps)], probs)


def test_pairs_of_fast_autoaugment_are_equally_likely_and_applied_with_their_probabilities():
    drawn = draw("fast_autoaugment", 60_000)
    number, prob, _ = fast_autoaugment._table()
    for k in range(2):
        expected = torch.zeros(len(NAMES), dtype=torch.float64).index_add_(0, number[:, k], prob[:, k] / 493)
        expected[0] = 1 - expected.sum()
        counts = torch.bincount(drawn.operation[:, k], minlength=len(NAMES))
        used = expected > 0
        assert not counts[~used].any()
        assert fits(counts[used].tolist(), expected[used].tolist())
    assert is_uniform(drawn.place.flatten()[:20_000])


def test_the_port_rotates_one_way_and_shears_bicubically():
    drawn = draw("autoaugment", 20_000, variant="port")
    assert (drawn.magnitude[drawn.operation == NUMBER["rotate"]] > 0).all()
    assert not (drawn.operation == NUMBER["shear_y"]).any()
    for name, none in (("bicubic_shear_y", 0), ("color", 1), ("sharpness", 1), ("translate_y", 0)):
        found = drawn.magnitude[drawn.operation == NUMBER[name]]
        moved = found[found != none]
        assert stats.binomtest(int((moved > none).sum()), len(moved), 0.5).pvalue > 1e-3


# What they make of images


def by_hand(image: Image.Image, name: str, m: float, place: list[float] | None, fill: int) -> Image.Image:
    """One operation in Pillow alone."""
    W, H = image.size
    grey = fill if image.mode == "L" else (fill,) * 3
    moves = {
        "shear_x": (1, m, 0, 0, 1, 0),
        "shear_y": (1, 0, 0, m, 1, 0),
        "translate_x": (1, 0, -m * W, 0, 1, 0),
        "translate_y": (1, 0, 0, 0, 1, -m * H),
        "translate_x_pixels": (1, 0, -m, 0, 1, 0),
        "translate_y_pixels": (1, 0, 0, 0, 1, -m),
    }
    plain = name.removeprefix("bicubic_")
    if plain in moves:
        resample = Image.Resampling.NEAREST if plain == name else Image.Resampling.BICUBIC
        return image.transform(image.size, Image.Transform.AFFINE, moves[plain], resample, fillcolor=grey)
    if name == "rotate":
        return image.rotate(m, fillcolor=grey)
    if name in policy.ENHANCEMENTS:
        return getattr(ImageEnhance, name.capitalize())(image).enhance(m)
    if name == "cut_square":
        side = m * W
        left, top = (int(max(0, centre * size - side / 2)) for centre, size in ((place[1], W), (place[0], H)))
        image = image.copy()
        ImageDraw.Draw(image).rectangle((left, top, int(left + side), int(top + side)), grey)
        return image
    return LOOK_UPS[name][0](image, round(m) if name == "posterize" else m)


@every
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 20, 33)], ids=str)
def test_a_policy_makes_the_images_that_pillow_makes_from_its_draws(name, shape):
    differing, pixels = 0, 0
    for seed in range(3):
        x = pictures(*shape).repeat(15, 1, 1, 1)[:101]
        drawn = draw(name, len(x), seed)
        out = augmentations[name].build().apply(batch_of(x), Rng(seed, name)).x
        for i, image in enumerate(x):
            expected = to_pil(image)
            for k, number in enumerate(drawn.operation[i].tolist()):
                place = None if drawn.place is None else drawn.place[i, k].tolist()
                if number != NUMBER["identity"]:
                    expected = by_hand(expected, NAMES[number], drawn.magnitude[i, k].item(), place, 128)
            differing += int((out[i].int() - from_pil(expected).int()).abs().amax(0).gt(1).sum())
            pixels += image[0].numel()
    assert differing / pixels < 1e-3  # blends are exact so far, so differences do not add up


def test_the_port_makes_the_images_that_pillow_makes_from_its_draws():
    x = pictures(3, 32, 32)[[0, 1, 5]].repeat(60, 1, 1, 1)
    drawn = draw("autoaugment", len(x), variant="port")
    # A pixel that is one off after a shear may differ by more after a look-up: only single operations.
    single = (drawn.operation != 0).sum(1) == 1
    out = drawn.apply(x, 128)
    differing, checked = 0, 0
    for i in single.nonzero()[:, 0].tolist():
        k = int(drawn.operation[i, 1] != 0)
        expected = by_hand(
            to_pil(x[i]), NAMES[drawn.operation[i, k]], drawn.magnitude[i, k].item(), None, 128
        )
        differing += int((out[i].int() - from_pil(expected).int()).abs().amax(0).gt(1).sum())
        checked += 32 * 32
    assert checked > 40 * 32 * 32
    assert differing / checked < 5e-3


@every
def test_equal_images_of_a_batch_are_augmented_differently(name):
    x = pictures(3, 32, 32)[4:5].repeat(64, 1, 1, 1)
    out = augmentations[name].build().apply(batch_of(x), Rng(0, name)).x
    assert len({image.numpy().tobytes() for image in out}) > 20


@every
@pytest.mark.parametrize("shape", [(1, 3, 32, 32), (1, 1, 5, 9), (13, 1, 9, 5)], ids=str)
def test_small_odd_and_grey_images_keep_their_shape_and_type(name, shape):
    x = pictures(*shape[1:]).repeat(2, 1, 1, 1)[: shape[0]]
    for seed in range(20):
        out = augmentations[name].build().apply(batch_of(x), Rng(seed, name)).x
        assert out.shape == x.shape
        assert out.dtype == torch.uint8


@every
def test_draws_do_not_depend_on_other_draws_on_the_device(name):
    one, other = Rng(3, name), Rng(3, name)
    other.uniform(5, like=torch.zeros(1))
    first, second = (augmentations[name].build().draw(50, rng) for rng in (one, other))
    assert torch.equal(first.operation, second.operation)
    assert torch.equal(first.magnitude, second.magnitude)
    assert first.operation.device.type == first.magnitude.device.type == "cpu"


@pytest.mark.parametrize(
    ("name", "options", "fault"),
    [
        ("autoaugment", {"fill": 256}, "fill"),
        ("randaugment", {"num_ops": 0}, "num_ops"),
        ("randaugment", {"magnitude": -1}, "magnitude"),
        ("randaugment", {"magnitude": 31}, "magnitude"),
    ],
)
def test_values_out_of_bounds_are_rejected(name, options, fault):
    with pytest.raises(ValueError, match=f"^{fault} must be"):
        augmentations[name].build(**options)


@pytest.mark.gpu
@every
def test_the_gpu_agrees_with_the_cpu_without_synchronising(name):
    x = pictures(3, 32, 32).repeat(30, 1, 1, 1)
    augment, on_device = augmentations[name].build(), x.cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        out = augment.apply(batch_of(on_device), Rng(0, name)).x
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(out.cpu(), augment.apply(batch_of(x), Rng(0, name)).x)
