"""The statistics of tables, against scipy, hand-made cases, simulation and what they promise."""

import numpy as np
import pytest
from scipy import integrate, stats

from lib.report.bootstrap import two_level
from lib.report.statistics import holm, minimal_effect, paired, pooled_sd, power, student, welch

FEW, MANY = [90.1, 91.4, 90.7, 92.0], [89.0, 90.2, 88.1]


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def test_the_interval_is_students():
    got = student(FEW)
    low, high = stats.t.interval(0.95, 3, loc=91.05, scale=stats.sem(FEW))
    assert (got.mean, got.sd) == pytest.approx((91.05, np.std(FEW, ddof=1)))
    assert (got.low, got.high) == pytest.approx((low, high))


def test_interval_and_p_value_of_a_difference_are_welchs():
    values, baseline = noise(0, 20, 3), 3 * noise(1, 20, 5)
    got, known = welch(values, baseline), stats.ttest_ind(values, baseline, axis=1, equal_var=False)
    low, high = known.confidence_interval(0.95)
    for mine, theirs in ((got.p, known.pvalue), (got.df, known.df), (got.low, low), (got.high, high)):
        np.testing.assert_allclose(mine, theirs, rtol=1e-9)


def test_a_paired_difference_is_students_of_the_seeds_differences():
    values, baseline = noise(2, 20, 4), noise(3, 20, 4)
    got, known = paired(values, baseline), stats.ttest_rel(values, baseline, axis=1)
    np.testing.assert_allclose(got.p, known.pvalue, rtol=1e-9)
    np.testing.assert_allclose(got.low, known.confidence_interval(0.95).low, rtol=1e-9)


def test_an_interval_holds_zero_exactly_where_p_is_above_its_level():
    got = welch(noise(4, 500, 3) + 1, noise(5, 500, 3))
    assert (((got.low <= 0) & (got.high >= 0)) == (got.p >= 0.05)).all()
    assert 20 < (got.p < 0.05).sum() < 480


@pytest.mark.parametrize(("values", "baseline"), [([91.0], FEW), (FEW, [91.0]), ([91.4] * 3, [90.7] * 3)])
def test_without_a_spread_there_is_a_difference_but_no_interval(values, baseline):
    got = welch(values, baseline)
    assert got.mean == pytest.approx(np.mean(values) - np.mean(baseline))
    if len(set(values)) == len(set(baseline)) == 1 or min(len(values), len(baseline)) == 1:
        assert np.isnan([got.low, got.high, got.p]).all()


def test_against_runs_without_spread_only_the_others_spread_counts():
    low, high = stats.t.interval(0.95, 3, loc=np.mean(FEW) - 90, scale=stats.sem(FEW))
    got = welch(FEW, [90.0, 90.0, 90.0])
    assert (got.low, got.high, got.df) == pytest.approx((low, high, 3))


@pytest.mark.parametrize(
    ("p", "adjusted"),
    [
        ([0.01], [0.01]),
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),  # 3 x 0.01, 2 x 0.03, and 0.04 may not fall below it
        ([0.5, 0.6], [1.0, 1.0]),
        ([0.02, 0.001, 0.02, 0.9], [0.06, 0.004, 0.06, 0.9]),
        ([0.02, float("nan"), 0.03], [0.04, float("nan"), 0.04]),  # what is no test does not count
    ],
)
def test_holm_multiplies_the_smallest_by_all_the_next_by_one_less(p, adjusted):
    np.testing.assert_allclose(holm(p), adjusted)


def test_holm_takes_many_tables_at_once():
    p = np.random.default_rng(6).uniform(size=(10, 5))
    np.testing.assert_allclose(holm(p), [holm(table) for table in p])


def test_the_pooled_spread_is_within_groups():
    assert pooled_sd([[0, 2], [100, 102]]) == pytest.approx(2**0.5)
    assert pooled_sd([[0, 2], [5]]) == pytest.approx(2**0.5)
    assert np.isnan(pooled_sd([[1], [2]]))


def test_against_very_many_runs_the_power_is_that_of_a_normal_over_the_root_of_a_chi_square():
    effect, n = 2.5, 4
    limit, shift = stats.t.isf(0.025, n - 1), effect * n**0.5

    def beyond(share: float) -> float:  # given the estimated spread at this quantile
        bound = limit * (stats.chi2.ppf(share, n - 1) / (n - 1)) ** 0.5
        return stats.norm.sf(bound - shift) + stats.norm.cdf(-bound - shift)

    assert power(effect, 1.0, n, 10**7) == pytest.approx(integrate.quad(beyond, 0, 1)[0], abs=1e-3)


@pytest.mark.parametrize(("n", "m", "alpha"), [(3, 3, 0.05), (5, 5, 0.05), (3, 5, 0.05 / 6), (2, 2, 0.05)])
def test_welchs_test_finds_the_minimal_detectable_effect_in_four_of_five_cases(n, m, alpha):
    effect = minimal_effect(0.3, n, m, alpha)
    found = welch(0.3 * noise(7, 20_000, n) + effect, 0.3 * noise(8, 20_000, m)).p < alpha
    assert found.mean() == pytest.approx(0.8, abs=0.01)


def test_there_is_no_minimal_effect_of_single_runs_or_without_spread():
    assert np.isnan(
        [minimal_effect(1.0, 1, 3), minimal_effect(0.0, 3, 3), minimal_effect(np.nan, 3, 3)]
    ).all()


SPREADS = {
    "equal": np.ones(7),
    "unequal": np.array([1, 0.5, 0.5, 1, 1.5, 2, 2]),
}


@pytest.mark.parametrize("n", [3, 5])
@pytest.mark.parametrize("spreads", SPREADS)
def test_tables_without_an_effect_seldom_show_one(n, spreads):
    runs = SPREADS[spreads][:, None] * noise(9 + n, 2000, 7, n)  # six rows and their baseline
    for test in (welch, paired):
        adjusted = holm(test(runs[:, 1:], runs[:, :1]).p)
        assert (adjusted < 0.05).any(1).mean() <= 0.06


@pytest.mark.parametrize("n", [3, 5])
@pytest.mark.parametrize("spreads", SPREADS)
def test_intervals_hold_the_truth_in_95_of_100_cases(n, spreads):
    runs = SPREADS[spreads][:, None] * noise(11 + n, 10_000, 7, n)
    mean, difference = student(runs), welch(runs[:, 1:], runs[:, :1])
    assert 0.945 < _holds(mean).mean() < 0.955
    # Of three seeds with equal spreads Welch's is a little too wide.
    assert (_holds(difference).mean(0) > 0.94).all()
    assert (_holds(difference).mean(0) < (0.97 if n == 3 else 0.96)).all()


def _holds(found) -> np.ndarray:
    return (found.low <= 0) & (found.high >= 0)


def worlds(seed: int, count: int, seeds: int, images: int, luck: float):
    """Runs of two settings with their true accuracies: images of unlike difficulty, seeds of unlike luck."""
    rng = np.random.default_rng(seed)
    own = 0.3  # an image may be harder for one of the settings
    for _ in range(count):
        difficulty = 2 * rng.normal(size=images)
        for level in (1.5, 1.3):
            margin = level + difficulty + own * rng.normal(size=images)
            margin = margin + luck * rng.normal(size=(seeds, 1)) + rng.normal(size=(seeds, images))
            truth = stats.norm.cdf(level / (1 + 2**2 + own**2 + luck**2) ** 0.5)
            yield margin > 0, truth


@pytest.mark.parametrize("luck", [0.0, 0.1, 0.3])
def test_two_level_intervals_hold_the_truth_over_seeds_and_images(luck):
    runs = list(worlds(17, 240, seeds=3, images=200, luck=luck))
    single, difference, seeds_only = [], [], []
    for (right, truth), (other, other_truth) in zip(runs[::2], runs[1::2], strict=True):
        alone, against = two_level(right, draws=100), two_level(right, other, draws=100)
        single.append(alone.low <= truth <= alone.high)
        difference.append(against.low <= truth - other_truth <= against.high)
        naive = student(right.mean(1))
        seeds_only.append(naive.low <= truth <= naive.high)
    assert 0.91 <= np.mean(single) <= 0.98
    assert 0.91 <= np.mean(difference) <= 0.98
    assert luck > 0.1 or np.mean(seeds_only) < 0.9  # what the second level is for


def test_of_runs_that_agree_the_two_level_interval_is_that_of_a_share_of_images():
    right = np.tile(np.arange(1000) < 900, (3, 1))
    got = two_level(right)
    half = 1.96 * (0.9 * 0.1 / 1000) ** 0.5
    assert got.mean == pytest.approx(0.9)
    assert (got.low, got.high) == pytest.approx((0.9 - half, 0.9 + half), abs=0.1 * half)


def test_where_all_images_are_alike_the_two_level_interval_is_students_over_seeds():
    right = np.random.default_rng(19).uniform(size=(4, 1000)) < np.array([[0.5], [0.6], [0.7], [0.65]])
    known, got = student(right.mean(1)), two_level(right)
    assert (got.low, got.high) == pytest.approx((known.low, known.high), abs=0.01)


def test_pairing_two_levels_by_seed_takes_out_what_the_seeds_share():
    rng = np.random.default_rng(20)
    margin = rng.normal(size=500) + rng.normal(size=(4, 1)) + 0.1 * rng.normal(size=(4, 500))
    apart = two_level(margin > -0.2, margin > 0)
    together = two_level(margin > -0.2, margin > 0, paired=True)
    assert together.mean == pytest.approx(apart.mean)
    assert together.sd < apart.sd / 3


def test_two_level_intervals_are_the_same_each_time_and_refuse_a_single_seed():
    right = np.random.default_rng(21).uniform(size=(3, 100)) < 0.8
    assert two_level(right) == two_level(right)
    with pytest.raises(ValueError, match="seeds must be at least 2"):
        two_level(right[:1])
