"""Random numbers are a function of a key, and batches are never written into."""

import copy
from dataclasses import fields
from itertools import combinations, permutations

import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor

from lib.core.batch import Batch
from lib.core.rng import Rng

KEYS = [
    (0,),
    (1,),
    ("0",),
    (0, 1),
    (1, 0),
    (0, "1"),
    (0, "a"),
    ("a", 0),
    (0, "a", "b"),
    (0, "ab"),
    (0, "b", "a"),
]
HERE = torch.empty(0)

# Each way to draw, with as many numbers as make two equal draws by chance unthinkable.
DRAWS = {
    "host": lambda rng: [rng.host.random() for _ in range(4)],
    "host_dirichlet": lambda rng: rng.host_dirichlet(1.0, 3, 4).tolist(),
    "uniform": lambda rng: rng.uniform(4, 5, like=HERE).tolist(),
    "integers": lambda rng: rng.integers(-3, 1000, 20, like=HERE).tolist(),
    "normal": lambda rng: rng.normal(4, 5, like=HERE).tolist(),
    "beta": lambda rng: rng.beta(0.7, 4, 5, like=HERE).tolist(),
    "permutation": lambda rng: rng.permutation(50).tolist(),
    "per_image": lambda rng: rng.per_image(torch.arange(20)).tolist(),
}
WAYS = pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)


@WAYS
def test_equal_keys_draw_equal_numbers_and_other_keys_others(draw):
    for key in KEYS:
        assert draw(Rng(*key)) == draw(Rng(*key))
    for one, other in combinations(KEYS, 2):
        assert draw(Rng(*one)) != draw(Rng(*other)), (one, other)


def test_a_fold_lengthens_the_key_and_its_order_matters():
    draw = DRAWS["uniform"]
    assert draw(Rng(0).fold("a").fold("b")) == draw(Rng(0).fold("a", "b")) == draw(Rng(0, "a", "b"))
    assert draw(Rng(0).fold("a", "b")) != draw(Rng(0).fold("b", "a"))


def test_the_number_of_a_key_is_that_of_every_process_and_machine():
    # printf "%s" "(0, 'a')" | b2sum -l 64, its bytes read from the last to the first.
    assert Rng(0, "a").number == int.from_bytes(bytes.fromhex("f6fec28ea703437d"), "little") // 2


# Numbers and integers of samples come from one stream, in the order in which they are asked for.
@pytest.mark.parametrize(
    ("first", "second"), [*permutations(["host", "host_dirichlet", "uniform", "permutation", "per_image"], 2)]
)
def test_what_was_drawn_one_way_does_not_change_what_is_drawn_another_way(first, second):
    rng = Rng(0, "test")
    DRAWS[first](rng)
    assert DRAWS[second](rng) == DRAWS[second](Rng(0, "test"))


@WAYS
def test_draws_neither_read_nor_move_the_global_generators(draw):
    torch.manual_seed(1)
    state, drawn = torch.get_rng_state(), draw(Rng(0))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert draw(Rng(0)) == drawn


def test_a_fold_does_not_depend_on_what_its_origin_has_drawn():
    rng = Rng(0)
    before = rng.fold("a").uniform(5, like=HERE)
    DRAWS["uniform"](rng), DRAWS["host"](rng)
    assert torch.equal(rng.fold("a").uniform(5, like=HERE), before)


def test_integers_are_uniform_over_a_range_without_its_end():
    drawn = Rng(0).integers(-2, 5, 70, 100, like=HERE)
    assert drawn.shape == (70, 100)
    assert (drawn.min(), drawn.max()) == (-2, 4)
    assert stats.chisquare((drawn + 2).flatten().bincount()).pvalue > 1e-3


def test_normal_numbers_are_normal():
    assert stats.kstest(Rng(0).normal(100, 200, like=HERE).flatten(), stats.norm.cdf).pvalue > 1e-3


@pytest.mark.parametrize("alpha", [0.1, 0.3, 1.0, 2.5, 40.0])
def test_beta_numbers_are_those_of_scipy(alpha):
    drawn = Rng(0, "beta").beta(alpha, 100, 200, like=HERE)
    assert drawn.shape == (100, 200)
    assert 0 <= drawn.min() <= drawn.max() <= 1
    # Close to 1 a float is coarse; the lower half is as fine as the formula.
    lower = drawn[drawn < 0.5]
    assert stats.binomtest(lower.numel(), drawn.numel()).pvalue > 1e-3
    assert stats.kstest(lower, lambda b: 2 * stats.beta(alpha, alpha).cdf(b)).pvalue > 1e-3


def test_beta_numbers_of_the_smallest_alpha_are_numbers():
    drawn = Rng(0).beta(1e-3, 10_000, like=HERE)
    assert drawn.isfinite().all()
    assert stats.binomtest(int((drawn > 0.5).sum()), 10_000).pvalue > 1e-3


def test_a_permutation_holds_every_place_once():
    assert Rng(0).permutation(100).sort().values.tolist() == list(range(100))


def test_the_number_of_an_image_is_the_same_whenever_and_beside_whatever_it_is_drawn():
    rng = Rng(3, "flip")
    all_of_them = rng.per_image(torch.arange(1000))
    some = torch.tensor([999, 0, 7, 7, 512])
    for numbers in (rng.per_image(some), Rng(3, "flip").per_image(some)):
        assert torch.equal(numbers, all_of_them[some])


def test_the_numbers_of_images_are_the_published_outputs_of_splitmix64():
    rng = Rng()
    rng.number = 0  # the generator's seed, for which its outputs are well known
    outputs = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert rng.per_image(torch.tensor([1, 2, 3])).tolist() == [output // 2**40 / 2**24 for output in outputs]


@pytest.mark.parametrize("key", KEYS)
def test_the_numbers_of_images_are_uniform_and_those_of_neighbours_unrelated(key):
    numbers = Rng(*key).per_image(torch.arange(20_000))
    assert 0 <= numbers.min() <= numbers.max() < 1
    assert stats.chisquare((numbers * 100).long().bincount(minlength=100)).pvalue > 1e-3
    pairs = (numbers[::2] * 8).long() * 8 + (numbers[1::2] * 8).long()
    assert stats.chisquare(pairs.bincount(minlength=64)).pvalue > 1e-3


def test_the_numbers_of_images_under_two_keys_are_unrelated():
    one, other = (Rng(0, name).per_image(torch.arange(20_000)) for name in ("a", "b"))
    pairs = (one * 8).long() * 8 + (other * 8).long()
    assert stats.chisquare(pairs.bincount(minlength=64)).pvalue > 1e-3


def test_seeded_noise_makes_dropout_repeat():
    def noise(rng: Rng) -> Tensor:
        rng.seed_noise()
        return F.dropout(torch.ones(100), 0.5)

    assert torch.equal(noise(Rng(0, 5)), noise(Rng(0, 5)))
    assert not torch.equal(noise(Rng(0, 5)), noise(Rng(0, 6)))


def numbered(size: int, teacher: bool = True) -> Batch:
    """A batch in which every field of a sample spells its number."""
    number = torch.arange(size)
    x = number.to(torch.uint8)[:, None, None, None].repeat(1, 3, 2, 2)
    spelled = number[:, None].repeat(1, 4).float()
    return Batch(x, spelled, number + 100, epoch=7, teacher=spelled * 2 if teacher else None)


def numbers(batch: Batch) -> list[int]:
    """The samples' numbers, after a check that all fields agree on them."""
    found = batch.index - 100
    assert (batch.x == found[:, None, None, None]).all()
    assert (batch.y == found[:, None]).all()
    assert batch.teacher is None or (batch.teacher == 2 * found[:, None]).all()
    assert batch.epoch == 7
    return found.tolist()


def same(one: Batch, other: Batch) -> bool:
    pairs = [(getattr(one, f.name), getattr(other, f.name)) for f in fields(Batch)]
    return all(torch.equal(a, b) if isinstance(a, Tensor) else a == b for a, b in pairs)


@pytest.mark.parametrize("teacher", [True, False])
def test_samples_are_taken_with_all_that_belongs_to_them(teacher):
    batch = numbered(6, teacher)
    assert numbers(batch.take(torch.tensor([4, 0, 4]))) == [4, 0, 4]
    assert numbers(batch.take(slice(2, 5))) == [2, 3, 4]
    assert (batch.take(slice(2, 5)).teacher is None) != teacher


def test_partners_are_the_same_samples_in_another_order_that_the_key_decides():
    batch = numbered(30)
    order = numbers(batch.shuffled(Rng(0)))
    assert sorted(order) == list(range(30))
    assert order == numbers(batch.shuffled(Rng(0)))
    assert order not in (list(range(30)), numbers(batch.shuffled(Rng(1))))


def test_every_order_of_partners_is_equally_likely():
    batch = numbered(4)
    orders = [tuple(numbers(batch.shuffled(Rng(seed)))) for seed in range(2400)]
    counts = [orders.count(order) for order in set(orders)]
    assert len(counts) == 24
    assert stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize(
    ("size", "parts", "sizes"),
    [(8, 1, [8]), (8, 4, [2] * 4), (7, 2, [4, 3]), (10, 4, [3, 3, 3, 1]), (3, 8, [1] * 3), (1, 1, [1])],
)
def test_micro_batches_are_the_batch_in_order_and_of_nearly_equal_size(size, parts, sizes):
    found = [numbers(part) for part in numbered(size).split(parts)]
    assert [len(part) for part in found] == sizes
    assert [number for part in found for number in part] == list(range(size))


def test_a_batch_is_never_written_into():
    batch = numbered(6)
    before = copy.deepcopy(batch)
    batch.shuffled(Rng(0)).x.zero_()
    batch.take(torch.tensor([1, 2])).y.zero_()
    batch.replace(x=batch.x + 1, epoch=0)
    list(batch.split(2))
    assert same(batch, before)
